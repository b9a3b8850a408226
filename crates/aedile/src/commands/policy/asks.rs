//! `aedile policy asks`.

use aedile_core::store::list;
use aedile_core::view::AskView;
use clap::Args;
use serde_json::json;

use crate::clock::SystemClock;
use crate::error::CliResult;
use crate::output::{Output, one_line, table};
use crate::{exit, state};

#[derive(Debug, Args)]
pub struct AsksArgs {
    /// Of this run only
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Also those that are answered
    #[arg(long)]
    all: bool,
}

/// Runs `aedile policy asks`.
pub fn cmd_asks(args: &AsksArgs, out: Output) -> CliResult {
    let asks = match state::open_existing()? {
        None => Vec::new(),
        Some(store) => {
            let run = args.run.as_deref().map(|text| state::find_run(&store, text)).transpose()?.map(|run| run.run);
            list::<AskView>(&store, run)?
        }
    };
    let shown: Vec<&AskView> = asks.iter().filter(|ask| args.all || ask.answer.is_none()).collect();
    out.object_or(&json!({ "asks": shown }), || {
        if shown.is_empty() {
            return vec!["nothing is asked".to_owned()];
        }
        let mut rows = vec![["question", "agent", "rule", "what", "answer"].map(str::to_owned).to_vec()];
        rows.extend(shown.iter().map(|ask| {
            let what = one_line(&format!("{} {}{}", ask.method, ask.host, ask.path), 200);
            vec![ask.ask.short(), ask.agent.to_string(), one_line(&ask.rule, 100), what, said(ask)]
        }));
        let mut lines = table(&rows);
        lines.push("`aedile policy answer QUESTION allow|deny [--for 1h] [--scope request|host|agent|run]` answers".to_owned());
        lines
    });
    Ok(exit::OK)
}

fn said(ask: &AskView) -> String {
    use aedile_core::Clock as _;
    let Some(answer) = ask.answer else { return "-".to_owned() };
    let word = if answer.allow { "allow" } else { "deny" };
    let over = answer.until.is_some_and(|until| SystemClock.now() >= until);
    format!("{word} {}{}", answer.scope, if over { ", run out" } else { "" })
}
