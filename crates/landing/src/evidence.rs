//! What an agent reads when its change comes back. Complete text: whoever starts its next turn only passes it on.

use aedile_core::task::GateSpec;
use aedile_core::tool::cut_middle;
use aedile_core::{CommitId, TreeId};

use crate::gate::{GateRun, exit_text};

/// How much of a gate's output the text holds.
const OUTPUT_BYTES_MAX: usize = 16 * 1024;
/// How much of what git said the text holds.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// A red gate.
pub(crate) fn red_gate(gate: &GateSpec, run: &GateRun, tree: &TreeId, onto: &CommitId) -> String {
    let output = plain(&run.output);
    let output = if output.trim().is_empty() { "(it wrote nothing)".to_owned() } else { cut_middle(output.trim_end(), OUTPUT_BYTES_MAX) };
    format!(
        "Your change did not land: the gate `{name}` was red.\n\
         It ran on your change merged with the target's commit {onto} (merged tree {tree}), in a clean checkout without network.\n\n\
         gate:    {name}\n\
         command: {command}\n\
         result:  {exit}, after {took:.1} s\n\n\
         What to do: the cause may lie in your change alone or in what others landed meanwhile; your workspace holds both now. \
         Run the command, mend the cause within your scope, and submit again.\n\n\
         Output of the gate:\n{output}\n",
        name = gate.name,
        command = gate.command,
        exit = exit_text(run.exit, gate),
        took = run.took.as_secs_f64(),
    )
}

/// The same with what it fails with, when that is known: what another change did that landed meanwhile.
pub(crate) fn with_pair(red: &str, with: &str) -> String {
    if with.is_empty() {
        return red.to_owned();
    }
    let with = plain(with.as_bytes());
    format!(
        "{red}\nThe gate was green on your change until another change landed, and is red since: the two fail only together. \
         Mend yours so that it works with what landed.\nWhat landed: {}\n",
        cut_middle(with.trim_end(), OUTPUT_BYTES_MAX),
    )
}

/// A merge conflict.
pub(crate) fn conflict(paths: &[String], onto: &CommitId, details: &str, open: &str) -> String {
    let details = plain(details.as_bytes());
    let details = cut_middle(details.trim(), MESSAGE_BYTES_MAX);
    let said = if details.is_empty() { String::new() } else { format!("\nWhat git said:\n{details}\n") };
    let open = plain(open.as_bytes());
    let open = if open.trim().is_empty() { String::new() } else { format!("\nWhat could not be settled without you:\n{}\n", open.trim()) };
    format!(
        "Your change did not land: it conflicts with what others landed on the target (commit {onto}).\n\n\
         Files in conflict:\n{list}\n\
         What to do: your workspace is now the merge of your change with the target. Files in conflict carry markers \
         (`<<<<<<<`, `|||||||`, `=======`, `>>>>>>>`) with your side, the common ancestor and the target's side. \
         Keep what both sides meant, remove every marker, test, and submit again.\n{open}{said}",
        list = list(paths),
    )
}

/// Conflict markers that were submitted.
pub(crate) fn markers(paths: &[String]) -> String {
    format!(
        "Your change did not land: files that were in conflict still carry conflict markers.\n\n\
         Files:\n{list}\n\
         What to do: for each place keep what both sides meant, remove the lines that begin with `<<<<<<<`, `|||||||`, `=======` and `>>>>>>>`, \
         test, and submit again.\n",
        list = list(paths),
    )
}

/// Lines of others that are gone.
pub(crate) fn dropped(lines: &[String], onto: &CommitId) -> String {
    format!(
        "Your change did not land: it leaves out what others have landed since your work began.\n\n\
         What is missing (path, line in the target's commit {onto}, text):\n{list}\n\
         What to do: your workspace holds the target; `git show {onto}:PATH` shows a file as it is there. Put back what still belongs, also \
         next to your own work, and submit again. If leaving it out is right, say why in the summary and submit again: then a person decides.\n",
        list = list(lines),
    )
}

/// Paths that the task may not change.
pub(crate) fn scope(violations: &[String], scope: &[String]) -> String {
    format!(
        "Your change did not land: it touches what this task may not change.\n\n\
         Paths and rules:\n{list}\n\
         The task's scope is: {scope}\n\
         What to do: take these paths out of your change (restore them as they are on the target, remove what is new), and submit again. \
         If the task cannot be done within its scope, send mail to `person` and say which path is needed and why.\n",
        list = list(violations),
        scope = scope.join(", "),
    )
}

/// Protected paths.
pub(crate) fn protected(paths: &[String]) -> String {
    format!(
        "Your change did not land: it changes what makes programs run code or judges changes, and that needs a person's word.\n\n\
         Paths and rules:\n{list}\n\
         What to do: a person was asked. If they send the task back to you, leave these paths as they are on the target and submit again.\n",
        list = list(paths),
    )
}

