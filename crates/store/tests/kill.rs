//! `kill -9` at any moment: what was answered is there, and nothing is torn.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aedile_core::event::{Event, Position};
use aedile_core::store::{Append, Appended, Store};

use crate::support::{Ids, letter, mail, open};

const CHILD: &str = "AEDILE_STORE_TEST_CHILD";

/// What a killed child does: appends pairs, and says what was answered. Without its variable it is no test of anything.
#[test]
fn child_that_appends() {
    #[expect(clippy::disallowed_methods, reason = "how the parent speaks to its child")]
    let Ok(text) = std::env::var(CHILD) else { return };
    let (seed, dir) = text.split_once(' ').unwrap();
    let (store, ids) = (open(Path::new(dir)), Ids::new(seed.parse().unwrap()));
    loop {
        let run = ids.run();
        let blob = store.put_blob(run.to_string().as_bytes()).unwrap();
        let pair = Append::of(run, mail(&ids, run, "first")).and(mail(&ids, run, blob.as_str()));
        let Appended::At(position) = store.append(pair).unwrap() else { panic!("no key was given") };
        let mut out = std::io::stdout().lock();
        writeln!(out, "acked {} {run}", position.0).unwrap();
        out.flush().unwrap();
    }
}

fn start_child(dir: &Path, seed: u64) -> Child {
    #[expect(clippy::disallowed_methods, reason = "a test starts itself again")]
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["kill::child_that_appends", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{seed} {}", dir.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Reads `acked POSITION RUN` lines; kills the child after `count` of them and reads on to the end of its pipe.
fn acked_until_killed(mut child: Child, count: usize) -> Vec<(u64, String)> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acked = Vec::new();
    for line in lines.map_while(Result::ok) {
        let Some(at) = line.find("acked ") else { continue };
        let mut words = line[at..].split(' ').skip(1);
        let (Some(position), Some(run)) = (words.next(), words.next()) else { break };
        if run.len() < 36 {
            break;
        }
        acked.push((position.parse().unwrap(), run.to_owned()));
        if acked.len() == count {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acked.len() >= count, "the child ended by itself after {} appends", acked.len());
    acked
}

#[test]
fn what_was_answered_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acked = Vec::new();
    for (seed, count) in (0..).zip([1, 2, 17, 60, 150]) {
        acked.extend(acked_until_killed(start_child(dir.path(), seed), count));
    }
    // Two at once, one killed while the other writes.
    let (one, other) = (start_child(dir.path(), 100), start_child(dir.path(), 101));
    std::thread::scope(|scope| {
        let one = scope.spawn(|| acked_until_killed(one, 20));
        acked.extend(acked_until_killed(other, 60));
        acked.extend(one.join().unwrap());
    });
    let store = open(dir.path());
    for (position, run) in &acked {
        let pair = store.read(Position(position - 2), 2).unwrap();
        assert!(pair.iter().all(|envelope| envelope.run.unwrap().to_string() == *run), "{position} {run}");
        let Event::MailSent { body, .. } = &pair[1].event else { panic!("{pair:?}") };
        let blob = store.get_blob(&aedile_core::BlobId::new(body.clone()).unwrap()).unwrap();
        assert_eq!(blob.unwrap(), run.as_bytes(), "a blob is there before the event that names it");
    }
    let report = store.check().unwrap();
    assert_eq!(report.problems, [] as [String; 0]);
    assert_eq!((report.events % 2, report.blobs_gone), (0, 0), "no half of a pair");
    assert!(report.events >= 2 * acked.len() as u64);
    store.append(letter(&Ids::new(999), "life goes on")).unwrap();
}
