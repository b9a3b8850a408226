//! `aedile mcp`.

mod arguments;
mod calls;
mod catalog;

use std::sync::Arc;

use clap::Args;

use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::{exit, tracing_log, wiring};

#[cfg(test)]
pub use catalog::page;

/// Offer every command as a tool to a client of the Model Context Protocol, on stdin and stdout
///
/// Start it from the client: `claude mcp add aedile -- aedile mcp`. docs/mcp.md has more.
#[derive(Debug, Args)]
pub struct McpArgs {}

/// Runs `aedile mcp`. Stdout carries the protocol alone; what the client started is stopped when it is gone.
pub fn cmd_mcp(_args: &McpArgs, _out: Output) -> CliResult {
    if let Ok(state) = crate::state::dir() {
        tracing_log::start(&state);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let calls = Arc::new(calls::Calls::new(wiring::program()?, std::env::current_dir()?)?);
    let served = runtime.block_on(async {
        let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let offered = Arc::new(calls::Offered(Arc::clone(&calls))) as Arc<dyn aedile_tools::OfferedTools>;
        let serve = aedile_tools::serve_mcp(tokio::io::stdin(), tokio::io::stdout(), offered, env!("CARGO_PKG_VERSION"));
        let served = tokio::select! {
            served = serve => served,
            _ = term.recv() => Ok(()),
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        calls.stop_all().await;
        Ok::<_, std::io::Error>(served)
    });
    // A read of stdin cannot be given up; nothing waits for it.
    runtime.shutdown_background();
    served?.map_err(|error| CliError::failure(format!("the client broke off: {error}")))?;
    Ok(exit::OK)
}
