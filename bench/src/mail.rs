//! What a durable mail send costs beside a bare durable commit of SQLite, from one process and from eight.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use aedile_core::agent_api::DoorIdentity;
use aedile_core::event::Event;
use aedile_core::store::{Append, Store};
use aedile_core::{MailId, RunId};
use aedile_fleet::{send_mail, take_mail};
use aedile_testkit::{OsEntropy, SystemClock};
use anyhow::{Context, ensure};

use crate::figure::{Amount, Figure, Target};
use crate::fixture;
use crate::mail_process::{self, BODY, SUBJECT, Work};
use crate::measure::{command, directory, median};

/// Appends before the first measurement, so that the write-ahead logs have their usual length.
const WARM_UP: usize = 600;
/// Rounds of small turns, so that what else the disk does meets all alike.
const ROUNDS: usize = 45;
const SENDS: usize = 20;
/// Rounds after which the mailboxes are emptied; each takes 200 unread pieces.
const CLEAR_EVERY: usize = 4;
const ROUNDS_OF_EIGHT: usize = 8;
/// Processes that send at once.
pub(crate) const PROCESSES: usize = 8;
const SENDS_EACH: usize = 50;

/// Measures sends in turns with bare commits.
pub(crate) fn figures(_program: &Path) -> anyhow::Result<Vec<Figure>> {
    let holder = directory()?;
    let dir = holder.path();
    let store = fixture::open_store(&dir.join("state"))?;
    let agents = fixture::working_run(&store, 2 * PROCESSES)?;
    let run = agents[0].run;
    let bare = mail_process::open_bare(dir)?;
    for number in 0..WARM_UP {
        append(&store, run)?;
        mail_process::commit(&bare, number)?;
    }
    clear(&store, &agents)?;
    let mut rates = Rates::default();
    for round in 0..ROUNDS {
        // Each comes first, second and last equally often.
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => rates.bare.push(rate(SENDS, |number| mail_process::commit(&bare, number))?),
                1 => rates.sent.push(rate(SENDS, |_| send(&store, run))?),
                _ => rates.appended.push(rate(SENDS, |_| append(&store, run))?),
            }
        }
        if round % CLEAR_EVERY == 0 {
            clear(&store, &agents)?;
        }
    }
    for round in 0..ROUNDS_OF_EIGHT {
        clear(&store, &agents)?;
        let mut works = [Work::Bare, Work::Mail];
        works.rotate_left(round % 2);
        for work in works {
            let rate = eight(dir, run, work)?;
            if work == Work::Mail { rates.eight.push(rate) } else { rates.eight_bare.push(rate) }
        }
    }
    Ok(rates.figures())
}

fn send(store: &dyn Store, run: RunId) -> anyhow::Result<()> {
    send_mail(store, (&SystemClock, &OsEntropy), run, ("agent-0", "agent-1"), (SUBJECT, BODY))?;
    Ok(())
}

#[derive(Default)]
struct Rates {
    bare: Vec<f64>,
    sent: Vec<f64>,
    appended: Vec<f64>,
    eight: Vec<f64>,
    eight_bare: Vec<f64>,
}

impl Rates {
    fn figures(self) -> Vec<Figure> {
        let middle = |rates| Amount::per_second(median(rates));
        let one = ("bare commits, one process", middle(self.bare));
        let eight = ("bare commits, eight processes", middle(self.eight_bare));
        let sent = middle(self.eight);
        vec![
            Figure::beside("durable mail sends, one process", middle(self.sent), one, Target::TimesAtLeast(0.6)),
            Figure::beside("the append of a mail alone, one process", middle(self.appended), one, Target::Reported),
            Figure::beside("durable mail sends, eight processes together", sent, eight, Target::TimesAtLeast(0.6)),
            Figure::beside("the same beside a single writer that waits for nobody", sent, one, Target::Reported),
        ]
    }
}

fn append(store: &dyn Store, run: RunId) -> anyhow::Result<()> {
    let mail = MailId::new(&SystemClock, &OsEntropy);
    let (from, to, subject, body) = ("agent-0".to_owned(), "agent-1".to_owned(), SUBJECT.to_owned(), BODY.to_owned());
    store.append(Append::of(run, Event::MailSent { mail, run, from, to, subject, body }))?;
    Ok(())
}

/// Everybody reads what they got: a mailbox takes only so much unread mail.
fn clear(store: &dyn Store, agents: &[DoorIdentity]) -> anyhow::Result<()> {
    for who in agents {
        take_mail(store, who.run, who.agent.as_str(), "bench")?.ack(store)?;
    }
    Ok(())
}

fn rate(count: usize, mut one: impl FnMut(usize) -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let start = Instant::now();
    (0..count).try_for_each(&mut one)?;
    per_second(count, start)
}

fn per_second(count: usize, since: Instant) -> anyhow::Result<f64> {
    Ok(f64::from(u32::try_from(count)?) / since.elapsed().as_secs_f64())
}

/// Starts eight processes, lets them begin together and returns what they did in a second together.
fn eight(dir: &Path, run: RunId, work: Work) -> anyhow::Result<f64> {
    let children: anyhow::Result<Vec<Sender>> = (0..PROCESSES).map(|number| Sender::start(dir, run, work, number)).collect();
    let mut children = children?;
    children.iter_mut().try_for_each(|child| child.hear("ready"))?;
    let start = Instant::now();
    children.iter_mut().try_for_each(Sender::go)?;
    children.iter_mut().try_for_each(|child| child.hear("done"))?;
    let rate = per_second(PROCESSES * SENDS_EACH, start);
    for mut child in children {
        ensure!(child.child.wait()?.success(), "a sending process failed");
    }
    rate
}

/// One of the eight.
struct Sender {
    child: Child,
    words: BufReader<std::process::ChildStdout>,
}

impl Sender {
    fn start(dir: &Path, run: RunId, work: Work, number: usize) -> anyhow::Result<Self> {
        let mut command = command(std::env::current_exe()?);
        command.arg(mail_process::ARGUMENT).arg(work.name()).arg(dir).arg(run.to_string());
        command.arg(number.to_string()).arg(SENDS_EACH.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let words = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self { child, words })
    }

    fn hear(&mut self, word: &str) -> anyhow::Result<()> {
        let mut line = String::new();
        self.words.read_line(&mut line)?;
        ensure!(line.trim() == word, "a sending process said {line:?} instead of {word:?}");
        Ok(())
    }

    fn go(&mut self) -> anyhow::Result<()> {
        Ok(self.child.stdin.as_mut().context("no stdin")?.write_all(b"go\n")?)
    }
}
