//! Reads a policy file. What would hold nothing, or could mean two things, is an error that names the place.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::sections::{Limits, Provider, Read, SecretNames, Sections, Spawn, Spend, Write};
use super::whom::Whom;
use crate::limits::{BOX_MEMORY_BYTES_MIN, POLICY_FILE_BYTES_MAX};
use crate::money::MicroUsd;

/// A policy file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPolicy(pub String);

/// A policy file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyFile {
    /// What holds for everybody.
    pub everybody: Sections,
    /// What holds for some.
    pub rules: Vec<Rule>,
}

/// A `[[rule]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name.
    pub id: String,
    /// Whom it means.
    pub whom: Whom,
    /// What it says.
    pub sections: Sections,
}

macro_rules! raw {
    ($name:ident { $($field:ident: $of:ty),* }) => {
        #[derive(Deserialize, Default)]
        #[serde(deny_unknown_fields, default)]
        struct $name {
            $($field: $of,)*
            limits: Limits,
            write: Write,
            read: Read,
            network: Vec<IgnoredAny>,
            secrets: SecretNames,
            tools: super::Named,
            spend: Spend,
            spawn: Spawn,
            provider: Provider,
        }

        impl $name {
            fn sections(self) -> Sections {
                let Self { limits, write, read, network, secrets, tools, spend, spawn, provider, .. } = self;
                Sections { limits, write, read, network, secrets, tools, spend, spawn, provider }
            }
        }
    };
}

raw!(RawFile { rule: Vec<RawRule> });
raw!(RawRule { id: String, roles: Vec<String>, agents: Vec<String>, tasks: Vec<String> });

fn parsed(text: &str) -> Result<RawFile, BadPolicy> {
    if text.len() > POLICY_FILE_BYTES_MAX {
        return Err(BadPolicy(format!("the file has more than {POLICY_FILE_BYTES_MAX} bytes")));
    }
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| BadPolicy(error.to_string()));
    }
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1);
        BadPolicy(format!("line {line}: {}", error.message().trim_end()))
    })
}

impl PolicyFile {
    /// Reads TOML, or JSON of the same keys where the text begins with a brace.
    ///
    /// # Errors
    /// [`BadPolicy`]: an unknown key, a glob that is none, a file or rule that says nothing, a limit that lets nothing start, what is allowed and
    /// denied in one breath.
    pub fn parse(text: &str) -> Result<Self, BadPolicy> {
        let mut raw = parsed(text)?;
        let mut seen = BTreeSet::new();
        let rules = std::mem::take(&mut raw.rule).into_iter().map(|mut rule| {
            let (id, roles) = (std::mem::take(&mut rule.id), std::mem::take(&mut rule.roles));
            let whom = Whom::new(roles, std::mem::take(&mut rule.agents), std::mem::take(&mut rule.tasks));
            let bad = |problem: &str| BadPolicy(format!("rule {id:?}: {problem}"));
            if !is_name(&id) || !seen.insert(id.clone()) {
                return Err(bad("the id must be 1 to 100 letters, digits, `_`, `-` and `.`, and no other rule's"));
            }
            let whom = whom.map_err(|problem| bad(&problem))?;
            if whom.is_everybody() {
                return Err(bad("it names no `roles`, `agents` or `tasks`: write what holds for everybody at the top of the file"));
            }
            let sections = rule.sections();
            if sections == Sections::default() {
                return Err(bad("it says nothing: give it a section, such as [rule.write]"));
            }
            check(&sections).map_err(|problem| bad(&problem))?;
            Ok(Rule { id, whom, sections })
        });
        let rules = rules.collect::<Result<Vec<_>, _>>()?;
        let everybody = raw.sections();
        if rules.is_empty() && everybody == Sections::default() {
            return Err(BadPolicy(
                "it says nothing: write a section, such as [limits], [write] or [[network]], or remove the file".to_owned(),
            ));
        }
        check(&everybody).map_err(BadPolicy)?;
        Ok(Self { everybody, rules })
    }

    /// The sections of the file: those for everybody without a name, then those of its rules.
    pub fn all(&self) -> impl Iterator<Item = (Option<&Rule>, &Sections)> {
        std::iter::once((None, &self.everybody)).chain(self.rules.iter().map(|rule| (Some(rule), &rule.sections)))
    }
}

fn is_name(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// What is wrong with sections whose types are right.
fn check(sections: &Sections) -> Result<(), String> {
    for (key, value) in sections.limits.each() {
        let least = match key {
            "memory_bytes" => BOX_MEMORY_BYTES_MIN,
            "descriptors" => 16,
            _ => 1,
        };
        if let Some(value) = value.filter(|value| *value < least) {
            return Err(format!("[limits] {key} = {value} lets nothing start: it must be at least {least}"));
        }
    }
    for (key, usd) in sections.spend.usd() {
        if let Some(usd) = usd.filter(|usd| *usd <= 0.0 || MicroUsd::from_usd(*usd).is_none()) {
            return Err(format!("[spend] {key} = {usd} is no amount of dollars above 0"));
        }
    }
    for (key, tokens) in sections.spend.tokens() {
        if tokens == Some(0) {
            return Err(format!("[spend] {key} = 0 lets no agent ask anything: it must be at least 1"));
        }
    }
    for (key, count) in [("at_once", sections.spawn.at_once), ("tasks", sections.spawn.tasks)] {
        if count == Some(0) {
            return Err(format!("[spawn] {key} = 0 lets no agent start: it must be at least 1"));
        }
    }
    contradictions(sections)
}

fn contradictions(sections: &Sections) -> Result<(), String> {
    let both = |allow: &[String], deny: &[String]| allow.iter().find(|glob| deny.contains(glob)).cloned();
    let allowed = |allow: Option<&[String]>| allow.unwrap_or_default().to_owned();
    let (write, read) = (&sections.write, &sections.read);
    let names = |allow: Option<&super::Names>, other: &super::Names| both(&allowed(allow.map(super::Names::globs)), other.globs());
    let (secrets, tools) = (&sections.secrets, &sections.tools);
    for (section, keys, found) in [
        ("write", "allow and deny", both(&allowed(write.allow.as_ref().map(super::Paths::globs)), write.deny.globs())),
        ("read", "hide and show", both(read.hide.globs(), read.show.globs())),
        ("secrets", "allow and deny", names(secrets.allow.as_ref(), &secrets.deny)),
        ("secrets", "ask and deny", both(secrets.ask.globs(), secrets.deny.globs())),
        ("tools", "allow and deny", names(tools.allow.as_ref(), &tools.deny)),
    ] {
        if let Some(glob) = found {
            return Err(format!("[{section}] {keys} both name {glob:?}: leave one of them out"));
        }
    }
    Ok(())
}
