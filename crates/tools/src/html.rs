//! Pages into Markdown, in bounded time: work on a page grows with the square of how deep it is nested.

use htmd::HtmlToMarkdown;
use std::collections::HashMap;

/// A page that is nested deeper only loses its tags.
const DEPTH_MAX: usize = 256;
/// What is no text of the page.
const SKIPPED: &[&str] = &["script", "style", "head", "nav", "svg", "noscript", "iframe", "template"];
/// Elements that have no end.
const VOID: &[&str] = &["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"];
/// Elements whose end is often left out.
const OPEN: &[&str] = &["p", "li", "dt", "dd", "tr", "td", "th", "option", "thead", "tbody"];

/// Turns a page into Markdown.
pub(crate) fn markdown(html: &str) -> Result<String, String> {
    if depth(html) > DEPTH_MAX {
        return Ok(without_tags(html));
    }
    let converter = HtmlToMarkdown::builder().skip_tags(SKIPPED.to_vec()).build();
    converter.convert(html).map_err(|error| format!("the page cannot be turned into text: {error}"))
}

/// An upper estimate of how deep elements are nested: an end counts only for an element that is open.
fn depth(html: &str) -> usize {
    let (mut open, mut deep, mut deepest): (HashMap<String, usize>, usize, usize) = (HashMap::new(), 0, 0);
    for piece in html.split('<').skip(1) {
        let (end, rest) = piece.strip_prefix('/').map_or((false, piece), |rest| (true, rest));
        let name: String = rest.chars().take(20).take_while(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        if name.is_empty() || VOID.contains(&name.as_str()) {
            continue;
        }
        let optional = OPEN.contains(&name.as_str());
        let count = open.entry(name).or_default();
        // An end that is left out is taken as said, but not without limit.
        let ends_the_last = optional && *count > 0 && deep <= DEPTH_MAX / 2;
        if end && *count > 0 {
            *count -= 1;
            deep -= 1;
        } else if !(end || ends_the_last) {
            *count += 1;
            deep += 1;
            deepest = deepest.max(deep);
        }
    }
    deepest
}

fn without_tags(html: &str) -> String {
    let mut text = String::from("[this page is nested too deep to be shown in its form; these are its words]\n");
    let mut pieces = html.split('<');
    text.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        if let Some((_, words)) = piece.split_once('>') {
            let words = words.trim();
            if !words.is_empty() {
                text.push_str(words);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::depth;

    #[test]
    fn depth_is_not_hidden_by_ends_of_nothing() {
        assert_eq!(depth("<div><p>a<br><img src=x></p></div><div></div>"), 2);
        assert_eq!(depth(&"<div></x></span>".repeat(1000)), 1000);
        assert!(depth(&"<li>a".repeat(1000)) <= 2);
        assert!(depth(&"<li><div>".repeat(1000)) > 900);
    }
}
