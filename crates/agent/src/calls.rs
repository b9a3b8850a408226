//! Runs the calls of one step: hooks before and after, and exactly one end for each call.

use aedile_core::limits::{AGENT_PARALLEL_CALLS_MAX, HOOK_TIMEOUT_AT_END, SUBAGENT_END_MAX, TOOL_OUTPUT_BYTES_MAX};
use aedile_core::model::Block;
use aedile_core::runtime::SessionEvent;
use aedile_core::tool::{Sight, Tool, ToolOutput, cut_middle};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::timeout;

use crate::conversation::{Call, INTERRUPTED, result};
use crate::hook_answer::Permit;
use crate::hook_event::HookEvent;
use crate::hooks::{Hooks, Outcome};
use crate::live::Live;
use crate::permission::Verdict;
use crate::public_names::public_name;
use crate::subagent::TASK;

/// What calls are run with.
pub(crate) struct CallRoom {
    pub(crate) tools: Vec<Arc<dyn Tool>>,
    pub(crate) hooks: Hooks,
    pub(crate) live: Live,
    /// Counts interruptions of calls, for those that end in an orderly way by themselves: sub-agents.
    pub(crate) interruptions: Arc<watch::Sender<u64>>,
    /// The sub-agent that this is the room of.
    pub(crate) sub: Option<String>,
    /// What the tools take the model to see.
    pub(crate) sight: Sight,
}

/// What a step's calls gave: one result for each call, in their order.
#[derive(Default)]
pub(crate) struct CallsDone {
    pub(crate) results: Vec<Block>,
    /// What hooks have to say to the model.
    pub(crate) notes: Vec<Block>,
    /// Whether a tool ended the turn.
    pub(crate) ends_turn: bool,
    /// Whether the person interrupted.
    pub(crate) cancelled: bool,
    /// Why a hook wants the agent to stop.
    pub(crate) stopped: Option<String>,
}

/// How far a call has come.
#[derive(Default)]
struct Progress {
    /// The hooks know of it.
    announced: bool,
    /// The hooks were told of its end.
    closed: bool,
    output: Option<ToolOutput>,
    notes: Vec<String>,
    stopped: Option<String>,
}

type Shared = Arc<Mutex<Progress>>;

/// Calls side by side.
struct Running<'a> {
    room: &'a Arc<CallRoom>,
    calls: &'a [Call],
    set: JoinSet<()>,
    index_of: HashMap<Id, usize>,
    /// Of each call that was begun.
    aborts: Vec<(usize, AbortHandle)>,
    progress: Vec<Shared>,
    ended: Vec<bool>,
}

/// Runs the calls: neighbours that only read side by side, all others one after the other. After an interruption, and after a call
/// that ended the turn, the rest is not run. `cut` says that the model's answer was cut, so that a malformed input is explained.
pub(crate) async fn run_calls(room: &Arc<CallRoom>, calls: &[Call], cut: bool, cancel: &mut watch::Receiver<u64>) -> CallsDone {
    let mut done = CallsDone::default();
    let mut at = 0;
    while at < calls.len() {
        let group = &calls[at..at + group_length(&room.tools, &calls[at..])];
        at += group.len();
        let why = match &done {
            CallsDone { cancelled: true, .. } => Some("not run: the turn was interrupted"),
            CallsDone { ends_turn: true, .. } => Some("not run: the turn had ended"),
            CallsDone { stopped: Some(_), .. } => Some("not run: a hook of the repository stopped the agent"),
            _ => None,
        };
        if let Some(why) = why {
            done.results.extend(group.iter().map(|call| result(call, why, true)));
            continue;
        }
        let mut running = Running::start(room, group, cut);
        done.cancelled = tokio::select! {
            () = running.finish() => false,
            _ = cancel.changed() => true,
        };
        if done.cancelled {
            running.wind_up().await;
        }
        running.stop(&mut done).await;
    }
    done
}

/// The answer to a call, with what the tool shows.
fn shown(call: &Call, output: ToolOutput) -> Block {
    Block::ToolResult { id: call.id.clone(), content: output.text, is_error: output.is_error, media: output.media }
}

