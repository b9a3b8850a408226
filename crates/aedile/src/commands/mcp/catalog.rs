//! The tools: one for each command that has no subcommands, named, described and typed by what the command line knows of it.

use std::any::TypeId;

use aedile_tools::OfferedTool;
use clap::{Arg, ArgAction, Command, CommandFactory};
use serde_json::{Map, Value, json};

use crate::cli::Cli;

/// Commands that make no sense here: this one, those that take a secret, which no client is to have, those that read stdin or whose input and
/// output are those of another program; and those by which a person opens a boundary.
const LEFT_OUT: &[&str] = &[
    "landing approve",
    "mcp",
    "policy answer",
    "sandbox exec",
    "scan egress",
    "scan secrets",
    "secret import",
    "secret rotate",
    "secret set",
];
/// Arguments that make no sense here: they say how to print, or never end.
const ARGUMENTS_LEFT_OUT: &[&str] = &["json", "raw", "follow", "help", "version"];
/// Commands that only look. A command that is not in this list is taken to change something.
const READ_ONLY: &[&str] = &[
    "agent list",
    "costs",
    "diff",
    "doctor",
    "events",
    "feed",
    "gateway log",
    "landing evidence",
    "landing list",
    "landing simulate",
    "logs",
    "mail list",
    "merge-driver status",
    "policy asks",
    "policy check",
    "policy explain",
    "policy show",
    "runtime list",
    "secret audit",
    "secret list",
    "snapshot diff",
    "snapshot list",
    "status",
    "store check",
    "store stats",
    "task list",
    "task show",
    "transcript",
];
/// Commands that add something and take nothing away. All others that change something are said to be destructive.
const ADDING: &[&str] = &[
    "code",
    "demo",
    "init",
    "mail read",
    "mail send",
    "run",
    "run pause",
    "run resume",
    "runtime test",
    "snapshot restore",
    "store rebuild",
    "sync",
    "task retry",
];
/// Commands that drive a run to its end: their lines are reported as they come, and the last one is the result.
pub const LONG: &[&str] = &["code", "demo", "run", "run resume", "undo"];
/// Commands whose every line is an item of the result.
pub const LINES: &[&str] = &["events", "feed", "logs"];
/// The argument of long commands that is ours.
pub const WAIT: &str = "wait";

/// A command as a tool.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Its words, without `aedile`.
    pub words: Vec<String>,
    /// Its arguments.
    pub args: Vec<Arg>,
    /// What clients see.
    pub tool: OfferedTool,
}

impl Leaf {
    /// Its words in one string.
    pub fn name(&self) -> String {
        self.words.join(" ")
    }

    /// Whether it drives a run.
    pub fn is_long(&self) -> bool {
        LONG.contains(&self.name().as_str())
    }
}

/// Every command that is offered.
pub fn leaves() -> Vec<Leaf> {
    let mut cli = Cli::command();
    cli.build();
    let mut found = Vec::new();
    walk(&cli, &mut Vec::new(), &mut found);
    found
}

fn walk(command: &Command, words: &mut Vec<String>, found: &mut Vec<Leaf>) {
    let children: Vec<&Command> = command.get_subcommands().filter(|child| child.get_name() != "help").collect();
    let name = words.join(" ");
    if LEFT_OUT.contains(&name.as_str()) {
        return;
    }
    if !words.is_empty() && (children.is_empty() || has_own_work(command)) {
        found.push(leaf(command, words));
    }
    for child in children {
        words.push(child.get_name().to_owned());
        walk(child, words, found);
        words.pop();
    }
}

/// Whether a command that has subcommands does something without them that none of them does.
fn has_own_work(command: &Command) -> bool {
    !command.is_subcommand_required_set() && command.get_arguments().any(|arg| !arg.is_global_set() && !left_out(arg))
}

fn left_out(arg: &Arg) -> bool {
    ARGUMENTS_LEFT_OUT.contains(&arg.get_id().as_str()) || arg.is_hide_set()
}

fn leaf(command: &Command, words: &[String]) -> Leaf {
    let name = words.join(" ");
    let args: Vec<Arg> = command.get_arguments().filter(|arg| !left_out(arg)).cloned().collect();
    let text = |styled: Option<&clap::builder::StyledStr>| styled.map(ToString::to_string).unwrap_or_default();
    let about = text(command.get_long_about().or_else(|| command.get_about()));
    let is_long = LONG.contains(&name.as_str());
    let end = match is_long {
        true => {
            " Reports progress until it is over, then answers with how it ended; with `wait` false it answers as soon as it is under way."
        }
        false => "",
    };
    let mut schema = schema(&args);
    if is_long {
        let wait = json!({ "type": "boolean", "default": true, "description": "Whether to answer only when it is over. With false it goes on by itself; the tools `status` and `feed` tell how far it is." });
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.insert(WAIT.to_owned(), wait);
        }
    }
    let tool = OfferedTool {
        name: words.join("_").replace('-', "_"),
        description: format!("{}.{end}\n\nThe command `aedile {name}`.", about.trim_end_matches('.')),
        schema,
        read_only: READ_ONLY.contains(&name.as_str()),
        destructive: !ADDING.contains(&name.as_str()),
    };
    Leaf { words: words.to_vec(), args, tool }
}

/// The JSON schema of arguments.
fn schema(args: &[Arg]) -> Map<String, Value> {
    let properties: Map<String, Value> = args.iter().map(|arg| (property(arg), describe(arg))).collect();
    let required: Vec<String> = args.iter().filter(|arg| arg.is_required_set()).map(property).collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema.insert("required".to_owned(), json!(required));
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema
}

/// The name of an argument here.
pub fn property(arg: &Arg) -> String {
    arg.get_id().as_str().replace('-', "_")
}

