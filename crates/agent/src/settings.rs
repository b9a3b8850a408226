//! What `settings.json` files say, the person's own and a repository's: hooks and permission rules.
//!
//! A repository's files only take away: that something may be done without a question is said by the person alone.
//! They are read once, when a session begins, and kept in its journal: what the agent writes into them later gives it no right, in this
//! process or in one that resumes the session.

use aedile_core::limits::{HOOK_TIMEOUT, HOOK_TIMEOUT_MAX, HOOKS_MAX, PERMISSION_RULES_MAX, SETTINGS_BYTES_MAX};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use crate::hook_event::HookEvent;
use crate::permission::Mode;

/// Where settings are looked for, below the working directory.
const FILES: &[&str] = &[".claude/settings.json", ".agents/settings.json"];

/// What the files said when the session began.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// In the order of the files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) hooks: Vec<Hook>,
    #[serde(default, skip_serializing_if = "RuleTexts::is_empty")]
    pub(crate) permissions: RuleTexts,
    /// Whether the conversation may not be condensed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) never_compact: bool,
}

/// Permission rules as they are written.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RuleTexts {
    /// The person's own.
    #[serde(default, rename = "own_allow")]
    pub(crate) allow: Vec<String>,
    #[serde(default)]
    pub(crate) ask: Vec<String>,
    #[serde(default)]
    pub(crate) deny: Vec<String>,
    /// The mode that sessions begin in.
    #[serde(default)]
    pub(crate) mode: Option<Mode>,
}

impl RuleTexts {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One hook.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Hook {
    pub(crate) event: HookEvent,
    /// What it is for; empty or `*` for everything.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) matcher: String,
    pub(crate) command: String,
    pub(crate) timeout_s: u64,
    /// Whether it stands in the person's own settings.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) own: bool,
}

impl Hook {
    /// When it is ended.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout_s).min(HOOK_TIMEOUT_MAX)
    }
}

/// Reads the person's own settings (their name and text) and the repository's files. What cannot be used is left out and said in `warnings`.
/// `attended` says that questions are asked, so that it matters what a repository would have allowed.
pub(crate) fn read_settings(cwd: &Path, own: Option<&(String, String)>, attended: bool, warnings: &mut Vec<String>) -> Settings {
    let mut settings = Settings::default();
    let mut read = |file: &str, own: bool, text: &str, warnings: &mut Vec<String>| match serde_json::from_str::<Map<String, Value>>(text) {
        Ok(map) => Reader { file, own, attended, settings: &mut settings, warnings }.read(&map),
        Err(error) => warnings.push(format!("{file} is not used: it is not a JSON object ({error})")),
    };
    if let Some((name, text)) = own {
        read(name, true, text, warnings);
    }
    for name in FILES {
        match read_small(&cwd.join(name), SETTINGS_BYTES_MAX) {
            Ok(Some(text)) => read(name, false, &text, warnings),
            Ok(None) => {}
            Err(problem) => warnings.push(format!("{name} is not used: {problem}")),
        }
    }
    settings
}

