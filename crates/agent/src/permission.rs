//! Whether a call may be made: modes, rules, and the question to the person.
//!
//! Where nobody can be asked, the box decides: rules that deny hold, and what would be asked is allowed.

use aedile_core::ids::SessionId;
use aedile_core::runtime::{PermissionAnswer, PermissionAsker, PermissionQuestion};
use aedile_core::tool::{Tool, ToolRisk, Withheld};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::conversation::Call;
use crate::public_names::public_name;
use crate::rule::{Fit, Rule, field, files_of, paths_of_one};
use crate::settings::RuleTexts;
use crate::shell_parts::{has_placeholder, parts_of};

/// Files in which a change could give rights to later sessions; accepted edits do not cover them.
const GUARDED: &[&str] = &[".git", ".claude", ".agents", ".aedile"];

/// How much is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// Before every change and every command that no rule allows.
    #[default]
    #[serde(rename = "default")]
    Default,
    /// Not before changes of files in the working directory.
    #[serde(rename = "acceptEdits")]
    AcceptEdits,
    /// Nothing is changed and nothing is run.
    #[serde(rename = "plan")]
    Plan,
    /// Never, but for rules that ask.
    #[serde(rename = "bypassPermissions")]
    Bypass,
}

/// Every mode: id, name, what it means.
pub(crate) const MODES: &[(Mode, &str, &str, &str)] = &[
    (Mode::Default, "default", "Ask", "Asks before changes and commands"),
    (Mode::AcceptEdits, "acceptEdits", "Accept edits", "Changes files without asking, asks before commands"),
    (Mode::Plan, "plan", "Plan", "Only looks; changes and runs nothing"),
    (Mode::Bypass, "bypassPermissions", "Bypass", "Asks nothing but what a rule wants asked"),
];

impl Mode {
    pub(crate) fn from_id(id: &str) -> Option<Self> {
        MODES.iter().find(|(_, known, ..)| *known == id).map(|(mode, ..)| *mode)
    }

    pub(crate) fn id(self) -> &'static str {
        MODES.iter().find(|(mode, ..)| *mode == self).map_or("default", |(_, id, ..)| id)
    }
}

/// What follows for a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Allow,
    /// With the reason.
    Deny(String),
    Ask,
}

/// The rules of one session and whoever can be asked. Sub-agents share it.
pub(crate) struct Gate {
    session: SessionId,
    cwd: PathBuf,
    home: PathBuf,
    asker: Option<Arc<dyn PermissionAsker>>,
    deny: Vec<Rule>,
    ask: Vec<Rule>,
    now: Mutex<Now>,
}

/// What changes while the session goes on.
struct Now {
    mode: Mode,
    allow: Vec<Rule>,
    /// Rules that the person gave and that are not written down yet.
    granted: Vec<String>,
}

