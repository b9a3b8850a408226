//! The client of the door: how a program in the box speaks with the one that runs it.

use aedile_core::agent_api::{AgentReply, AgentRequest};
use aedile_core::limits::DOOR_CALL_BYTES_MAX;
use std::time::Duration;
use tokio::time::{sleep, timeout};

use crate::http::post;

/// Where the door takes calls.
const CALL_PATH: &str = "/aedile/v1/call";
/// How long an answer is awaited. A submit may wait for an import.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a broken connection is kept to oneself. Whoever holds the door takes its box with it when it dies, a moment after the door:
/// what was said of that moment would stand in a session as the answer to a call that is only unfinished.
const DYING: Duration = Duration::from_secs(2);

/// Why the door gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    /// The address is not one of a door.
    #[error("{url:?} is not the address of a door; it must look like http://127.0.0.1:7070")]
    BadUrl {
        /// The address as it was given.
        url: String,
    },
    /// Nobody answers.
    #[error("the door at {address} does not answer: {problem}; this command works only inside a box that was started with one")]
    Unreachable {
        /// Host and port.
        address: String,
        /// The operating system's words.
        problem: String,
    },
    /// The call is larger than a door takes; it was not sent.
    #[error("the call has {bytes} bytes and a door takes at most {DOOR_CALL_BYTES_MAX}; nothing was sent")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It answered with another status than 200.
    #[error("the door refused the call with status {status}: {body}")]
    Status {
        /// HTTP status.
        status: u16,
        /// The start of its answer.
        body: String,
    },
    /// Its answer is not one we know.
    #[error("the door's answer is not understood: {problem}")]
    NotUnderstood {
        /// What is wrong with it.
        problem: String,
    },
}

/// Speaks with the door at one address. Every call is a connection of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorClient {
    address: String,
}

impl DoorClient {
    /// Takes the door's URL, for example `http://127.0.0.1:7070`; a path behind the port is ignored.
    ///
    /// # Errors
    /// [`DoorError::BadUrl`] when it is not `http` on a host with a port.
    pub fn new(url: &str) -> Result<Self, DoorError> {
        let address = url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).filter(|address| {
            address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
                && !address.contains(char::is_whitespace)
        });
        match address {
            Some(address) => Ok(Self { address: address.to_owned() }),
            None => Err(DoorError::BadUrl { url: url.to_owned() }),
        }
    }

    /// Asks and waits for the answer, at most five minutes; that the door is gone is told after two seconds. Dropping the future closes
    /// the connection.
    ///
    /// # Errors
    /// [`DoorError`]; a refusal by the orchestrator is an answer ([`AgentReply::Refused`]), not an error.
    pub async fn call(&self, request: &AgentRequest) -> Result<AgentReply, DoorError> {
        let unreachable = |problem: String| DoorError::Unreachable { address: self.address.clone(), problem };
        let body = serde_json::to_vec(request).map_err(|error| DoorError::NotUnderstood { problem: error.to_string() })?;
        if body.len() > DOOR_CALL_BYTES_MAX {
            return Err(DoorError::TooLarge { bytes: body.len() });
        }
        let response = timeout(ANSWER_TIMEOUT, post(&self.address, CALL_PATH, &body)).await;
        let response = response.map_err(|_| unreachable(format!("no answer after {} s", ANSWER_TIMEOUT.as_secs())))?;
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                sleep(DYING).await;
                return Err(unreachable(error.to_string()));
            }
        };
        if response.status != 200 {
            let body = String::from_utf8_lossy(&response.body);
            let end = body.floor_char_boundary(500);
            return Err(DoorError::Status { status: response.status, body: body[..end].trim().to_owned() });
        }
        serde_json::from_slice(&response.body).map_err(|error| DoorError::NotUnderstood { problem: error.to_string() })
    }
}
