//! Reads a tool's input field by field, so that an error names the field.

use aedile_core::tool::ToolOutput;
use serde_json::Value;

/// The input of one call.
pub(crate) struct Input<'a>(&'a serde_json::Map<String, Value>);

impl<'a> Input<'a> {
    /// Takes the input; it must be an object.
    pub(crate) fn new(value: &'a Value) -> Result<Self, String> {
        match value {
            Value::Object(map) => Ok(Self(map)),
            Value::String(_) => Err("the input is not valid JSON; send one JSON object".to_owned()),
            _ => Err("the input must be a JSON object".to_owned()),
        }
    }

    fn get(&self, field: &str) -> Option<&'a Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    /// A text that must be there.
    pub(crate) fn text(&self, field: &str) -> Result<&'a str, String> {
        self.text_opt(field)?.ok_or_else(|| format!("the field `{field}` is missing"))
    }

    /// A text that may be absent.
    pub(crate) fn text_opt(&self, field: &str) -> Result<Option<&'a str>, String> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(format!("the field `{field}` must be a text, not {other}")),
        }
    }

    /// The path of a file: `path`, or `file_path` as some models write.
    pub(crate) fn path(&self) -> Result<&'a str, String> {
        match self.text_opt("path")? {
            Some(path) => Ok(path),
            None => self.text_opt("file_path")?.ok_or_else(|| "the field `path` is missing".to_owned()),
        }
    }

    /// A whole number from 0; also taken from a text of digits.
    pub(crate) fn number_opt(&self, field: &str) -> Result<Option<u64>, String> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
        number.map(Some).ok_or_else(|| format!("the field `{field}` must be a whole number, not {value}"))
    }

    /// The same as `usize`.
    pub(crate) fn count_opt(&self, field: &str) -> Result<Option<usize>, String> {
        Ok(self.number_opt(field)?.map(|number| usize::try_from(number).unwrap_or(usize::MAX)))
    }

    /// Yes or no; absent is no.
    pub(crate) fn flag(&self, field: &str) -> Result<bool, String> {
        match self.get(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text == "true" || text == "false" => Ok(text == "true"),
            Some(other) => Err(format!("the field `{field}` must be true or false, not {other}")),
        }
    }

    /// A list that may be absent.
    pub(crate) fn list_opt(&self, field: &str) -> Result<Option<&'a Vec<Value>>, String> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(format!("the field `{field}` must be a list, not {other}")),
        }
    }
}

/// Turns a result of texts into a tool's answer.
pub(crate) fn output(result: Result<String, String>) -> ToolOutput {
    match result {
        Ok(text) => ToolOutput::ok(text),
        Err(text) => ToolOutput::error(text),
    }
}

/// Runs file work on a thread that may block. The work must be bounded: it is not interrupted.
pub(crate) async fn blocking(work: impl FnOnce() -> Result<String, String> + Send + 'static) -> ToolOutput {
    blocking_output(move || work().map(ToolOutput::ok)).await
}

/// The same for an answer that is more than text.
pub(crate) async fn blocking_output(work: impl FnOnce() -> Result<ToolOutput, String> + Send + 'static) -> ToolOutput {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.unwrap_or_else(ToolOutput::error),
        Err(error) => ToolOutput::error(format!("the tool broke: {error}")),
    }
}
