//! A gateway with one door, clients in front of it and providers behind it.

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use aedile_core::agent_api::{AgentApi, AgentReply, AgentRequest, DoorIdentity};
use aedile_core::clock::{SeededEntropy, SteppingClock};
use aedile_core::egress::{Door, DoorGrant, Egress, EgressError};
use aedile_core::event::{Event, Position};
use aedile_core::money::Budget;
use aedile_core::policy::{LayerName, PolicyText};
use aedile_core::store::{Store, list};
use aedile_core::view::CostView;
use aedile_core::{AgentName, Clock, Entropy, IncarnationId, MicroUsd, RunId, SecretString, TaskId, TaskKey, Timestamp};
use aedile_gateway::policy::{SecretRule, SecretsFile};
use aedile_gateway::safe::{OAuth, Places, Record};
use aedile_gateway::{Gateway, Provider, ProviderKey, Vault};
use aedile_models::{ApiFormat, PriceTable, client_for};
use aedile_store::MemoryStore;
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const KEY: &str = "sk-real-0123456789abcdef";
pub(crate) const DEPLOY: &str = "Zq-9876543210fedcQZ";
pub(crate) const CLAUDE: &str = "anthropic/claude-test";
pub(crate) const GPT: &str = "openai/gpt-test";

/// Waits with a limit.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("nothing happened in time")
}

/// Waits for a condition with a limit.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    aedile_testkit::wait_for_async(what, Duration::from_secs(20), || {
        let found = holds().then_some(());
        async move { found }
    })
    .await;
}

/// Says back what it was asked, with the key in it.
pub(crate) struct Echo;

#[async_trait]
impl AgentApi for Echo {
    async fn call(&self, who: &DoorIdentity, request: AgentRequest) -> AgentReply {
        AgentReply::Done { message: format!("{} {request:?} {KEY}", who.agent) }
    }
}

/// A further provider, and a secret that is renewed.
type More<'a> = (Option<(&'a str, ProviderKey)>, Option<(Places, (Record, OAuth))>);

pub(crate) struct Rig {
    pub(crate) gateway: Gateway,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) who: DoorIdentity,
    pub(crate) clock: Arc<SteppingClock>,
    /// The layers of policy of its doors.
    pub(crate) policy: Vec<PolicyText>,
    entropy: Arc<SeededEntropy>,
}

pub(crate) fn prices() -> PriceTable {
    let row = |provider: &str, model: &str, output: f64| {
        format!(
            "[[price]]\nprovider = {provider:?}\nmodels = [{model:?}]\ninput = 1.0\noutput = {output}\ncache_read = 0.5\ncache_write = 2.0\n"
        )
    };
    let all = [
        ("anthropic", "claude-test", 10.0),
        ("openai", "gpt-test", 10.0),
        ("gemini", "gemini-test", 10.0),
        ("ollama", "llama-test", 10.0),
        ("backup", "claude-backup", 30.0),
    ];
    PriceTable::parse(&all.map(|(provider, model, output)| row(provider, model, output)).concat()).unwrap()
}

impl Rig {
    /// Both providers are at `url`.
    pub(crate) fn new(url: &str) -> Self {
        Self::over(url, Arc::new(MemoryStore::new(Arc::new(SteppingClock::default()))))
    }

    pub(crate) fn over(url: &str, store: Arc<dyn Store>) -> Self {
        Self::with(url, store, None)
    }

    /// With a further provider, `backup`, that speaks Anthropic's format.
    pub(crate) fn with_backup(url: &str) -> Self {
        Self::further(url, "backup", ProviderKey::Secret("KEY".into()))
    }

    /// With a further provider, `subscription`, whose key is the token of one.
    pub(crate) fn with_subscription(url: &str) -> Self {
        Self::further(url, "subscription", ProviderKey::Token("KEY".into()))
    }

    fn further(url: &str, name: &'static str, key: ProviderKey) -> Self {
        Self::with(url, Arc::new(MemoryStore::new(Arc::new(SteppingClock::default()))), Some((name, key)))
    }

