//! Calls under way: each is this program once more, with the command of the tool.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aedile_core::event::Envelope;
use aedile_sandbox::{Again, AgainRequest};
use aedile_tools::{OfferedTool, OfferedTools, ToolAnswer, ToolCall};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::{mpsc, watch};

use super::arguments::command_line;
use super::catalog::{LINES, Leaf, WAIT, leaves};
use crate::error::CliError;
use crate::exit;
use crate::narrate::{Narrator, Weight};
use crate::output::one_line;

/// How much of a list of lines goes into one answer.
const ITEMS_BYTES_MAX: usize = 512 * 1024;
/// What is kept of a command's stderr.
const NOTES_BYTES_MAX: u64 = 16 * 1024;
/// When the client is gone, what it started gets this long to finish its turns before it is told to stop at once.
const FINISH_GRACE: Duration = Duration::from_secs(2);
/// And this long to save and end before it is left to itself.
const SAVE_GRACE: Duration = Duration::from_secs(60);

/// The tools, and what they have started.
pub struct Calls {
    again: Again,
    leaves: Vec<Leaf>,
    tools: Vec<OfferedTool>,
    here: PathBuf,
    started: Mutex<HashMap<u32, watch::Receiver<bool>>>,
}

/// What a command has said so far.
#[derive(Default)]
struct Said {
    items: Vec<Value>,
    bytes: usize,
    left_out: u64,
    last: Option<Value>,
    /// The run that it drives, once it is known.
    run: Option<Value>,
}

/// How a command ended.
struct Ended {
    code: Option<i32>,
    notes: String,
    said: Said,
}

impl Calls {
    /// `program` is this program; `here` is where commands run when the client names no directory.
    pub fn new(program: PathBuf, here: PathBuf) -> Result<Self, CliError> {
        let leaves = leaves();
        let tools = leaves.iter().map(|leaf| leaf.tool.clone()).collect();
        Ok(Self { again: Again::new(program)?, leaves, tools, here, started: Mutex::default() })
    }

    fn started(&self) -> MutexGuard<'_, HashMap<u32, watch::Receiver<bool>>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops everything that was started and waits until it has saved and ended.
    pub async fn stop_all(&self) {
        for (signals, wait) in [(1, FINISH_GRACE), (2, SAVE_GRACE)] {
            let under_way: Vec<(u32, watch::Receiver<bool>)> = self.started().iter().map(|(pid, ended)| (*pid, ended.clone())).collect();
            if under_way.is_empty() {
                return;
            }
            tracing::debug!(signals, commands = under_way.len(), "stopping what the client has started");
            under_way.iter().for_each(|(pid, _)| interrupt(*pid));
            let all = async {
                for (_, mut ended) in under_way {
                    // A sender that is gone has ended too.
                    let _ = ended.wait_for(|ended| *ended).await;
                }
            };
            let _ = tokio::time::timeout(wait, all).await;
        }
    }

    /// Starts the command; its lines are read by a task that outlives whoever waits for it.
    fn start(self: &Arc<Self>, leaf: &Leaf, args: Vec<std::ffi::OsString>, dir: &Path, words: mpsc::Sender<String>) -> io::Result<Started> {
        let mut child = self.again.start(AgainRequest { args, dir: dir.to_owned() })?;
        let pid = child.id();
        let (ends, ended) = watch::channel(false);
        self.started().insert(pid, ended);
        let taken = child.stdout.take().zip(child.stderr.take());
        let (stdout, stderr) = taken.ok_or_else(|| io::Error::other("the command came without its pipes"))?;
        let (stdout, stderr) = (ChildStdout::from_std(stdout)?, ChildStderr::from_std(stderr)?);
        let (run, under_way) = watch::channel(None);
        let (this, lines, long) = (Arc::clone(self), LINES.contains(&leaf.name().as_str()), leaf.is_long());
        let task = tokio::spawn(async move {
            let (said, notes) = tokio::join!(listen(stdout, lines, long, words, run), notes(stderr));
            let code = tokio::task::spawn_blocking(move || wait(&mut child)).await.ok().flatten();
            this.started().remove(&pid);
            ends.send_replace(true);
            Ended { code, notes, said }
        });
        Ok(Started { pid, under_way, task })
    }

    async fn answer(self: &Arc<Self>, call: ToolCall) -> ToolAnswer {
        let Some(leaf) = self.leaves.iter().find(|leaf| leaf.tool.name == call.name) else {
            return failed(&CliError::usage(format!("there is no tool {}", call.name)));
        };
        let args = match command_line(leaf, &call.arguments) {
            Ok(args) => args,
            Err(why) => return failed(&CliError::usage(why)),
        };
        let dir = call.directory.clone().unwrap_or_else(|| self.here.clone());
        let started = match self.start(leaf, args, &dir, call.progress) {
            Ok(started) => started,
            Err(error) => {
                return failed(
                    &CliError::failure(format!("cannot start `aedile {}` in {}: {error}", leaf.name(), dir.display()))
                        .hint("the directory is the client's root, or the one that the client started `aedile mcp` in"),
                );
            }
        };
        let waits = call.arguments.get(WAIT) != Some(&Value::Bool(false));
        let Started { pid, mut under_way, mut task } = started;
        let run = async {
            let found = under_way.wait_for(Option::is_some).await.ok().map(|run| run.clone());
            match found {
                Some(run) => run,
                // It ended without one: what it says is the answer.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = &mut task => return answer_of(leaf, ended.ok()),
            run = run, if !waits => {
                return ToolAnswer { value: json!({ "run": run, "under_way": true }), text: None, is_error: false };
            }
            () = call.cancelled.cancelled() => interrupt(pid),
        }
        answer_of(leaf, task.await.ok())
    }
}

/// The calls as they are offered to a client.
pub struct Offered(pub Arc<Calls>);

struct Started {
    pid: u32,
    under_way: watch::Receiver<Option<Value>>,
    task: tokio::task::JoinHandle<Ended>,
}

/// Ctrl-C, as a person would press it.
fn interrupt(pid: u32) {
    let id = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        let _ = rustix::process::kill_process(id, rustix::process::Signal::INT);
    }
}