impl Gate {
    /// Reads the rules; one that cannot be used is named in `warnings`.
    pub(crate) fn new(
        session: &SessionId,
        cwd: &Path,
        home: &Path,
        asker: Option<Arc<dyn PermissionAsker>>,
        texts: &RuleTexts,
        warnings: &mut Vec<String>,
    ) -> Self {
        let mut read = |texts: &[String], kind: &str| -> Vec<Rule> {
            let mut rules = Vec::new();
            for text in texts {
                match Rule::parse(text, cwd, home) {
                    Ok(rule) => rules.push(rule),
                    Err(problem) if kind == "deny" => {
                        warnings
                            .push(format!("the permission rule {text:?} is not understood ({problem}); it denies every call of its tool"));
                        rules.push(Rule::whole_tool(text));
                    }
                    Err(problem) => warnings.push(format!("the permission rule {text:?} ({kind}) is not used: {problem}")),
                }
            }
            rules
        };
        let (deny, ask, allow) = (read(&texts.deny, "deny"), read(&texts.ask, "ask"), read(&texts.allow, "allow"));
        let mode = if asker.is_none() { Mode::Bypass } else { texts.mode.unwrap_or_default() };
        let now = Mutex::new(Now { mode, allow, granted: Vec::new() });
        Self { session: session.clone(), cwd: cwd.to_owned(), home: home.to_owned(), asker, deny, ask, now }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn mode(&self) -> Mode {
        self.now().mode
    }

    pub(crate) fn set_mode(&self, mode: Mode) {
        self.now().mode = mode;
    }

    /// Takes a rule that the person gave in this session, now or before.
    pub(crate) fn grant(&self, text: &str) {
        if let Ok(rule) = Rule::parse(text, &self.cwd, &self.home) {
            self.now().allow.push(rule);
        }
    }

    /// Rules that the person gave since the last time.
    pub(crate) fn take_granted(&self) -> Vec<String> {
        std::mem::take(&mut self.now().granted)
    }

    /// Whether somebody can be asked.
    pub(crate) fn is_attended(&self) -> bool {
        self.asker.is_some()
    }

    /// What a tool that searches must pass over: what is denied and, where somebody can be asked, what must be asked for. `None` when no rule says so.
    pub(crate) fn withheld(self: &Arc<Self>, tool: &str) -> Option<Withheld> {
        let mut rules = self.deny.iter().chain(self.ask.iter().filter(|_| self.is_attended()));
        if !rules.any(|rule| rule.withholds_files(tool)) {
            return None;
        }
        let (gate, tool) = (Arc::clone(self), tool.to_owned());
        Some(Arc::new(move |path| {
            let mut rules = gate.deny.iter().chain(gate.ask.iter().filter(|_| gate.is_attended()));
            rules.any(|rule| rule.withholds(&tool, path, &gate.cwd))
        }))
    }

    /// Judges a call by rules and mode alone.
    pub(crate) fn judge(&self, tool: &dyn Tool, call: &Call) -> Verdict {
        if let Some(rule) = self.deny.iter().find(|rule| rule.fits(call, &self.cwd, Fit::Any)) {
            return Verdict::Deny(format!("the rule {} of the repository denies it", rule.text));
        }
        let now = self.now();
        let harmless = tool.risk() == ToolRisk::Read
            || matches!(call.name.as_str(), "todo" | "task" | "skill" | "job_output" | "job_kill" | "task_info");
        if now.mode == Mode::Plan && !harmless {
            return Verdict::Deny("in plan mode nothing is changed or run; say what you would do".to_owned());
        }
        if self.ask.iter().any(|rule| rule.fits(call, &self.cwd, Fit::Any)) {
            return Verdict::Ask;
        }
        if harmless || now.mode == Mode::Bypass || self.is_allowed(&now.allow, call) {
            return Verdict::Allow;
        }
        match tool.risk() {
            ToolRisk::Write if now.mode == Mode::AcceptEdits && self.is_ordinary(call) => Verdict::Allow,
            // Handing in and mail are what the orchestrator gave the agent to speak with.
            ToolRisk::Control => Verdict::Allow,
            _ => Verdict::Ask,
        }
    }

    /// Whether rules allow every part of a call; each part may have a rule of its own.
    fn is_allowed(&self, allow: &[Rule], call: &Call) -> bool {
        if call.name != "bash" {
            return allow.iter().any(|rule| rule.fits(call, &self.cwd, Fit::Every));
        }
        let parts = parts_of(field(&call.input, &["command"]).unwrap_or_default());
        if !parts.is_known() {
            return allow.iter().any(|rule| rule.is_whole() && rule.allows_command(&[]));
        }
        let commands = parts.commands.iter().all(|words| allow.iter().any(|rule| rule.allows_command(words)));
        let write = |path: &String| {
            let edit = Call { id: String::new(), name: "write".to_owned(), input: serde_json::json!({"path": path}) };
            allow.iter().any(|rule| rule.fits(&edit, &self.cwd, Fit::Every) || (rule.is_whole() && rule.allows_command(&[])))
        };
        commands && parts.writes.iter().all(write)
    }

    /// Whether a change touches only ordinary files of the working directory.
    fn is_ordinary(&self, call: &Call) -> bool {
        let files = files_of(call);
        let ordinary = |path: PathBuf| {
            path.strip_prefix(&self.cwd)
                .is_ok_and(|inner| !inner.components().any(|part| GUARDED.iter().any(|name| part.as_os_str() == *name)))
        };
        !files.is_empty() && files.iter().all(|file| paths_of_one(file, &self.cwd).into_iter().all(ordinary))
    }

    /// Asks the person. Where nobody can be asked, the box decides.
    ///
    /// # Errors
    /// What the model is told when the call may not be made.
    pub(crate) async fn ask(&self, call: &Call, call_id: String, title: String) -> Result<(), String> {
        let Some(asker) = &self.asker else { return Ok(()) };
        let always = always(call);
        let question =
            PermissionQuestion { session: self.session.clone(), call: call_id, title, input: call.input.clone(), always: always.clone() };
        match asker.ask(question).await {
            PermissionAnswer::Once => Ok(()),
            PermissionAnswer::Always => {
                if let Some(text) = always {
                    self.grant(&text);
                    self.now().granted.push(text);
                }
                Ok(())
            }
            PermissionAnswer::Rejected => {
                Err("the person does not allow this call. Do not look for another way to the same thing; go on without it, or say what you need it for".to_owned())
            }
            PermissionAnswer::Unanswered => Err("not run: the question whether it may be made was not answered".to_owned()),
        }
    }
}

/// The rule that saves asking again; none for a command that is not understood, that is fed by a file or that holds the output of another.
fn always(call: &Call) -> Option<String> {
    if call.name != "bash" {
        return Some(public_name(&call.name).to_owned());
    }
    let parts = parts_of(field(&call.input, &["command"])?);
    let single = parts.is_known() && parts.writes.is_empty() && parts.commands.len() == 1 && !has_placeholder(&parts.commands[0]);
    let words = parts.commands.first().filter(|_| single)?.join(" ");
    (!words.contains(['*', '(', ')', '\n'])).then(|| format!("Bash({words})"))
}
