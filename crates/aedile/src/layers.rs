//! The layers of policy: where each is read.

use std::io::Read;
use std::path::{Path, PathBuf};

use aedile_core::CommitId;
use aedile_core::limits::{POLICY_FILE_BYTES_MAX, RUN_POLICY_BYTES_MAX};
use aedile_core::policy::{LayerName, Policies, PolicyText, Who};
use aedile_core::project::ProjectRules;
use aedile_core::task::TaskSpec;
use aedile_gateway::policy::Layers;
use aedile_git::Project;

use crate::config::person;
use crate::error::CliError;
use crate::narrate::short;

/// Where the organisation's file is.
const ORGANISATION: &str = "/etc/aedile/policy.toml";
/// Where the project's file is, in the repository.
pub const PROJECT: &str = ".aedile/policy.toml";

/// The layers of this machine and person, as they are now.
///
/// # Errors
/// One is there and cannot be read or used: a policy that is not understood is not passed over.
pub fn of_host() -> Result<Vec<PolicyText>, CliError> {
    let texts = host(&[(LayerName::Organisation, Some(ORGANISATION.into())), (LayerName::User, user())])?;
    check(&texts)?;
    Ok(texts)
}

/// Where the person's own file is.
pub fn user() -> Option<PathBuf> {
    person::dir().map(|dir| dir.join("policy.toml"))
}

/// Which layer a file is, by its place.
pub fn of_place(path: &Path) -> LayerName {
    let same = |other: &Path| other.canonicalize().is_ok_and(|other| path.canonicalize().is_ok_and(|path| path == other));
    if same(Path::new(ORGANISATION)) {
        LayerName::Organisation
    } else if user().is_some_and(|user| same(&user)) {
        LayerName::User
    } else if path.ends_with(PROJECT) {
        LayerName::Project
    } else {
        LayerName::Run
    }
}

fn host(files: &[(LayerName, Option<PathBuf>)]) -> Result<Vec<PolicyText>, CliError> {
    let there = files.iter().filter_map(|(layer, path)| {
        let path = path.as_ref()?;
        // A file that may not be looked at is read all the same, and its error told.
        let absent = path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
        (!absent).then(|| file(path, *layer))
    });
    there.collect()
}

/// The project's layer, as a commit has it.
pub fn of_project(project: &Project, commit: &CommitId) -> Result<Option<PolicyText>, CliError> {
    let Some(bytes) = project.file_at(commit, PROJECT)? else { return Ok(None) };
    let place = format!("{PROJECT} at {}", short(commit));
    let text = String::from_utf8(bytes).map_err(|_| CliError::config(format!("the policy {place} is not UTF-8")))?;
    kept(PolicyText { layer: LayerName::Project, place, text }).map(Some)
}

/// The layer of a run.
pub fn of_run(path: &Path) -> Result<PolicyText, CliError> {
    kept(file(path, LayerName::Run)?)
}

/// What a run keeps of its own must fit into its first event.
fn kept(text: PolicyText) -> Result<PolicyText, CliError> {
    if text.text.len() > RUN_POLICY_BYTES_MAX {
        return Err(CliError::config(format!("the policy {} has more than {RUN_POLICY_BYTES_MAX} bytes, the limit of a run", text.place)));
    }
    check(std::slice::from_ref(&text))?;
    Ok(text)
}

/// Reads one file.
pub fn file(path: &Path, layer: LayerName) -> Result<PolicyText, CliError> {
    let place = path.display().to_string();
    let failed = |problem: String| CliError::config(format!("the policy {place}: {problem}"));
    let opened = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let most = u64::try_from(POLICY_FILE_BYTES_MAX).unwrap_or(u64::MAX);
    if !opened.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(failed("it is no file".to_owned()));
    }
    let mut bytes = Vec::new();
    opened.take(most + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    if bytes.len() > POLICY_FILE_BYTES_MAX {
        return Err(failed(format!("it has more than {most} bytes, so it is data and no policy")));
    }
    let text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8".to_owned()))?;
    Ok(PolicyText { layer, place, text })
}

