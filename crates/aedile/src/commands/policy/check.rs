//! `aedile policy check`.

use std::path::PathBuf;

use aedile_core::policy::{LayerName, Paths, Policies, PolicyText, Rule, Sections};
use aedile_core::scope::Scope;
use aedile_gateway::policy;
use clap::Args;
use serde_json::json;

use crate::commands::run::{checkout_config, target};
use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::{exit, layers, wiring};

/// The roles that aedile gives, or will.
const ROLES: &[&str] = &["coordinator", "lead", "builder", "scout", "reviewer", "resolver", "monitor", "command"];
/// Problems that are told one by one.
const PROBLEMS_MAX: usize = 50;

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs `aedile policy check`.
pub fn cmd_check(args: &CheckArgs, out: Output) -> CliResult {
    let layer = layers::of_place(&args.file);
    let text = layers::file(&args.file, layer)?;
    layers::check(std::slice::from_ref(&text))?;
    let project = std::env::current_dir().ok().and_then(|here| wiring::discover(&here).ok());
    let commit = match &project {
        Some(project) => Some(project.landing_point(&target(project, &checkout_config(project.root())?)?)?.base),
        None => None,
    };
    let mut wider = layers::of_host()?;
    if let (Some(project), Some(commit)) = (&project, &commit) {
        wider.extend(layers::of_project(project, commit)?);
    }
    wider.retain(|other| other.layer < layer);
    let mut problems = widened(&wider, &text)?;
    if !problems.is_empty() {
        let more = problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        let error = CliError::config(format!("the policy {}: {}", text.place, problems.remove(0)));
        let error = problems.into_iter().fold(error, CliError::hint);
        return Err(if more > 0 { error.hint(format!("and {more} more")) } else { error });
    }
    let files = match (&project, &commit) {
        (Some(project), Some(commit)) => {
            Some(project.files(commit)?.into_iter().map(|file| file.path.to_string_lossy().into_owned()).collect::<Vec<_>>())
        }
        _ => None,
    };
    let warnings = warnings(&text, files.as_deref())?;
    out.object_or(&json!({ "file": text.place, "layer": layer, "ok": true, "warnings": warnings }), || {
        let mut lines = vec![format!("{}: good as the {layer} policy", text.place)];
        lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
        lines
    });
    Ok(exit::OK)
}

fn one(text: &PolicyText) -> Result<Policies, CliError> {
    Policies::parse(std::slice::from_ref(text)).map_err(|error| CliError::config(error.0))
}

fn named(rule: Option<&Rule>, key: &str) -> String {
    match (rule, key.split_once('.')) {
        (Some(rule), _) => format!("rule {:?}: {key}", rule.id),
        (None, Some((section, key))) => format!("[{section}] {key}"),
        (None, None) => key.to_owned(),
    }
}

/// What of the file can never take effect, since a wider layer is narrower there for everybody.
fn widened(wider: &[PolicyText], text: &PolicyText) -> Result<Vec<String>, CliError> {
    let above = Policies::parse(wider).map_err(|error| CliError::config(error.0))?;
    let above = above.of_everybody();
    let mut problems = Vec::new();
    for layer in one(text)?.layers() {
        for (rule, said) in layer.file.all() {
            let mut wider = |key: &str, value: Option<f64>, most: Option<(f64, LayerName)>| {
                if let (Some(value), Some((most, layer))) = (value, most)
                    && value > most
                {
                    problems.push(format!(
                        "{} = {value} is wider than {most} of the {layer} policy and has no effect: a lower layer can only narrow",
                        named(rule, key)
                    ));
                }
            };
            for (key, value) in numbers(said) {
                let most = above.lowest(|upper| number(upper, &key)).map(|(most, source)| (most, source.layer));
                wider(&key, value, most);
            }
            for (source, upper) in above.parts() {
                for (key, glob) in outside(upper, said) {
                    problems.push(format!(
                        "{} names {glob:?}, which the {} policy does not allow, so it has no effect: a lower layer can only narrow",
                        named(rule, key),
                        source.layer
                    ));
                }
            }
        }
    }
    let network = policy::widened(wider, text).map_err(|error| CliError::config(error.to_string()))?;
    problems.extend(network);
    Ok(problems)
}

/// Every number that a file can say, by its key.
#[expect(clippy::cast_precision_loss, reason = "a limit above nine quadrillion is none")]
pub(super) fn numbers(said: &Sections) -> Vec<(String, Option<f64>)> {
    let whole = |value: Option<u64>| value.map(|value| value as f64);
    let limits = said.limits.each().into_iter().map(|(name, value)| (format!("limits.{name}"), whole(value)));
    let usd = said.spend.usd().into_iter().map(|(name, value)| (format!("spend.{name}"), value));
    let tokens = said.spend.tokens().into_iter().map(|(name, value)| (format!("spend.{name}"), whole(value)));
    let spawn = [("at_once", said.spawn.at_once), ("tasks", said.spawn.tasks)];
    let spawn = spawn.into_iter().map(|(name, value)| (format!("spawn.{name}"), value.map(f64::from)));
    limits.chain(usd).chain(tokens).chain(spawn).collect()
}

/// One of them.
pub(super) fn number(said: &Sections, key: &str) -> Option<f64> {
    numbers(said).into_iter().find(|(name, _)| name == key).and_then(|(_, value)| value)
}

