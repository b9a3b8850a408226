//! `aedile secret set`.

use aedile_core::Clock;
use aedile_gateway::safe::{ClientAuth, OAuth, Safe, Source};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::binding::{BindingArgs, words};
use super::given;
use crate::clock::SystemClock;
use crate::config::file::ConfigFile;
use crate::config::person::PersonFile;
use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::{exit, keys};

#[derive(Debug, Args)]
pub struct SetArgs {
    /// Its name: letters, digits, `_`, `-` and `.`
    name: String,
    /// A value is not taken from here: other programs see arguments
    #[arg(hide = true, value_name = "VALUE")]
    value: Option<String>,
    #[command(flatten)]
    binding: BindingArgs,
    /// The variable in which a box finds what stands for the secret
    #[arg(long, value_name = "NAME")]
    env: Option<String>,
    /// Take the value from this variable of your environment when a worker starts
    #[arg(long, value_name = "NAME", group = "source")]
    from_env: Option<String>,
    /// Take the value from this file of yours (mode 0600) when a worker starts
    #[arg(long, value_name = "PATH", group = "source")]
    from_file: Option<String>,
    /// Take the value from what this command writes when a worker starts, for example 'op read op://vault/item/field'
    #[arg(long, value_name = "COMMAND", group = "source")]
    from_command: Option<String>,
    /// Get access tokens at this token endpoint when they are needed (OAuth 2.0); the value that is kept is the refresh token
    #[arg(long, value_name = "URL", group = "source", requires = "client_id")]
    oauth_url: Option<String>,
    /// The id of the client that the refresh token was given to
    #[arg(long, value_name = "ID", requires = "oauth_url")]
    client_id: Option<String>,
    /// The client has a secret: it is asked for as well, or is the second line of stdin
    #[arg(long, requires = "oauth_url")]
    client_secret: bool,
    /// How the client says its secret to the token endpoint
    #[arg(long, value_name = "HOW", requires = "client_secret", default_value = "basic")]
    client_auth: Auth,
    /// The scope that is asked for; that of the refresh token when absent
    #[arg(long, value_name = "SCOPE", requires = "oauth_url")]
    scope: Option<String>,
}

/// How a client says its secret.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Auth {
    /// In the `Authorization` header
    Basic,
    /// In the body
    Body,
}

impl SetArgs {
    fn source(&self, out: Output) -> Result<Source, CliError> {
        if let Some(name) = &self.from_env {
            return Ok(Source::Environment(name.clone()));
        }
        if let Some(path) = &self.from_file {
            let absolute = if path.starts_with("~/") { path.into() } else { std::path::absolute(path)? };
            return Ok(Source::File(absolute.to_string_lossy().into_owned()));
        }
        if let (Some(url), Some(client_id)) = (&self.oauth_url, &self.client_id) {
            return self.grant(url, client_id, out).map(|grant| Source::OAuth(Box::new(grant)));
        }
        match self.from_command.as_deref().map(shlex::split) {
            Some(Some(parts)) => Ok(Source::Command(parts)),
            Some(None) => Err(CliError::usage("--from-command has a quote that is not closed")),
            None => Ok(Source::Value(given::value(&self.name, out)?)),
        }
    }

    fn grant(&self, url: &str, client_id: &str, out: Output) -> Result<OAuth, CliError> {
        let (refresh_token, client_secret) = given::tokens(&self.name, self.client_secret, out)?;
        Ok(OAuth {
            url: url.to_owned(),
            client_id: client_id.to_owned(),
            client_secret,
            client_auth: match self.client_auth {
                Auth::Basic => ClientAuth::Basic,
                Auth::Body => ClientAuth::Body,
            },
            scope: self.scope.clone(),
            refresh_token,
            access: None,
            retired: Vec::new(),
        })
    }
}

/// Runs `aedile secret set`.
pub fn cmd_set(args: &SetArgs, out: Output) -> CliResult {
    if args.value.is_some() {
        return Err(CliError::usage("a value is never an argument, where other programs and the shell's history see it; nothing was kept")
            .hint(format!("without it you are asked for the value; or pipe it: `aedile secret set {} < FILE`", args.name))
            .hint("the one that you typed is in your shell's history now: replace it where it is from"));
    }
    let config = ConfigFile { person: PersonFile::load()?, ..ConfigFile::default() };
    let binding = args.binding.binding(args.env.clone());
    let provider = keys::is_provider(&config, &args.name);
    if provider && args.oauth_url.is_some() {
        return Err(CliError::usage(format!("{} is a provider's key, and such a key is not refreshed; nothing was kept", args.name))
            .hint("an OAuth grant is for agents: give it another name, and hosts"));
    }
    let source = args.source(out)?;
    let version =
        Safe::change(&keys::places()?, |safe| safe.put(&args.name, binding.clone(), &source, SystemClock.now().0).map_err(CliError::from))?;
    let goes = if provider { "the provider's key".to_owned() } else { words(&binding) };
    let value = json!({ "name": args.name, "version": version, "source": source.kind(), "goes": goes });
    out.object_or(&value, || {
        let mut lines = vec![format!("kept {} (version {version}, {}): {goes}", args.name, source.kind())];
        if !provider && binding.hosts.is_empty() {
            lines.push(format!(
                "no agent can use it, and it is taken out of whatever is stored, shown or sent; `--host HOST` lets it go somewhere, as `aedile-secret-{}`",
                args.name
            ));
        } else if !provider {
            lines.push(format!("agents write aedile-secret-{} in its place", args.name));
        }
        lines
    });
    Ok(exit::OK)
}
