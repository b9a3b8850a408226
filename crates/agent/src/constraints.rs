//! What the person said, for a conversation that was condensed: whole where there is room, else every sentence that lays something down.

use std::fmt::Write;

/// Prompts that stay whole besides the first, when not all do.
const LAST_PROMPTS: usize = 3;
/// Words by which a sentence lays something down.
const WORDS: &[&str] = &[
    "must",
    "never",
    "always",
    "only",
    "don't",
    "do not",
    "does not",
    "not ",
    "no ",
    "without",
    "shall",
    "should",
    "avoid",
    "keep",
    "require",
    "has to",
    "have to",
    "need",
    "may ",
    "cannot",
    "can't",
    "important",
    "constraint",
    "at most",
    "at least",
    "exactly",
    "forbid",
    "rule",
];

/// The prompts in at most about `max` bytes, each as it was written.
pub(crate) fn what_was_said(prompts: &[String], max: usize) -> String {
    let mut text = String::new();
    if prompts.iter().map(String::len).sum::<usize>() <= max {
        for (index, prompt) in prompts.iter().enumerate() {
            push(&mut text, index, prompt);
        }
        return text;
    }
    let each = max / 2 / (LAST_PROMPTS + 1);
    let last = prompts.len().saturating_sub(LAST_PROMPTS);
    let mut laid_down: Vec<&str> = Vec::new();
    for (index, prompt) in prompts.iter().enumerate() {
        if (index == 0 || index >= last) && prompt.len() <= each {
            push(&mut text, index, prompt);
            continue;
        }
        if index == 0 || index >= last {
            push(&mut text, index, &aedile_core::tool::cut_middle(prompt, each));
        }
        laid_down.extend(sentences(prompt).filter(|sentence| lays_down(sentence)));
    }
    let (mut seen, mut left_out) = (Vec::new(), 0);
    let mut room = max / 2;
    for sentence in laid_down {
        if seen.contains(&sentence) {
            continue;
        }
        if sentence.len() + 3 > room {
            left_out += 1;
            continue;
        }
        room -= sentence.len() + 3;
        seen.push(sentence);
    }
    if !seen.is_empty() {
        text.push_str("What the person laid down in messages that are not shown whole:\n");
    }
    for sentence in seen {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "- {sentence}");
    }
    if left_out > 0 {
        let _ = writeln!(text, "({left_out} more such sentences are in the transcript)");
    }
    text.push('\n');
    text
}

fn push(text: &mut String, index: usize, prompt: &str) {
    let name = if index == 0 { "task".to_owned() } else { format!("message {}", index + 1) };
    // Writing to a String cannot fail.
    let _ = write!(text, "<{name}>\n{prompt}\n</{name}>\n\n");
}

fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split_inclusive(". ")).map(str::trim).filter(|sentence| !sentence.is_empty())
}

fn lays_down(sentence: &str) -> bool {
    let sentence = format!("{} ", sentence.to_lowercase());
    WORDS.iter().any(|word| sentence.match_indices(word).any(|(at, _)| !sentence[..at].ends_with(|c: char| c.is_alphanumeric())))
}

#[cfg(test)]
mod tests {
    use super::what_was_said;

    #[test]
    fn all_is_kept_where_there_is_room_and_constraints_always() {
        let prompts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let short = prompts(&["First.", "Second."]);
        assert_eq!(what_was_said(&short, 1000), "<task>\nFirst.\n</task>\n\n<message 2>\nSecond.\n</message 2>\n\n");
        let filler = "Words and words. ".repeat(200);
        let long = prompts(&[
            "The task.",
            &format!("{filler}Never touch src/legacy. {filler}"),
            "a",
            "b",
            &format!("{filler}\nUse tabs only.\n{filler}"),
        ]);
        let text = what_was_said(&long, 4000);
        assert!(text.len() < 4400, "{}", text.len());
        for kept in ["The task.", "- Never touch src/legacy.\n", "- Use tabs only.\n", "<message 3>\na\n", "<message 4>\nb\n"] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        assert!(!text.contains("<message 2>"));
        let many = prompts(&[&(0..1000).map(|n| format!("You must keep rule {n}.\n")).collect::<String>()]);
        assert!(what_was_said(&many, 4000).contains("more such sentences"));
    }
}
