//! WebSockets through a door, where a rule says so: the request is judged like any other, then each message is looked into, in both directions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWrite, BufReader, ReadHalf, WriteHalf, split};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::body::{DoorBody, full};
use crate::denials::Denial;
use crate::door::Room;
use crate::error::Refused;
use crate::passing::Passing;
use crate::policy::{self, Target};
use crate::proxy::BODY_AT_ONCE_BYTES_MAX;
use crate::proxy_answer::answer;
use crate::proxy_send::send_upgrade;
use crate::websocket::{Ended, Kind, Reader, accept_of, new_key, write};

/// A connection on which neither side says anything for so long is ended.
const IDLE: Duration = Duration::from_secs(600);
/// How long the other side of an ended connection is told so.
const FAREWELL: Duration = Duration::from_secs(5);

/// Opens a WebSocket to the target and passes its messages on; any other answer than its opening is passed back as it is.
pub(crate) async fn pass(
    room: Arc<Room>,
    target: Target,
    mut asked: policy::Request,
    upgrade: OnUpgrade,
    permit: OwnedSemaphorePermit,
    passing: &Arc<Passing>,
) -> Result<Response<DoorBody>, Refused> {
    let taken = |asked: &mut policy::Request, wanted: HeaderName| {
        let at = asked.headers.iter().position(|(name, _)| name.eq_ignore_ascii_case(wanted.as_str()))?;
        Some(asked.headers.remove(at).1)
    };
    let theirs = taken(&mut asked, SEC_WEBSOCKET_KEY).unwrap_or_default();
    let protocols = taken(&mut asked, SEC_WEBSOCKET_PROTOCOL).unwrap_or_default();
    while taken(&mut asked, SEC_WEBSOCKET_EXTENSIONS).is_some() {}
    let bad = |what: &str| Refused::denied("request.form", format!("the {what} cannot be sent: write it in its plain form"));
    let ours = new_key().map_err(|error| Refused::store(error.to_string()))?;
    let mut further = HeaderMap::new();
    further.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    further.insert(UPGRADE, HeaderValue::from_static("websocket"));
    further.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_str(&ours).map_err(|_| bad("key"))?);
    if !protocols.is_empty() {
        further.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(&protocols).map_err(|_| bad("protocol"))?);
    }
    let (mut response, line) = send_upgrade(&room, &target, &asked, further).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return answer(room, &target, response, line, false, permit);
    }
    let protocol = opened(&target, response.headers(), &ours, &protocols)?;
    let server = hyper::upgrade::on(&mut response);
    // A secret may have been put into the query; it is no part of what is looked into.
    let target = Target { query: None, ..target };
    let tasks = room.tasks.clone();
    let passing = passing.clone();
    tasks.spawn(async move {
        let _permit = permit;
        let closed = room.closed.clone();
        let relayed = async {
            if let (Ok(client), Ok(server)) = (upgrade.await, server.await) {
                relay(room, target, client, server, &passing).await;
            }
        };
        tokio::select! {
            () = relayed => {}
            () = closed.cancelled() => {}
        }
        drop(line);
    });
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept_of(&theirs)).map_err(|_| bad("key"))?);
    if let Some(protocol) = protocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(response)
}

/// Whether the server has opened what it was asked for. Returns the protocol that it chose.
fn opened(target: &Target, headers: &HeaderMap, key: &str, protocols: &str) -> Result<Option<HeaderValue>, Refused> {
    let wrong = |what: &str| Refused::upstream(format!("{} opened no WebSocket as it was asked: {what}", target.host));
    if !headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        return Err(wrong("it changed to another protocol"));
    }
    if headers.get(SEC_WEBSOCKET_ACCEPT).is_none_or(|accept| accept.as_bytes() != accept_of(key).as_bytes()) {
        return Err(wrong("its answer does not fit the key"));
    }
    if headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err(wrong("it uses an extension, which nobody offered"));
    }
    let protocol = headers.get(SEC_WEBSOCKET_PROTOCOL).cloned();
    let offered = |chosen: &HeaderValue| protocols.split(',').any(|offered| offered.trim().as_bytes() == chosen.as_bytes());
    if protocol.as_ref().is_some_and(|chosen| !offered(chosen)) {
        return Err(wrong("it chose a protocol that was not offered"));
    }
    Ok(protocol)
}

type Half = ReadHalf<TokioIo<Upgraded>>;

