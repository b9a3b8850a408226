//! What SQLite and the file system say, as plain sentences.

use std::io;
use std::path::Path;

use aedile_core::store::StoreError;
use rusqlite::ErrorCode;

use crate::connection::LOCK_WAIT_MAX;

/// Turns an error of SQLite into a sentence about the database at `path`.
pub(crate) fn sqlite(path: &Path, error: &rusqlite::Error) -> StoreError {
    let place = path.display();
    let problem = error.to_string();
    let text = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            return StoreError::Damaged { place: place.to_string(), problem };
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => format!(
            "another process has kept {place} locked for {} s; wait until it is done or end it (`fuser {place}` names it), then try again",
            LOCK_WAIT_MAX.as_secs()
        ),
        Some(ErrorCode::DiskFull) => format!("no space is left for {place}; free some (`aedile clean` removes old blobs), then try again"),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            format!("{place} cannot be written ({problem}); give yourself write permission on it and its directory, then try again")
        }
        Some(ErrorCode::CannotOpen) => {
            format!("{place} cannot be opened ({problem}); check that its directory exists and that you may read and write there")
        }
        Some(ErrorCode::SystemIoFailure) => {
            format!("the disk failed under {place} ({problem}); check the disk and its free space, then run `aedile store check`")
        }
        _ => format!("{place}: {problem}"),
    };
    StoreError::Backend(text)
}

/// Turns an error of the file system into a sentence. `doing` is what was tried, for example `write`.
pub(crate) fn file(doing: &str, path: &Path, error: &io::Error) -> StoreError {
    let next = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space (`aedile clean` removes old blobs), then try again",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "give yourself permission to read and write there, or choose another state directory with AEDILE_STATE"
        }
        _ => "check the disk, then run `aedile store check`",
    };
    StoreError::Backend(format!("cannot {doing} {}: {error}; {next}", path.display()))
}

/// The same error for another caller of the same transaction.
pub(crate) fn copy(error: &StoreError) -> StoreError {
    match error {
        StoreError::Damaged { place, problem } => StoreError::Damaged { place: place.clone(), problem: problem.clone() },
        StoreError::Newer { what, found, known } => StoreError::Newer { what: what.clone(), found: *found, known: *known },
        StoreError::Backend(text) => StoreError::Backend(text.clone()),
        other => StoreError::Backend(other.to_string()),
    }
}