    /// In real time, for clients that look at certificates. Its doors believe other hosts by these roots (PEM).
    pub(crate) fn today(roots: &str) -> Self {
        Self::now(roots, None)
    }

    /// The same, with a further secret that is renewed, from the vault at these places.
    pub(crate) fn renewing(roots: &str, places: Places, grant: (Record, OAuth)) -> Self {
        Self::now(roots, Some((places, grant)))
    }

    fn now(roots: &str, grant: Option<(Places, (Record, OAuth))>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "clients hold certificates against the real time")]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let clock = Arc::new(SteppingClock::at(Timestamp(i64::try_from(now.as_micros()).unwrap())));
        let rig = Self::by("http://127.0.0.1:9", Arc::new(MemoryStore::new(clock.clone())), (None, grant), clock);
        Self { gateway: rig.gateway.with_roots(roots).unwrap(), ..rig }
    }

    /// Keeps a log in this directory.
    pub(crate) fn logging(self, dir: &std::path::Path) -> Self {
        Self { gateway: self.gateway.with_log(dir), ..self }
    }

    fn with(url: &str, store: Arc<dyn Store>, further: Option<(&str, ProviderKey)>) -> Self {
        Self::by(url, store, (further, None), Arc::default())
    }

    fn by(url: &str, store: Arc<dyn Store>, (further, grant): More<'_>, clock: Arc<SteppingClock>) -> Self {
        // Fails when another test of this process has done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let entropy = Arc::new(SeededEntropy::new(7));
        let deploy = format!("[[secret]]\nname = \"deploy\"\nvalue = \"{DEPLOY}\"\nhost = \"localhost\"\n");
        let vault = Vault::new([("KEY".to_owned(), SecretString::from(KEY))]).unwrap();
        let mut bound = SecretsFile::parse(&deploy).unwrap().secrets;
        bound.extend(grant.iter().map(|(_, (record, _))| SecretRule::renewed(&record.name, &record.binding).unwrap()));
        let vault = vault.with_bound(bound).unwrap();
        let vault = Arc::new(match grant {
            Some((places, (record, grant))) => vault.with_renewed(&places, vec![(record.name, grant)]),
            None => vault,
        });
        let provider = |name: &str, format| Provider {
            name: name.into(),
            format,
            base_url: url.into(),
            key: ProviderKey::Secret("KEY".into()),
            context_tokens: None,
        };
        let mut wants_key = provider("wants-key", ApiFormat::OpenAi);
        wants_key.key = ProviderKey::Missing("set WANTS_KEY".into());
        let mut providers = vec![
            provider("anthropic", ApiFormat::Anthropic),
            provider("openai", ApiFormat::OpenAi),
            provider("gemini", ApiFormat::Gemini),
            provider("ollama", ApiFormat::Ollama),
            wants_key,
        ];
        providers.extend(further.map(|(name, key)| Provider { key, ..provider(name, ApiFormat::Anthropic) }));
        let runtime = tokio::runtime::Handle::current();
        let gateway = Gateway::new(providers, prices(), vault, store.clone(), clock.clone(), entropy.clone(), runtime).unwrap();
        let ids = (clock.as_ref() as &dyn Clock, entropy.as_ref() as &dyn Entropy);
        let who = DoorIdentity {
            run: RunId::new(ids.0, ids.1),
            task: TaskId::new(ids.0, ids.1),
            key: TaskKey::new("one").unwrap(),
            role: "builder".to_owned(),
            agent: AgentName::new("ada").unwrap(),
            incarnation: IncarnationId::new(ids.0, ids.1),
        };
        Self { gateway, store, who, clock, policy: Vec::new(), entropy }
    }

    /// Adds a layer of policy to its doors.
    pub(crate) fn layer(&mut self, layer: LayerName, text: &str) {
        self.policy.push(PolicyText { layer, place: format!("{layer}.toml"), text: text.to_owned() });
    }

    /// Another agent of the same run.
    pub(crate) fn another(&self) -> DoorIdentity {
        let task = TaskId::new(self.clock.as_ref(), self.entropy.as_ref());
        let incarnation = IncarnationId::new(self.clock.as_ref(), self.entropy.as_ref());
        DoorIdentity { task, incarnation, agent: AgentName::new("bob").unwrap(), ..self.who.clone() }
    }

    pub(crate) fn grant(&self, model: &str) -> DoorGrant {
        DoorGrant {
            who: self.who.clone(),
            model: model.parse().unwrap(),
            others: Vec::new(),
            script: None,
            agent_budget: Budget::default(),
            task_budget: Budget::default(),
            run_budget: Budget::default(),
            policy: self.policy.clone(),
            api: Arc::new(Echo),
        }
    }

    /// The model, and those that may take its place.
    pub(crate) fn grant_with(&self, model: &str, others: &[&str]) -> DoorGrant {
        DoorGrant { others: others.iter().map(|model| model.parse().unwrap()).collect(), ..self.grant(model) }
    }

    /// The events of these kinds so far.
    pub(crate) fn events(&self, kinds: &[&str]) -> Vec<Event> {
        let all = self.store.read(Position(0), 10_000).unwrap().into_iter().map(|envelope| envelope.event);
        all.filter(|event| kinds.contains(&event.name())).collect()
    }

    /// Opens a door and returns it with its base URL.
    pub(crate) fn try_open(&self, grant: DoorGrant) -> Result<(Box<dyn Door>, String), EgressError> {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Ok((self.gateway.open_door(listener.into(), grant)?, url))
    }

    pub(crate) fn open(&self, grant: DoorGrant) -> (Box<dyn Door>, String) {
        self.try_open(grant).unwrap()
    }

    pub(crate) fn costs(&self) -> Vec<CostView> {
        list(self.store.as_ref(), Some(self.who.run)).unwrap()
    }
}