/// A commit that could not be imported.
pub(crate) fn import(message: &str) -> String {
    format!(
        "Your change did not land: its commit could not be taken out of the workspace.\n\n\
         {message}\n\n\
         What to do: make sure that the branch that `submit` froze holds whole commits that descend from where the workspace began, and submit again.\n",
        message = cut_middle(plain(message.as_bytes()).trim(), MESSAGE_BYTES_MAX),
    )
}

/// Nothing to land.
pub(crate) fn empty(onto: &CommitId) -> String {
    format!(
        "Your change did not land: merged with the target (commit {onto}) it changes nothing.\n\
         Either nothing was committed, or everything in it is on the target already.\n\
         What to do: if work is missing, do it and submit again; if the target has all that the task asks for, send mail to `person` and say so.\n"
    )
}

fn list(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

/// Returns the text of bytes that a program wrote for a terminal: no escape sequences, no control characters but line breaks and tabs.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\r' if chars.peek() != Some(&'\n') => out.push('\n'),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        // CSI: parameters, then one final byte.
        Some('[') => while chars.next_if(|c| !('@'..='~').contains(c) && !c.is_control()).is_some() {},
        // OSC: up to BEL or ESC \.
        Some(']') => while chars.next_if(|c| !matches!(c, '\u{7}' | '\u{1b}' | '\n')).is_some() {},
        _ => return,
    }
    let _ = chars.next_if(|c| *c != '\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use aedile_core::sandbox::BoxExit;
    use std::time::Duration;

    #[test]
    fn terminal_output_becomes_plain_text() {
        assert_eq!(plain(b"\x1b[1;31merror\x1b[0m: x\r\n\x1b]0;title\x07ok\x00\x08\tend\r50%\r100%"), "error: x\nok\tend\n50%\n100%");
        assert_eq!(plain(b"\x1b[31"), "");
        assert_eq!(plain(b"\xff\xfea"), "\u{fffd}\u{fffd}a");
    }

    #[test]
    fn a_red_gate_names_gate_command_result_and_output() {
        let gate = GateSpec { name: "test".into(), command: "make test".into(), timeout_s: Some(7) };
        let tree = TreeId::new("a".repeat(40)).unwrap();
        let onto = CommitId::new("b".repeat(40)).unwrap();
        let run = |exit, output: &[u8]| GateRun { exit, took: Duration::from_millis(1234), output: output.to_vec() };
        let text = red_gate(&gate, &run(BoxExit::Code(2), b"boom\n"), &tree, &onto);
        for part in ["`test` was red", "make test", "exit code 2, after 1.2 s", "\nboom\n", onto.as_str(), tree.as_str()] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let text = red_gate(&gate, &run(BoxExit::TimedOut, b" \n"), &tree, &onto);
        assert!(text.contains("limit of 7 s") && text.contains("(it wrote nothing)"), "{text}");
        assert!(red_gate(&gate, &run(BoxExit::Signal(9), &[b'x'; 1 << 20]), &tree, &onto).len() < 20_000);
    }

    #[test]
    fn every_text_says_what_happened_names_it_and_ends_with_what_to_do() {
        let onto = CommitId::new("b".repeat(40)).unwrap();
        let names = ["src/a.txt".to_owned(), "src/b.txt".to_owned()];
        let texts = [
            (
                conflict(&names, &onto, "CONFLICT (content): in src/a.txt", "src/a.txt: both changed the same (line 1)"),
                vec!["conflicts with", onto.as_str(), "CONFLICT (content)", "without you:\nsrc/a.txt: both"],
            ),
            (markers(&names), vec!["still carry conflict markers"]),
            (scope(&names, &["src/**".to_owned()]), vec!["may not change", "src/**"]),
            (protected(&names), vec!["person's word", "Paths and rules"]),
            (dropped(&names, &onto), vec!["leaves out what others have landed", onto.as_str(), "a person decides"]),
        ];
        for (text, parts) in &texts {
            let parts =
                parts.iter().copied().chain(["Your change did not land:", "  src/a.txt\n  src/b.txt\n", "What to do:", "submit again"]);
            for part in parts {
                assert!(text.contains(part), "{part:?} is not in {text}");
            }
        }
        for (text, part) in [(import("no\u{1b}[2J such object"), "no such object"), (empty(&onto), onto.as_str())] {
            assert!(text.contains(part) && text.contains("did not land") && text.contains("What to do:"), "{text}");
        }
        assert!(import(&"x".repeat(1 << 20)).len() < 2 * MESSAGE_BYTES_MAX);
    }
}
