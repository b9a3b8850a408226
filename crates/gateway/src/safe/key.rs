//! The file with the key of the vault: apart from the vault itself, so that a copy of one of them is worth nothing.
//!
//! It also says which generation of the vault was written last: an older one that was put in its place is found out.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::SafeError;
use super::disk;
use super::locked::Locked;

/// The first line.
const FORMAT: &str = "aedile-vault-key-1";
/// A key file is a few lines.
const BYTES_MAX: u64 = 4096;

/// The keys and what they have written.
pub(crate) struct KeyFile {
    /// The key, and behind it the one before while the vault is written anew.
    pub(crate) keys: Vec<Locked>,
    /// The generation of the vault that was surely written.
    pub(crate) generation: u64,
}

/// Makes a key from the system's randomness.
pub(crate) fn new_key() -> Result<Locked, SafeError> {
    Locked::fill(|key| disk::random(key.as_mut_slice()))
}

impl KeyFile {
    /// Reads the file; `None` when there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, SafeError> {
        let Some(bytes) = disk::read_private(path, BYTES_MAX)? else { return Ok(None) };
        let bad = |what: &str| SafeError::Key { path: path.to_owned(), problem: what.to_owned() };
        let text = std::str::from_utf8(&bytes).map_err(|_| bad("is not text"))?;
        let mut lines = text.lines();
        if lines.next() != Some(FORMAT) {
            return Err(bad("does not begin as a key file of this aedile does"));
        }
        let generation = lines.next().and_then(|line| line.strip_prefix("generation ")).and_then(|number| number.parse().ok());
        let generation = generation.ok_or_else(|| bad("names no generation"))?;
        let keys = lines.map(|line| {
            let text = line.strip_prefix("key ").ok_or_else(|| bad("has a line that is no key"))?;
            Locked::fill(|key| {
                // The buffer must be as long as a longer text could need.
                let mut decoded = Zeroizing::new([0_u8; 48]);
                match BASE64.decode_slice(text, decoded.as_mut_slice()) {
                    Ok(32) => key.copy_from_slice(&decoded[..32]),
                    _ => return Err(bad("has a key that is not 32 bytes in base64")),
                }
                Ok(())
            })
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() || keys.len() > 2 { Err(bad("holds no key, or more than two")) } else { Ok(Some(Self { keys, generation })) }
    }

    /// Writes the file in one step.
    pub(crate) fn write(&self, path: &Path) -> Result<(), SafeError> {
        let mut text = Zeroizing::new(String::with_capacity(256));
        text.push_str(FORMAT);
        text.push_str("\ngeneration ");
        text.push_str(&self.generation.to_string());
        for key in &self.keys {
            text.push_str("\nkey ");
            BASE64.encode_string(key.as_slice(), &mut text);
        }
        text.push('\n');
        disk::write_private(path, text.as_bytes())
    }
}
