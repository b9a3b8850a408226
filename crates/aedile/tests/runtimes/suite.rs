//! What every runtime does, whatever it is.

use std::sync::Arc;

use aedile_core::runtime::{Runtime, SessionEvent, TurnStop};
use aedile_runtimes::{AcpRuntime, ClaudeRuntime};
use aedile_testkit::{Conversation, ScriptedServer, Step};
use serde_json::json;

use super::rig::{KEY, Rig, soon};

/// An agent under test: itself, and the name of its tool for commands.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Agent {
    Aedile,
    Claude,
}

impl Agent {
    fn runtime(self) -> Arc<dyn Runtime> {
        match self {
            Self::Aedile => Arc::new(AcpRuntime::aedile()),
            Self::Claude => Arc::new(ClaudeRuntime::default()),
        }
    }

    fn shell(self, command: &str) -> Step {
        let name = if self == Self::Claude { "Bash" } else { "bash" };
        Step::tool(name, json!({ "command": command })).expect_tool(name).expect_header_value("x-api-key", KEY)
    }

    /// The agents that can be tried here.
    fn all(test: &str) -> Vec<Self> {
        let claude = super::has_claude(test).then_some(Self::Claude);
        std::iter::once(Self::Aedile).chain(claude).collect()
    }

    fn rig(self, server: &ScriptedServer) -> Rig {
        Rig::new(self.runtime(), "anthropic", &server.url())
    }
}

