//! The vault at rest: secrets in a file that only a key in another file opens.
//!
//! Each secret is sealed with XChaCha20-Poly1305 under a nonce of its own; its name, its binding and its version are authenticated with it,
//! so that none of them can be changed, and no secret put in the place of another or of a later version of itself. The whole file is
//! authenticated once more with its generation, which the key file knows: an older vault in the place of the present one is found out.

mod disk;
mod key;
pub(crate) mod locked;
mod oauth;
mod record;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use key::{KeyFile, new_key};
pub(crate) use oauth::check_text;
pub use oauth::{AccessToken, ClientAuth, OAuth};
pub use record::{Binding, Record, Source};
use record::{from_base64, to_base64};

use crate::vault::{SECRET_BYTES_MAX, is_secret_name};

/// The largest vault, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
const FORMAT: &str = "aedile-vault-1";

/// Why the vault cannot be used. Never says anything of a value.
#[derive(Debug, thiserror::Error)]
pub enum SafeError {
    /// The operating system's answer.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
    /// The system gives no randomness.
    #[error("the system gives no random bytes: {0}")]
    Random(io::Error),
    /// One of the two files is not as it must be.
    #[error("{} {problem}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is a vault and no key.
    #[error("the vault {} cannot be opened: its key {} is not there; put it back, or remove the vault and set its secrets again", vault.display(), key.display())]
    NoKey {
        /// The vault.
        vault: PathBuf,
        /// Where its key is to be.
        key: PathBuf,
    },
    /// The key does not belong to this vault.
    #[error("the vault {} was written with another key than {}; put the right one there, or remove both and set the secrets again", vault.display(), key.display())]
    OtherKey {
        /// The vault.
        vault: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The vault was changed or cut.
    #[error("the vault {} is damaged ({problem}); restore it from a backup, or remove it and its key {} and set the secrets again", vault.display(), key.display())]
    Damaged {
        /// The vault.
        vault: PathBuf,
        /// Its key.
        key: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// There is a key that has written a vault, and no vault.
    #[error("the vault {} is gone; put it back, or remove its key {} too and set the secrets again", vault.display(), key.display())]
    Gone {
        /// Where the vault was.
        vault: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// An older vault stands in the place of the present one.
    #[error("the vault {} is an older one (generation {found}, and {expected} was written last): it could bring back a secret that was replaced; put the newer one back, or remove it and its key {} and set the secrets again", vault.display(), key.display())]
    RolledBack {
        /// The vault.
        vault: PathBuf,
        /// Its key.
        key: PathBuf,
        /// Its generation.
        found: u64,
        /// The generation that was written last.
        expected: u64,
    },
    /// A secret that cannot be kept.
    #[error("the secret {name} {problem}")]
    Secret {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Where the vault and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The vault.
    pub vault: PathBuf,
    /// Its key, in another directory.
    pub key: PathBuf,
}

/// How often the vault is read again while somebody writes it.
const OPENS_MAX: u32 = 100;

impl Places {
    /// Which files are there now: both are replaced as a whole.
    fn marks(&self) -> [Option<(u64, i64)>; 2] {
        use std::os::unix::fs::MetadataExt;
        [&self.vault, &self.key].map(|path| path.symlink_metadata().ok().map(|meta| (meta.ino(), meta.ctime_nsec())))
    }
}

/// The vault as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: String,
    generation: u64,
    /// Seals nothing: only the right key says so.
    key: String,
    records: Vec<Record>,
    /// Seals nothing, with everything above authenticated.
    whole: String,
}

/// The opened vault. Values stay sealed until they are asked for.
pub struct Safe {
    key: KeyFile,
    generation: u64,
    records: Vec<Record>,
}

impl Safe {
    /// Opens the vault for reading; `None` when there is none.
    ///
    /// # Errors
    /// [`SafeError`] names the file and what to do.
    pub fn open(places: &Places) -> Result<Option<Self>, SafeError> {
        // A writer puts vault and key in place one after the other: what does not fit together while one of them is replaced is read again.
        let mut seen = places.marks();
        for _ in 0..OPENS_MAX {
            let opened = Self::open_once(places);
            let now = places.marks();
            if opened.is_ok() || now == seen {
                return opened;
            }
            seen = now;
        }
        Self::open_once(places)
    }

    fn open_once(places: &Places) -> Result<Option<Self>, SafeError> {
        let stored = disk::read_private(&places.vault, FILE_BYTES_MAX)?;
        let key = KeyFile::read(&places.key)?;
        let (stored, mut key) = match (stored, key) {
            (None, None) => return Ok(None),
            // The key was made and nothing was written with it yet.
            (None, Some(key)) if key.generation == 0 => return Ok(None),
            (None, Some(_)) => return Err(SafeError::Gone { vault: places.vault.clone(), key: places.key.clone() }),
            (Some(_), None) => return Err(SafeError::NoKey { vault: places.vault.clone(), key: places.key.clone() }),
            (Some(stored), Some(key)) => (stored, key),
        };
        let damaged =
            |problem: &str| SafeError::Damaged { vault: places.vault.clone(), key: places.key.clone(), problem: problem.to_owned() };
        let stored: Stored = serde_json::from_slice(&stored).map_err(|_| damaged("it cannot be read as a vault; it may be cut"))?;
        if stored.format != FORMAT {
            return Err(damaged("it is of a format that this aedile does not know"));
        }
        let opens = key.keys.iter().position(|key| is_sealed(key, &stored.key, FORMAT.as_bytes()));
        let Some(at) = opens else {
            return Err(SafeError::OtherKey { vault: places.vault.clone(), key: places.key.clone() });
        };
        key.keys.swap(0, at);
        if !is_sealed(&key.keys[0], &stored.whole, &whole(stored.generation, &stored.records)) {
            return Err(damaged("something in it was changed"));
        }
        if stored.generation < key.generation {
            let (vault, path) = (places.vault.clone(), places.key.clone());
            return Err(SafeError::RolledBack { vault, key: path, found: stored.generation, expected: key.generation });
        }
        Ok(Some(Self { generation: stored.generation, records: stored.records, key }))
    }

    /// Opens the vault, or makes one, changes it and writes it down; nobody else changes it meanwhile. Where the change fails, nothing is written.
    ///
    /// # Errors
    /// [`SafeError`], or what the change says.
    pub fn change<T, E: From<SafeError>>(places: &Places, change: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        let _lock = disk::lock(&places.vault)?;
        let mut safe = match Self::open(places)? {
            Some(safe) => safe,
            None => {
                let key = match KeyFile::read(&places.key)? {
                    Some(key) => key,
                    None => KeyFile { keys: vec![new_key()?], generation: 0 },
                };
                key.write(&places.key)?;
                Self { key, generation: 0, records: Vec::new() }
            }
        };
        let changed = change(&mut safe)?;
        safe.write(places)?;
        Ok(changed)
    }

    /// The vault first, then the key file that knows its generation: whoever is killed between leaves a vault that is newer than known.
    fn write(&mut self, places: &Places) -> Result<(), SafeError> {
        self.generation += 1;
        if self.key.keys.len() > 1 {
            // The key to come must be known before anything is written with it.
            self.key.write(&places.key)?;
        }
        let key = &self.key.keys[0];
        let stored = Stored {
            format: FORMAT.to_owned(),
            generation: self.generation,
            key: seal_nothing(key, FORMAT.as_bytes())?,
            whole: seal_nothing(key, &whole(self.generation, &self.records))?,
            records: self.records.clone(),
        };
        let failed = |error: serde_json::Error| SafeError::Io { path: places.vault.clone(), source: error.into() };
        disk::write_private(&places.vault, &serde_json::to_vec_pretty(&stored).map_err(failed)?)?;
        self.key.keys.truncate(1);
        self.key.generation = self.generation;
        self.key.write(&places.key)
    }

    /// What is known of each secret besides its value, by name.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Whether there is a secret of this name.
    pub fn holds(&self, name: &str) -> bool {
        self.records.iter().any(|record| record.name == name)
    }

    /// Opens a secret.
    ///
    /// # Errors
    /// When there is none of this name, or it is damaged.
    pub fn source(&self, name: &str) -> Result<Source, SafeError> {
        let bad = |problem: &str| SafeError::Secret { name: name.to_owned(), problem: problem.to_owned() };
        let record = self.records.iter().find(|record| record.name == name).ok_or_else(|| bad("is not in the vault"))?;
        let plain = unseal(&self.key.keys[0], &record.sealed, &record.bound()).ok_or_else(|| bad("cannot be opened: it was changed"))?;
        Source::from_bytes(&plain).ok_or_else(|| bad("is of a kind that this aedile does not know"))
    }

    /// Puts a secret in, or in the place of the one of this name, whose version it follows. `now` is in microseconds since 1970.
    ///
    /// # Errors
    /// A name, binding or value that cannot be kept.
    pub fn put(&mut self, name: &str, binding: Binding, source: &Source, now: i64) -> Result<u64, SafeError> {
        let bad = |problem: String| SafeError::Secret { name: name.chars().take(100).collect(), problem };
        if !is_secret_name(name) {
            return Err(bad("must be named with 1 to 100 letters, digits, `_`, `-` and `.`".to_owned()));
        }
        source.check().map_err(bad)?;
        if matches!(source, Source::OAuth(_)) && binding.place.as_deref() == Some("sigv4") {
            return Err(bad("cannot be bound so: an access token signs no requests".to_owned()));
        }
        binding.rule(name).map_err(|wrong| bad(format!("cannot be bound so: {wrong}")))?;
        let version = self.records.iter().find(|record| record.name == name).map_or(0, |record| record.version) + 1;
        let mut record =
            Record { name: name.to_owned(), version, set_at: now, kind: source.kind().to_owned(), binding, sealed: String::new() };
        record.sealed = seal(&self.key.keys[0], &source.to_bytes(), &record.bound())?;
        self.records.retain(|known| known.name != name);
        self.records.push(record);
        self.records.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(version)
    }

    /// Takes a secret out; whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.records.len();
        self.records.retain(|record| record.name != name);
        self.records.len() < before
    }

    /// Seals everything anew under a new key.
    ///
    /// # Errors
    /// When a secret cannot be opened.
    pub fn rotate_key(&mut self) -> Result<(), SafeError> {
        let new = new_key()?;
        for at in 0..self.records.len() {
            let plain = self.source(&self.records[at].name)?.to_bytes();
            self.records[at].sealed = seal(&new, &plain, &self.records[at].bound())?;
        }
        self.key.keys.insert(0, new);
        Ok(())
    }
}

/// The longest value that is kept.
pub(crate) const VALUE_BYTES_MAX: usize = SECRET_BYTES_MAX;

/// What authenticates the whole: every byte of it in one order.
fn whole(generation: u64, records: &[Record]) -> Vec<u8> {
    // Strings and numbers alone are in it, which always serialise.
    serde_json::to_vec(&(FORMAT, generation, records)).unwrap_or_default()
}

/// `nonce || tag || text`, in base64.
fn seal(key: &[u8; 32], plain: &[u8], bound: &[u8]) -> Result<String, SafeError> {
    let mut nonce = XNonce::default();
    disk::random(&mut nonce)?;
    let mut text = Zeroizing::new(plain.to_vec());
    let cipher = XChaCha20Poly1305::new(key.into());
    let sealed = cipher.encrypt_inout_detached(&nonce, bound, text.as_mut_slice().into());
    let tag = sealed.map_err(|_| SafeError::Random(io::Error::other("a secret is too long to be sealed")))?;
    let mut bytes = nonce.to_vec();
    bytes.extend_from_slice(&tag);
    bytes.extend_from_slice(&text);
    Ok(to_base64(&bytes))
}

fn unseal(key: &[u8; 32], sealed: &str, bound: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = from_base64(sealed)?;
    let (nonce, rest) = bytes.split_at_checked(24)?;
    let (tag, text) = rest.split_at_checked(16)?;
    let (nonce, tag) = (XNonce::try_from(nonce).ok()?, Tag::try_from(tag).ok()?);
    let mut text = Zeroizing::new(text.to_vec());
    let cipher = XChaCha20Poly1305::new(key.into());
    cipher.decrypt_inout_detached(&nonce, bound, text.as_mut_slice().into(), &tag).ok()?;
    Some(text)
}

fn seal_nothing(key: &[u8; 32], bound: &[u8]) -> Result<String, SafeError> {
    seal(key, &[], bound)
}

fn is_sealed(key: &[u8; 32], sealed: &str, bound: &[u8]) -> bool {
    unseal(key, sealed, bound).is_some_and(|plain| plain.is_empty())
}

impl Places {
    /// Takes the place of the one process that renews this secret, until the returned file is closed; `None` while another has it.
    pub(crate) fn renewing(&self, name: &str) -> Result<Option<std::fs::File>, SafeError> {
        disk::try_lock(&self.vault.with_file_name(format!("renewing-{name}")))
    }

    /// The vault of a state directory, with its key in a directory for configuration.
    pub fn of(state: &Path, config: &Path) -> Self {
        Self { vault: state.join("vault/secrets.json"), key: config.join("vault.key") }
    }
}
