//! The one place that names implementations.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aedile_core::store::{Store, list};
use aedile_core::view::{ProjectView, RunView};
use aedile_core::{Clock, Entropy, ProjectId, Redactor};
use aedile_fleet::{HostFacts, HubWorkspaces, Onlooker, Pace, Parts};
use aedile_gateway::{FetchRules, Gateway, Provider, ProviderKey, Vault};
use aedile_git::{Config, Git, GitError, GitVersion, Hub, PersonEnv, Project};
use aedile_landing::{GateBox, LandingDeps};
use aedile_models::ApiFormat;
use aedile_sandbox::{NativeSandbox, SandboxConfig, TOOL_VARIABLES, ToolSearch, Toolchains, Trees};
use aedile_store::SqliteStore;

use crate::clock::{OsEntropy, SystemClock};
use crate::config::file::ConfigFile;
use crate::config::person::{self, Api};
use crate::error::CliError;
use crate::keys::{self, ANTHROPIC, ANTHROPIC_TOKEN, GEMINI, OLLAMA, OPENAI};
use crate::runtimes::Catalogue;
use crate::{env, host, layers, prices};

/// Finds git and the person's repository around a directory.
pub fn discover(here: &Path) -> Result<Project, CliError> {
    let git = Git::find(&env::get(env::PATH).unwrap_or_default())?;
    Project::discover(&git, here, &person()).map_err(|error| match error {
        GitError::NotARepository { .. } | GitError::NotAWorkTree { .. } | GitError::NoCommit { .. } => CliError::config(error.to_string())
            .hint("aedile works in a git repository that has a commit: `git init`, `git add`, `git commit`"),
        other => other.into(),
    })
}

/// The settings that the person's git reads in a directory, and that git's version.
pub fn git_config(here: &Path) -> Result<(Config, GitVersion), CliError> {
    let git = Git::find(&env::get(env::PATH).unwrap_or_default())?;
    Ok((Config::of(&git, here, &person()), git.version()))
}

/// The hub of a run's project, for commands that look at it; `None` when there is none.
pub fn hub(run: &RunView) -> Result<Option<Hub>, CliError> {
    let dir = hub_dir(&crate::state::dir()?, run.project);
    if !dir.exists() {
        return Ok(None);
    }
    let project = discover(&run.root).map_err(|error| {
        error.hint(format!("what agents saved builds on the repository of the run, which was at {}", run.root.display()))
    })?;
    Ok(Some(Hub::open_or_create(&dir, &project)?))
}

fn hub_dir(state: &Path, project: ProjectId) -> PathBuf {
    state.join("hubs").join(format!("{project}.git"))
}

/// What git needs to act as the person.
fn person() -> PersonEnv {
    let names = [env::HOME, env::XDG_CONFIG_HOME, env::GNUPGHOME, env::SSH_AUTH_SOCK, env::GPG_TTY];
    PersonEnv(names.into_iter().filter_map(|name| Some((name.into(), env::get(name)?))).collect())
}

/// Looks for the person's tools.
pub fn toolchains(runtimes: &Catalogue) -> Toolchains {
    let path = env::get(env::PATH).map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let variables = TOOL_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), env::tool_variable(name)?))).collect();
    aedile_sandbox::discover(&ToolSearch {
        home: env::home(),
        path,
        candidates: Vec::new(),
        programs: runtimes.programs(),
        variables,
        state_dir: env::state_dir(),
    })
}

/// Makes the sandbox of agents, gates and snapshots, whose boxes write below `state` only. What they need to put down goes there too.
pub fn sandbox(state: &Path, runtimes: &Catalogue) -> Result<NativeSandbox, CliError> {
    sandbox_for(state, Trees::Own(vec![state.to_owned()]), runtimes)
}

/// Makes the sandbox of boxes that write to a person's directory. Copies, if it needs any, go below `place`.
pub fn persons_sandbox(place: &Path) -> Result<NativeSandbox, CliError> {
    sandbox_for(place, Trees::Persons, &Catalogue::of(&ConfigFile::default()))
}

/// What boxes need to put down goes below `place`, which is made when the first thing goes there.
fn sandbox_for(place: &Path, trees: Trees, runtimes: &Catalogue) -> Result<NativeSandbox, CliError> {
    let (launcher, runtime_dir) = (program()?, place.join("boxes"));
    Ok(NativeSandbox::new(SandboxConfig { launcher, toolchains: toolchains(runtimes), runtime_dir, trees })?)
}

