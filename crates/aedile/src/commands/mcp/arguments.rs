//! From the arguments of a call to those of a command.

use std::ffi::OsString;

use clap::Arg;
use serde_json::{Map, Value};

use super::catalog::{Kind, Leaf, WAIT, is_list, is_optional_value, kind, property};

/// The longest text of an argument: Linux takes 128 KiB (`MAX_ARG_STRLEN`, execve(2)), and the option's name stands before it.
const ARGUMENT_BYTES_MAX: usize = 127 * 1024;

/// Returns the command line of a call, without the program.
///
/// # Errors
/// A sentence that names the argument and what it should be.
pub fn command_line(leaf: &Leaf, arguments: &Map<String, Value>) -> Result<Vec<OsString>, String> {
    let known: Vec<String> = leaf.args.iter().map(property).collect();
    for name in arguments.keys() {
        let ours = leaf.is_long() && name == WAIT;
        if !known.contains(name) && !ours {
            let all = if known.is_empty() { "it takes none".to_owned() } else { format!("it takes {}", known.join(", ")) };
            return Err(format!("the tool {} has no argument {name:?}; {all}", leaf.tool.name));
        }
    }
    if let Some(value) = arguments.get(WAIT).filter(|value| leaf.is_long() && !value.is_boolean()) {
        return Err(format!("the argument \"{WAIT}\" must be true or false, not {value}"));
    }
    let mut line: Vec<OsString> = leaf.words.iter().map(Into::into).collect();
    line.push("--json".into());
    let mut positional = Vec::new();
    for arg in &leaf.args {
        match arguments.get(&property(arg)) {
            None | Some(Value::Null) if arg.is_required_set() => {
                return Err(format!("the argument {:?} of the tool {} is missing", property(arg), leaf.tool.name));
            }
            None | Some(Value::Null) => {}
            Some(value) => add(arg, value, &mut line, &mut positional)?,
        }
    }
    if !positional.is_empty() {
        // What begins with a dash is still what it is.
        line.push("--".into());
        line.extend(positional);
    }
    Ok(line)
}

fn add(arg: &Arg, value: &Value, line: &mut Vec<OsString>, positional: &mut Vec<OsString>) -> Result<(), String> {
    let name = property(arg);
    let long = arg.get_long().map(|long| format!("--{long}"));
    if kind(arg) == Kind::Flag || (is_optional_value(arg) && value.is_boolean()) {
        let Value::Bool(set) = value else { return Err(format!("the argument {name:?} must be true or false, not {value}")) };
        line.extend(long.filter(|_| *set).map(OsString::from));
        return Ok(());
    }
    let texts = match value {
        Value::Array(items) if is_list(arg) => items.iter().map(|item| text(arg, item)).collect::<Result<Vec<_>, _>>()?,
        Value::Array(_) => return Err(format!("the argument {name:?} takes one value, not a list")),
        one => vec![text(arg, one)?],
    };
    for text in texts {
        match &long {
            Some(long) => line.push(format!("{long}={text}").into()),
            None => positional.push(text.into()),
        }
    }
    Ok(())
}

fn text(arg: &Arg, value: &Value) -> Result<String, String> {
    let wrong = |what: &str| Err(format!("the argument {:?} must be {what}, not {value}", property(arg)));
    match (kind(arg), value) {
        (Kind::Integer, Value::Number(number)) if number.is_u64() || number.is_i64() => Ok(number.to_string()),
        (Kind::Integer, _) => wrong("a whole number"),
        (Kind::Number, Value::Number(number)) => Ok(number.to_string()),
        (Kind::Number, _) => wrong("a number"),
        (_, Value::String(text)) if text.len() > ARGUMENT_BYTES_MAX => Err(format!(
            "the argument {:?} has {} bytes and at most {ARGUMENT_BYTES_MAX} are taken: put the long text into a file of the repository and name the file",
            property(arg),
            text.len()
        )),
        (_, Value::String(text)) if text.contains('\0') => Err(format!("the argument {:?} holds a NUL byte", property(arg))),
        (_, Value::String(text)) => Ok(text.clone()),
        _ => wrong("a text"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::leaves;
    use super::*;
    use serde_json::json;

    fn line(tool: &str, arguments: Value) -> Result<Vec<String>, String> {
        let leaf = leaves().into_iter().find(|leaf| leaf.tool.name == tool).unwrap();
        let line = command_line(&leaf, &serde_json::from_value(arguments).unwrap())?;
        Ok(line.into_iter().map(|word| word.into_string().unwrap()).collect())
    }

    #[test]
    fn arguments_become_a_command_line() {
        let mail = json!({ "to": "ada", "body": "-- no option", "subject": "" });
        assert_eq!(line("mail_send", mail).unwrap(), ["mail", "send", "--json", "--subject=", "--body=-- no option", "--", "ada"]);
        let code =
            json!({ "prompt": "--help me", "scope": ["src/**", "-x"], "budget_usd": 0.5, "apply": true, "land": false, "wait": false });
        assert_eq!(
            line("code", code).unwrap(),
            ["code", "--json", "--scope=src/**", "--scope=-x", "--budget-usd=0.5", "--apply", "--", "--help me"]
        );
        assert_eq!(line("run", json!({ "resume": true })).unwrap(), ["run", "--json", "--resume"]);
        assert_eq!(line("run", json!({ "resume": "abcd1234" })).unwrap(), ["run", "--json", "--resume=abcd1234"]);
        assert_eq!(line("status", json!({ "all": null })).unwrap(), ["status", "--json"]);
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (tool, arguments, part) in [
            ("task_retry", json!({}), "\"task\" of the tool task_retry is missing"),
            ("status", json!({ "colour": 1 }), "no argument \"colour\""),
            ("demo", json!({ "agents": "five" }), "\"agents\" must be a whole number"),
            ("demo", json!({ "agents": 1.5 }), "\"agents\" must be a whole number"),
            ("code", json!({ "prompt": ["a"] }), "\"prompt\" takes one value"),
            ("code", json!({ "prompt": "a", "apply": "yes" }), "\"apply\" must be true or false"),
            ("code", json!({ "prompt": "a\u{0}b" }), "NUL"),
            ("run", json!({ "wait": 1 }), "\"wait\" must be true or false"),
        ] {
            let error = line(tool, arguments).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