fn find<'a>(tools: &'a [Arc<dyn Tool>], call: &Call) -> Option<&'a Arc<dyn Tool>> {
    tools.iter().find(|tool| tool.spec().name == call.name)
}

fn group_length(tools: &[Arc<dyn Tool>], calls: &[Call]) -> usize {
    let fits = |call: &&Call| find(tools, call).is_some_and(|tool| tool.side_by_side());
    calls.iter().take_while(fits).take(AGENT_PARALLEL_CALLS_MAX).count().max(1)
}

fn lock(progress: &Shared) -> MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One call from the hooks before it to the hooks after it.
async fn run_one(room: &CallRoom, tool: &dyn Tool, mut call: Call, progress: &Shared) {
    lock(progress).announced = true;
    let interruptions = room.interruptions.subscribe();
    let before = room.hooks.before_call(&call).await;
    if let Some(input) = &before.updated_input {
        lock(progress).notes.push(note("PreToolUse", &format!("The input of {} was changed to {input}", call.name)));
        call.input = input.clone();
    }
    let output = match permitted(room, tool, &call, &before).await {
        Ok(()) => tool.call(call.input.clone()).await,
        Err(refusal) => ToolOutput::error(refusal),
    };
    take(progress, "PreToolUse", before);
    let interrupted = output.is_error && interruptions.has_changed().unwrap_or(false);
    close(room, &call, output, progress, interrupted).await;
}

/// Whether hooks, rules and the person let the call be made. A hook that allows saves the question and nothing else.
async fn permitted(room: &CallRoom, tool: &dyn Tool, call: &Call, before: &Outcome) -> Result<(), String> {
    let by_hook = before.permit.as_ref().map(|(permit, _)| *permit);
    match (&before.permit, &before.stop) {
        (Some((Permit::Deny, reason)), _) => return Err(format!("refused by a hook of the repository: {reason}")),
        (_, Some(_)) => return Err("not run: a hook of the repository stopped the agent".to_owned()),
        _ => {}
    }
    let gate = &room.hooks.gate;
    match (gate.judge(tool, call), by_hook) {
        (Verdict::Deny(reason), _) => Err(format!("not allowed: {reason}")),
        (Verdict::Ask, Some(Permit::Allow)) => Ok(()),
        (Verdict::Allow, permit) if permit != Some(Permit::Ask) => Ok(()),
        _ => {
            let title = call.title();
            let (id, title) = match &room.sub {
                Some(sub) => (format!("{sub}/{}", call.id), format!("[{sub}] {title}")),
                None => (call.id.clone(), title),
            };
            if gate.is_attended() {
                let message = format!("The agent needs your permission to use {}", public_name(&call.name));
                let fields = json!({"notification_type": "permission_prompt", "message": message});
                room.hooks.fire(HookEvent::Notification, &["permission_prompt"], &fields).await;
            }
            gate.ask(call, id, title).await
        }
    }
}

/// Keeps the output and tells the hooks, once.
async fn close(room: &CallRoom, call: &Call, output: ToolOutput, progress: &Shared, interrupted: bool) {
    {
        let mut progress = lock(progress);
        progress.output = Some(output.clone());
        if progress.closed || !progress.announced {
            return;
        }
        progress.closed = true;
    }
    let after = room.hooks.after_call(call, &output, interrupted).await;
    take(progress, if output.is_error { "PostToolUseFailure" } else { "PostToolUse" }, after);
}

fn take(progress: &Shared, event: &str, outcome: Outcome) {
    let mut progress = lock(progress);
    progress.notes.extend(outcome.block.iter().chain(&outcome.context).map(|text| note(event, text)));
    progress.stopped = progress.stopped.take().or(outcome.stop);
}

/// What a hook says to the model.
pub(crate) fn note(event: &str, text: &str) -> String {
    format!("<hook event=\"{event}\">\n{}\n</hook>", text.trim())
}