/// The running program.
pub fn program() -> Result<PathBuf, CliError> {
    std::env::current_exe().map_err(|error| CliError::failure(format!("cannot find the running program: {error}")))
}

/// Everything that one worker on one project works with.
pub struct Workshop {
    /// The store.
    pub store: Arc<SqliteStore>,
    /// The project.
    pub project: Project,
    /// Its id.
    pub project_id: ProjectId,
    /// What the fleet works with.
    pub parts: Parts,
    /// What the landing works with.
    pub landing: LandingDeps,
    /// Holds the keys; asked to settle at the end.
    pub gateway: Arc<Gateway>,
}

impl Workshop {
    /// Wires a worker for a project. Must be called inside a tokio runtime.
    pub fn open(state: &Path, project: Project, config: &ConfigFile) -> Result<Self, CliError> {
        let (clock, entropy) = times();
        let runtimes = Catalogue::of(config);
        let policy = layers::of_host()?;
        let (store, gateway) = store_and_gateway(state, config)?;
        let dynamic: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
        let project_id = project_id(&*store, &project)?;
        let hub = Hub::open_or_create(&hub_dir(state, project_id), &project)?;
        let sandbox: Arc<dyn aedile_core::sandbox::Sandbox> = Arc::new(sandbox(state, &runtimes)?);
        let holder = host::holder();
        let dead: Vec<String> = store.claims("")?.into_iter().map(|claim| claim.holder).filter(|holder| host::is_dead(holder)).collect();
        let mounts = hub
            .object_mounts()?
            .into_iter()
            .map(|mount| aedile_core::sandbox::BoxMount { host: mount.host, inside: mount.inside, writable: false })
            .collect();
        let landing = LandingDeps {
            redactor: gateway.redactor(),
            store: Arc::clone(&dynamic),
            sandbox: Arc::clone(&sandbox),
            hub: hub.clone(),
            project: project.clone(),
            clock: Arc::clone(&clock),
            rooms: state.join("rooms"),
            gate_box: GateBox { mounts, ..GateBox::default() },
            policy: policy.clone(),
            holder: holder.clone(),
            dead: dead.clone(),
            verifiers: aedile_landing::verifiers(),
        };
        let workspaces = HubWorkspaces {
            hub,
            project: project.clone(),
            sandbox: Arc::clone(&sandbox),
            state: state.to_owned(),
            redactor: gateway.redactor(),
            clock: Arc::clone(&clock),
        };
        let parts = Parts {
            store: dynamic,
            sandbox,
            egress: Arc::clone(&gateway) as Arc<dyn aedile_core::egress::Egress>,
            runtimes: runtimes.runtimes(),
            workspaces: Arc::new(workspaces),
            clock,
            entropy,
            host: HostFacts {
                program: program()?,
                state: state.to_owned(),
                holder,
                dead,
                cpu_ticks: Arc::new(host::cpu_ticks),
                kill_orphan: Arc::new(host::kill_orphan),
            },
            pace: Pace::default(),
            onlooker: Onlooker::default(),
            policy,
        };
        Ok(Self { store, project, project_id, parts, landing, gateway })
    }
}

/// The HTTP client wants a TLS provider even where it will only speak plain HTTP.
pub fn install_crypto() {
    // Fails only when one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn times() -> (Arc<dyn Clock>, Arc<dyn Entropy>) {
    (Arc::new(SystemClock), Arc::new(OsEntropy))
}

/// Opens the store behind the keys' redactor, and the gateway that holds the keys. Must be called inside a tokio runtime.
pub fn store_and_gateway(state: &Path, config: &ConfigFile) -> Result<(Arc<SqliteStore>, Arc<Gateway>), CliError> {
    let (clock, entropy) = times();
    let vault = Arc::new(keys::vault(config, true)?);
    let options = aedile_store::Options { clock: Arc::clone(&clock), redactor: Arc::clone(&vault) as Arc<dyn Redactor>, read_only: false };
    let store = Arc::new(SqliteStore::open(state, options)?);
    let providers = providers(config, &vault);
    install_crypto();
    let gateway = Gateway::new(
        providers,
        prices::table(config)?,
        vault,
        Arc::clone(&store) as Arc<dyn Store>,
        clock,
        entropy,
        tokio::runtime::Handle::current(),
    );
    let gateway = gateway.map_err(|error| CliError::config(error.to_string()))?;
    let fetch = FetchRules::new(&config.fetch.hosts).map_err(CliError::config)?;
    let gateway = gateway.with_fetch(fetch).with_log(&state.join(crate::tracing_log::DIR));
    let (file, dir) = (env::get(env::SSL_CERT_FILE).map(PathBuf::from), env::get(env::SSL_CERT_DIR).map(PathBuf::from));
    let gateway = if file.is_some() || dir.is_some() { gateway.with_root_paths(file, dir) } else { gateway };
    Ok((store, Arc::new(gateway)))
}