/// Passes messages in both directions until one side ends it, and tells both why.
async fn relay(room: Arc<Room>, target: Target, client: Upgraded, server: Upgraded, passing: &Passing) {
    let ((from_client, mut to_client), (from_server, mut to_server)) = (split(TokioIo::new(client)), split(TokioIo::new(server)));
    let (mut client, mut server) = (Reader::new(BufReader::new(from_client), true), Reader::new(BufReader::new(from_server), false));
    let ended = {
        let mut outward = std::pin::pin!(outward(&room, &target, &mut client, &mut to_server, passing));
        let mut inward = std::pin::pin!(inward(&room, &mut server, &mut to_client, passing));
        // Whoever is told that it ends answers so (RFC 6455, 7.1.2).
        tokio::select! {
            ended = &mut outward => match ended {
                None => timeout(FAREWELL, inward).await.unwrap_or(None),
                ended => ended,
            },
            ended = &mut inward => match ended {
                None => timeout(FAREWELL, outward).await.unwrap_or(None),
                ended => ended,
            },
        }
    };
    if let Some(ended) = ended {
        tracing::warn!(agent = %room.grant.who.agent, host = %target.host, why = ended.why, "a WebSocket was ended");
        // 1006 is for the ends that nobody was told of.
        let told = Ended { code: if ended.code == 1006 { 1001 } else { ended.code }, ..ended };
        farewell(&mut to_client, &mut to_server, &told).await;
    }
}

async fn farewell(to_client: &mut WriteHalf<TokioIo<Upgraded>>, to_server: &mut WriteHalf<TokioIo<Upgraded>>, told: &Ended) {
    let payload = told.payload();
    // Both may have gone.
    let _ = timeout(FAREWELL, write(to_client, false, Kind::Close, &payload)).await;
    let _ = timeout(FAREWELL, write(to_server, true, Kind::Close, &payload)).await;
}

async fn next(from: &mut Reader<BufReader<Half>>) -> Result<(Kind, Vec<u8>), Ended> {
    timeout(IDLE, from.next()).await.unwrap_or_else(|_| Err(Ended::new(1001, "nothing was said for too long")))
}

/// From the box to the server: what holds a secret ends the connection. `None`: the box ended it, and the server was told.
async fn outward(
    room: &Room,
    target: &Target,
    from: &mut Reader<BufReader<Half>>,
    to: &mut (impl AsyncWrite + Unpin),
    passing: &Passing,
) -> Option<Ended> {
    loop {
        let (kind, message) = match next(from).await {
            Ok(came) => came,
            Err(ended) => return Some(ended),
        };
        if let Err(refused) = room.allowance.send(message.len() as u64) {
            return Some(Ended::new(1008, refused.sentence().to_owned()));
        }
        let message = match judged(room, target, message).await {
            Ok(message) => message,
            Err(ended) => return Some(ended),
        };
        passing.sends(message.len());
        if let Err(error) = write(to, true, kind, &message).await {
            return Some(Ended::new(1006, error.to_string()));
        }
        if kind == Kind::Close {
            return None;
        }
    }
}

/// Looks into a message of the box.
async fn judged(room: &Room, target: &Target, message: Vec<u8>) -> Result<Vec<u8>, Ended> {
    let Some(egress) = room.network.clone() else { return Err(Ended::new(1008, "the door is no proxy")) };
    let what = format!("a message to {}", target.host);
    let (mut egress, target, large) = (egress.lock_owned().await, target.clone(), message.len() > BODY_AT_ONCE_BYTES_MAX);
    let judge = move || {
        let decided = egress.decide_message(&target, &message);
        (message, decided)
    };
    let judged = if large { tokio::task::spawn_blocking(judge).await } else { Ok(judge()) };
    match judged {
        Ok((message, Ok(()))) => Ok(message),
        Ok((_, Err((rule, why)))) => {
            let ended = Ended::new(1008, format!("{rule}: {why}"));
            room.denied(Denial { layer: None, rule, why }, &what).await;
            Err(ended)
        }
        Err(error) => Err(Ended::new(1011, format!("the message cannot be judged: {error}"))),
    }
}

/// From the server to the box, without the values of the vault. `None`: the server ended it, and the box was told.
async fn inward(room: &Room, from: &mut Reader<BufReader<Half>>, to: &mut (impl AsyncWrite + Unpin), passing: &Passing) -> Option<Ended> {
    loop {
        let (kind, message) = match next(from).await {
            Ok(came) => came,
            Err(ended) => return Some(ended),
        };
        if let Err(why) = room.allowance.receive(message.len() as u64) {
            return Some(Ended::new(1008, why));
        }
        passing.receives(message.len());
        let clean = room.vault.redact_known_bytes(&message);
        if clean.is_some() && !matches!(kind, Kind::Text | Kind::Binary) {
            return Some(Ended::new(1008, "a control frame held the value of a secret"));
        }
        if let Err(error) = write(to, false, kind, &clean.unwrap_or(message)).await {
            return Some(Ended::new(1006, error.to_string()));
        }
        if kind == Kind::Close {
            return None;
        }
    }
}