impl<'a> Running<'a> {
    fn start(room: &'a Arc<CallRoom>, calls: &'a [Call], cut: bool) -> Self {
        let progress = calls.iter().map(|_| Shared::default()).collect();
        let mut running = Self {
            room,
            calls,
            set: JoinSet::new(),
            index_of: HashMap::new(),
            aborts: Vec::new(),
            progress,
            ended: vec![false; calls.len()],
        };
        for (index, call) in calls.iter().enumerate() {
            room.live.tell(SessionEvent::ToolStarted { id: call.id.clone(), title: call.title() });
            match find(&room.tools, call) {
                Some(_) if cut && matches!(call.input, Value::String(_)) => {
                    running.end(index, "not run: your answer reached the output limit within this call; make a smaller one");
                }
                Some(tool) => {
                    let (room, tool, call) = (Arc::clone(room), Arc::clone(tool), call.clone());
                    let progress = Arc::clone(&running.progress[index]);
                    let task = running.set.spawn(async move { run_one(&room, &*tool, call, &progress).await });
                    running.index_of.insert(task.id(), index);
                    running.aborts.push((index, task));
                }
                None => {
                    let names: Vec<String> = room.tools.iter().map(|tool| tool.spec().name).collect();
                    running.end(index, &format!("there is no tool {:?}; there are: {}", call.name, names.join(", ")));
                }
            }
        }
        running
    }

    async fn finish(&mut self) {
        while let Some(ended) = self.set.join_next_with_id().await {
            let (id, why) = match ended {
                Ok((id, ())) => (id, String::new()),
                // We ended it; what is said of it is said at the end.
                Err(error) if error.is_cancelled() => continue,
                Err(error) => (error.id(), format!("the tool broke: {error}")),
            };
            if let Some(index) = self.index_of.get(&id).copied() {
                if !why.is_empty() {
                    close(self.room, &self.calls[index], ToolOutput::error(&why), &self.progress[index], false).await;
                }
                self.end(index, &why);
            }
        }
    }

    /// After an interruption: ends all calls at once but those of sub-agents, which tell the ends of their own calls first.
    async fn wind_up(&mut self) {
        for (_, task) in self.aborts.iter().filter(|(index, _)| self.calls[*index].name != TASK) {
            task.abort();
        }
        self.room.interruptions.send_modify(|count| *count += 1);
        if timeout(SUBAGENT_END_MAX, self.finish()).await.is_err() {
            self.room.live.warn("an interrupted sub-agent did not end in time and was ended");
        }
    }

    /// Tells the end of a call; `otherwise` is its answer when it has none of its own.
    fn end(&mut self, index: usize, otherwise: &str) {
        let mut progress = lock(&self.progress[index]);
        let mut output = progress.output.take().unwrap_or_else(|| ToolOutput::error(otherwise));
        output.text = cut_middle(&output.text, TOOL_OUTPUT_BYTES_MAX + 2000);
        let (id, text) = (self.calls[index].id.clone(), cut_middle(&output.text, 4000));
        self.room.live.tell(SessionEvent::ToolEnded { id, is_error: output.is_error, output: text });
        progress.output = Some(output);
        self.ended[index] = true;
    }

    /// Ends what still runs and adds an output for every call.
    async fn stop(mut self, done: &mut CallsDone) {
        self.set.shutdown().await;
        for (index, call) in self.calls.iter().enumerate() {
            if !self.ended[index] {
                let finished = lock(&self.progress[index]).output.clone();
                let output = finished.unwrap_or_else(|| ToolOutput::error(INTERRUPTED));
                // The person waits: the hooks get a short time only.
                let closing = close(self.room, call, output, &self.progress[index], true);
                if timeout(HOOK_TIMEOUT_AT_END, closing).await.is_err() {
                    self.room.live.warn("the hooks of an interrupted call did not end in time and were ended");
                }
                self.end(index, INTERRUPTED);
            }
            let mut progress = lock(&self.progress[index]);
            let output = progress.output.take().unwrap_or_else(|| ToolOutput::error(INTERRUPTED));
            done.ends_turn |= output.ends_turn;
            done.results.push(shown(call, output));
            done.notes.extend(progress.notes.drain(..).map(Block::text));
            done.stopped = done.stopped.take().or(progress.stopped.take());
        }
    }
}
