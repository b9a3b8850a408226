//! Questions of the agent to its client, and their answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aedile_core::runtime::{PermissionAnswer, PermissionAsker, PermissionQuestion};
use async_trait::async_trait;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::rpc::{self, Answered, Id};

const ONCE: &str = "once";
const ALWAYS: &str = "always";
const REJECT: &str = "reject";

/// The questions of one connection that wait for their answers.
pub(crate) struct Asks {
    out: mpsc::Sender<String>,
    next_id: AtomicI64,
    waiting: Mutex<HashMap<i64, oneshot::Sender<PermissionAnswer>>>,
}

/// Takes a question back when its asker has gone.
struct Waiting<'a> {
    asks: &'a Asks,
    id: i64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.asks.waiting().remove(&self.id);
    }
}

impl Asks {
    pub(crate) fn new(out: mpsc::Sender<String>) -> Self {
        Self { out, next_id: AtomicI64::new(1), waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<i64, oneshot::Sender<PermissionAnswer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an answer of the client; one to nothing means nothing.
    pub(crate) fn answered(&self, id: &Id, line: &[u8]) {
        let answer = match rpc::result::<Answered>(line).ok().and_then(|answered| answered.outcome.option_id) {
            Some(option) if option == ONCE => PermissionAnswer::Once,
            Some(option) if option == ALWAYS => PermissionAnswer::Always,
            Some(option) if option == REJECT => PermissionAnswer::Rejected,
            _ => PermissionAnswer::Unanswered,
        };
        if let Id::Number(id) = id
            && let Some(waiting) = self.waiting().remove(id)
        {
            // Nobody waits any more when the turn was ended.
            let _ = waiting.send(answer);
        }
    }
}

#[async_trait]
impl PermissionAsker for Asks {
    async fn ask(&self, question: PermissionQuestion) -> PermissionAnswer {
        let option = |id: &str, name: String, kind: &str| json!({"optionId": id, "name": name, "kind": kind});
        let mut options = vec![option(ONCE, "Allow".to_owned(), "allow_once")];
        if let Some(rule) = &question.always {
            options.push(option(ALWAYS, format!("Allow {rule} in this session"), "allow_always"));
        }
        options.push(option(REJECT, "Do not allow".to_owned(), "reject_once"));
        let params = json!({
            "sessionId": question.session.as_str(),
            "toolCall": {"toolCallId": question.call, "title": question.title, "status": "pending", "rawInput": question.input},
            "options": options,
        });
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (tell, answer) = oneshot::channel();
        self.waiting().insert(id, tell);
        let _waiting = Waiting { asks: self, id };
        if self.out.send(rpc::request(id, rpc::REQUEST_PERMISSION, &params)).await.is_err() {
            return PermissionAnswer::Unanswered;
        }
        answer.await.unwrap_or(PermissionAnswer::Unanswered)
    }
}
