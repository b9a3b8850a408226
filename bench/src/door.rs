//! What the door costs: requests through it beside requests straight to the provider, and text through the redactor.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use aedile_core::agent_api::{AgentApi, AgentReply, AgentRequest, DoorIdentity};
use aedile_core::egress::{DoorGrant, Egress};
use aedile_core::money::Budget;
use aedile_core::store::Store;
use aedile_core::{Redactor, SecretString};
use aedile_gateway::{Gateway, Provider, ProviderKey, Vault};
use aedile_models::{ApiFormat, PriceTable, client_for};
use aedile_testkit::{Conversation, OsEntropy, ScriptedServer, Step, SystemClock};
use anyhow::ensure;

use crate::figure::{Amount, Figure, Target};
use crate::fixture;
use crate::measure::{directory, median, millis, runtime};

const REQUESTS: usize = 150;
const WARM_UP: usize = 20;
const TEXT_BYTES: usize = 10_000_000;
const SCANS: usize = 15;
pub(crate) const PRICES: &str =
    "[[price]]\nprovider = \"anthropic\"\nmodels = [\"bench\"]\ninput = 1.0\noutput = 10.0\ncache_read = 0.5\ncache_write = 2.0\n";

/// Measures the door and the redactor.
pub(crate) fn figures(_program: &Path) -> anyhow::Result<Vec<Figure>> {
    let (through, direct) = runtime()?.block_on(requests())?;
    let (redacted, pass) = scan()?;
    Ok(vec![
        Figure::beside(
            "a model request through the door, books kept durably, p50",
            Amount::millis(through),
            ("straight", Amount::millis(direct)),
            Target::Reported,
        ),
        Figure::beside(
            "redactor, 10 secrets over 10 MB",
            Amount::millis(redacted),
            ("search for one byte", Amount::millis(pass)),
            Target::Reported,
        ),
    ])
}

/// Has nothing to say.
pub(crate) struct Silent;

#[async_trait::async_trait]
impl AgentApi for Silent {
    async fn call(&self, _who: &DoorIdentity, _request: AgentRequest) -> AgentReply {
        AgentReply::Done { message: String::new() }
    }
}

pub(crate) fn vault(secrets: usize) -> anyhow::Result<Arc<Vault>> {
    let secret =
        |number| (format!("KEY{number}"), SecretString::from(format!("sk-bench-{number:02}-0123456789abcdefghijklmnopqrstuvwxyz")));
    Ok(Arc::new(Vault::new((0..secrets).map(secret))?))
}

/// The median times of a request through the door and of the same one straight to the provider, in turns.
async fn requests() -> anyhow::Result<(f64, f64)> {
    // Fails only when a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let holder = directory()?;
    let upstream = ScriptedServer::start(vec![Conversation::any().afterwards(Step::text("It is done, and the tests are green."))]);
    let store: Arc<dyn Store> = Arc::new(fixture::open_store(&holder.path().join("state"))?);
    let who = fixture::working_run(&*store, 1)?.remove(0);
    let provider = Provider {
        context_tokens: None,
        name: "anthropic".to_owned(),
        format: ApiFormat::Anthropic,
        base_url: upstream.url(),
        key: ProviderKey::Secret("KEY0".to_owned()),
    };
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(OsEntropy));
    let here = tokio::runtime::Handle::current();
    let gateway = Gateway::new(vec![provider], PriceTable::parse(PRICES)?, vault(10)?, store, clock, entropy, here)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let door_url = format!("http://{}", listener.local_addr()?);
    let budget = Budget::default;
    let grant = DoorGrant {
        who,
        model: "anthropic/bench".parse().map_err(anyhow::Error::msg)?,
        others: Vec::new(),
        script: None,
        agent_budget: budget(),
        task_budget: budget(),
        run_budget: budget(),
        policy: Vec::new(),
        api: Arc::new(Silent),
    };
    let door = gateway.open_door(listener.into(), grant)?;
    let client = client_for(["http://"])?;
    let body = serde_json::json!({
        "model": "bench", "max_tokens": 1000, "system": "You write code.".repeat(200),
        "messages": [{ "role": "user", "content": "Read the file and say what it does. ".repeat(200) }],
    })
    .to_string();
    let (mut through, mut direct) = (Vec::new(), Vec::new());
    for number in 0..WARM_UP + REQUESTS {
        for (url, times) in [(&door_url, &mut through), (&upstream.url(), &mut direct)] {
            let start = Instant::now();
            let request = client.post(format!("{url}/v1/messages")).header("x-api-key", "placeholder");
            let request = request.header("anthropic-version", "2023-06-01").header("content-type", "application/json");
            let response = request.body(body.clone()).send().await?;
            let (status, text) = (response.status(), response.text().await?);
            ensure!(status.is_success() && text.contains("It is done"), "{url} answered {status}: {text:.300}");
            if number >= WARM_UP {
                times.push(millis(start.elapsed()));
            }
        }
    }
    drop(door);
    gateway.settled().await;
    Ok((median(through), median(direct)))
}

/// The median times of taking ten secrets out of a text and of one plain pass over it, in turns.
fn scan() -> anyhow::Result<(f64, f64)> {
    let vault = vault(10)?;
    let line = b"    let found = self.known.iter().find(|known| known.root == root); // sk-ant and other words of every day\n";
    let text: Vec<u8> = line.iter().copied().cycle().take(TEXT_BYTES).collect();
    let (mut redacted, mut passed) = (Vec::new(), Vec::new());
    for _ in 0..SCANS {
        let start = Instant::now();
        ensure!(vault.redact_bytes(&text).is_none(), "there is no secret in the text");
        redacted.push(millis(start.elapsed()));
        let start = Instant::now();
        // A search for one byte that is not there, as fast as the standard library does it.
        let found = std::hint::black_box(&text).contains(&0);
        passed.push(millis(start.elapsed()));
        ensure!(!std::hint::black_box(found), "there is no zero in the text");
    }
    Ok((median(redacted), median(passed)))
}
