//! Runs the calls of one step.

use aedile_core::limits::{AGENT_PARALLEL_CALLS_MAX, TOOL_OUTPUT_BYTES_MAX};
use aedile_core::model::Block;
use aedile_core::runtime::{SessionEvent, SessionSink};
use aedile_core::tool::{Tool, ToolOutput, ToolRisk, cut_middle};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use crate::conversation::{Call, INTERRUPTED, result};

/// What a step's calls gave: one result for each call, in their order.
pub(crate) struct CallsDone {
    pub(crate) results: Vec<Block>,
    /// Whether a tool ended the turn.
    pub(crate) ends_turn: bool,
    /// Whether the person interrupted.
    pub(crate) cancelled: bool,
}

/// Calls side by side.
struct Running<'a> {
    calls: &'a [Call],
    set: JoinSet<ToolOutput>,
    index_of: HashMap<Id, usize>,
    outputs: Vec<Option<ToolOutput>>,
}

/// Runs the calls: neighbours that only read side by side, all others one after the other. After an interruption, and after a call
/// that ended the turn, the rest is not run. `cut` says that the model's answer was cut, so that a malformed input is explained.
pub(crate) async fn run_calls(
    tools: &[Arc<dyn Tool>],
    calls: &[Call],
    cut: bool,
    sink: &SessionSink,
    cancel: &mut watch::Receiver<u64>,
) -> CallsDone {
    let mut done = CallsDone { results: Vec::new(), ends_turn: false, cancelled: false };
    let mut at = 0;
    while at < calls.len() {
        let group = &calls[at..at + group_length(tools, &calls[at..])];
        at += group.len();
        if done.cancelled || done.ends_turn {
            let why = if done.cancelled { "not run: the turn was interrupted" } else { "not run: the turn had ended" };
            done.results.extend(group.iter().map(|call| result(call, why, true)));
            continue;
        }
        let mut running = Running::start(tools, group, cut, sink);
        done.cancelled = tokio::select! {
            () = running.finish(sink) => false,
            _ = cancel.changed() => true,
        };
        for (call, output) in group.iter().zip(running.stop(sink).await) {
            done.ends_turn |= output.ends_turn;
            done.results.push(result(call, &output.text, output.is_error));
        }
    }
    done
}

fn find<'a>(tools: &'a [Arc<dyn Tool>], call: &Call) -> Option<&'a Arc<dyn Tool>> {
    tools.iter().find(|tool| tool.spec().name == call.name)
}

fn group_length(tools: &[Arc<dyn Tool>], calls: &[Call]) -> usize {
    let reads = |call: &&Call| find(tools, call).is_some_and(|tool| tool.risk() == ToolRisk::Read);
    calls.iter().take_while(reads).take(AGENT_PARALLEL_CALLS_MAX).count().max(1)
}

impl<'a> Running<'a> {
    fn start(tools: &[Arc<dyn Tool>], calls: &'a [Call], cut: bool, sink: &SessionSink) -> Self {
        let mut running = Self { calls, set: JoinSet::new(), index_of: HashMap::new(), outputs: vec![None; calls.len()] };
        for (index, call) in calls.iter().enumerate() {
            sink(SessionEvent::ToolStarted { id: call.id.clone(), title: call.title() });
            match find(tools, call) {
                Some(_) if cut && matches!(call.input, Value::String(_)) => {
                    running.end(
                        index,
                        ToolOutput::error("not run: your answer reached the output limit within this call; make a smaller one"),
                        sink,
                    );
                }
                Some(tool) => {
                    let (tool, input) = (Arc::clone(tool), call.input.clone());
                    let task = running.set.spawn(async move { tool.call(input).await });
                    running.index_of.insert(task.id(), index);
                }
                None => {
                    let names: Vec<String> = tools.iter().map(|tool| tool.spec().name).collect();
                    running.end(
                        index,
                        ToolOutput::error(format!("there is no tool {:?}; there are: {}", call.name, names.join(", "))),
                        sink,
                    );
                }
            }
        }
        running
    }

    async fn finish(&mut self, sink: &SessionSink) {
        while let Some(ended) = self.set.join_next_with_id().await {
            let (id, output) = match ended {
                Ok((id, output)) => (id, output),
                Err(error) => (error.id(), ToolOutput::error(format!("the tool broke: {error}"))),
            };
            if let Some(index) = self.index_of.get(&id).copied() {
                self.end(index, output, sink);
            }
        }
    }

    fn end(&mut self, index: usize, mut output: ToolOutput, sink: &SessionSink) {
        output.text = cut_middle(&output.text, TOOL_OUTPUT_BYTES_MAX + 2000);
        let id = self.calls[index].id.clone();
        sink(SessionEvent::ToolEnded { id, is_error: output.is_error, output: cut_middle(&output.text, 4000) });
        self.outputs[index] = Some(output);
    }

    /// Ends what still runs and returns an output for every call.
    async fn stop(mut self, sink: &SessionSink) -> Vec<ToolOutput> {
        self.set.shutdown().await;
        for index in 0..self.calls.len() {
            if self.outputs[index].is_none() {
                self.end(index, ToolOutput::error(INTERRUPTED), sink);
            }
        }
        self.outputs.into_iter().flatten().collect()
    }
}
