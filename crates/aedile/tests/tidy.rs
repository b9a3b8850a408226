//! The rules of the house: who may import whom, how long files and functions may be, and what must not stand in the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Which of our crates each crate may import, and the heavy dependency that it alone may name.
fn table() -> BTreeMap<&'static str, (&'static [&'static str], &'static [&'static str])> {
    BTreeMap::from([
        ("core", (&[] as &[_], &[] as &[_])),
        ("store", (&["core"] as &[_], &["rusqlite"] as &[_])),
        ("git", (&["core"], &[])),
        ("code", (&[], &["tree-sitter"])),
        ("models", (&["core"], &[])),
        ("sandbox", (&["core"], &["landlock", "seccompiler"])),
        ("gateway", (&["core", "models"], &[])),
        ("tools", (&["core", "code"], &["grep-searcher", "grep-regex", "rmcp"])),
        ("agent", (&["core"], &[])),
        ("runtimes", (&["core"], &["agent-client-protocol", "agent-client-protocol-schema"])),
        ("landing", (&["core", "git", "code"], &[])),
        ("fleet", (&["core", "git"], &[])),
    ])
}

fn metadata() -> serde_json::Value {
    #[expect(clippy::disallowed_methods, reason = "a test asks cargo")]
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn crates_import_only_what_the_table_allows() {
    let table = table();
    let heavy: BTreeMap<&str, &str> =
        table.iter().flat_map(|(name, (_, heavy))| heavy.iter().map(move |dependency| (*dependency, *name))).collect();
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let short = name.strip_prefix("aedile-").unwrap_or(name);
        if matches!(short, "aedile" | "testkit" | "bench") {
            continue;
        }
        let (allowed, _) = table.get(short).unwrap_or_else(|| panic!("crate {name} is not in the import table"));
        let normal = package["dependencies"].as_array().unwrap().iter().filter(|dependency| dependency["kind"].is_null());
        for dependency in normal.map(|dependency| dependency["name"].as_str().unwrap()) {
            if let Some(ours) = dependency.strip_prefix("aedile-") {
                assert!(allowed.contains(&ours), "{name} may not import aedile-{ours}");
            }
            if let Some(owner) = heavy.get(dependency) {
                assert_eq!(*owner, short, "only {owner} may name {dependency}");
            }
        }
    }
    let core = metadata["packages"].as_array().unwrap().iter().find(|package| package["name"] == "aedile-core").unwrap();
    let names: BTreeSet<&str> = core["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|dependency| dependency["kind"].is_null())
        .map(|dependency| dependency["name"].as_str().unwrap())
        .collect();
    assert!(!names.contains("tokio") && !names.contains("rustix"), "core does no I/O");
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![root().join("crates"), root().join("bench")];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() && entry.file_name().is_some_and(|name| name != "target") {
                open.push(entry);
            } else if entry.extension().is_some_and(|ending| ending == "rs") {
                found.push(entry);
            }
        }
    }
    assert!(found.len() > 50);
    found
}

#[test]
fn files_and_functions_are_short() {
    let mut long = Vec::new();
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_LINES_MAX {
            long.push(format!("{} has {} lines", path.display(), lines.len()));
        }
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_function(line)) {
            // A signature without a body, in a trait.
            if lines[at..].iter().find(|later| later.ends_with(['{', ';'])).is_some_and(|later| later.ends_with(';')) {
                continue;
            }
            let indent = line.len() - line.trim_start().len();
            let end = lines[at..].iter().position(|later| later.len() == indent + 1 && later.ends_with('}')).unwrap_or(usize::MAX - 1);
            if end + 1 > FUNCTION_LINES_MAX {
                long.push(format!("{}:{} is a function of {} lines", path.display(), at + 1, end + 1));
            }
        }
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// The text is formatted, so a function that is longer than a line ends at the first brace of its own indent.
fn is_function(line: &str) -> bool {
    let code = line.trim_start();
    let words = [
        "fn ",
        "pub fn ",
        "pub(crate) fn ",
        "pub(super) fn ",
        "async fn ",
        "pub async fn ",
        "pub(crate) async fn ",
        "unsafe fn ",
        "pub unsafe fn ",
        "const fn ",
        "pub const fn ",
    ];
    words.iter().any(|word| code.starts_with(word)) && !line.trim_end().ends_with(['}', ';'])
}

#[test]
fn nothing_unfinished_stands_in_the_tree() {
    let marks = [
        "todo!(",
        "unimplemented!(",
        &format!("FIX{}", "ME"),
        &format!("TO{}", "DO"),
        &format!("X{}", "XX"),
        "#[ignore",
        &format!("#[{}(", "allow"),
    ];
    for path in sources() {
        if path.ends_with("tidy.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for mark in marks {
            assert!(!text.contains(mark), "{} holds {mark}", path.display());
        }
    }
}
