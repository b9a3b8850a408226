//! The commit message of a landing. What an agent wrote in it is untrusted: bounded, printable, and no line of it passes for a trailer.

use aedile_core::{AgentName, RunId, TaskKey};

const SUBJECT_CHARS_MAX: usize = 100;
const BODY_LINES_MAX: usize = 60;
const LINE_CHARS_MAX: usize = 500;

/// Returns the message: the task's title, the agent's summary, and the three trailers that name task, agent and run.
pub(crate) fn commit_message(title: &str, summary: &str, task: &TaskKey, agent: &AgentName, run: RunId) -> String {
    let title = one_line(title);
    let subject = if title.is_empty() { format!("Task {task}") } else { title };
    let body = body(summary);
    let gap = if body.is_empty() { "" } else { "\n\n" };
    format!("{subject}{gap}{body}\n\nAedile-Task: {task}\nAedile-Agent: {agent}\nAedile-Run: {run}\n")
}

/// Whether a character may stand in a message: nothing that moves a cursor, reorders text or is invisible.
fn is_plain(c: char) -> bool {
    let hidden =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}');
    !c.is_control() && !hidden && !matches!(c, '\u{e0000}'..='\u{e007f}')
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if is_break(c) || c == '\t' { ' ' } else { c }).filter(|c| is_plain(*c)).collect();
    let words: Vec<&str> = spaced.split_whitespace().collect();
    cut(&neutral(&words.join(" ")), SUBJECT_CHARS_MAX)
}

fn body(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.split(is_break) {
        let line: String = line.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| is_plain(*c)).collect();
        let line = cut(&neutral(line.trim_end()), LINE_CHARS_MAX);
        // Blank lines at the beginning and several in a row say nothing.
        if !(line.is_empty() && lines.last().is_none_or(String::is_empty)) {
            lines.push(line);
        }
        if lines.len() == BODY_LINES_MAX {
            lines.push("[...]".to_owned());
            break;
        }
    }
    lines.join("\n").trim_end().to_owned()
}

/// Quotes a line that a reader of trailers could take for one (`Some-Name: value`), or for the end of the message (`---`).
fn neutral(line: &str) -> String {
    let start = line.trim_start();
    let name = start.split(':').next().unwrap_or_default().trim_end();
    let is_trailer = start.contains(':') && name.contains('-') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let looks_ours = start.to_lowercase().starts_with("aedile-");
    if is_trailer || looks_ours || start.starts_with("---") { format!("> {start}") } else { line.to_owned() }
}

fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aedile_core::clock::{SeededEntropy, SteppingClock};
    use proptest::prelude::*;

    fn made(title: &str, summary: &str) -> String {
        let run = RunId::new(&SteppingClock::default(), &SeededEntropy::new(1));
        commit_message(title, summary, &TaskKey::new("auth").unwrap(), &AgentName::new("ada").unwrap(), run)
    }

    fn ours(message: &str) -> Vec<&str> {
        message.lines().filter(|line| line.to_lowercase().trim_start().starts_with("aedile-")).collect()
    }

    #[test]
    fn title_summary_and_trailers_stand_in_order() {
        let message = made("Add the login page", "Adds the form.\n\nTests it.");
        let want = "Add the login page\n\nAdds the form.\n\nTests it.\n\nAedile-Task: auth\nAedile-Agent: ada\nAedile-Run: ";
        assert!(message.starts_with(want), "{message}");
        assert!(made("", "").starts_with("Task auth\n\nAedile-Task: auth\n"));
    }

    #[test]
    fn forged_trailers_are_quoted() {
        let message = made(
            "t",
            "ok\n\nAedile-Task: other\n  aedile-agent : eve\nSigned-off-by: A <a@b>\n---\nrest\rAedile-Run: 1\u{2028}Aedile-Run: 2",
        );
        assert_eq!(ours(&message).len(), 3, "{message}");
        for quoted in
            ["> Aedile-Task: other", "> aedile-agent : eve", "> Signed-off-by: A <a@b>", "> ---", "> Aedile-Run: 1", "> Aedile-Run: 2"]
        {
            assert!(message.contains(quoted), "{quoted} in {message}");
        }
        assert!(made("Aedile-Task: x", "").starts_with("> Aedile-Task: x\n"));
    }

    #[test]
    fn ordinary_words_with_a_colon_stay() {
        let message = made("fix: the parser", "note: it was wrong\nsee http://localhost");
        assert!(message.starts_with("fix: the parser\n\nnote: it was wrong\nsee http://localhost\n"), "{message}");
    }

    #[test]
    fn a_message_is_bounded() {
        assert!(made(&"x".repeat(10_000), &"y\n".repeat(100_000)).len() < 2000);
        assert!(made("x", &"y".repeat(1_000_000)).len() < 2000);
    }

    proptest! {
        #[test]
        fn whatever_an_agent_writes_there_are_three_trailers_of_ours(title in "\\PC{0,40}|(?s).{0,40}", summary in "(?s)(.{0,20}(\n|\r|Aedile-Task: |---)){0,8}") {
            let message = made(&title, &summary);
            prop_assert_eq!(ours(&message).len(), 3);
            prop_assert!(message.chars().all(|c| c == '\n' || is_plain(c)));
        }
    }
}
