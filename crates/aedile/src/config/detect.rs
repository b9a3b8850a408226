//! Looks at a repository and proposes gates and build directories.

use std::path::Path;

use aedile_core::task::GateSpec;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Languages and tools, for people.
    pub languages: Vec<&'static str>,
    /// Proposed gates.
    pub gates: Vec<GateSpec>,
    /// Proposed build directories.
    pub build_dirs: Vec<String>,
    /// What a person should know before trusting the proposal.
    pub notes: Vec<String>,
}

impl Found {
    fn gate(&mut self, name: &str, command: &str) {
        let taken = self.gates.iter().any(|gate| gate.name == name);
        let name = if taken { format!("{name}-{}", self.gates.len() + 1) } else { name.to_owned() };
        self.gates.push(GateSpec { name, command: command.to_owned(), timeout_s: None });
    }

    fn build_dir(&mut self, dir: &str) {
        if !self.build_dirs.iter().any(|known| known == dir) {
            self.build_dirs.push(dir.to_owned());
        }
    }
}

/// Looks at the root of a repository. Reads files, starts nothing.
pub fn detect(root: &Path) -> Found {
    let mut found = Found::default();
    let has = |name: &str| root.join(name).is_file();
    if has("Cargo.toml") {
        found.languages.push("Rust");
        found.gate("test", "cargo test --offline");
        found.build_dir("target");
    }
    if has("package.json") {
        node(root, &mut found);
    }
    if has("pyproject.toml") || has("setup.py") || has("setup.cfg") {
        found.languages.push("Python");
        let pytest = ["pyproject.toml", "setup.cfg", "tox.ini", "requirements-dev.txt", "requirements.txt"]
            .iter()
            .any(|name| read(root, name).contains("pytest"))
            || has("pytest.ini")
            || has("conftest.py");
        found.gate("test", if pytest { "python3 -m pytest -q" } else { "python3 -m unittest discover" });
        found.build_dir(".venv");
    }
    if has("go.mod") {
        found.languages.push("Go");
        found.gate("vet", "go vet ./...");
        found.gate("test", "go test ./...");
    }
    if let Some(makefile) = ["GNUmakefile", "makefile", "Makefile"].iter().find(|name| has(name)) {
        make(root, makefile, &mut found);
    }
    found
}

fn read(root: &Path, name: &str) -> String {
    std::fs::read_to_string(root.join(name)).unwrap_or_default()
}

fn node(root: &Path, found: &mut Found) {
    let package: serde_json::Value = serde_json::from_str(&read(root, "package.json")).unwrap_or_default();
    let has = |name: &str| root.join(name).is_file();
    let (tool, run) = if has("pnpm-lock.yaml") {
        ("pnpm", "pnpm run")
    } else if has("bun.lock") || has("bun.lockb") {
        ("bun", "bun run")
    } else {
        ("npm", "npm run")
    };
    found.languages.push(match tool {
        "pnpm" => "Node.js (pnpm)",
        "bun" => "Node.js (bun)",
        _ => "Node.js (npm)",
    });
    found.build_dir("node_modules");
    let dependencies = ["dependencies", "devDependencies"].iter().any(|key| package[key].as_object().is_some_and(|all| !all.is_empty()));
    if dependencies {
        found.notes.push(format!("gates run without network on a fresh checkout: `node_modules` is not there unless it is committed or a gate makes it offline ({tool} install --offline)"));
    }
    for script in ["lint", "typecheck", "test"] {
        let command = package["scripts"][script].as_str();
        if command.is_some_and(|command| !command.contains("no test specified")) {
            found.gate(script, &format!("{run} {script}"));
        }
    }
}

fn make(root: &Path, makefile: &str, found: &mut Found) {
    found.languages.push("Make");
    let text = read(root, makefile);
    let target = |name: &str| {
        text.lines().any(|line| {
            line.split(':').next().is_some_and(|names| {
                line.contains(':') && !line.starts_with(['\t', '#']) && names.split_whitespace().any(|word| word == name)
            })
        })
    };
    if let Some(name) = ["test", "check"].into_iter().find(|name| target(name)) {
        if found.gates.iter().all(|gate| gate.name != "test") {
            found.gate("test", &format!("make {name}"));
        } else {
            found.notes.push(format!("`make {name}` exists too; replace the proposed test gate with it if it does more"));
        }
    }
}

