//! Answers by a schema: the last words of a turn are one JSON value that follows it.

use jsonschema::Validator;
use serde_json::Value;

/// Problems that the model is told at once.
const PROBLEMS_MAX: usize = 10;
/// The largest schema.
const SCHEMA_BYTES_MAX: usize = 64 * 1024;

/// A schema that can be asked.
pub(crate) struct Schema {
    validator: Validator,
    text: String,
}

impl Schema {
    /// # Errors
    /// Why it is no schema, as a sentence.
    pub(crate) fn new(schema: &Value) -> Result<Self, String> {
        let text = schema.to_string();
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(format!("the schema for the answer has more than {SCHEMA_BYTES_MAX} bytes"));
        }
        match jsonschema::validator_for(schema) {
            Ok(validator) => Ok(Self { validator, text }),
            Err(error) => Err(format!("the schema for the answer is not a JSON schema: {error}")),
        }
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
        let problems: Vec<String> = self
            .validator
            .iter_errors(&value)
            .take(PROBLEMS_MAX)
            .map(|error| match error.instance_path().to_string() {
                path if path.is_empty() => error.to_string(),
                path => format!("{path}: {error}"),
            })
            .collect();
        if problems.is_empty() { Ok(value) } else { Err(problems.join("; ")) }
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