pub(crate) fn usd(micros: u64) -> Budget {
    Budget { tokens: None, usd: Some(MicroUsd(micros)) }
}

pub(crate) fn ask(model: &str, stream: bool) -> Value {
    json!({"model": model, "max_tokens": 1000, "stream": stream, "messages": [{"role": "user", "content": "hello"}]})
}

/// Posts and returns status, headers and body.
pub(crate) async fn post(url: &str, path: &str, body: &Value) -> (u16, reqwest::header::HeaderMap, String) {
    let client = client_for(["http://"]).unwrap();
    let request =
        client.post(format!("{url}{path}")).header("x-api-key", "aedile-placeholder").header("authorization", "Bearer aedile-placeholder");
    let request = request.header("content-type", "application/json").header("anthropic-version", "2023-06-01").header("cookie", "a=b");
    let response = soon(request.body(body.to_string()).send()).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, soon(response.text()).await.unwrap())
}

/// Sends bytes as they are and returns all that comes back until the connection is closed.
pub(crate) async fn raw(url: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end as well.
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

/// A provider that is played by hand.
pub(crate) struct ByHand {
    listener: TcpListener,
    pub(crate) url: String,
}

impl ByHand {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self { listener, url }
    }

    /// Takes a connection and answers in plain HTTP, whatever was said.
    pub(crate) async fn hang_up(&self) {
        let (mut stream, _) = soon(self.listener.accept()).await.unwrap();
        // The client may have gone already.
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
    }

    /// Takes a request whole: its head, its body and the connection.
    pub(crate) async fn take(&self) -> (String, Value, TcpStream) {
        let (mut stream, _) = soon(self.listener.accept()).await.unwrap();
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    return (head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null), stream);
                }
            }
            assert!(soon(stream.read_buf(&mut bytes)).await.unwrap() > 0, "the request was cut");
        }
    }
}

pub(crate) const SSE_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nset-cookie: x=y\r\nrequest-id: r1\r\n\r\n";

/// One piece of a chunked answer.
pub(crate) fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

pub(crate) fn start_event(input: u64) -> String {
    let message = json!({"type": "message_start", "message": {"usage": {"input_tokens": input, "output_tokens": 1}}});
    format!("event: message_start\ndata: {message}\n\n")
}
