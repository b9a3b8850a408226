//! A value as a person gives it: from stdin or at a prompt, never as an argument.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use aedile_core::{ExposeSecret, SecretString};
use aedile_gateway::SECRET_BYTES_MAX;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::error::CliError;
use crate::output::Output;

/// A shorter value would be found in innocent text, so it is not looked for.
const FOUND_BYTES_MIN: usize = 8;

/// Reads the value of a secret. One line end behind it is dropped.
pub fn value(name: &str, out: Output) -> Result<SecretString, CliError> {
    let bytes = if io::stdin().is_terminal() { asked(&format!("value of {name}"))? } else { piped(name)? };
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line)),
        Err(error) => {
            return Err(CliError::usage(format!(
                "the value of {name} is not UTF-8 from byte {} on; nothing was kept",
                error.valid_up_to()
            ))
            .hint("encode it, for example with base64"));
        }
    };
    if text.trim().len() < FOUND_BYTES_MIN {
        out.warn(format!("note: {name} has fewer than {FOUND_BYTES_MIN} bytes, so it is kept but not looked for in what is shown or sent"));
    }
    Ok(SecretString::from(text))
}

/// Reads a refresh token and, where the client has one, its secret: each a line of its own.
pub fn tokens(name: &str, client_secret: bool, out: Output) -> Result<(SecretString, Option<SecretString>), CliError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 2));
    if io::stdin().is_terminal() {
        bytes.extend_from_slice(&asked(&format!("refresh token of {name}"))?);
        if client_secret {
            bytes.extend_from_slice(&asked(&format!("client secret of {name}"))?);
        }
    } else {
        bytes.extend_from_slice(&piped(name)?);
    }
    let text =
        std::str::from_utf8(&bytes).map_err(|_| CliError::usage(format!("what is given for {name} is not UTF-8; nothing was kept")))?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let (token, secret) = match (lines.as_slice(), client_secret) {
        ([token], false) => (*token, None),
        ([token, secret], true) => (*token, Some(SecretString::from(*secret))),
        (lines, _) => {
            let wanted = if client_secret {
                "two lines are wanted, the refresh token and the client secret"
            } else {
                "one line is wanted, the refresh token"
            };
            let wrong = CliError::usage(format!("{wanted}, and {} came for {name}; nothing was kept", lines.len()));
            return Err(if client_secret {
                wrong
            } else {
                wrong.hint("a client secret is the second line, with `secret set --client-secret`")
            });
        }
    };
    if token.len() < FOUND_BYTES_MIN {
        out.warn(format!(
            "note: the refresh token of {name} has fewer than {FOUND_BYTES_MIN} bytes, so it is not looked for in what is shown or sent"
        ));
    }
    Ok((SecretString::from(token), secret))
}

fn piped(name: &str) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 2));
    io::stdin().lock().take(SECRET_BYTES_MAX as u64 + 2).read_to_end(&mut bytes)?;
    if bytes.len() > SECRET_BYTES_MAX + 1 {
        return Err(CliError::usage(format!("the value of {name} has more than {SECRET_BYTES_MAX} bytes; nothing was kept"))
            .hint("a secret is a key or a token; a larger file stays where it is, with --from-file"));
    }
    Ok(bytes)
}

/// Asks at the terminal without showing what is typed.
fn asked(what: &str) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut line = Zeroizing::new(Vec::with_capacity(4096));
    let hidden = Hidden::start()?;
    let mut err = io::stderr().lock();
    write!(err, "{what} (not shown): ").and_then(|()| err.flush())?;
    let read = io::stdin().lock().read_until(b'\n', &mut line);
    drop(hidden);
    writeln!(err)?;
    read?;
    Ok(line)
}

/// The terminal shows nothing until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn start() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Whether two values are the same, so that a person can be told that nothing changed.
pub fn same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}