/// Makes `held` and waits for `go`.
const HOLD: &str = "touch held; until [ -e go ]; do sleep 0.05; done; rm -f held go";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_runs_tools_and_reports_them() {
    for agent in Agent::all("a_turn_runs_tools_and_reports_them") {
        let talk = Conversation::any()
            .step(agent.shell("echo made > made.txt; echo seen; cat absent; exit 3"))
            .step(Step::text("All done.").expect_latest("seen"));
        let server = ScriptedServer::start(vec![talk]);
        let rig = agent.rig(&server);
        let life = rig.start(None).await.unwrap();
        let end = soon(life.session.prompt("Make a file.")).await;
        assert_eq!((end.stop, end.detail), (TurnStop::EndTurn, None), "{agent:?}");
        assert_eq!(std::fs::read_to_string(rig.tree("made.txt")).unwrap(), "made\n");
        assert!(life.text().contains("All done."), "{agent:?}: {:?}", life.events());
        let calls: Vec<_> = life
            .events()
            .into_iter()
            .filter(|event| matches!(event, SessionEvent::ToolStarted { .. } | SessionEvent::ToolEnded { .. }))
            .collect();
        let [SessionEvent::ToolStarted { id, title }, SessionEvent::ToolEnded { id: ended, is_error: true, output }] = &calls[..] else {
            panic!("{agent:?}: {calls:?}");
        };
        assert!(id == ended && title.contains("echo made") && output.contains("seen"), "{agent:?}: {calls:?}");
        let requests = server.finish();
        let text = requests[0].text();
        assert!(text.contains("Make a file."));
        assert!(agent == Agent::Aedile || text.contains("be kind to cats"), "the instructions are in what the model sees");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_reaches_the_model_in_the_middle_of_a_turn() {
    for agent in Agent::all("a_message_reaches_the_model_in_the_middle_of_a_turn") {
        let second = Step::text("Blue it is.").expect_latest("use the word blue");
        let server = ScriptedServer::start(vec![Conversation::any().step(agent.shell(HOLD)).step(second)]);
        let rig = agent.rig(&server);
        let life = rig.start(None).await.unwrap();
        assert!(life.session.takes_messages(), "{agent:?}");
        let message = async {
            rig.made("held").await;
            let sending = life.session.message("use the word blue");
            let release = async { rig.put("go", "") };
            tokio::join!(sending, release).0
        };
        let (end, taken) = soon(async { tokio::join!(life.session.prompt("Go."), message) }).await;
        assert_eq!((end.stop, taken), (TurnStop::EndTurn, true), "{agent:?}");
        assert!(life.events().contains(&SessionEvent::Message { text: "use the word blue".to_owned() }), "{agent:?}");
        server.finish();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_waits_at_an_interrupt_is_heard_once() {
    for agent in Agent::all("a_message_that_waits_at_an_interrupt_is_heard_once") {
        let once = |step: Step| {
            step.expect(|request| match request.text().matches("use the word blue").count() {
                1 => Ok(()),
                times => Err(format!("it is said {times} times")),
            })
        };
        let talk = Conversation::any().step(agent.shell(HOLD)).step(once(Step::text("Blue it is."))).step(Step::text("And again."));
        let server = ScriptedServer::start(vec![talk]);
        let rig = agent.rig(&server);
        let life = rig.start(None).await.unwrap();
        let meanwhile = async {
            rig.made("held").await;
            tokio::join!(life.session.message("use the word blue"), life.session.interrupt()).0
        };
        let (end, taken) = soon(async { tokio::join!(life.session.prompt("Go."), meanwhile) }).await;
        assert_eq!((end.stop, taken), (TurnStop::Cancelled, false), "{agent:?}");
        let end = soon(life.session.prompt("As I said: use the word blue.")).await;
        assert_eq!(end.stop, TurnStop::EndTurn, "{agent:?}: {end:?}");
        assert!(life.text().contains("Blue it is.") && !life.text().contains("And again."), "{agent:?}: {:?}", life.events());
        assert_eq!(soon(life.session.prompt("More.")).await.stop, TurnStop::EndTurn, "{agent:?}");
        assert!(life.text().contains("And again."), "{agent:?}: no turn has the answer of another");
        server.finish();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_ends_a_turn_within_a_tool_and_the_session_goes_on() {
    for agent in Agent::all("an_interrupt_ends_a_turn_within_a_tool_and_the_session_goes_on") {
        let talk = Conversation::any().step(agent.shell(HOLD)).step(Step::text("Here again.").expect_latest("go on, please"));
        let server = ScriptedServer::start(vec![talk]);
        let rig = agent.rig(&server);
        let life = rig.start(None).await.unwrap();
        let interrupt = async {
            rig.made("held").await;
            life.session.interrupt().await;
        };
        let (end, ()) = soon(async { tokio::join!(life.session.prompt("Go."), interrupt) }).await;
        assert_eq!(end.stop, TurnStop::Cancelled, "{agent:?}: {end:?}");
        let end = soon(life.session.prompt("go on, please")).await;
        assert_eq!(end.stop, TurnStop::EndTurn, "{agent:?}: {end:?}");
        server.finish();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_agent_says_so_and_goes_on_with_its_history() {
    for agent in Agent::all("a_killed_agent_says_so_and_goes_on_with_its_history") {
        let remembers = |step: Step| {
            step.expect(|request| match request.text() {
                text if text.contains("The word is cormorant.") && text.contains("touch held") => Ok(()),
                text => Err(format!("the history is not there: {text}")),
            })
        };
        let talk = Conversation::any()
            .step(Step::text("I keep it in mind."))
            .step(agent.shell(HOLD))
            .step(remembers(Step::text("I know it still.")));
        let server = ScriptedServer::start(vec![talk]);
        let rig = agent.rig(&server);
        let mut life = rig.start(None).await.unwrap();
        let id = life.session.id();
        assert_eq!(soon(life.session.prompt("The word is cormorant.")).await.stop, TurnStop::EndTurn);
        let child = &mut life.child;
        let kill = async {
            rig.made("held").await;
            child.kill();
            child.wait().await.unwrap();
        };
        let (end, ()) = soon(async { tokio::join!(life.session.prompt("Work."), kill) }).await;
        assert_eq!(end.stop, TurnStop::Failed, "{agent:?}");
        assert!(end.detail.as_deref().unwrap().contains("the agent's process has ended"), "{agent:?}: {end:?}");
        drop(life);
        let again = rig.start(Some(id.clone())).await.unwrap();
        assert_eq!(again.session.id(), id);
        assert_eq!(soon(again.session.prompt("Which word?")).await.stop, TurnStop::EndTurn, "{agent:?}");
        assert!(again.text().contains("I know it still."));
        server.finish();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_a_refused_key_and_a_lost_session_are_named() {
    for agent in Agent::all("an_outage_a_refused_key_and_a_lost_session_are_named") {
        let talk = Conversation::any()
            .step(Step::status(529, "too much to do"))
            .step(Step::text("At last."))
            .afterwards(Step::status(401, "who are you"));
        let server = ScriptedServer::start(vec![talk]);
        let rig = agent.rig(&server);
        let life = rig.start(None).await.unwrap();
        assert_eq!(soon(life.session.prompt("Go.")).await.stop, TurnStop::EndTurn, "{agent:?}: it tries again by itself");
        let said = if agent == Agent::Claude { "overloaded (529)" } else { "529: too much to do" };
        let held_up = life.events().into_iter().any(|event| matches!(event, SessionEvent::Retrying { why, .. } if why.contains(said)));
        assert!(held_up, "{agent:?} says so meanwhile: {:?}", life.events());
        let end = soon(life.session.prompt("Again.")).await;
        assert_eq!(end.stop, TurnStop::Failed, "{agent:?}");
        let detail = end.detail.unwrap();
        assert!(detail.contains("401") && detail.contains("who are you"), "{agent:?}: {detail}");
        drop(life);
        let lost = "01234567-89ab-7cde-8f01-23456789abcd".parse().unwrap();
        let error = rig.start(Some(lost)).await.err().unwrap();
        let text = format!("{error:?}");
        assert!(text.contains("session") && text.contains("01234567"), "{agent:?}: {text}");
    }
}