/// Reads what the layers say, all of it.
///
/// # Errors
/// The file, the place in it, and what is wrong.
pub fn check(texts: &[PolicyText]) -> Result<(), CliError> {
    let bad = |problem: String| CliError::config(problem).hint("docs/policy.md describes the file; `aedile policy check FILE` checks one");
    Policies::parse(texts).map_err(|error| bad(error.0))?;
    Layers::parse(texts, Who { role: "", agent: "", task: "" }).map_err(|error| bad(error.0))?;
    Ok(())
}

/// How many agents may be at work at once: `asked` by the person, or `usual`. Refuses tasks that policy would not let start.
///
/// # Errors
/// The rule, and what it allows.
pub fn slots(rules: &ProjectRules, specs: &[TaskSpec], asked: Option<u32>, usual: u32) -> Result<u32, CliError> {
    let mut texts = of_host()?;
    texts.extend(rules.policy.iter().cloned());
    let policies = Policies::parse(&texts).map_err(|error| CliError::config(error.0))?;
    let refused = |what: String, layer: LayerName, key: &str| {
        let hint = "`aedile policy show` says where each rule comes from";
        CliError::config(format!("{what}, says the {layer} policy ({key})")).hint(hint)
    };
    for spec in specs {
        let policy = policies.of(Who { role: &spec.role, agent: "", task: spec.key.as_str() });
        let said = [policy.may_run_on(&spec.runtime), policy.may_ask_model(&spec.model.to_string())];
        if let Some(said) = said.into_iter().find(|said| !said.allowed) {
            return Err(CliError::config(format!("task `{}`: {}", spec.key, said.sentence()))
                .hint("`aedile policy show` says where each rule comes from"));
        }
    }
    let everybody = policies.of_everybody();
    if let Some((most, source)) = everybody.lowest(|said| said.spawn.tasks)
        && specs.len() > most as usize
    {
        let what = format!("{} tasks are too many for a run: at most {most} are allowed", specs.len());
        return Err(refused(what, source.layer, &source.key("spawn.tasks")));
    }
    match (everybody.lowest(|said| said.spawn.at_once), asked) {
        (Some((most, source)), Some(asked)) if asked > most => {
            let what = format!("{asked} agents cannot be at work at once: at most {most} are allowed");
            Err(refused(what, source.layer, &source.key("spawn.at_once")))
        }
        (Some((most, _)), asked) => Ok(asked.unwrap_or(usual.min(most))),
        (None, asked) => Ok(asked.unwrap_or(usual)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layers_of_the_host_are_read_from_wide_to_narrow_and_a_broken_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (org, own) = (dir.path().join("org.toml"), dir.path().join("own.toml"));
        let files = [(LayerName::Organisation, Some(org.clone())), (LayerName::User, Some(own.clone()))];
        assert_eq!(host(&files).unwrap(), []);
        std::fs::write(&own, "[limits]\nprocesses = 9").unwrap();
        std::fs::write(&org, "[limits]\nprocesses = 8").unwrap();
        let read = host(&files).unwrap();
        assert_eq!(read.iter().map(|text| text.layer).collect::<Vec<_>>(), [LayerName::Organisation, LayerName::User]);
        std::fs::write(&org, [0xff]).unwrap();
        assert!(host(&files).unwrap_err().message.contains("org.toml: it is not UTF-8"));
        std::fs::remove_file(&org).unwrap();
        std::fs::create_dir(&org).unwrap();
        assert!(host(&files).unwrap_err().message.contains("it is no file"));
        std::fs::remove_dir(&org).unwrap();
        std::os::unix::fs::symlink("/nowhere", &org).unwrap();
        assert!(host(&files).is_err(), "a link that leads nowhere is no absent policy");
    }

    #[test]
    fn what_a_run_keeps_is_bounded() {
        let text = format!("# {}\n[limits]\nprocesses = 9", "x".repeat(RUN_POLICY_BYTES_MAX));
        let text = PolicyText { layer: LayerName::Run, place: "p".into(), text };
        assert!(kept(text).unwrap_err().message.contains("49152"));
    }
}
