//! `aedile policy explain`.

use aedile_core::policy::{Deed, Policies, Said, Sight};
use aedile_core::scope::Scope;
use aedile_gateway::policy::{Layers, Target};
use clap::Args;
use serde_json::json;

use super::subject::{self, Subject, SubjectArgs};
use crate::error::{CliError, CliResult};
use crate::exit;
use crate::output::Output;

#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    subject: SubjectArgs,
    /// What it would do: `net METHOD URL`, `write PATH`, `read PATH`, `secret NAME`, `tool NAME`, `spend DOLLARS`, `spawn`, `spawn runtime NAME` or
    /// `spawn model PROVIDER/MODEL`
    #[arg(long = "do", value_name = "DEED")]
    deed: String,
}

/// Runs `aedile policy explain`.
pub fn cmd_explain(args: &ExplainArgs, out: Output) -> CliResult {
    let deed: Deed = args.deed.parse().map_err(|bad: aedile_core::policy::BadDeed| CliError::usage(bad.to_string()))?;
    let subject = subject::find(&args.subject)?;
    let said = answer(&subject, &deed)?;
    let name = if subject.agent.is_empty() { format!("a {}", subject.role) } else { subject.agent.clone() };
    let object = json!({
        "allowed": said.allowed, "agent": subject.agent, "role": subject.role, "task": subject.task, "do": args.deed,
        "layer": said.layer, "rule": said.rule, "why": said.why, "instead": said.instead,
    });
    out.object_or(&object, || {
        let word = if said.allowed { "allowed" } else { "denied" };
        let layer = said.layer.map_or_else(|| "no layer".to_owned(), |layer| format!("the {layer} policy"));
        let mut lines = vec![format!("{word}: {name} may {}{deed}", if said.allowed { "" } else { "not " })];
        lines.push(format!("rule: {} ({layer})", said.rule));
        lines.push(format!("why: {}", said.why));
        lines.extend(said.instead.as_ref().map(|instead| format!("instead: {instead}")));
        lines
    });
    Ok(if said.allowed { exit::OK } else { exit::DENIED })
}

/// Whether the agent may do it.
fn answer(subject: &Subject, deed: &Deed) -> Result<Said, CliError> {
    let policies = Policies::parse(&subject.texts).map_err(|error| CliError::config(error.0))?;
    let said = policies.of(subject.who()).may(deed);
    Ok(match (said, deed) {
        (Some(said), Deed::Write(path)) if said.allowed => within(subject, path)?.unwrap_or(said),
        (Some(said), Deed::Read(path)) if said.allowed => unseen(subject, path)?.unwrap_or(said),
        (Some(said), _) => said,
        (None, Deed::Net { method, url }) => net(subject, method, url)?,
        (None, _) => return Err(CliError::failure("this deed has no answer")),
    })
}

fn always(rule: &str, why: String, instead: &str) -> Said {
    Said { allowed: false, layer: None, rule: rule.to_owned(), why, instead: Some(instead.to_owned()) }
}

/// What holds of writing besides policy: the scope of the task, and protected paths.
fn within(subject: &Subject, path: &str) -> Result<Option<Said>, CliError> {
    let bad = |bad: aedile_core::scope::BadScope| CliError::config(bad.to_string());
    if let Some(scope) = &subject.scope
        && !Scope::new(scope).map_err(bad)?.allows(path)
    {
        let why = format!("{path} is outside the scope of the task {} ({})", subject.task, scope.join(", "));
        return Ok(Some(always("task.scope", why, "change only what the scope allows, or send mail to `person` and say why it is needed")));
    }
    let protected = Scope::new(&subject.protected).map_err(bad)?.allows(path);
    let why = format!("{path} is protected: what judges a change does not come with the change");
    Ok(protected.then(|| always("protected", why, "leave it as it is; a person starts such a run with --allow-protected")))
}

/// What holds of reading besides policy: what the task reads, and names of files for secrets, which are in no agent's workspace and empty in the box
/// of a command.
fn unseen(subject: &Subject, path: &str) -> Result<Option<Said>, CliError> {
    let policies = Policies::parse(&subject.texts).map_err(|error| CliError::config(error.0))?;
    let policy = policies.of(subject.who());
    let bad = |bad: aedile_core::scope::BadScope| CliError::config(bad.to_string());
    if policy.reads(&[]).map_err(bad)?.of(path) == Sight::Hidden {
        let why = format!("{path} has the name of a file for secrets");
        return Ok(Some(always("secret-file", why, "go on without it; a person shows it by `[read] show` in the policy")));
    }
    let outside = policy.reads(&subject.read).map_err(bad)?.of(path) == Sight::Hidden;
    let why = format!("{path} is outside what the task {} reads ({})", subject.task, subject.read.join(", "));
    Ok(outside.then(|| always("task.read", why, "go on without it, or send mail to `person` and say why it is needed")))
}

fn net(subject: &Subject, method: &str, url: &str) -> Result<Said, CliError> {
    let instead = "go on without, or ask the person for a rule";
    let target = match Target::parse(url) {
        Ok(target) => target,
        Err(refusal) => return Ok(always(refusal.rule, refusal.why, "write the address in its plain form")),
    };
    let layers = Layers::parse(&subject.texts, subject.who()).map_err(|error| CliError::config(error.to_string()))?;
    Ok(match layers.decide(method, &target) {
        Ok(verdict) if verdict.ask => Said {
            allowed: false,
            layer: verdict.layer,
            rule: verdict.rule,
            why: verdict.why,
            instead: Some("ask: the request is refused until the person has answered (`aedile policy asks`)".to_owned()),
        },
        Ok(verdict) => Said { allowed: true, layer: verdict.layer, rule: verdict.rule, why: verdict.why, instead: None },
        Err(verdict) => {
            Said { allowed: false, layer: verdict.layer, rule: verdict.rule, why: verdict.why, instead: Some(instead.to_owned()) }
        }
    })
}
