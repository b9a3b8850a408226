//! Answers by a schema: the last words of a turn are one JSON value that follows it.

use boon::{CompileError, Compiler, Draft, SchemaIndex, Schemas, SchemeUrlLoader, ValidationError};
use serde_json::Value;

/// Problems that the model is told at once.
const PROBLEMS_MAX: usize = 10;
/// The largest schema.
const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// The name that the schema has while it is read. No loader knows it, so a `$ref` to elsewhere is an error and nothing is fetched.
const SCHEMA_NAME: &str = "mem:///answer";

/// A schema that can be asked.
pub(crate) struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
    text: String,
    value: Value,
}

impl Schema {
    /// # Errors
    /// Why it is no schema, as a sentence.
    pub(crate) fn new(schema: &Value) -> Result<Self, String> {
        let text = schema.to_string();
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(format!("the schema for the answer has more than {SCHEMA_BYTES_MAX} bytes"));
        }
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.set_default_draft(Draft::V2020_12);
        compiler.use_loader(Box::new(SchemeUrlLoader::new()));
        let named = |error: CompileError| {
            let error = format!("{error:#}").replace(SCHEMA_NAME, "");
            format!("the schema for the answer is not a JSON schema: {error}")
        };
        compiler.add_resource(SCHEMA_NAME, schema.clone()).map_err(named)?;
        let index = compiler.compile(SCHEMA_NAME, &mut schemas).map_err(named)?;
        Ok(Self { schemas, index, text, value: schema.clone() })
    }

    /// The schema, where providers can hold an answer to it: they take objects only. What comes is checked all the same.
    pub(crate) fn native(&self) -> Option<Value> {
        (self.value.get("type").and_then(Value::as_str) == Some("object")).then(|| self.value.clone())
    }

    /// What the model is told with the prompt.
    pub(crate) fn request(&self) -> String {
        format!("When the work is done, let your last answer be one JSON value that follows this schema, and nothing else:\n{}", self.text)
    }

    /// Reads an answer; a code fence round it is taken off.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(&self, answer: &str) -> Result<Value, String> {
        let value: Value = serde_json::from_str(without_fence(answer)).map_err(|error| format!("it is not one JSON value: {error}"))?;
        let Err(error) = self.schemas.validate(&value, self.index) else { return Ok(value) };
        let mut problems = Vec::new();
        name_problems(&error, &mut problems);
        problems.truncate(PROBLEMS_MAX);
        Err(problems.join("; "))
    }
}

/// The problems without others below them: what contains them says only that something inside is wrong.
fn name_problems(error: &ValidationError, problems: &mut Vec<String>) {
    if error.causes.is_empty() {
        problems.push(match error.instance_location.to_string() {
            path if path.is_empty() => error.kind.to_string(),
            path => format!("{path}: {}", error.kind),
        });
    }
    for cause in &error.causes {
        name_problems(cause, problems);
    }
}

fn without_fence(answer: &str) -> &str {
    let answer = answer.trim();
    let Some(inner) = answer.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")) else { return answer };
    inner.strip_prefix("json").unwrap_or(inner).trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_read_and_problems_named() {
        let schema = Schema::new(&json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})).unwrap();
        assert_eq!(schema.read("```json\n{\"n\": 1}\n```"), Ok(json!({"n": 1})));
        assert!(schema.read("Here: {}").unwrap_err().contains("not one JSON value"));
        assert!(schema.read("{\"n\": \"x\"}").unwrap_err().contains("/n"));
        assert!(Schema::new(&json!({"type": 7})).is_err());
        assert!(Schema::new(&json!({"$ref": "https://schemas.invalid/x.json"})).is_err(), "nothing is fetched");
    }
}
