//! Workspaces over a real hub: real git, real boxes.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use aedile_core::event::{Event, ReturnReason};
use aedile_core::policy::Reads;
use aedile_core::redact::{Leak, Redactor};
use aedile_core::sandbox::Sandbox;
use aedile_core::store::{Append, Store, list, load};
use aedile_core::view::{ChangeView, RunView};
use aedile_core::{ChangeId, CommitId, IncarnationId};
use aedile_fleet::steps::{self, Submission};
use aedile_fleet::{HubWorkspaces, Workspaces};
use aedile_git::{CommitRequest, Git, Hub, Identity, PersonEnv, Project};
use aedile_sandbox::{NativeSandbox, SandboxConfig, Toolchains, Trees};
use aedile_testkit::{SystemClock, TempRepo};

use crate::support::{clock, entropy, open, plan, store, task, view};

fn sandbox() -> Arc<dyn Sandbox> {
    let launcher = std::env::current_exe().unwrap().parent().unwrap().with_file_name("examples").join("fleet-launcher");
    let trees = Trees::Own(vec![std::env::temp_dir()]);
    let config = SandboxConfig { launcher, toolchains: Toolchains::default(), runtime_dir: std::env::temp_dir(), trees };
    Arc::new(NativeSandbox::new(config).unwrap())
}

/// Takes one word for a secret.
struct Sesame;

impl Redactor for Sesame {
    fn redact_text(&self, text: &str) -> Option<String> {
        text.contains("sesame").then(|| text.replace("sesame", "[secret]"))
    }
    fn redact_bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.redact_text(&String::from_utf8_lossy(bytes)).map(String::into_bytes)
    }
    fn leaks(&self, bytes: &[u8]) -> Vec<Leak> {
        let found = String::from_utf8_lossy(bytes).matches("sesame").count();
        vec![Leak { rule: "secret.word".to_owned(), known: true, what: 0 }; found]
    }
    fn settled(&self, text: &str) -> usize {
        text.len()
    }
}

fn workspaces(repo: &TempRepo, state: &Path) -> HubWorkspaces {
    #[expect(clippy::disallowed_methods, reason = "a test gives git the PATH it was given")]
    let git = Git::find(&std::env::var_os("PATH").unwrap()).unwrap();
    let project = Project::discover(&git, repo.path(), &PersonEnv(vec![(OsString::from("HOME"), state.into())])).unwrap();
    let hub = Hub::open_or_create(&state.join("hub.git"), &project).unwrap();
    HubWorkspaces { hub, project, sandbox: sandbox(), state: state.to_owned(), redactor: Arc::new(Sesame), clock: Arc::new(SystemClock) }
}

