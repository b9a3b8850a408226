//! JSON schemas for structured output, in the form that each provider takes.

use serde_json::{Map, Value, json};

/// Keywords that Anthropic's structured output follows. Others would be refused: they move into the description.
const ANTHROPIC_KEYWORDS: &[&str] = &[
    "type",
    "properties",
    "required",
    "items",
    "enum",
    "const",
    "anyOf",
    "allOf",
    "$ref",
    "$defs",
    "definitions",
    "title",
    "description",
    "additionalProperties",
    "format",
];
const ANTHROPIC_FORMATS: &[&str] = &["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];
/// Keywords that OpenAI refuses in a strict schema.
const OPENAI_LOOSE: &[&str] = &[
    "oneOf",
    "allOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "patternProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "unevaluatedProperties",
    "contains",
    "uniqueItems",
    "default",
];

/// Objects are closed, constraints that are not followed are told in words.
pub(crate) fn for_anthropic(schema: &Value) -> Value {
    each(schema, &mut |fields| {
        if let Some(variants) = fields.shift_remove("oneOf") {
            fields.insert("anyOf".to_owned(), variants);
        }
        let told: Vec<String> =
            fields.iter().filter(|(key, value)| !followed(key, value)).map(|(key, value)| format!("{key}: {value}")).collect();
        fields.retain(|key, value| followed(key, value));
        if !told.is_empty() {
            let said = fields.get("description").and_then(Value::as_str).unwrap_or_default();
            let description = format!("{said} ({})", told.join(", ")).trim().to_owned();
            fields.insert("description".to_owned(), json!(description));
        }
        if is_object(fields) {
            fields.insert("additionalProperties".to_owned(), json!(false));
        }
    })
}

fn followed(key: &str, value: &Value) -> bool {
    match key {
        "format" => value.as_str().is_some_and(|format| ANTHROPIC_FORMATS.contains(&format)),
        "minItems" => matches!(value.as_u64(), Some(0 | 1)),
        _ => ANTHROPIC_KEYWORDS.contains(&key),
    }
}

/// The named schema that Chat Completions and Responses want. It is strict where OpenAI's rules for that are met.
pub(crate) fn for_openai(schema: &Value) -> Value {
    let mut strict = true;
    let closed = each(schema, &mut |fields| {
        if is_object(fields) {
            fields.entry("additionalProperties").or_insert(json!(false));
            let required: Vec<&str> =
                fields.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
            let properties = fields.get("properties").and_then(Value::as_object);
            strict &= fields["additionalProperties"] == false;
            strict &= properties.is_some_and(|properties| properties.keys().all(|key| required.contains(&key.as_str())));
        }
        strict &= !fields.keys().any(|key| OPENAI_LOOSE.contains(&key.as_str()));
    });
    let schema = if strict { closed } else { schema.clone() };
    json!({"name": "answer", "schema": schema, "strict": strict})
}

fn is_object(fields: &Map<String, Value>) -> bool {
    fields.get("type").is_some_and(|kind| kind == "object" || kind.as_array().is_some_and(|kinds| kinds.contains(&json!("object"))))
}

/// Applies a change to a schema and every schema within it, the inner ones first.
fn each(schema: &Value, change: &mut dyn FnMut(&mut Map<String, Value>)) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let mut changed = Map::new();
    for (key, value) in fields {
        let value = match (key.as_str(), value) {
            ("properties" | "$defs" | "definitions" | "patternProperties", Value::Object(inner)) => {
                inner.iter().map(|(name, inner)| (name.clone(), each(inner, change))).collect()
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems", Value::Array(inner)) => inner.iter().map(|inner| each(inner, change)).collect(),
            ("items" | "not" | "additionalProperties", inner) => each(inner, change),
            (_, value) => value.clone(),
        };
        changed.insert(key.clone(), value);
    }
    change(&mut changed);
    Value::Object(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anthropic_gets_closed_objects_and_words_for_the_rest() {
        let schema = json!({"type": "object", "required": ["n"], "properties": {
            "n": {"type": "integer", "minimum": 1, "description": "How many."},
            "list": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"oneOf": [{"type": "string", "format": "glob"}, {"type": "object"}]}}
        }});
        let expected = json!({"type": "object", "required": ["n"], "additionalProperties": false, "properties": {
            "n": {"type": "integer", "description": "How many. (minimum: 1)"},
            "list": {"type": "array", "minItems": 1, "description": "(maxItems: 3)", "items": {"anyOf": [
                {"type": "string", "description": "(format: \"glob\")"}, {"type": "object", "additionalProperties": false}]}}
        }});
        assert_eq!(for_anthropic(&schema), expected);
    }

    #[test]
    fn openai_is_strict_only_where_its_rules_are_met() {
        let all = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
        let closed = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
        assert_eq!(for_openai(&all), json!({"name": "answer", "schema": closed, "strict": true}));
        let some = json!({"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {}}}}, "required": ["a"]});
        assert_eq!(for_openai(&some), json!({"name": "answer", "schema": some, "strict": false}));
    }
}
