//! The WebSocket protocol (RFC 6455), as far as a door passes it on: whole messages, no extensions.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::policy::{Refusal, Request};

/// The largest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The largest payload of a frame that is no part of a message.
const CONTROL_BYTES_MAX: u64 = 125;
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether the request asks for a WebSocket.
///
/// # Errors
/// It asks for one in another form than RFC 6455 has, or for something else.
pub(crate) fn is_asked(request: &Request) -> Result<bool, Refusal> {
    let all = |wanted: &str| {
        request.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    let refused = |why: &str| Err(Refusal::new("header.connection", why));
    let upgrade = all("upgrade");
    if upgrade.is_empty() {
        return Ok(false);
    }
    if !upgrade.iter().all(|value| value.eq_ignore_ascii_case("websocket")) {
        return refused("the header upgrade may ask for a WebSocket only");
    }
    let connection = all("connection").iter().any(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade")));
    let key = all("sec-websocket-key").first().and_then(|key| STANDARD.decode(key).ok()).is_some_and(|key| key.len() == 16);
    if request.method != "GET" || !request.body.is_empty() || !connection || !key || all("sec-websocket-version") != ["13"] {
        return refused(
            "a WebSocket is asked for with GET, without a body, with `Connection: Upgrade`, a key of 16 bytes and the version 13",
        );
    }
    Ok(true)
}

/// A new key.
pub(crate) fn new_key() -> io::Result<String> {
    let mut key = [0; 16];
    SystemRandom::new().fill(&mut key).map_err(|_| io::Error::other("no random bytes"))?;
    Ok(STANDARD.encode(key))
}

/// What a server answers to a key.
pub(crate) fn accept_of(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()))
}

/// What a frame or message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }
}

/// Why a connection ends: the code and the reason that both sides are told (RFC 6455, 7.4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: u16,
    pub(crate) why: String,
}

impl Ended {
    pub(crate) fn new(code: u16, why: impl Into<String>) -> Self {
        Self { code, why: why.into() }
    }

    /// The payload of the frame that says so.
    pub(crate) fn payload(&self) -> Vec<u8> {
        let why = &self.why[..self.why.floor_char_boundary(120)];
        [&self.code.to_be_bytes()[..], why.as_bytes()].concat()
    }
}

/// Reads messages from one side.
pub(crate) struct Reader<R> {
    from: R,
    /// Frames of a client are masked, those of a server are not.
    masked: bool,
    /// What of a message has come.
    begun: Option<(Kind, Vec<u8>)>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(from: R, masked: bool) -> Self {
        Self { from, masked, begun: None }
    }

    /// The next message, whole, or the next control frame.
    ///
    /// # Errors
    /// The side has gone, or says what no reader of the protocol may accept.
    pub(crate) async fn next(&mut self) -> Result<(Kind, Vec<u8>), Ended> {
        loop {
            let (last, code, length) = self.head().await?;
            if code >= 8 {
                let payload = self.payload(Vec::new(), length).await?;
                let kind = match code {
                    8 => Kind::Close,
                    9 => Kind::Ping,
                    _ => Kind::Pong,
                };
                return Ok((kind, payload));
            }
            let (kind, before) = match (code, self.begun.take()) {
                (0, Some(begun)) => begun,
                (1, None) => (Kind::Text, Vec::new()),
                (2, None) => (Kind::Binary, Vec::new()),
                _ => return Err(Ended::new(1002, "a frame that does not belong here")),
            };
            let message = self.payload(before, length).await?;
            if !last {
                self.begun = Some((kind, message));
                continue;
            }
            if kind == Kind::Text && std::str::from_utf8(&message).is_err() {
                return Err(Ended::new(1007, "a text that is not UTF-8"));
            }
            return Ok((kind, message));
        }
    }

    /// Reads the head of a frame: whether it is the last of its message, its code and its length.
    async fn head(&mut self) -> Result<(bool, u8, u64), Ended> {
        let mut two = [0; 2];
        self.exactly(&mut two).await?;
        let (last, code, short) = (two[0] & 0x80 != 0, two[0] & 0x0f, u64::from(two[1] & 0x7f));
        if two[0] & 0x70 != 0 {
            return Err(Ended::new(1002, "a frame of an extension that was not agreed on"));
        }
        if (two[1] & 0x80 != 0) != self.masked {
            return Err(Ended::new(1002, "a frame that is masked where it must not be, or is not where it must"));
        }
        if !matches!(code, 0..=2 | 8..=10) {
            return Err(Ended::new(1002, "a frame of an unknown kind"));
        }
        let (length, least) = match short {
            126 => {
                let mut bytes = [0; 2];
                self.exactly(&mut bytes).await?;
                (u64::from(u16::from_be_bytes(bytes)), 126)
            }
            127 => {
                let mut bytes = [0; 8];
                self.exactly(&mut bytes).await?;
                (u64::from_be_bytes(bytes), 1 << 16)
            }
            short => (short, 0),
        };
        if length < least || length >> 63 != 0 {
            return Err(Ended::new(1002, "a length that is not in its shortest form"));
        }
        if code >= 8 && (!last || length > CONTROL_BYTES_MAX) {
            return Err(Ended::new(1002, "a control frame that is too long or in parts"));
        }
        Ok((last, code, length))
    }