/// What is allowed by the one and certainly not by the other: paths that no list of the other meets, names without a wildcard that are in none.
fn outside(upper: &Sections, said: &Sections) -> Vec<(&'static str, String)> {
    let mut outside = Vec::new();
    if let (Some(most), Some(own)) = (&upper.write.allow, &said.write.allow) {
        let meets = |glob: &&String| Scope::new(std::slice::from_ref(*glob)).is_ok_and(|one| most.scope().overlaps(&one));
        outside.extend(own.globs().iter().filter(|glob| !meets(glob)).map(|glob| ("write.allow", glob.clone())));
    }
    let names = [
        ("secrets.allow", &upper.secrets.allow, &said.secrets.allow),
        ("tools.allow", &upper.tools.allow, &said.tools.allow),
        ("spawn.runtimes", &upper.spawn.runtimes, &said.spawn.runtimes),
        ("spawn.models", &upper.spawn.models, &said.spawn.models),
        ("provider.allow", &upper.provider.allow, &said.provider.allow),
    ];
    for (key, most, own) in names {
        let (Some(most), Some(own)) = (most, own) else { continue };
        let plain = own.globs().iter().filter(|name| !name.contains(['*', '?', '[', '{']));
        outside.extend(plain.filter(|name| !most.contains(name)).map(|name| (key, name.clone())));
    }
    outside
}

/// What is not wrong and hardly meant.
fn warnings(text: &PolicyText, files: Option<&[String]>) -> Result<Vec<String>, CliError> {
    let mut warnings = Vec::new();
    for layer in one(text)?.layers() {
        for (rule, said) in layer.file.all() {
            for role in rule.iter().flat_map(|rule| &rule.whom.roles).filter(|role| !ROLES.contains(&role.as_str())) {
                warnings.push(format!(
                    "rule {:?} is for the role {role:?}, which only a tasks file can give; aedile knows {}",
                    rule.map_or("", |rule| &rule.id),
                    ROLES.join(", ")
                ));
            }
            let lists = [
                ("write.allow", said.write.allow.as_ref()),
                ("write.deny", Some(&said.write.deny)),
                ("read.hide", Some(&said.read.hide)),
                ("read.show", Some(&said.read.show)),
            ];
            for (key, paths) in lists {
                let unmatched = files.map(|files| unmatched(paths, files)).unwrap_or_default();
                warnings.extend(
                    unmatched
                        .into_iter()
                        .map(|glob| format!("{} names {glob:?}, which matches no file of the repository", named(rule, key))),
                );
            }
        }
    }
    Ok(warnings)
}

fn unmatched(paths: Option<&Paths>, files: &[String]) -> Vec<String> {
    let none = |glob: &&String| Scope::new(std::slice::from_ref(*glob)).is_ok_and(|one| !files.iter().any(|file| one.allows(file)));
    paths.map(|paths| paths.globs().iter().filter(none).cloned().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(layer: LayerName, said: &str) -> PolicyText {
        PolicyText { layer, place: "p".into(), text: said.to_owned() }
    }

    #[test]
    fn what_a_lower_layer_tries_to_widen_is_named() {
        let upper = [text(
            LayerName::Organisation,
            "[limits]\nprocesses = 100\n[write]\nallow = [\"src/**\"]\n[secrets]\nallow = [\"npm\"]\n[spend]\nrun_usd = 5.0\n[spawn]\nat_once = 2\nmodels = [\"anthropic/*\"]\n[[network]]\nid = \"docs\"\nhosts = [\"*.example.org\"]",
        )];
        for (said, part) in [
            ("[limits]\nprocesses = 200", "[limits] processes = 200 is wider than 100 of the organisation policy"),
            ("[spend]\nrun_usd = 5.5", "[spend] run_usd = 5.5 is wider than 5"),
            ("[spawn]\nat_once = 3", "[spawn] at_once = 3"),
            ("[write]\nallow = [\"docs/**\"]", "[write] allow names \"docs/**\""),
            ("[secrets]\nallow = [\"deploy\"]", "[secrets] allow names \"deploy\""),
            (
                "[[rule]]\nid = \"x\"\nroles = [\"scout\"]\n[rule.spawn]\nmodels = [\"openai/x\"]",
                "rule \"x\": spawn.models names \"openai/x\"",
            ),
            ("[[network]]\nid = \"far\"\nhosts = [\"example.com\"]", "network rule \"far\""),
        ] {
            let found = widened(&upper, &text(LayerName::Project, said)).unwrap();
            assert!(found.len() == 1 && found[0].contains(part), "{said}: {found:?}");
        }
        let narrow = "[limits]\nprocesses = 9\n[write]\nallow = [\"src/a/**\", \"**/*.rs\"]\n[secrets]\nallow = [\"n*\"]\n[[network]]\nid = \"near\"\nhosts = [\"a.example.org\"]";
        assert_eq!(widened(&upper, &text(LayerName::Project, narrow)).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn globs_that_match_nothing_and_odd_roles_are_warned_of() {
        let said =
            "[write]\ndeny = [\"src/**\", \"infra/**\"]\n[[rule]]\nid = \"x\"\nroles = [\"bulider\"]\n[rule.read]\nhide = [\"data\"]";
        let found = warnings(&text(LayerName::Project, said), Some(&["src/a.rs".to_owned()])).unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("[write] deny names \"infra/**\"") && found[1].contains("bulider"), "{found:?}");
        assert!(found[2].contains("rule \"x\": read.hide names \"data\""), "{found:?}");
        assert_eq!(warnings(&text(LayerName::Project, said), None).unwrap().len(), 1);
    }
}
