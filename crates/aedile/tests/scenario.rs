//! A small shell project and a person with unfinished work in it, for tests that interrupt, kill and steer runs.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use aedile_testkit::environment::{Background, Finished};
use aedile_testkit::{TempRepo, TestEnvironment, wait_for};
use serde_json::Value;

/// How long anything may take here before the test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(100);

/// The gate: every part of the project says `ok`.
const GATE: &str = "for part in parts/*.txt; do\n  grep -q '^ok' \"$part\" || { echo \"$part does not say ok\"; exit 1; }\ndone\n";

/// A project with one gate, and the environment in which the program works on it.
pub(crate) struct Scenario {
    pub(crate) env: TestEnvironment,
    pub(crate) repo: TempRepo,
    /// The commit that everything begins with.
    pub(crate) before: String,
}

impl Scenario {
    /// Makes the project with its gate.
    pub(crate) fn new() -> Self {
        Self::with_config("target = \"main\"\n[[gate]]\nname = \"test\"\ncommand = \"sh test.sh\"\n")
    }

    /// Makes the project with this `aedile.toml`.
    pub(crate) fn with_config(config: &str) -> Self {
        let env = TestEnvironment::new(super::program());
        let repo = TempRepo::init(&env.work().join("project"));
        repo.write("test.sh", GATE).write("parts/first.txt", "ok\n").write("notes.md", "Parts.\n").write("aedile.toml", config);
        let before = repo.commit("A project of parts");
        Self { env, repo, before }
    }

    /// Writes a tasks file beside the project.
    pub(crate) fn tasks(&self, text: &str) -> &Self {
        std::fs::write(self.env.work().join("tasks.toml"), text).unwrap();
        self
    }

    /// A command in the project.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.env.command();
        command.args(args).current_dir(self.repo.path());
        command
    }

    /// Runs the program in the project and waits for its end.
    pub(crate) fn run(&self, args: &[&str]) -> Finished {
        self.env.run_command(self.command(args), LIMIT)
    }

    /// Starts `run` on the tasks file, and leaves it running.
    pub(crate) fn start(&self, args: &[&str]) -> Background {
        let mut command = self.command(&["run", "--tasks", "../tasks.toml"]);
        command.args(args);
        self.env.start(command)
    }

    /// Starts `run` on the tasks file and waits for its end.
    pub(crate) fn finish(&self, args: &[&str]) -> Finished {
        self.start(args).wait(LIMIT)
    }

    /// Everything in the log.
    pub(crate) fn events(&self) -> Vec<Value> {
        let log = self.run(&["events"]);
        log.success().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The events of one kind, as they are in the log.
    pub(crate) fn events_of(&self, kind: &str) -> Vec<Value> {
        self.events().into_iter().map(|mut line| line["event"].take()).filter(|event| event["type"] == kind).collect()
    }

    /// Waits until the agent of the only task is held up by [`hold`] in its workspace, and returns the file that lets it go on.
    pub(crate) fn held(&self, name: &str) -> PathBuf {
        wait_for(&format!("an agent at parts/{name}.held"), LIMIT, || {
            let spaces = self.events_of("workspace_ready");
            let paths = spaces.iter().map(|event| PathBuf::from(event["path"].as_str().unwrap()).join("parts"));
            paths.into_iter().find(|parts| parts.join(format!("{name}.held")).exists()).map(|parts| parts.join(format!("{name}.go")))
        })
    }

    /// The landed tasks, in order, as the history tells them.
    pub(crate) fn landed(&self, reference: &str) -> Vec<String> {
        let range = format!("{}..{reference}", self.before);
        let trailers = self.repo.git(&["log", "--reverse", "--format=%(trailers:key=Aedile-Task,valueonly,separator=%x2C)", &range]);
        trailers.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Paths and content of the tree at a revision, those of the scenario itself left out.
    pub(crate) fn parts(&self, revision: &str) -> Vec<(String, String)> {
        let names = self.repo.git(&["ls-tree", "-r", "--name-only", revision]);
        let own = |name: &&str| !matches!(*name, "test.sh" | "notes.md" | "aedile.toml" | "parts/first.txt");
        names.lines().filter(own).map(|name| (name.to_owned(), self.repo.show(revision, name))).collect()
    }
}

/// A task whose agent may write `parts/NAME.txt`, with the given turns.
pub(crate) fn task(name: &str, after: &str, turns: &[String]) -> String {
    format!(
        "[[task]]\nid = \"{name}\"\nprompt = \"Write the part {name}.\"\nscope = [\"parts/{name}.txt\"]\nafter = [{after}]\nscript = [\n{}\n]\n",
        turns.join(",\n")
    )
}

/// A turn that calls tools, given as pairs of name and TOML input.
pub(crate) fn turn(when: Option<&str>, tools: &[(&str, String)]) -> String {
    let when = when.map(|when| format!("when = '{when}', ")).unwrap_or_default();
    let tools: Vec<String> = tools.iter().map(|(name, input)| format!("{{ name = \"{name}\", input = {input} }}")).collect();
    format!("  {{ {when}tools = [{}] }}", tools.join(", "))
}

/// A turn that only says something, which ends it.
pub(crate) fn says(when: Option<&str>, text: &str) -> String {
    let when = when.map(|when| format!("when = '{when}', ")).unwrap_or_default();
    format!("  {{ {when}text = \"{text}\" }}")
}

/// Writes a part.
pub(crate) fn write(name: &str, content: &str) -> (&'static str, String) {
    ("write", format!("{{ path = \"parts/{name}.txt\", content = \"{content}\\n\" }}"))
}

/// Submits.
pub(crate) fn submit(summary: &str) -> (&'static str, String) {
    ("submit", format!("{{ summary = \"{summary}\" }}"))
}

/// Runs a command.
pub(crate) fn bash(command: &str) -> (&'static str, String) {
    ("bash", format!("{{ command = '''{command}''' }}"))
}

/// Holds the agent up until the test makes `parts/NAME.go`; see [`Scenario::held`].
pub(crate) fn hold(name: &str) -> (&'static str, String) {
    bash(&format!("touch parts/{name}.held; until [ -e parts/{name}.go ]; do sleep 0.05; done; rm -f parts/{name}.held parts/{name}.go"))
}
