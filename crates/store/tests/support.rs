//! Stores and events for the tests.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aedile_core::clock::{SeededEntropy, SteppingClock};
use aedile_core::event::Event;
use aedile_core::model::ModelRef;
use aedile_core::project::ProjectRules;
use aedile_core::redact::NoSecrets;
use aedile_core::store::{Append, ClaimRequest, Store};
use aedile_core::task::TaskSpec;
use aedile_core::view::ViewKind;
use aedile_core::{
    AgentName, ChangeId, CommitId, IncarnationId, MailId, ProjectId, Redactor, RefName, RunId, SpendId, TaskId, TaskKey, TreeId,
};
use aedile_store::{MemoryStore, Options, SqliteStore};

/// The word that the tests' redactor knows.
pub(crate) const SECRET: &str = "hunter2-hunter2";
/// A secret that looks different in JSON.
pub(crate) const SECRET_LINES: &str = "-----\"key\"\nabc\\def\n-----";

/// Knows the two secrets above.
pub(crate) struct TwoSecrets;

impl Redactor for TwoSecrets {
    fn redact_text(&self, text: &str) -> Option<String> {
        let clean = text.replace(SECRET, "[secret:one]").replace(SECRET_LINES, "[secret:two]");
        (clean != text).then_some(clean)
    }

    fn redact_bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.redact_text(&String::from_utf8_lossy(bytes)).map(String::into_bytes)
    }

    fn settled(&self, _text: &str) -> usize {
        unreachable!("a store shows nothing in pieces")
    }
}

/// A store, the clock that it uses, and what must live as long.
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<SteppingClock>,
    pub(crate) dir: Option<tempfile::TempDir>,
}

/// Makes an empty store.
pub(crate) type Make = fn(Arc<dyn Redactor>) -> Fixture;

pub(crate) fn sqlite(redactor: Arc<dyn Redactor>) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SteppingClock::default());
    let options = Options { clock: clock.clone(), redactor, read_only: false };
    let store = Arc::new(SqliteStore::open(dir.path(), options).unwrap());
    Fixture { store, clock, dir: Some(dir) }
}

pub(crate) fn memory(redactor: Arc<dyn Redactor>) -> Fixture {
    let clock = Arc::new(SteppingClock::default());
    let store = Arc::new(MemoryStore::new(clock.clone()).with_redactor(redactor));
    Fixture { store, clock, dir: None }
}

pub(crate) fn options() -> Options {
    Options { clock: Arc::new(SteppingClock::default()), redactor: Arc::new(NoSecrets), read_only: false }
}

pub(crate) fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(dir, options()).unwrap()
}

pub(crate) fn plain(make: Make) -> Fixture {
    make(Arc::new(NoSecrets))
}

/// Makes ids that differ.
pub(crate) struct Ids(SteppingClock, SeededEntropy);

impl Ids {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SteppingClock::default(), SeededEntropy::new(seed))
    }
    pub(crate) fn run(&self) -> RunId {
        RunId::new(&self.0, &self.1)
    }
    pub(crate) fn project(&self) -> ProjectId {
        ProjectId::new(&self.0, &self.1)
    }
    pub(crate) fn task(&self) -> TaskId {
        TaskId::new(&self.0, &self.1)
    }
    pub(crate) fn change(&self) -> ChangeId {
        ChangeId::new(&self.0, &self.1)
    }
    pub(crate) fn mail(&self) -> MailId {
        MailId::new(&self.0, &self.1)
    }
    pub(crate) fn spend(&self) -> SpendId {
        SpendId::new(&self.0, &self.1)
    }
    pub(crate) fn life(&self) -> IncarnationId {
        IncarnationId::new(&self.0, &self.1)
    }
}

pub(crate) fn commit(number: u64) -> CommitId {
    CommitId::new(format!("{number:040x}")).unwrap()
}

pub(crate) fn tree(number: u64) -> TreeId {
    TreeId::new(format!("{number:040x}")).unwrap()
}

pub(crate) fn agent(number: u64) -> AgentName {
    AgentName::new(format!("ada-{number}")).unwrap()
}

pub(crate) fn landing_ref() -> RefName {
    RefName::new("refs/heads/aedile/main").unwrap()
}

pub(crate) fn model() -> ModelRef {
    serde_json::from_str("\"script/any\"").unwrap()
}

pub(crate) fn started(run: RunId, project: ProjectId) -> Event {
    Event::RunStarted {
        run,
        project,
        root: "/repository".into(),
        goal: "make it so".to_owned(),
        target: "main".to_owned(),
        landing_ref: landing_ref(),
        base: commit(1),
        slots: 4,
        rules: ProjectRules::default(),
    }
}

pub(crate) fn opened(run: RunId, task: TaskId, key: u64) -> Event {
    let spec = TaskSpec {
        key: TaskKey::new(format!("t{key}")).unwrap(),
        title: "a title".to_owned(),
        prompt: "a prompt".to_owned(),
        read: Vec::new(),
        scope: vec!["src/**".to_owned()],
        after: Vec::new(),
        gates: Vec::new(),
        role: "builder".to_owned(),
        runtime: "aedile".to_owned(),
        model: model(),
        budget_usd: None,
        script: None,
    };
    Event::TaskOpened { run, task, spec }
}

pub(crate) fn mail(ids: &Ids, run: RunId, body: &str) -> Event {
    mail_as(ids.mail(), run, body)
}

pub(crate) fn mail_as(mail: MailId, run: RunId, body: &str) -> Event {
    Event::MailSent { mail, run, from: "person".to_owned(), to: "ada".to_owned(), subject: "hello".to_owned(), body: body.to_owned() }
}

/// One piece of mail of no particular run.
pub(crate) fn letter(ids: &Ids, body: &str) -> Append {
    let run = ids.run();
    Append::of(run, mail(ids, run, body))
}

pub(crate) fn request(name: &str, holder: &str) -> ClaimRequest {
    ClaimRequest { name: name.to_owned(), holder: holder.to_owned(), ttl: Duration::from_secs(60), dead: Vec::new() }
}

/// Every document of every view, in order.
pub(crate) fn documents(store: &dyn Store) -> Vec<(ViewKind, Vec<String>)> {
    ViewKind::ALL.iter().map(|kind| (*kind, store.views(*kind, None).unwrap())).collect()
}