fn wait(child: &mut Child) -> Option<i32> {
    child.wait().ok()?.code()
}

/// The end of stderr, for people.
async fn notes(stderr: ChildStderr) -> String {
    let mut bytes = Vec::new();
    let mut stderr = stderr;
    let _ = (&mut stderr).take(NOTES_BYTES_MAX).read_to_end(&mut bytes).await;
    // The rest is read, so that nobody waits for us.
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// Reads what a command says on stdout, and hands its progress on.
async fn listen(stdout: ChildStdout, lines: bool, long: bool, words: mpsc::Sender<String>, run: watch::Sender<Option<Value>>) -> Said {
    let mut said = Said::default();
    let mut narrator = Narrator::default();
    let mut reader = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
        if value["error"].is_string() {
            // The command's last word, also where it gives a list.
            said.last = Some(value);
            continue;
        }
        if long {
            progress(&value, &mut narrator, &words);
            if said.run.is_none() && value["event"]["type"].as_str().is_some_and(|kind| kind == "run_started" || kind == "run_resumed") {
                said.run = Some(value["event"]["run"].clone());
                run.send_replace(said.run.clone());
            }
        } else if lines && said.bytes + line.len() <= ITEMS_BYTES_MAX && said.left_out == 0 {
            said.bytes += line.len();
            said.items.push(value);
            continue;
        } else if lines {
            said.left_out += 1;
            continue;
        }
        said.last = Some(value);
    }
    said
}

/// Says what a line of a long command means. Words that the client is too slow for are left out.
fn progress(line: &Value, narrator: &mut Narrator, words: &mpsc::Sender<String>) {
    let text = if line["event"].is_object() {
        let envelope = serde_json::from_value::<Envelope>(line.clone()).ok();
        envelope.and_then(|envelope| narrator.say(&envelope)).filter(|(weight, _)| *weight == Weight::Step).map(|(_, text)| text)
    } else {
        // What the agent says comes in pieces; all of it is in the result.
        line["session"]["title"].as_str().map(|title| one_line(title, 200))
    };
    if let Some(text) = text.filter(|text| !text.trim().is_empty()) {
        let _ = words.try_send(text);
    }
}

fn failed(error: &CliError) -> ToolAnswer {
    ToolAnswer { value: error.to_json(), text: Some(error.to_string()), is_error: true }
}

/// Makes an answer of what a command said and how it ended.
fn answer_of(leaf: &Leaf, ended: Option<Ended>) -> ToolAnswer {
    let Some(Ended { code, notes, said }) = ended else {
        return failed(&CliError::failure(format!("`aedile {}` broke off", leaf.name())));
    };
    let is_list = LINES.contains(&leaf.name().as_str());
    let error = said.last.as_ref().filter(|last| last["error"].is_string()).cloned();
    let value = match (error, is_list) {
        (Some(error), _) => {
            // Stderr has the same sentence and hints, as a person reads them.
            let text = if notes.is_empty() { error.to_string() } else { notes };
            return ToolAnswer { value: error, text: Some(text), is_error: true };
        }
        (None, true) => {
            let mut list = json!({ "items": said.items });
            if said.left_out > 0 {
                list["left_out"] = json!(said.left_out);
                list["hint"] = json!("ask for less, or for what comes after the last item's position");
            }
            list
        }
        (None, false) => match said.last {
            Some(value) if value.is_object() => value,
            Some(value) => json!({ "value": value }),
            None if code == Some(0) => json!({}),
            None => {
                let error = CliError::failure(format!("`aedile {}` ended {} without a result", leaf.name(), how(code)));
                return failed(&if notes.is_empty() { error } else { error.hint(notes) });
            }
        },
    };
    let meaning = exit::ALL.iter().find(|known| code == Some(i32::from(known.code)) && known.code != exit::OK).map(|known| known.meaning);
    let text = [Some(value.to_string()), meaning.map(str::to_owned), Some(notes).filter(|notes| !notes.is_empty())];
    let text = text.into_iter().flatten().collect::<Vec<_>>().join("\n\n");
    // A run whose tasks have not all landed is a result like another.
    let is_error = ![exit::OK, exit::NOT_ALL_LANDED].iter().any(|fine| code == Some(i32::from(*fine)));
    ToolAnswer { value, text: Some(text), is_error }
}

fn how(code: Option<i32>) -> String {
    code.map_or_else(|| "by a signal".to_owned(), |code| format!("with exit code {code}"))
}

#[async_trait]
impl OfferedTools for Offered {
    fn instructions(&self) -> String {
        "aedile runs coding agents on the git repository that you work in: each in a box, on its own copy, within its scope and budget; \
         a change lands only when the project's gates are green. You plan and steer: `code` lets one agent work and keeps its change, `run` \
         works through a tasks file with many, `status` says what every task waits for, `mail_send` reaches an agent, `task_retry` and \
         `task_cancel` decide. Long tools report progress; with `wait` false they answer at once and go on."
            .to_owned()
    }

    fn tools(&self) -> &[OfferedTool] {
        &self.0.tools
    }

    async fn call(&self, call: ToolCall) -> ToolAnswer {
        self.0.answer(call).await
    }
}
