//! Markdown files that begin with fields: skills, commands and sub-agents.

use serde_json::{Map, Value};
use std::path::Path;

use crate::settings::read_small;

/// The largest of these files.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// The fields at the top of one.
const FIELDS_BYTES_MAX: usize = 16 * 1024;

/// A file in its two parts.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Document {
    pub(crate) fields: Map<String, Value>,
    pub(crate) body: String,
}

impl Document {
    /// Reads a file; `None` when there is none.
    ///
    /// # Errors
    /// What is wrong with it, as half a sentence.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, String> {
        read_small(path, FILE_BYTES_MAX)?.map(|text| Self::parse(&text)).transpose()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
        let Some(rest) = text.strip_prefix("---\n") else { return Ok(Self { fields: Map::new(), body: text }) };
        let Some((fields, body)) = split_fields(rest) else { return Err("the fields at its top have no end (a line ---)".to_owned()) };
        if fields.len() > FIELDS_BYTES_MAX {
            return Err(format!("the fields at its top have more than {FIELDS_BYTES_MAX} bytes"));
        }
        Ok(Self { fields: read_fields(fields)?, body: body.to_owned() })
    }

    /// The text of a field; empty when it is not there.
    pub(crate) fn text(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default().trim()
    }

    /// The names in a field: a list, or a text with commas. `None` when it is not there.
    pub(crate) fn names(&self, field: &str) -> Option<Vec<String>> {
        let parts: Vec<&str> = match self.fields.get(field)? {
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
            Value::String(text) => text.split(',').collect(),
            _ => Vec::new(),
        };
        Some(parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect())
    }
}

fn split_fields(rest: &str) -> Option<(&str, &str)> {
    if let Some(body) = rest.strip_prefix("---\n") {
        return Some(("", body));
    }
    match rest.split_once("\n---\n") {
        Some(parts) => Some(parts),
        None => rest.strip_suffix("\n---").map(|fields| (fields, "")),
    }
}

/// Many of these files hold a `description: Use it when: ...` that is not YAML; each line is a field then.
fn read_fields(text: &str) -> Result<Map<String, Value>, String> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    let error = match serde_saphyr::from_str::<Map<String, Value>>(text) {
        Ok(fields) => return Ok(fields),
        Err(error) => error.to_string(),
    };
    let mut fields = Map::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let field = line.split_once(':').filter(|(name, _)| !name.contains(char::is_whitespace));
        let Some((name, value)) = field else {
            let first = error.lines().next().unwrap_or_default();
            return Err(format!("the fields at its top cannot be read ({first})"));
        };
        fields.insert(name.to_owned(), value.trim().trim_matches(['"', '\'']).into());
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_body_are_read_also_when_the_fields_are_not_quite_yaml() {
        let parse = |text: &str| Document::parse(text);
        let document = parse("---\r\nname: x\r\ndescription: >\r\n  two\r\n  lines\r\ntools: [Read, Grep]\r\n---\r\nBody\r\n").unwrap();
        assert_eq!((document.text("name"), document.text("description"), document.body.as_str()), ("x", "two lines", "Body\n"));
        assert_eq!(document.names("tools").unwrap(), ["Read", "Grep"]);
        let loose = parse("---\nname: x\ndescription: Use it when: always\ntools: Read, Grep\n---\n").unwrap();
        assert_eq!((loose.text("description"), loose.body.as_str()), ("Use it when: always", ""));
        assert_eq!(loose.names("tools").unwrap(), ["Read", "Grep"]);
        assert_eq!(parse("No fields.").unwrap().body, "No fields.");
        assert!(parse("---\nname: x\nBody").unwrap_err().contains("no end"));
        assert!(parse("---\nname: [x\n  y: z\n---\n").unwrap_err().contains("cannot be read"));
        assert!(parse(&format!("---\nname: {}\n---\n", "x".repeat(20_000))).unwrap_err().contains("more than"));
        let bomb =
            format!("---\na0: &a0 [x]\n{}---\n", (1..30).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1)).collect::<String>());
        assert!(parse(&bomb).is_err() || parse(&bomb).unwrap().fields.len() < 40);
    }
}
