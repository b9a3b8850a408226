//! `aedile policy show`.

use aedile_core::policy::{Policies, Sections};
use aedile_gateway::policy::{Layers, NetworkRule};
use clap::Args;
use serde_json::{Value, json};

use super::check::{number, numbers};
use super::subject::{self, Subject, SubjectArgs};
use crate::error::{CliError, CliResult};
use crate::exit;
use crate::output::{Output, table};

#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    subject: SubjectArgs,
}

/// One line: what holds, and where it is said.
struct Line {
    key: String,
    value: Value,
    layer: String,
    rule: Option<String>,
}

/// Runs `aedile policy show`.
pub fn cmd_show(args: &ShowArgs, out: Output) -> CliResult {
    let subject = subject::find(&args.subject)?;
    let lines = lines(&subject)?;
    let places: Vec<_> = subject.texts.iter().map(|text| json!({ "layer": text.layer, "place": text.place })).collect();
    let rows: Vec<_> =
        lines.iter().map(|line| json!({ "key": line.key, "value": line.value, "layer": line.layer, "rule": line.rule })).collect();
    let object = json!({ "agent": subject.agent, "role": subject.role, "task": subject.task, "layers": places, "policy": rows });
    out.object_or(&object, || {
        if subject.texts.is_empty() {
            return vec!["no policy file is there: nothing is narrowed, and boxes reach no network".to_owned()];
        }
        let mut shown: Vec<String> = subject.texts.iter().map(|text| format!("{}: {}", text.layer, text.place)).collect();
        let mut cells = vec![["what", "value", "layer", "rule"].map(str::to_owned).to_vec()];
        cells.extend(lines.iter().map(|line| {
            let value = line.value.as_str().map_or_else(|| line.value.to_string(), str::to_owned);
            vec![line.key.clone(), value, line.layer.clone(), line.rule.clone().unwrap_or_else(|| "-".to_owned())]
        }));
        shown.push(String::new());
        shown.extend(table(&cells));
        shown
    });
    Ok(exit::OK)
}

/// Everything that means the agent. Of limits and budgets only the lowest counts, so only that is shown; lists all count.
fn lines(subject: &Subject) -> Result<Vec<Line>, CliError> {
    let policies = Policies::parse(&subject.texts).map_err(|error| CliError::config(error.0))?;
    let policy = policies.of(subject.who());
    let mut lines = Vec::new();
    for (key, _) in numbers(&Sections::default()) {
        if let Some((value, source)) = policy.lowest(|said| number(said, &key)) {
            // A whole number is shown as one.
            let value = if value.fract() == 0.0 { json!(format!("{value:.0}")) } else { json!(value.to_string()) };
            lines.push(Line { key, value, layer: source.layer.to_string(), rule: source.rule.clone() });
        }
    }
    for (source, said) in policy.parts() {
        for (key, value) in lists(said) {
            lines.push(Line { key: key.to_owned(), value, layer: source.layer.to_string(), rule: source.rule.clone() });
        }
    }
    let layers = Layers::parse(&subject.texts, subject.who()).map_err(|error| CliError::config(error.to_string()))?;
    lines.extend(layers.rules().map(|(layer, rule)| Line {
        key: "network".to_owned(),
        value: json!(in_words(rule)),
        layer: layer.to_string(),
        rule: Some(rule.id.clone()),
    }));
    Ok(lines)
}

fn lists(said: &Sections) -> Vec<(&'static str, Value)> {
    let some = |list: &[String]| (!list.is_empty()).then(|| json!(list));
    let names = |names: Option<&aedile_core::policy::Names>| names.map(|names| json!(names.globs()));
    let all = [
        ("write.allow", said.write.allow.as_ref().map(|paths| json!(paths.globs()))),
        ("write.deny", some(said.write.deny.globs())),
        ("read.hide", some(said.read.hide.globs())),
        ("read.show", some(said.read.show.globs())),
        ("secrets.allow", names(said.secrets.allow.as_ref())),
        ("secrets.deny", some(said.secrets.deny.globs())),
        ("tools.allow", names(said.tools.allow.as_ref())),
        ("tools.deny", some(said.tools.deny.globs())),
        ("spawn.runtimes", names(said.spawn.runtimes.as_ref())),
        ("spawn.models", names(said.spawn.models.as_ref())),
        ("provider.allow", names(said.provider.allow.as_ref())),
    ];
    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

fn in_words(rule: &NetworkRule) -> String {
    let words = |list: Vec<String>, all: &str| if list.is_empty() { all.to_owned() } else { list.join(",") };
    let hosts = rule.hosts.iter().map(ToString::to_string).collect();
    let paths = rule.paths.iter().map(ToString::to_string).collect();
    let ports = rule.ports.iter().map(ToString::to_string).collect();
    format!(
        "{} {} {} port {} {}",
        rule.effect,
        words(rule.methods.clone(), "any method"),
        words(hosts, "no host"),
        words(ports, "any"),
        words(paths, "/**")
    )
}
