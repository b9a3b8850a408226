//! The generated pages of the manual, compared with the committed ones. `AEDILE_BLESS=1` writes them instead.

use std::fmt::Write;
use std::path::PathBuf;

use clap::CommandFactory;

use crate::{cli, config, env, exit};

/// Compares a page of `docs/` with what it must be.
pub fn page(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    #[expect(clippy::disallowed_methods, reason = "a switch of this test alone")]
    if std::env::var_os("AEDILE_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "docs/{name} is not what the program says: run this test with AEDILE_BLESS=1 and commit the result");
}

fn describe(command: &mut clap::Command, path: &str, depth: usize, text: &mut String) {
    let name = if path.is_empty() { command.get_name().to_owned() } else { format!("{path} {}", command.get_name()) };
    let shown = command.clone().bin_name(&name).render_long_help().to_string();
    let trimmed: Vec<&str> = shown.lines().map(str::trim_end).collect();
    writeln!(text, "{} `{name}`\n\n```text\n{}\n```\n", "#".repeat(depth.min(4)), trimmed.join("\n").trim()).unwrap();
    let children: Vec<String> =
        command.get_subcommands().map(|child| child.get_name().to_owned()).filter(|child| child != "help").collect();
    for child in children {
        describe(command.find_subcommand_mut(&child).unwrap(), &name, depth + 1, text);
    }
}

#[test]
fn the_page_of_commands_is_current() {
    let mut text = String::from("# Commands\n\nWhat `--help` prints, for every command.\n\n");
    describe(&mut cli::Cli::command(), "", 2, &mut text);
    text.push_str("## Inside a box\n\nAn agent has `aedile` on its PATH too. There it speaks only to the door:\n\n```text\n");
    text.push_str(crate::inbox::USAGE);
    text.push_str("```\n");
    page("commands.md", &text);
}

#[test]
fn the_page_of_exit_codes_is_current() {
    let mut text = String::from("# Exit codes\n\n| code | meaning |\n| --- | --- |\n");
    for exit in exit::ALL {
        writeln!(text, "| {} | {} |", exit.code, exit.meaning).unwrap();
    }
    text.push_str("\n`aedile sandbox exec` ends as its command does: with its code, 126 when it cannot be executed, 127 when it is not found, 128 + N when signal N\nended it.\n");
    page("exit-codes.md", &text);
}

#[test]
fn the_page_of_the_environment_is_current() {
    let mut text = String::from("# Environment\n\nEvery variable that aedile reads.\n\n| variable | meaning |\n| --- | --- |\n");
    for var in env::ALL {
        writeln!(text, "| `{}` | {} |", var.name, var.meaning).unwrap();
    }
    let tools: Vec<String> = aedile_sandbox::TOOL_VARIABLES.iter().map(|name| format!("`{name}`")).collect();
    writeln!(text, "\nThese say where toolchains are, and are handed on to boxes: {}.", tools.join(", ")).unwrap();
    page("environment.md", &text);
}

#[test]
fn the_page_of_the_mcp_tools_is_current() {
    page("mcp-tools.md", &crate::commands::mcp::page());
}

/// Variants, their words and their fields, read from the source, where the words stand.
fn events() -> Vec<(String, String, String)> {
    let source = include_str!("../../core/src/event.rs");
    let body = source.split_once("pub enum Event {").unwrap().1.split_once("\n}\n").unwrap().0;
    let (mut found, mut words, mut variant) = (Vec::new(), String::new(), String::new());
    for line in body.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("/// ") {
            words = format!("{words} {doc}").trim().to_owned();
        } else if !line.is_empty() {
            variant = format!("{variant} {line}");
            if variant.matches('{').count() == variant.matches('}').count() {
                let (name, fields) = variant.split_once('{').unwrap();
                let fields: Vec<&str> = fields.split(',').filter_map(|field| field.split_once(':')).map(|(name, _)| name.trim()).collect();
                found.push((snake(name.trim()), std::mem::take(&mut words), fields.join(", ")));
                variant.clear();
            }
        }
    }
    found
}

fn snake(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

#[test]
fn the_page_of_events_is_current() {
    let mut text = String::from(
        "# Events\n\nThe log of events is the truth; `aedile events` prints it, one JSON object a line: `position`, `at` (microseconds since 1970, UTC), `version`, `run` and `event`, whose `type` is one of these.\n\n| type | fields | what it says |\n| --- | --- | --- |\n",
    );
    let events = events();
    assert!(events.len() > 30);
    for (name, words, fields) in events {
        writeln!(text, "| `{name}` | {fields} | {words} |").unwrap();
    }
    page("events.md", &text);
}

/// The keys that a table of the file knows, as the parser itself lists them.
fn keys<T: serde::de::DeserializeOwned>(probe: &str) -> Vec<String> {
    let error = toml::from_str::<T>(probe).err().unwrap().to_string();
    let list = error.split_once("expected").unwrap_or_else(|| panic!("no list in {error}")).1;
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_page_of_the_configuration_names_every_key() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let sections = [
        ("", "zzz = 1"),
        ("gate", "[[gate]]\nzzz = 1"),
        ("build", "[build]\nzzz = 1"),
        ("agents", "[agents]\nzzz = 1"),
        ("budget", "[budget]\nzzz = 1"),
        ("protect", "[protect]\nzzz = 1"),
        ("fetch", "[fetch]\nzzz = 1"),
        ("keep", "[keep]\nzzz = 1"),
        ("runtime", "[runtime.x]\nzzz = 1"),
    ];
    let persons = [("", "zzz = 1"), ("provider", "[provider.openai]\nzzz = 1"), ("prices", "[prices.\"openai/x\"]\nzzz = 1")];
    let sections = sections.map(|(section, probe)| (section, keys::<config::file::ConfigFile>(probe)));
    let persons = persons.map(|(section, probe)| (section, keys::<config::person::PersonFile>(probe)));
    for (section, keys) in sections.into_iter().chain(persons) {
        for key in keys {
            let row = if section.is_empty() { format!("`{key}`") } else { format!("`{section}.{key}`") };
            assert!(text.contains(&row), "docs/configuration.md does not name {row}");
        }
    }
    let example = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    config::file::ConfigFile::parse(example, "the example").unwrap();
    let example = text.split("```toml\n").nth(2).unwrap().split("```").next().unwrap();
    config::person::PersonFile::parse(example, "the second example").unwrap();
}

#[test]
fn the_page_of_the_tasks_file_is_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/tasks-file.md");
    let text = std::fs::read_to_string(path).unwrap();
    let error = config::tasks::TasksFile::parse("goal = \"g\"\n[[task]]\nzzz = 1", "t").unwrap_err().message;
    let list = error.split_once("expected").unwrap().1;
    for key in list.split('`').skip(1).step_by(2) {
        assert!(text.contains(&format!("`{key}`")), "docs/tasks-file.md does not name {key}");
    }
    let example = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    config::tasks::TasksFile::parse(example, "the example").unwrap();
}