/// A commit on top of the repository's present one that writes `text` to the file, as an agent's change that was imported.
fn imported(hub: &Hub, repo: &TempRepo, text: &str) -> CommitId {
    let base = repo.head();
    repo.write("src/a.txt", text).commit("the agent's");
    let tree = aedile_core::TreeId::new(repo.rev("HEAD^{tree}")).unwrap();
    repo.git(&["reset", "--quiet", "--hard", &base]);
    let (base, agent) = (CommitId::new(base).unwrap(), Identity::agent(&"ada".parse().unwrap()));
    let at = aedile_core::Timestamp(1_780_000_000_000_000);
    hub.commit_tree(&CommitRequest { tree: &tree, parents: &[base], message: "work\n", author: &agent, committer: &agent, at, sign: None })
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_is_made_saved_made_anew_for_a_returned_change_and_forgotten() {
    let (repo, state) = (TempRepo::new(), tempfile::tempdir().unwrap());
    repo.write("src/a.txt", "one\ntwo\nthree\n").commit("start");
    let hubs = workspaces(&repo, state.path());
    let store = store();
    let mut plan = plan(vec![task("one", "src/**", &[])], 1);
    plan.base = CommitId::new(repo.head()).unwrap();
    plan.landing_ref = aedile_core::RefName::new(repo.git(&["symbolic-ref", "HEAD"]).trim()).unwrap();
    let id = open(store.as_ref(), &plan);
    let run: RunView = load(store.as_ref(), &id.to_string()).unwrap().unwrap();
    let steps = move || {
        let one = view(store.as_ref(), id, "one");
        let made = hubs.create(&run, &one, 1, None, &Reads::default()).unwrap();
        assert_eq!(made.base, plan.base);
        assert_eq!(fs::read_to_string(made.path.join("src/a.txt")).unwrap(), "one\ntwo\nthree\n");
        // What an unfinished call left is replaced.
        assert_eq!(hubs.create(&run, &one, 1, None, &Reads::default()).unwrap(), made);

        fs::write(made.path.join("src/new.txt"), "never added to any index\n").unwrap();
        let saved = hubs.snapshot(&run, &one, &made.path).unwrap();
        assert_eq!(hubs.hub.file_at(&saved.commit, "src/new.txt").unwrap().unwrap(), b"never added to any index\n");
        assert_eq!(saved.secrets, Vec::<String>::new());

        // It is saved as it is, and marked.
        fs::write(made.path.join("src/key.txt"), "open sesame\n").unwrap();
        let marked = hubs.snapshot(&run, &one, &made.path).unwrap();
        assert_eq!(marked.secrets, ["src/key.txt [secret.word]"]);
        assert_eq!(hubs.hub.file_at(&marked.commit, "src/key.txt").unwrap().unwrap(), b"open sesame\n");

        // The target and the change differ in one line.
        let commit = imported(&hubs.hub, &repo, "one\nmine\nthree\n");
        repo.write("src/a.txt", "one\ntheirs\nthree\n").commit("meanwhile");
        let change = returned(store.as_ref(), id, &commit, &made.path, &plan.base);
        assert!(hubs.has_commit(&change));
        let again = hubs.create(&run, &one, 2, Some(&change), &Reads::default()).unwrap();
        assert_eq!((again.base.as_str(), &again.conflicts[..]), (repo.head().as_str(), &["src/a.txt".to_owned()][..]));
        let text = fs::read_to_string(again.path.join("src/a.txt")).unwrap();
        for part in ["<<<<<<<", "mine", "|||||||", "two", "theirs", ">>>>>>>"] {
            assert!(text.contains(part), "{text}");
        }
        hubs.remove(&made.path).unwrap();
        assert!(!made.path.exists() && again.path.exists());
        hubs.forget(&one).unwrap();
        hubs.forget(&one).unwrap();
        assert!(!again.path.exists());
        assert!(hubs.hub.file_at(&saved.commit, "src/new.txt").unwrap().is_some(), "snapshots stay");
        assert!(hubs.mounts().unwrap().iter().all(|mount| !mount.writable));
    };
    tokio::task::spawn_blocking(steps).await.unwrap();
}

/// The trap: the name of the new workspace's first snapshot moved the ref that alone kept the old workspace.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_old_workspace_held_is_kept_beside_the_new_ones_snapshots() {
    let (repo, state) = (TempRepo::new(), tempfile::tempdir().unwrap());
    repo.write("src/a.txt", "one\n").commit("start");
    let hubs = workspaces(&repo, state.path());
    let store = store();
    let mut plan = plan(vec![task("one", "src/**", &[])], 1);
    plan.base = CommitId::new(repo.head()).unwrap();
    plan.landing_ref = aedile_core::RefName::new(repo.git(&["symbolic-ref", "HEAD"]).trim()).unwrap();
    let id = open(store.as_ref(), &plan);
    let run: RunView = load(store.as_ref(), &id.to_string()).unwrap().unwrap();
    let steps = move || {
        let one = view(store.as_ref(), id, "one");
        let old = hubs.create(&run, &one, 1, None, &Reads::default()).unwrap();
        fs::write(old.path.join("src/a.txt"), "after the submission\n").unwrap();
        // The claim of the next life has counted the attempt already.
        let next = aedile_core::view::TaskView { attempt: 2, turn: 3, ..one };
        let first = hubs.snapshot(&run, &next, &old.path).unwrap();
        let new = hubs.create(&run, &next, 2, None, &Reads::default()).unwrap();
        let second = hubs.snapshot(&run, &next, &new.path).unwrap();
        fs::write(new.path.join("src/a.txt"), "new\n").unwrap();
        let third = hubs.snapshot(&run, &next, &new.path).unwrap();
        let kept = hubs.hub.snapshots(run.run, next.task).unwrap();
        let found: Vec<_> = kept.iter().map(|saved| (saved.attempt, saved.turn, saved.state, saved.commit.clone())).collect();
        assert_eq!(found, [(1, 3, 1, first.commit.clone()), (2, 3, 1, second.commit), (2, 3, 2, third.commit)]);
        hubs.hub.collect_garbage(std::time::Duration::ZERO).unwrap();
        assert_eq!(hubs.hub.file_at(&first.commit, "src/a.txt").unwrap().unwrap(), b"after the submission\n");
    };
    tokio::task::spawn_blocking(steps).await.unwrap();
}