/// The project's id; a repository is known by its root.
fn project_id(store: &dyn Store, project: &Project) -> Result<ProjectId, CliError> {
    let root = project.common_dir();
    let known: Vec<ProjectView> = list(store, None)?;
    if let Some(found) = known.iter().find(|known| known.root == root) {
        return Ok(found.project);
    }
    let id = ProjectId::new(&SystemClock, &OsEntropy);
    let event = aedile_core::event::Event::ProjectAdded { project: id, root: root.to_owned() };
    let append = aedile_core::store::Append {
        events: vec![aedile_core::store::NewEvent { run: None, event }],
        fence: None,
        once: Some(format!("project/{}", root.display())),
    };
    store.append(append)?;
    // Another process may have been quicker; the log decides.
    let known: Vec<ProjectView> = list(store, None)?;
    known
        .iter()
        .find(|known| known.root == root)
        .map(|known| known.project)
        .ok_or_else(|| CliError::failure("the project was not recorded"))
}

const OPENAI_VENDOR: &str = "https://api.openai.com";
/// The window that an Ollama server is asked for unless a person says otherwise: enough to work in, and it fits beside a model on a laptop.
const OLLAMA_CONTEXT_TOKENS: u64 = 32_768;

fn providers(config: &ConfigFile, vault: &Vault) -> Vec<Provider> {
    let place = person::place();
    let make = |name: &str, format, variable, key_variable: &str, vendor: &str| {
        let section = config.person.provider.get(name);
        let base_url =
            env::text(variable).or_else(|| section.and_then(|provider| provider.base_url.clone())).unwrap_or_else(|| vendor.to_owned());
        let known = |name: &str| vault.keys().any(|known| known == name);
        let key = match (known(name), base_url == vendor && name != OLLAMA) {
            (true, _) => ProviderKey::Secret(name.to_owned()),
            (false, _) if name == ANTHROPIC && known(ANTHROPIC_TOKEN) => ProviderKey::Token(ANTHROPIC_TOKEN.to_owned()),
            // A server of one's own usually wants no key.
            (false, false) => ProviderKey::None,
            (false, true) => ProviderKey::Missing(format!(
                "there is no key for {name}: `aedile secret set {name}` keeps one, or set {key_variable}, or `[provider.{name}] key_file` in {place}"
            )),
        };
        let context_tokens = section.and_then(|provider| provider.context_tokens).or((name == OLLAMA).then_some(OLLAMA_CONTEXT_TOKENS));
        Provider { name: name.to_owned(), format, base_url, key, context_tokens }
    };
    let mut openai = make(OPENAI, ApiFormat::OpenAi, env::OPENAI_BASE_URL, env::OPENAI_API_KEY, OPENAI_VENDOR);
    let chosen = config.person.provider.get(OPENAI).and_then(|provider| provider.api);
    // Few other servers speak Responses, and OpenAI itself keeps its models' thinking only there.
    openai.format = chosen.unwrap_or(if openai.base_url == OPENAI_VENDOR { Api::Responses } else { Api::Chat }).format();
    let further = config.person.further().map(|(name, api, section)| Provider {
        name: name.to_owned(),
        format: api.format(),
        base_url: section.base_url.clone().unwrap_or_default(),
        key: if vault.keys().any(|known| known == name) { ProviderKey::Secret(name.to_owned()) } else { ProviderKey::None },
        context_tokens: section.context_tokens.or((api == Api::Ollama).then_some(OLLAMA_CONTEXT_TOKENS)),
    });
    let built_in = [
        make(ANTHROPIC, ApiFormat::Anthropic, env::ANTHROPIC_BASE_URL, env::ANTHROPIC_API_KEY, "https://api.anthropic.com"),
        openai,
        make(GEMINI, ApiFormat::Gemini, env::GEMINI_BASE_URL, env::GEMINI_API_KEY, "https://generativelanguage.googleapis.com"),
        make(OLLAMA, ApiFormat::Ollama, env::OLLAMA_BASE_URL, "", "http://127.0.0.1:11434"),
    ];
    built_in.into_iter().chain(further).collect()
}
