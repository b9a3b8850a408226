//! Where a secret may go, on the command line and in words.

use aedile_gateway::safe::Binding;
use clap::Args;

/// Where a secret may go.
#[derive(Debug, Clone, Default, Args)]
pub struct BindingArgs {
    /// A host that it may go to: a name, `*.NAME` or an address; may be repeated
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// A method of requests that may carry it; all when absent; may be repeated
    #[arg(long, value_name = "METHOD")]
    method: Vec<String>,
    /// A path of requests that may carry it (`/v1/**`); all when absent; may be repeated
    #[arg(long, value_name = "PATH")]
    path: Vec<String>,
    /// Where it stands: bearer, basic, header:NAME, query:NAME, json:/POINTER or sigv4; bearer when absent
    #[arg(long, value_name = "PLACE")]
    place: Option<String>,
    /// A role of agents that may use it (builder, reviewer, ...); all when absent; may be repeated
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
}

impl BindingArgs {
    /// The binding, with the variable in which a box finds what stands for the secret.
    pub fn binding(&self, env: Option<String>) -> Binding {
        Binding {
            hosts: self.host.clone(),
            methods: self.method.clone(),
            paths: self.path.clone(),
            place: self.place.clone(),
            roles: self.role.clone(),
            env,
            placeholder: None,
            canary: false,
        }
    }
}

/// Where a secret may go, in words.
pub fn words(binding: &Binding) -> String {
    if binding.canary {
        let env = binding.env.as_ref().map_or_else(String::new, |env| format!(", as {env} in boxes"));
        return format!("nowhere: a canary{env}");
    }
    if binding.hosts.is_empty() {
        return "nowhere".to_owned();
    }
    let methods = if binding.methods.is_empty() { String::new() } else { format!("{} ", binding.methods.join("|")) };
    let paths = if binding.paths.is_empty() { String::new() } else { format!(" at {}", binding.paths.join(", ")) };
    let roles = if binding.roles.is_empty() { String::new() } else { format!(", for {}", binding.roles.join(", ")) };
    let env = binding.env.as_ref().map_or_else(String::new, |env| format!(", as {env} in boxes"));
    let place = binding.place.as_deref().unwrap_or("bearer");
    format!("{methods}to {}{paths} ({place}){roles}{env}", binding.hosts.join(", "))
}