/// Reads a text file of at most so many bytes; `None` when there is none.
pub(crate) fn read_small(path: &Path, max: u64) -> Result<Option<String>, String> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(format!("it cannot be read ({error})")),
    };
    if !meta.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(max + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("it cannot be read ({error})"))?;
    if bytes.len() as u64 > max {
        return Err(format!("it has more than {max} bytes"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| "it is not UTF-8 text".to_owned())
}

/// Takes one file over.
struct Reader<'a> {
    file: &'a str,
    own: bool,
    attended: bool,
    settings: &'a mut Settings,
    warnings: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn warn(&mut self, text: &str) {
        self.warnings.push(format!("{}: {text}", self.file));
    }

    fn read(&mut self, map: &Map<String, Value>) {
        match map.get("hooks") {
            None | Some(Value::Null) => {}
            Some(Value::Object(events)) => {
                for (name, groups) in events {
                    self.event(name, groups);
                }
            }
            Some(_) => self.warn("`hooks` is not used: it must be an object of event names"),
        }
        match map.get("autoCompactEnabled") {
            None | Some(Value::Null) => {}
            Some(Value::Bool(enabled)) => self.settings.never_compact = !enabled,
            Some(_) => self.warn("`autoCompactEnabled` is not used: it must be true or false"),
        }
        match map.get("permissions") {
            None | Some(Value::Null) => {}
            Some(Value::Object(permissions)) => self.permissions(permissions),
            Some(_) => self.warn("`permissions` is not used: it must be an object with allow, ask and deny"),
        }
    }

    fn permissions(&mut self, map: &Map<String, Value>) {
        const NOT_ITS: &str = "a repository cannot switch questions off, only a person can";
        let (own, attended) = (self.own, self.attended);
        let rules = &mut self.settings.permissions;
        let mut bad = Vec::new();
        for (kind, texts) in [("allow", &mut rules.allow), ("ask", &mut rules.ask), ("deny", &mut rules.deny)] {
            let Some(value) = map.get(kind) else { continue };
            if kind == "allow" && !own {
                if attended && value.as_array().is_none_or(|list| !list.is_empty()) {
                    bad.push(format!("`permissions.allow` is not used: {NOT_ITS} (AEDILE_SETTINGS names a file of yours)"));
                }
                continue;
            }
            let Some(list) = value.as_array() else {
                bad.push(format!("`permissions.{kind}` is not used: it must be a list"));
                continue;
            };
            if list.len() > PERMISSION_RULES_MAX {
                bad.push(format!("`permissions.{kind}` has more than {PERMISSION_RULES_MAX} rules; the rest is not used"));
            }
            for rule in list.iter().take(PERMISSION_RULES_MAX) {
                match rule.as_str() {
                    Some(text) => texts.push(text.to_owned()),
                    None => bad.push(format!("a rule in `permissions.{kind}` is no text and not used: {rule}")),
                }
            }
        }
        match map.get("defaultMode").and_then(Value::as_str).map(|id| (id, Mode::from_id(id))) {
            None => {}
            Some((id, Some(Mode::Bypass | Mode::AcceptEdits))) if !own => bad.push(format!("the mode {id} is not used: {NOT_ITS}")),
            // The person's own file is read first and counts.
            Some((_, Some(mode))) => rules.mode = rules.mode.or(Some(mode)),
            Some((id, None)) => bad.push(format!("the mode {id:?} is not used: there are default, acceptEdits and plan")),
        }
        for problem in bad {
            self.warn(&problem);
        }
    }

    fn event(&mut self, name: &str, groups: &Value) {
        let Some(event) = HookEvent::from_name(name) else {
            return self.warn(&format!("the hooks for {name:?} are not run: this agent has no such event"));
        };
        let Some(groups) = groups.as_array() else {
            return self.warn(&format!("the hooks for {name} are not run: a list of matchers with hooks is wanted"));
        };
        for group in groups {
            let matcher = group.get("matcher").and_then(Value::as_str).unwrap_or_default();
            match group.get("hooks").and_then(Value::as_array) {
                Some(hooks) => hooks.iter().for_each(|hook| self.hook(event, matcher, hook)),
                None => self.warn(&format!("a group of {name} is not used: it has no list `hooks`")),
            }
        }
    }

    fn hook(&mut self, event: HookEvent, matcher: &str, hook: &Value) {
        let name = event.name();
        let text = |field: &str| hook.get(field).and_then(Value::as_str).unwrap_or_default();
        if text("type") != "command" {
            return self.warn(&format!("a hook of {name} is not run: only the type \"command\" is known here, not {:?}", text("type")));
        }
        let command = text("command").trim();
        if command.is_empty() {
            return self.warn(&format!("a hook of {name} is not run: its `command` is missing"));
        }
        if let Err(problem) = crate::hook_event::matches(matcher, &[]) {
            return self.warn(&format!("a hook of {name} is not run: its matcher {matcher:?} {problem}"));
        }
        if self.settings.hooks.len() >= HOOKS_MAX {
            return self.warn(&format!("a hook of {name} is not run: there are more than {HOOKS_MAX}"));
        }
        let timeout_s = match hook.get("timeout") {
            None | Some(Value::Null) => HOOK_TIMEOUT.as_secs(),
            Some(value) => match value.as_f64() {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a few hundred")]
                Some(seconds) if seconds > 0.0 => seconds.ceil().min(HOOK_TIMEOUT_MAX.as_secs_f64()) as u64,
                _ => {
                    let default = HOOK_TIMEOUT.as_secs();
                    self.warn(&format!("a hook of {name} has the timeout {value}, which is no number of seconds; it gets {default} s"));
                    default
                }
            },
        };
        self.settings.hooks.push(Hook { event, matcher: matcher.to_owned(), command: command.to_owned(), timeout_s, own: self.own });
    }
}