/// What an argument is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A flag.
    Flag,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// Text.
    Text,
}

/// Returns what values an argument takes.
pub fn kind(arg: &Arg) -> Kind {
    if matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse) {
        return Kind::Flag;
    }
    let id = arg.get_value_parser().type_id();
    let whole =
        [TypeId::of::<u8>(), TypeId::of::<u16>(), TypeId::of::<u32>(), TypeId::of::<u64>(), TypeId::of::<usize>(), TypeId::of::<i64>()];
    if whole.iter().any(|of| id == *of) {
        return Kind::Integer;
    }
    if id == TypeId::of::<f64>() { Kind::Number } else { Kind::Text }
}

/// Whether it may be given several times.
pub fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append) || arg.get_num_args().is_some_and(|range| range.max_values() > 1)
}

/// Whether an option may be given without a value.
pub fn is_optional_value(arg: &Arg) -> bool {
    arg.get_action().takes_values() && arg.get_num_args().is_some_and(|range| range.min_values() == 0)
}

fn describe(arg: &Arg) -> Value {
    let mut value = Map::new();
    let name = match kind(arg) {
        Kind::Flag => "boolean",
        Kind::Integer => "integer",
        Kind::Number => "number",
        Kind::Text => "string",
    };
    let choices: Vec<String> = match kind(arg) {
        Kind::Text => arg.get_possible_values().iter().map(|choice| choice.get_name().to_owned()).collect(),
        _ => Vec::new(),
    };
    let mut item = Map::new();
    item.insert("type".to_owned(), if is_optional_value(arg) { json!([name, "boolean"]) } else { json!(name) });
    if !choices.is_empty() {
        item.insert("enum".to_owned(), json!(choices));
    }
    if is_list(arg) {
        value.insert("type".to_owned(), json!("array"));
        value.insert("items".to_owned(), Value::Object(item));
    } else {
        value.extend(item);
    }
    let help = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let bare = if is_optional_value(arg) { " (true: without a value)" } else { "" };
    value.insert("description".to_owned(), json!(format!("{help}{bare}")));
    let default = arg.get_default_values().first().map(|text| text.to_string_lossy().into_owned()).filter(|text| !text.is_empty());
    if let Some(default) = default.filter(|_| kind(arg) != Kind::Flag) {
        let parsed = if kind(arg) == Kind::Text { json!(default) } else { serde_json::from_str(&default).unwrap_or(json!(default)) };
        value.insert("default".to_owned(), parsed);
    }
    Value::Object(value)
}

/// The page of the manual that lists the tools.
#[cfg(test)]
pub fn page() -> String {
    use std::fmt::Write;
    let mut text = String::from(
        "# The tools of `aedile mcp`\n\nWhat a client sees. `*` marks arguments that must be given. How to add the server to a client is in [mcp](mcp.md).\n\n| tool | changes | arguments | what it does |\n| --- | --- | --- | --- |\n",
    );
    for leaf in leaves() {
        let tool = &leaf.tool;
        let changes = match (tool.read_only, tool.destructive) {
            (true, _) => "nothing",
            (false, false) => "adds",
            (false, true) => "may take away",
        };
        let required = tool.schema["required"].as_array().cloned().unwrap_or_default();
        let names = tool.schema["properties"].as_object().into_iter().flat_map(|properties| properties.keys());
        let args: Vec<String> =
            names.map(|name| if required.contains(&json!(name)) { format!("`{name}`*") } else { format!("`{name}`") }).collect();
        let about = tool.description.lines().next().unwrap_or_default();
        writeln!(text, "| `{}` | {changes} | {} | {about} |", tool.name, args.join(", ")).unwrap();
    }
    let left_out: Vec<String> = LEFT_OUT.iter().map(|name| format!("`{name}`")).collect();
    writeln!(text, "\nLeft out, since they make no sense here: {}, and everywhere the arguments that say how to print (`json`, `raw`) or never end (`follow`).", left_out.join(", ")).unwrap();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_the_lists_is_a_tool_once() {
        let names: Vec<String> = leaves().iter().map(|leaf| leaf.tool.name.clone()).collect();
        let mut sorted = names.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), names.len(), "{names:?}");
        assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')), "{names:?}");
        for known in ["run", "code", "demo", "task_retry", "mail_send", "landing_evidence", "init"] {
            assert!(names.iter().any(|name| name == known), "{known} is not in {names:?}");
        }
        assert!(!names.iter().any(|name| name.starts_with("mcp") || name == "sandbox_exec"), "{names:?}");
        assert!(!READ_ONLY.iter().any(|name| ADDING.contains(name)));
    }

    #[test]
    fn arguments_have_the_types_of_the_command_line() {
        let leaves = leaves();
        let of = |name: &str| leaves.iter().find(|leaf| leaf.tool.name == name).unwrap().tool.schema.clone();
        let code = of("code");
        assert_eq!(code["properties"]["scope"]["type"], "array");
        assert_eq!(code["properties"]["budget_usd"]["type"], "number");
        assert_eq!(code["properties"]["apply"]["type"], "boolean");
        assert_eq!(code["properties"]["runtime"]["default"], "aedile");
        assert_eq!(code["properties"]["resume"]["type"], json!(["string", "boolean"]));
        assert_eq!(
            of("demo")["properties"]["agents"],
            json!({ "type": "integer", "description": of("demo")["properties"]["agents"]["description"], "default": 5 })
        );
        assert_eq!(of("task_retry")["required"], json!(["task"]));
        let feed = of("feed");
        assert!(feed["properties"].get("follow").is_none() && feed["properties"].get("json").is_none(), "{feed:?}");
    }
}
