//! One gate: a command in a clean-room box, with bounded time and output.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aedile_core::limits::{GATE_OUTPUT_BYTES_MAX, GATE_TIMEOUT, TERM_GRACE};
use aedile_core::sandbox::{BoxChild, BoxExit, BoxIo, BoxLimits, BoxMount, BoxNet, BoxSpec, Sandbox, WORKSPACE_INSIDE, WriteScope};
use aedile_core::task::GateSpec;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::LandingError;

/// What every gate's box has besides the merged tree. Toolchains are the sandbox's own matter.
#[derive(Clone, Debug, Default)]
pub struct GateBox {
    /// Further mounts.
    pub mounts: Vec<BoxMount>,
    /// Environment, no secrets.
    pub env: Vec<(String, String)>,
    /// Limits; of its wall time and the gate's own the shorter one counts.
    pub limits: BoxLimits,
}

/// How a gate ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct GateRun {
    /// How the command ended.
    pub(crate) exit: BoxExit,
    /// Wall time.
    pub(crate) took: Duration,
    /// What it wrote to stdout and stderr; head and tail when it was much.
    pub(crate) output: Vec<u8>,
}

/// Returns the wall limit of a gate.
pub(crate) fn limit(gate: &GateSpec) -> Duration {
    gate.timeout_s.map_or(GATE_TIMEOUT, Duration::from_secs)
}

/// Says how a gate ended, in words for the log and for the agent.
pub(crate) fn exit_text(exit: BoxExit, gate: &GateSpec) -> String {
    match exit {
        BoxExit::Code(code) => format!("exit code {code}"),
        BoxExit::Signal(signal) => format!("ended by signal {signal}"),
        BoxExit::TimedOut => format!("was still running after its limit of {} s and was killed", limit(gate).as_secs()),
    }
}

/// Runs the gate on the tree: everything in it is writable, since it is a scratch copy; no network, no door, a temporary `HOME`.
/// Dropping the future kills the box.
pub(crate) async fn run(sandbox: &Arc<dyn Sandbox>, common: &GateBox, gate: &GateSpec, tree: &Path) -> Result<GateRun, LandingError> {
    let spec = BoxSpec {
        label: format!("gate {}", gate.name),
        command: vec!["sh".to_owned(), "-c".to_owned(), gate.command.clone()],
        tree: Some(tree.to_owned()),
        tree_inside: WORKSPACE_INSIDE.into(),
        write: WriteScope::All,
        mounts: common.mounts.clone(),
        home: None,
        env: common.env.clone(),
        net: BoxNet::None,
        limits: BoxLimits { wall: common.limits.wall.into_iter().chain([limit(gate)]).min(), ..common.limits.clone() },
        io: BoxIo::Captured,
    };
    let started = Instant::now();
    let sandbox = Arc::clone(sandbox);
    let child = tokio::task::spawn_blocking(move || sandbox.spawn(spec)).await?;
    let mut child = child.map_err(|source| LandingError::Gate { gate: gate.name.clone(), source })?;
    let mut output = HeadTail::new(GATE_OUTPUT_BYTES_MAX);
    // The box keeps its own limit; this one only guards against a box that does not.
    let exit = watch(child.as_mut(), &mut output, limit(gate) + 2 * TERM_GRACE)
        .await
        .map_err(|source| LandingError::Gate { gate: gate.name.clone(), source })?;
    Ok(GateRun { exit, took: started.elapsed(), output: output.into_bytes() })
}

async fn watch(child: &mut dyn BoxChild, output: &mut HeadTail, longest: Duration) -> Result<BoxExit, aedile_core::sandbox::SandboxError> {
    let stdout = child.take_stdout();
    let ended = {
        let wait = pin!(child.wait());
        both(wait, stdout, output, longest).await
    };
    match ended {
        Some(exit) => exit,
        None => {
            child.kill();
            child.wait().await?;
            Ok(BoxExit::TimedOut)
        }
    }
}

/// Reads the output until the program has ended and its pipe is closed; `None` when `longest` passes first.
async fn both<E>(mut wait: std::pin::Pin<&mut E>, stdout: Option<OwnedFd>, output: &mut HeadTail, longest: Duration) -> Option<E::Output>
where
    E: Future,
{
    let mut pipe = stdout.and_then(|fd| pipe::Receiver::from_owned_fd(fd).ok());
    let mut chunk = vec![0_u8; 16 * 1024];
    let mut deadline = pin!(tokio::time::sleep(longest));
    let mut ended = None;
    loop {
        if ended.is_some() && pipe.is_none() {
            return ended;
        }
        tokio::select! {
            exit = wait.as_mut(), if ended.is_none() => {
                ended = Some(exit);
                // Whoever could write is dead now: what is in the pipe is all there will be.
                deadline.as_mut().reset(tokio::time::Instant::now() + TERM_GRACE);
            }
            read = read_some(pipe.as_mut(), &mut chunk), if pipe.is_some() => match read {
                0 => pipe = None,
                n => output.push(&chunk[..n]),
            },
            () = deadline.as_mut() => return ended,
        }
    }
}

async fn read_some(pipe: Option<&mut pipe::Receiver>, chunk: &mut [u8]) -> usize {
    match pipe {
        Some(pipe) => pipe.read(chunk).await.unwrap_or(0),
        None => 0,
    }
}

/// Keeps the first and the last bytes of what is pushed.
struct HeadTail {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    half: usize,
    cut: u64,
}

impl HeadTail {
    fn new(max: usize) -> Self {
        Self { head: Vec::new(), tail: std::collections::VecDeque::new(), half: max / 2, cut: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(self.half - self.head.len()));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(self.half);
        self.tail.drain(..over);
        self.cut += over as u64;
    }

    fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.head;
        if self.cut > 0 {
            bytes.extend_from_slice(format!("\n[... {} bytes cut ...]\n", self.cut).as_bytes());
        }
        bytes.extend(self.tail);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_tail_stay() {
        let mut kept = HeadTail::new(8);
        for piece in ["ab", "cdef", "ghijkl", "m"] {
            kept.push(piece.as_bytes());
        }
        assert_eq!(String::from_utf8(kept.into_bytes()).unwrap(), "abcd\n[... 5 bytes cut ...]\njklm");
        let mut short = HeadTail::new(8);
        short.push(b"abcdefgh");
        assert_eq!(short.into_bytes(), b"abcdefgh");
    }
}
