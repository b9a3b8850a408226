//! Questions to a person: what a rule of policy with `effect = "ask"` lets pass only once a person has said so.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::AskId;
use crate::view::AskView;

/// Segments of a path that questions tell apart.
const SEGMENTS_MAX: usize = 2;
/// Characters of a path in a question.
const PATH_CHARS_MAX: usize = 200;

/// How far an answer reaches, for the agent that asked; with [`AskScope::Run`] for every agent of its run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskScope {
    /// The same rule, method, host and beginning of the path.
    #[default]
    Request,
    /// The same rule and host.
    Host,
    /// The same rule.
    Agent,
    /// The same rule and host, for every agent of the run.
    Run,
}

impl AskScope {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Host => "host",
            Self::Agent => "agent",
            Self::Run => "run",
        }
    }
}

impl fmt::Display for AskScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AskScope {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Request, Self::Host, Self::Agent, Self::Run];
        all.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| "is none of request, host, agent and run".to_owned())
    }
}

/// A person's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it may pass.
    pub allow: bool,
    /// How far that reaches.
    pub scope: AskScope,
    /// Until when it holds; as long as the run when absent.
    pub until: Option<Timestamp>,
    /// When it was given.
    pub at: Timestamp,
}

/// What is asked about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// The agent.
    pub agent: String,
    /// Layer and rule, as `project/deploy`.
    pub rule: String,
    /// The method.
    pub method: String,
    /// Scheme, host and port.
    pub host: String,
    /// The beginning of the path.
    pub path: String,
}

/// The beginning of a path that questions tell apart.
pub fn beginning(path: &str) -> String {
    let mut segments = path.trim_start_matches('/').split('/');
    let kept: Vec<&str> = segments.by_ref().take(SEGMENTS_MAX).collect();
    let more = if segments.next().is_some() { "/..." } else { "" };
    format!("/{}{more}", kept.join("/")).chars().take(PATH_CHARS_MAX).collect()
}

/// How a question stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// A person allowed it.
    Allowed,
    /// A person denied it.
    Denied(AskId),
    /// It waits for an answer.
    Open(AskId),
    /// It was not asked yet, or its answer holds no longer.
    New,
}

/// Looks the question up among those of its run. Of answers that reach it the latest counts.
pub fn standing(asks: &[AskView], question: &Question, now: Timestamp) -> Standing {
    let reaches = |ask: &AskView, scope: AskScope| {
        let (agent, host) = (ask.agent.as_str() == question.agent, ask.host == question.host);
        ask.rule == question.rule
            && match scope {
                AskScope::Request => agent && host && ask.method == question.method && ask.path == question.path,
                AskScope::Host => agent && host,
                AskScope::Agent => agent,
                AskScope::Run => host,
            }
    };
    let answered = asks.iter().filter_map(|ask| Some((ask, ask.answer?)));
    let holds = answered.filter(|(ask, answer)| answer.until.is_none_or(|until| now < until) && reaches(ask, answer.scope));
    match holds.max_by_key(|(_, answer)| answer.at) {
        Some((_, answer)) if answer.allow => Standing::Allowed,
        Some((ask, _)) => Standing::Denied(ask.ask),
        None => {
            let open = asks.iter().find(|ask| ask.answer.is_none() && reaches(ask, AskScope::Request));
            open.map_or(Standing::New, |ask| Standing::Open(ask.ask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AgentName, RunId, SeededEntropy, SteppingClock, TaskId};

    #[test]
    fn an_answer_reaches_as_far_as_it_says_and_as_long() {
        let (clock, entropy) = (SteppingClock::default(), SeededEntropy::new(1));
        let ask = |allow: bool, scope, until: Option<i64>, at: i64| AskView {
            ask: AskId::new(&clock, &entropy),
            run: RunId::new(&clock, &entropy),
            task: TaskId::new(&clock, &entropy),
            agent: AgentName::new("ada").unwrap(),
            rule: "project/deploy".to_owned(),
            method: "POST".to_owned(),
            host: "https://x.org".to_owned(),
            path: "/v1/a/...".to_owned(),
            opened: Timestamp(0),
            answer: Some(Answer { allow, scope, until: until.map(Timestamp), at: Timestamp(at) }),
        };
        let asked = |agent: &str, method: &str, host: &str, path: &str| Question {
            agent: agent.to_owned(),
            rule: "project/deploy".to_owned(),
            method: method.to_owned(),
            host: host.to_owned(),
            path: beginning(path),
        };
        let same = asked("ada", "POST", "https://x.org", "/v1/a/b/c");
        for (scope, question, reaches) in [
            (AskScope::Request, same.clone(), true),
            (AskScope::Request, asked("ada", "PUT", "https://x.org", "/v1/a/b"), false),
            (AskScope::Request, asked("ada", "POST", "https://x.org", "/v1/a"), false),
            (AskScope::Request, asked("bob", "POST", "https://x.org", "/v1/a/b"), false),
            (AskScope::Host, asked("ada", "PUT", "https://x.org", "/v2"), true),
            (AskScope::Host, asked("ada", "PUT", "https://y.org", "/v2"), false),
            (AskScope::Agent, asked("ada", "PUT", "https://y.org", "/v2"), true),
            (AskScope::Agent, asked("bob", "POST", "https://x.org", "/v1/a/b"), false),
            (AskScope::Run, asked("bob", "PUT", "https://x.org", "/v2"), true),
            (AskScope::Run, asked("bob", "PUT", "https://y.org", "/v2"), false),
        ] {
            let found = standing(&[ask(true, scope, None, 1)], &question, Timestamp(5));
            assert_eq!(found == Standing::Allowed, reaches, "{scope} {question:?}");
        }
        let other = Question { rule: "user/deploy".to_owned(), ..same.clone() };
        assert_eq!(standing(&[ask(true, AskScope::Agent, None, 1)], &other, Timestamp(5)), Standing::New);
        assert_eq!(standing(&[ask(true, AskScope::Request, Some(5), 1)], &same, Timestamp(4)), Standing::Allowed);
        assert_eq!(standing(&[ask(true, AskScope::Request, Some(5), 1)], &same, Timestamp(5)), Standing::New);
        let two = [ask(true, AskScope::Request, None, 1), ask(false, AskScope::Host, None, 2)];
        assert_eq!(standing(&two, &same, Timestamp(5)), Standing::Denied(two[1].ask));
        let open = AskView { answer: None, ..two[0].clone() };
        assert_eq!(standing(std::slice::from_ref(&open), &same, Timestamp(5)), Standing::Open(open.ask));
        assert_eq!((beginning("/"), beginning("/a/b/c/d"), beginning("/a")), ("/".into(), "/a/b/...".into(), "/a".into()));
    }
}
