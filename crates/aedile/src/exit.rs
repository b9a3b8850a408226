//! Exit codes. The manual page `docs/exit-codes.md` is compared with this table by a test.

/// An exit code with its meaning.
pub struct ExitCode {
    /// The number.
    pub code: u8,
    /// What it means.
    pub meaning: &'static str,
}

/// Everything that was asked for was done.
pub const OK: u8 = 0;
/// Something failed that is not listed below.
pub const FAILURE: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// The run is over and not every task landed.
pub const NOT_ALL_LANDED: u8 = 3;
/// A file that the person wrote (`aedile.toml`, a tasks file) is wrong, or there is no project here.
pub const CONFIG: u8 = 4;
/// This host cannot give a box.
pub const UNSUPPORTED: u8 = 5;
/// The state directory cannot be used.
pub const STATE: u8 = 6;
/// Git refused or is too old.
pub const GIT: u8 = 7;
/// What was asked about is denied.
pub const DENIED: u8 = 8;
/// The person interrupted.
pub const INTERRUPTED: u8 = 130;

/// Every exit code.
pub const ALL: &[ExitCode] = &[
    ExitCode {
        code: OK,
        meaning: "Everything that was asked for was done. For `run` and `demo`: every task landed. For `run --plan-only`: the plan is in its file. For `code`: the change is kept, taken or landed, or the question is answered.",
    },
    ExitCode {
        code: FAILURE,
        meaning: "Something failed; the message says what. For `resolve`: a conflict is left. For `merge-file`: conflicts stand in the result.",
    },
    ExitCode {
        code: USAGE,
        meaning: "The command line is wrong, or the command needs an answer and there is no terminal to ask on. For `merge-file`: nothing was merged.",
    },
    ExitCode {
        code: NOT_ALL_LANDED,
        meaning: "The run is over or stopped, and not every task landed; for `code`, the agent ended without a change that could be kept; for a plan, the person did not want it. `aedile status` says which and why.",
    },
    ExitCode {
        code: CONFIG,
        meaning: "`aedile.toml`, the tasks file or a policy is wrong, or the directory is not a git repository with a commit.",
    },
    ExitCode { code: UNSUPPORTED, meaning: "This host cannot give a box. `aedile doctor` says what is missing." },
    ExitCode { code: STATE, meaning: "The state directory cannot be used: written by a newer aedile, damaged, or not writable." },
    ExitCode { code: GIT, meaning: "Git refused, or it is older than 2.45.1 and not a security release of an older line." },
    ExitCode { code: DENIED, meaning: "For `policy explain`: the policy denies it; stdout names the rule." },
    ExitCode { code: INTERRUPTED, meaning: "Interrupted with Ctrl-C. `aedile run --resume` (or `aedile code --resume`) goes on." },
];

/// The table for `--help`.
pub fn help() -> String {
    let rows: Vec<String> = ALL.iter().map(|exit| format!("  {:>3}  {}", exit.code, exit.meaning)).collect();
    format!("Exit codes:\n{}", rows.join("\n"))
}
