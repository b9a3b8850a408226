//! The moments at which hooks run, by the names that Claude Code gave them, and what a hook is for.

use regex::Regex;
use serde::{Deserialize, Serialize};

/// A moment at which hooks run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum HookEvent {
    /// Before a tool call; may refuse it, ask the person, allow it or change its input.
    PreToolUse,
    /// After a call that succeeded.
    PostToolUse,
    /// After a call that failed, was refused or was interrupted.
    PostToolUseFailure,
    /// Before a prompt reaches the model; may refuse it.
    UserPromptSubmit,
    /// Before the first prompt of a process and after the conversation was condensed.
    SessionStart,
    /// When the model has no more to do; may send it back to work.
    Stop,
    /// Before a sub-agent begins.
    SubagentStart,
    /// When a sub-agent has no more to do; may send it back to work.
    SubagentStop,
    /// Before the conversation is condensed.
    PreCompact,
    /// After the conversation was condensed.
    PostCompact,
    /// When the program ends.
    SessionEnd,
    /// When the person is asked something.
    Notification,
}

const NAMES: &[(HookEvent, &str)] = &[
    (HookEvent::PreToolUse, "PreToolUse"),
    (HookEvent::PostToolUse, "PostToolUse"),
    (HookEvent::PostToolUseFailure, "PostToolUseFailure"),
    (HookEvent::UserPromptSubmit, "UserPromptSubmit"),
    (HookEvent::SessionStart, "SessionStart"),
    (HookEvent::Stop, "Stop"),
    (HookEvent::SubagentStart, "SubagentStart"),
    (HookEvent::SubagentStop, "SubagentStop"),
    (HookEvent::PreCompact, "PreCompact"),
    (HookEvent::PostCompact, "PostCompact"),
    (HookEvent::SessionEnd, "SessionEnd"),
    (HookEvent::Notification, "Notification"),
];

impl HookEvent {
    /// The event of this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(event, _)| *event)
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(event, _)| *event == self).map_or("", |(_, name)| name)
    }

    /// Whether what a hook prints as plain text is for the model.
    pub(crate) fn text_is_context(self) -> bool {
        matches!(self, Self::UserPromptSubmit | Self::SessionStart)
    }
}

/// Whether a matcher fits one of the names: empty or `*` fits everything, a list such as `Edit|Write` these names, and anything else is a
/// regular expression that must fit the whole name.
///
/// # Errors
/// What is wrong with the expression, as the end of a sentence.
pub(crate) fn matches(matcher: &str, names: &[&str]) -> Result<bool, String> {
    let matcher = matcher.trim();
    if matcher.is_empty() || matcher == "*" {
        return Ok(true);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '|' | ' ' | ',');
    if matcher.chars().all(plain) {
        let mut wanted = matcher.split(['|', ',']).map(str::trim);
        return Ok(wanted.any(|wanted| names.contains(&wanted)));
    }
    let whole = Regex::new(&format!("^(?:{matcher})$")).map_err(|_| "is no regular expression".to_owned())?;
    Ok(names.iter().any(|name| whole.is_match(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_are_lists_or_expressions_of_whole_names() {
        for (matcher, name, fits) in [
            ("", "Bash", true),
            ("*", "Bash", true),
            ("Edit|Write", "Write", true),
            ("Edit|Write", "NotebookWrite", false),
            ("Notebook.*", "NotebookEdit", true),
            ("mcp__.*__write.*", "mcp__memory__write_all", true),
            ("Ba", "Bash", false),
            ("^Bash$", "Bash", true),
        ] {
            assert_eq!(matches(matcher, &[name]), Ok(fits), "{matcher} {name}");
        }
        assert!(matches("(", &["Bash"]).is_err());
        assert!(NAMES.iter().all(|(event, name)| HookEvent::from_name(name) == Some(*event) && event.name() == *name));
    }
}