/// Writes the commented `aedile.toml` for what was found.
pub fn render(found: &Found, target: &str) -> String {
    let gate = |gate: &GateSpec| format!("[[gate]]\nname = {}\ncommand = {}\n\n", quoted(&gate.name), quoted(&gate.command));
    let gates: String = match found.gates.is_empty() {
        true => {
            "# None was found. Until there is one, changes land untested.\n# [[gate]]\n# name = \"test\"\n# command = \"make test\"\n\n"
                .to_owned()
        }
        false => found.gates.iter().map(gate).collect(),
    };
    let dirs: Vec<String> = found.build_dirs.iter().map(|dir| quoted(dir)).collect();
    format!(
        "# aedile: what holds for this repository. Read from the commit on the target branch, so commit changes to this file.\n\n\
         # The branch that agents' changes land on.\ntarget = {}\n\n\
         # Gates: commands (given to `sh -c`) that must succeed on the merged tree, in a clean room without network, before anything lands.\n{gates}\
         [build]\n# Directories that builds write: writable for agents whatever their scope, never part of a change.\ndirectories = [{}]\n\n\
         [agents]\n# Model of tasks that name none, as PROVIDER/MODEL. Keys come from ANTHROPIC_API_KEY, OPENAI_API_KEY or a key file.\n\
         # model = \"anthropic/claude-sonnet-4-5\"\n# Models that agents go on with while its provider is down.\n# fallback = [\"openai/gpt-5-mini\"]\n\
         # Agents at work at once.\n# at_once = 4\n\n\
         [budget]\n# Dollars for a whole run, and for each task that names no budget.\n# run_usd = 10.0\n# task_usd = 2.0\n\n\
         [protect]\n# Further paths that no change may touch without --allow-protected (this file and CI configuration always are).\n# paths = [\"migrations/**\"]\n",
        quoted(target),
        dirs.join(", ")
    )
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::ConfigFile;

    fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn gates(files: &[(&str, &str)]) -> Vec<String> {
        detect(repository(files).path()).gates.into_iter().map(|gate| gate.command).collect()
    }

    #[test]
    fn proposes_the_gates_of_each_tool() {
        assert_eq!(gates(&[("Cargo.toml", "")]), ["cargo test --offline"]);
        assert_eq!(gates(&[("go.mod", "")]), ["go vet ./...", "go test ./..."]);
        assert_eq!(gates(&[("Makefile", "all:\n\ttrue\ntest: all\n\t./t\n")]), ["make test"]);
        assert_eq!(gates(&[("Makefile", "CHECK := 1\nall:\n\ttest: no\n")]), Vec::<String>::new());
        assert_eq!(gates(&[("pyproject.toml", "[tool.pytest.ini_options]")]), ["python3 -m pytest -q"]);
        assert_eq!(gates(&[("setup.py", "")]), ["python3 -m unittest discover"]);
        let package = r#"{"scripts": {"test": "vitest", "lint": "eslint ."}}"#;
        assert_eq!(gates(&[("package.json", package)]), ["npm run lint", "npm run test"]);
        assert_eq!(gates(&[("package.json", package), ("pnpm-lock.yaml", "")]), ["pnpm run lint", "pnpm run test"]);
        assert_eq!(gates(&[("package.json", package), ("bun.lock", "")]), ["bun run lint", "bun run test"]);
        let none = r#"{"scripts": {"test": "echo \"Error: no test specified\" && exit 1"}}"#;
        assert_eq!(gates(&[("package.json", none)]), Vec::<String>::new());
    }

    #[test]
    fn what_it_writes_is_what_it_reads() {
        let dir = repository(&[("Cargo.toml", ""), ("Makefile", "test:\n\ttrue\n")]);
        let found = detect(dir.path());
        let file = ConfigFile::parse(&render(&found, "ma\"in"), "aedile.toml").unwrap();
        assert_eq!((file.gates, file.build.directories, file.target), (found.gates, found.build_dirs, Some("ma\"in".to_owned())));
    }
}
