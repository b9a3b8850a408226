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
    let bytes = if io::stdin().is_terminal() { asked(name)? } else { piped(name)? };
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
fn asked(name: &str) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut line = Zeroizing::new(Vec::with_capacity(4096));
    let hidden = Hidden::start()?;
    let mut err = io::stderr().lock();
    write!(err, "value of {name} (not shown): ").and_then(|()| err.flush())?;
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