/// Both are honest: a build leaves sockets and pipes, a formatter touches every file.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_odd_files_and_of_conflicts_are_saved_and_merged_and_named_in_part() {
    let (repo, state) = (TempRepo::new(), tempfile::tempdir().unwrap());
    let names: Vec<String> = (0..3000).map(|n| format!("src/{n}-{}", "x".repeat(80))).collect();
    let all = |text: &str| {
        names.iter().for_each(|name| {
            repo.write(name, text);
        });
    };
    all("one\n");
    repo.write("src/a.txt", "a\n").commit("start");
    let hubs = workspaces(&repo, state.path());
    let store = store();
    let mut plan = plan(vec![task("one", "src/**", &[])], 1);
    plan.base = CommitId::new(repo.head()).unwrap();
    plan.landing_ref = aedile_core::RefName::new(repo.git(&["symbolic-ref", "HEAD"]).trim()).unwrap();
    let id = open(store.as_ref(), &plan);
    let run: RunView = load(store.as_ref(), &id.to_string()).unwrap().unwrap();
    all("mine\n");
    let commit = imported(&hubs.hub, &repo, "b\n");
    all("theirs\n");
    repo.commit("meanwhile");
    let steps = move || {
        let one = view(store.as_ref(), id, "one");
        let made = hubs.create(&run, &one, 1, None, &Reads::default()).unwrap();
        for n in 0..3000 {
            let path = made.path.join(format!("src/pipe{n}"));
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
        }
        let saved = hubs.snapshot(&run, &one, &made.path).unwrap();
        assert!(saved.oversized[0].contains("src/pipe") && saved.oversized.last().unwrap().contains("2800 more"), "{:?}", saved.oversized);
        store
            .append(Append::of(
                id,
                Event::SnapshotTaken { task: one.task, turn: 1, commit: saved.commit, oversized: saved.oversized, secrets: saved.secrets },
            ))
            .unwrap();

        let change = returned(store.as_ref(), id, &commit, &made.path, &plan.base);
        let again = hubs.create(&run, &one, 2, Some(&change), &Reads::default()).unwrap();
        assert!(fs::read_to_string(again.path.join(&names[2999])).unwrap().contains("<<<<<<<"));
        assert!(again.conflicts.len() <= 201 && again.conflicts.last().unwrap().contains("more"), "{}", again.conflicts.len());
        let event = Event::WorkspaceReady {
            task: one.task,
            attempt: 2,
            path: again.path,
            base: again.base,
            view: None,
            conflicts: again.conflicts,
        };
        store.append(Append::of(id, event)).unwrap();
    };
    tokio::task::spawn_blocking(steps).await.unwrap();
}

/// The change of task `one` with that commit, submitted and come back.
fn returned(store: &dyn Store, run: aedile_core::RunId, commit: &CommitId, workspace: &Path, base: &CommitId) -> ChangeView {
    let one = view(store, run, "one");
    let (agent, incarnation) = ("ada".parse().unwrap(), IncarnationId::new(clock().as_ref(), entropy().as_ref()));
    let fence = aedile_core::store::Fence { claim: "none".to_owned(), number: 1 };
    let change = ChangeId::new(clock().as_ref(), entropy().as_ref());
    let what = Submission {
        commit: commit.clone(),
        summary: String::new(),
        left_out: Vec::new(),
        workspace: workspace.to_owned(),
        base: base.clone(),
    };
    let claim = steps::claim(&one, &agent, incarnation, &fence, 1);
    let submit = steps::submit(&one, change, &agent, incarnation, what, &fence);
    for append in [claim, submit] {
        store.append(Append { fence: None, ..append }).unwrap();
    }
    let reason = ReturnReason::Conflict { paths: vec!["src/a.txt".to_owned()] };
    store.append(Append::of(run, Event::ChangeReturned { change, reason, evidence: None })).unwrap();
    list::<ChangeView>(store, Some(run)).unwrap().remove(0)
}
