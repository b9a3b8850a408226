//! The environment table: every variable that aedile reads, in one place. `docs/environment.md` is compared with it by a test.

use std::ffi::OsString;
use std::path::PathBuf;

/// One variable.
pub struct EnvVar {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// The state directory.
pub const STATE: &str = "AEDILE_STATE";
/// Where state directories lie.
pub const XDG_STATE_HOME: &str = "XDG_STATE_HOME";
/// The person's home.
pub const HOME: &str = "HOME";
/// Where programs are found.
pub const PATH: &str = "PATH";
/// Anthropic's key.
pub const ANTHROPIC_API_KEY: &str = "ANTHROPIC_API_KEY";
/// The key of the OpenAI-compatible provider.
pub const OPENAI_API_KEY: &str = "OPENAI_API_KEY";
/// Gemini's key.
pub const GEMINI_API_KEY: &str = "GEMINI_API_KEY";
/// Gemini's key under its other name.
pub const GOOGLE_API_KEY: &str = "GOOGLE_API_KEY";
/// The token of a Claude subscription.
pub const CLAUDE_TOKEN: &str = "CLAUDE_CODE_OAUTH_TOKEN";
/// Anthropic's base URL.
pub const ANTHROPIC_BASE_URL: &str = "AEDILE_ANTHROPIC_BASE_URL";
/// The OpenAI-compatible provider's base URL.
pub const OPENAI_BASE_URL: &str = "AEDILE_OPENAI_BASE_URL";
/// Gemini's base URL.
pub const GEMINI_BASE_URL: &str = "AEDILE_GEMINI_BASE_URL";
/// Ollama's base URL.
pub const OLLAMA_BASE_URL: &str = "AEDILE_OLLAMA_BASE_URL";
/// Log filter.
pub const LOG: &str = "AEDILE_LOG";
/// Crash point, for tests.
pub const CRASH_AT: &str = "AEDILE_CRASH_AT";
/// Inside a box: the base URL of the door.
pub const DOOR: &str = "AEDILE_DOOR";
/// Inside a box: the model that the door grants.
pub const MODEL: &str = "AEDILE_MODEL";
/// Where our coding agent reads the person's own settings.
pub const SETTINGS: &str = "AEDILE_SETTINGS";
/// Where the person's git configuration is.
pub const XDG_CONFIG_HOME: &str = "XDG_CONFIG_HOME";
/// The person's signing keys.
pub const GNUPGHOME: &str = "GNUPGHOME";
/// The person's SSH agent, which may sign.
pub const SSH_AUTH_SOCK: &str = "SSH_AUTH_SOCK";
/// Where a passphrase is asked for.
pub const GPG_TTY: &str = "GPG_TTY";

/// The roots of trust of TLS.
pub const SSL_CERT_FILE: &str = "SSL_CERT_FILE";
/// The same as a directory.
pub const SSL_CERT_DIR: &str = "SSL_CERT_DIR";

/// No colours.
pub const NO_COLOR: &str = "NO_COLOR";
/// The kind of terminal.
pub const TERM: &str = "TERM";

/// Every variable.
pub const ALL: &[EnvVar] = &[
    EnvVar { name: STATE, meaning: "The state directory. Default: `$XDG_STATE_HOME/aedile`, else `~/.local/state/aedile`." },
    EnvVar { name: XDG_STATE_HOME, meaning: "Where state directories lie, when `AEDILE_STATE` is not set." },
    EnvVar { name: HOME, meaning: "The person's home: toolchains are found below it, and it is never visible in a box." },
    EnvVar { name: PATH, meaning: "Where git and the toolchains are found." },
    EnvVar { name: ANTHROPIC_API_KEY, meaning: "Anthropic's key. It stays in the gateway; a box sees a placeholder." },
    EnvVar { name: OPENAI_API_KEY, meaning: "The OpenAI-compatible provider's key. It stays in the gateway; a box sees a placeholder." },
    EnvVar { name: GEMINI_API_KEY, meaning: "Gemini's key. It stays in the gateway; a box sees a placeholder." },
    EnvVar { name: GOOGLE_API_KEY, meaning: "Gemini's key where `GEMINI_API_KEY` is not set." },
    EnvVar {
        name: CLAUDE_TOKEN,
        meaning: "The token of a Claude subscription (`claude setup-token` prints one), used when there is no key. It stays outside: the door puts it into the requests. Anthropic takes it from the runtime `claude` only. Default: `[provider.anthropic] token_file` in your `config.toml`.",
    },
    EnvVar {
        name: ANTHROPIC_BASE_URL,
        meaning: "Base URL of the Anthropic Messages API. Default: `[provider.anthropic] base_url` in your `config.toml`, else the vendor's.",
    },
    EnvVar {
        name: OPENAI_BASE_URL,
        meaning: "Base URL of the OpenAI-compatible API, without `/v1`. Default: `[provider.openai] base_url` in your `config.toml`, else the vendor's.",
    },
    EnvVar {
        name: GEMINI_BASE_URL,
        meaning: "Base URL of the Gemini API, without `/v1beta`. Default: `[provider.gemini] base_url` in your `config.toml`, else the vendor's.",
    },
    EnvVar {
        name: OLLAMA_BASE_URL,
        meaning: "Base URL of an Ollama server, without `/api`. Default: `[provider.ollama] base_url` in your `config.toml`, else `http://127.0.0.1:11434`.",
    },
    EnvVar { name: LOG, meaning: "What goes to the log file in the state directory, as a tracing filter. Default: `warn`." },
    EnvVar {
        name: XDG_CONFIG_HOME,
        meaning: "Where the person's configuration is: `aedile/config.toml` in it, else `~/.config/aedile/config.toml`, says where keys and servers are. Handed to git too when it acts as the person.",
    },
    EnvVar { name: GNUPGHOME, meaning: "Handed to git when it signs as the person." },
    EnvVar { name: SSH_AUTH_SOCK, meaning: "Handed to git when it signs as the person. No box sees it." },
    EnvVar { name: GPG_TTY, meaning: "Handed to git when it signs as the person." },
    EnvVar {
        name: SSL_CERT_FILE,
        meaning: "A file of root certificates (PEM) that model providers and the hosts behind a door are held against, instead of the system's. For the authority of your own network, add its root to a copy of the system's file. What a box sees under this name is its door's.",
    },
    EnvVar { name: SSL_CERT_DIR, meaning: "The same as a directory." },
    EnvVar { name: NO_COLOR, meaning: "When set, differences have no colours; without a terminal they have none anyway." },
    EnvVar { name: TERM, meaning: "`dumb` means no colours." },
    EnvVar {
        name: CRASH_AT,
        meaning: "For tests: kills the program with SIGKILL at this crash point (the table is in `crates/core/src/crash.rs`), written `NAME` or `NAME:N` for the N-th time.",
    },
    EnvVar { name: DOOR, meaning: "Inside a box: the base URL of the door. Set by aedile." },
    EnvVar { name: MODEL, meaning: "Inside a box: the model that the door grants. Set by aedile." },
    EnvVar {
        name: SETTINGS,
        meaning: "Inside a box in which an editor drives our agent: a `settings.json` of yours, whose rules may allow and whose hooks may approve; bring it in read-only (`--ro`).",
    },
];

/// Reads a variable of the table; empty counts as not set.
pub fn get(name: &'static str) -> Option<OsString> {
    debug_assert!(ALL.iter().any(|var| var.name == name), "{name} is not in the environment table");
    #[expect(clippy::disallowed_methods, reason = "this is the environment table")]
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Reads a variable that the person has named as the place of a secret.
#[expect(clippy::disallowed_methods, reason = "this module is the one reader of the environment")]
pub fn any(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Reads a variable as text.
pub fn text(name: &'static str) -> Option<String> {
    get(name).map(|value| value.to_string_lossy().into_owned())
}

/// Returns the person's home.
pub fn home() -> Option<PathBuf> {
    get(HOME).map(PathBuf::from).filter(|home| home.is_absolute())
}

/// Returns the state directory, which need not exist.
pub fn state_dir() -> Option<PathBuf> {
    if let Some(dir) = get(STATE) {
        return std::path::absolute(PathBuf::from(dir)).ok();
    }
    match get(XDG_STATE_HOME).map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        Some(dir) => Some(dir.join("aedile")),
        None => home().map(|home| home.join(".local/state/aedile")),
    }
}

/// Reads one of the variables that say where a toolchain is; the sandbox's table lists them.
pub fn tool_variable(name: &str) -> Option<String> {
    debug_assert!(aedile_sandbox::TOOL_VARIABLES.contains(&name));
    #[expect(clippy::disallowed_methods, reason = "this is the environment table; these names are the sandbox's part of it")]
    std::env::var_os(name).filter(|value| !value.is_empty()).map(|value| value.to_string_lossy().into_owned())
}

/// The table for `--help`.
pub fn help() -> String {
    let rows: Vec<String> = ALL.iter().map(|var| format!("  {:26} {}", var.name, var.meaning)).collect();
    format!("Environment:\n{}", rows.join("\n"))
}
