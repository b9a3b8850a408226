//! Prompts that begin with `/name`: a command or a skill of the repository takes their place.

use std::path::Path;

use crate::front_matter::Document;
use crate::library::Library;
use crate::skill::load;

/// What a prompt becomes.
#[derive(Debug, PartialEq)]
pub(crate) enum Expanded {
    /// It is no command.
    AsItIs,
    /// It looks like a command that is not there; it is given as it is.
    Unknown(String),
    /// The text of the command, with its arguments in place.
    Text(String),
}

/// Expands a prompt.
///
/// # Errors
/// Why the command cannot be used, as a sentence.
pub(crate) fn expand(prompt: &str, library: &Library, cwd: &Path) -> Result<Expanded, String> {
    let Some(line) = prompt.trim_start().strip_prefix('/') else { return Ok(Expanded::AsItIs) };
    let (name, arguments) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let arguments = arguments.trim();
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.')) {
        return Ok(Expanded::AsItIs);
    }
    if let Some(entry) = library.commands.get(name) {
        let document = Document::read(&entry.path).map_err(|problem| format!("the command /{name} cannot be used any more: {problem}"))?;
        let document = document.ok_or_else(|| format!("the command /{name} is gone: {} does not exist any more", entry.path.display()))?;
        return Ok(Expanded::Text(fill(document.body.trim(), arguments)));
    }
    if let Some(entry) = library.skills.get(name) {
        return Ok(Expanded::Text(fill(&load(name, entry, cwd)?, arguments)));
    }
    let names: Vec<String> = library.commands.keys().chain(library.skills.keys()).map(|name| format!("/{name}")).collect();
    let known = if names.is_empty() { "the repository has none".to_owned() } else { format!("there are: {}", names.join(", ")) };
    Ok(Expanded::Unknown(format!("there is no command /{name} ({known}); the agent is given the text as it is")))
}

/// Puts arguments in the place of `$ARGUMENTS`, `$1` to `$9`; a text that has none of these gets them at its end.
fn fill(body: &str, arguments: &str) -> String {
    let words = shlex::split(arguments).unwrap_or_else(|| arguments.split_whitespace().map(str::to_owned).collect());
    let (mut text, mut rest, mut used) = (String::new(), body, false);
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        let digit = after.chars().next().and_then(|c| c.to_digit(10)).filter(|digit| *digit > 0);
        let longer = after.chars().nth(1).is_some_and(|c| c.is_ascii_digit());
        rest = match (after.strip_prefix("ARGUMENTS"), digit) {
            (Some(rest), _) => {
                text.push_str(arguments);
                used = true;
                rest
            }
            (None, Some(digit)) if !longer => {
                text.push_str(words.get(digit as usize - 1).map_or("", String::as_str));
                used = true;
                &after[1..]
            }
            _ => {
                text.push('$');
                after
            }
        };
    }
    text.push_str(rest);
    if !used && !arguments.is_empty() {
        text.push_str("\n\nArguments: ");
        text.push_str(arguments);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn arguments_take_their_places_once() {
        assert_eq!(fill("fix $1 in $2: $ARGUMENTS", "'a b' $1 c"), "fix a b in $1: 'a b' $1 c");
        assert_eq!(fill("costs $100, $HOME, $0, $", "x"), "costs $100, $HOME, $0, $\n\nArguments: x");
        assert_eq!(fill("[$3]", "a"), "[]");
        assert_eq!(fill("look", ""), "look");
        assert_eq!(fill("$1", "it's"), "it's");
    }
}