    /// Reads a payload behind what has come of its message.
    async fn payload(&mut self, mut message: Vec<u8>, length: u64) -> Result<Vec<u8>, Ended> {
        let mut mask = [0; 4];
        if self.masked {
            self.exactly(&mut mask).await?;
        }
        let begin = message.len();
        if u64::try_from(MESSAGE_BYTES_MAX - begin.min(MESSAGE_BYTES_MAX)).unwrap_or(0) < length {
            return Err(Ended::new(1009, format!("a message of more than {MESSAGE_BYTES_MAX} bytes")));
        }
        // Memory grows with what comes, not with what is announced.
        let read = (&mut self.from).take(length).read_to_end(&mut message).await.map_err(|error| gone(&error))?;
        if u64::try_from(read).unwrap_or(0) != length {
            return Err(Ended::new(1006, "the other side has gone"));
        }
        message[begin..].iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        Ok(message)
    }

    async fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), Ended> {
        self.from.read_exact(bytes).await.map(drop).map_err(|error| gone(&error))
    }
}

fn gone(error: &io::Error) -> Ended {
    Ended::new(1006, format!("the other side has gone: {error}"))
}

/// Writes a message, or a control frame, in one frame.
pub(crate) async fn write(to: &mut (impl AsyncWrite + Unpin), masked: bool, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(0x80 | kind.code());
    let bit = if masked { 0x80 } else { 0 };
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.push(bit | short),
        (_, Ok(length)) => {
            frame.push(bit | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(bit | 127);
            frame.extend_from_slice(&u64::try_from(payload.len()).unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    let mut mask = [0; 4];
    if masked {
        SystemRandom::new().fill(&mut mask).map_err(|_| io::Error::other("no random bytes"))?;
        frame.extend_from_slice(&mask);
    }
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    to.write_all(&frame).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(masked: bool, bytes: &[u8]) -> Result<(Kind, Vec<u8>), Ended> {
        Reader::new(bytes, masked).next().await
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "the sample of RFC 6455");
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000] {
            for masked in [false, true] {
                let message: Vec<u8> = (0..=255).cycle().take(length).collect();
                let mut wire = Vec::new();
                write(&mut wire, masked, Kind::Binary, &message).await.unwrap();
                assert_eq!(read(masked, &wire).await, Ok((Kind::Binary, message)), "{length}");
                assert_eq!(read(!masked, &wire).await.unwrap_err().code, 1002);
            }
        }
        let mut parts = Reader::new(&[0x01, 1, b'a', 0x89, 1, b'p', 0x00, 0, 0x80, 1, b'b', 0x8a, 0][..], false);
        assert_eq!(parts.next().await, Ok((Kind::Ping, b"p".to_vec())));
        assert_eq!(parts.next().await, Ok((Kind::Text, b"ab".to_vec())));
        assert_eq!(parts.next().await, Ok((Kind::Pong, Vec::new())));
        assert_eq!(parts.next().await.unwrap_err().code, 1006);
    }

    #[tokio::test]
    async fn odd_frames_are_errors() {
        for (frame, code) in [
            (&[0xc1, 0][..], 1002),
            (&[0x83, 0], 1002),
            (&[0x80, 0], 1002),
            (&[0x09, 0], 1002),
            (&[0x89, 126, 0, 126], 1002),
            (&[0x82, 126, 0, 5], 1002),
            (&[0x82, 127, 0, 0, 0, 0, 0, 0, 0, 5], 1002),
            (&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 5], 1002),
            (&[0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0], 1009),
            (&[0x81, 1, 0xff], 1007),
            (&[0x81, 5, b'a'], 1006),
            (&[0x81], 1006),
            (&[0x01, 0, 0x01, 0], 1002),
        ] {
            assert_eq!(read(false, frame).await.unwrap_err().code, code, "{frame:?}");
        }
    }

    #[tokio::test]
    async fn any_bytes_are_messages_or_an_error_and_end() {
        let mut state = 9_u64;
        let mut next = |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % most
        };
        let mut messages = 0;
        for _ in 0..crate::leak::cases() {
            let masked = next(2) == 0;
            let mut bytes = Vec::new();
            for _ in 0..next(4) {
                let payload: Vec<u8> = (0..next(140)).map(|_| u8::try_from(next(128)).unwrap()).collect();
                write(&mut bytes, masked, [Kind::Text, Kind::Binary, Kind::Ping][next(3)], &payload).await.unwrap();
            }
            if !bytes.is_empty() && next(3) > 0 {
                let at = next(bytes.len());
                bytes[at] ^= 1 << next(8);
            }
            bytes.truncate(bytes.len() - next(bytes.len() / 2 + 1));
            let mut reader = Reader::new(&bytes[..], masked);
            // Each message takes two bytes at least, so the reader must have ended by then.
            let mut left = bytes.len();
            while let Ok((_, payload)) = reader.next().await {
                assert!(left > 0 && payload.len() <= bytes.len());
                left -= 1;
                messages += 1;
            }
        }
        assert!(messages > crate::leak::cases() / 4, "{messages}");
    }
}
