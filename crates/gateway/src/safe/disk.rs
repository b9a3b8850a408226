//! Files that only their owner reads, written whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::rand::GetRandomFlags;
use zeroize::Zeroizing;

use super::SafeError;

/// Fills the bytes with the system's randomness.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), SafeError> {
    let failed = |error: rustix::io::Errno| SafeError::Random(error.into());
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::io::retry_on_intr(|| rustix::rand::getrandom(&mut bytes[filled..], GetRandomFlags::empty())).map_err(failed)?;
    }
    Ok(())
}

fn failed(path: &Path) -> impl Fn(io::Error) -> SafeError + '_ {
    |source| SafeError::Io { path: path.to_owned(), source }
}

/// Makes the directory, for its owner alone, when it is not there.
fn make_parent(path: &Path) -> Result<(), SafeError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed(parent))
}

/// Reads a file that nobody else may read or write; `None` when it is not there.
pub(crate) fn read_private(path: &Path, most: u64) -> Result<Option<Zeroizing<Vec<u8>>>, SafeError> {
    let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file = match OpenOptions::new().read(true).custom_flags(nofollow).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed(path))?,
    };
    let meta = file.metadata().map_err(failed(path))?;
    let own = meta.uid() == rustix::process::geteuid().as_raw();
    let problem = if !meta.is_file() {
        "is no ordinary file".to_owned()
    } else if meta.mode() & 0o077 != 0 || !own {
        format!("can be read or changed by others (mode {:o}, user {}): `chmod 600 {}`", meta.mode() & 0o777, meta.uid(), path.display())
    } else if meta.len() > most {
        format!("is larger than {most} bytes")
    } else {
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(meta.len()).unwrap_or_default() + 1));
        file.take(most + 1).read_to_end(&mut bytes).map_err(failed(path))?;
        return Ok(Some(bytes));
    };
    Err(SafeError::Key { path: path.to_owned(), problem })
}

/// Puts the bytes in the place of the file, in one step that survives a crash.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), SafeError> {
    make_parent(path)?;
    let beside = with_end(path, ".new");
    // What a killed writer left; whoever writes holds the lock.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&beside)(error)),
        _ => {}
    }
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    write().map_err(failed(path))
}

/// Keeps others from writing until the returned file is closed.
pub(crate) fn lock(path: &Path) -> Result<File, SafeError> {
    let (lock, file) = lock_file(path)?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive)).map_err(|error| failed(&lock)(error.into()))?;
    Ok(file)
}

/// The same without waiting; `None` when another has it.
pub(crate) fn try_lock(path: &Path) -> Result<Option<File>, SafeError> {
    let (lock, file) = lock_file(path)?;
    match rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(failed(&lock)(error.into())),
    }
}

fn lock_file(path: &Path) -> Result<(PathBuf, File), SafeError> {
    make_parent(path)?;
    let lock = with_end(path, ".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock).map_err(failed(&lock))?;
    Ok((lock, file))
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(end);
    path.with_file_name(name)
}
