//! Lists what is in a workspace: names and sizes only. Nothing here follows a link.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use aedile_core::limits::SNAPSHOT_FILE_BYTES_MAX;
use aedile_core::temporary::is_temporary_name;

use crate::ignored::Rules;

/// The most files that one snapshot takes; what is beyond is named as left out.
const FILES_MAX: usize = 500_000;
/// The deepest directory.
const DEPTH_MAX: usize = 200;

/// A directory that its owner, and so the box, has no right to.
const UNREADABLE: &str = "is a directory that cannot be read";

/// What was found.
#[derive(Default)]
pub(crate) struct Listing {
    /// Files and links to be stored, relative.
    pub(crate) paths: Vec<PathBuf>,
    /// Files that are too large, with their size.
    pub(crate) oversized: Vec<(PathBuf, u64)>,
    /// What cannot be stored, and why.
    pub(crate) left_out: Vec<(PathBuf, &'static str)>,
}

/// Lists everything below `root` that the rules do not ignore. `.git` is skipped everywhere, so a nested repository is ordinary files. A file that
/// a killed tool of ours left half-written is skipped, what it had set aside to delete is not.
pub(crate) fn list(root: &Path, rules: &Rules) -> Listing {
    let mut listing = Listing::default();
    let mut todo = vec![(PathBuf::new(), false)];
    while let Some((dir, only_tracked)) = todo.pop() {
        let Ok(entries) = fs::read_dir(root.join(&dir)) else {
            listing.left_out.push((dir, UNREADABLE));
            continue;
        };
        for entry in entries.flatten() {
            let (name, path) = (entry.file_name(), dir.join(entry.file_name()));
            let Ok(kind) = entry.file_type() else { continue };
            if name.eq_ignore_ascii_case(".git") {
                if name != OsStr::new(".git") {
                    listing.left_out.push((path, "has a name that git refuses"));
                }
                continue;
            }
            let half_written = kind.is_file() && is_temporary_name(name.as_bytes());
            let hidden = only_tracked || half_written || rules.ignores(&path, kind.is_dir());
            if hidden && !rules.tracks(&path, kind.is_dir()) {
                continue;
            }
            if kind.is_dir() && entry.metadata().is_ok_and(|meta| meta.mode() & 0o500 != 0o500) {
                listing.left_out.push((path, UNREADABLE));
            } else if kind.is_dir() && path.components().count() < DEPTH_MAX {
                todo.push((path, hidden));
            } else if kind.is_dir() || listing.paths.len() >= FILES_MAX {
                listing.left_out.push((path, "is beyond the limit of files or of depth"));
            } else {
                add(&mut listing, &entry, path);
            }
        }
    }
    // git's own order, which makes its index cheap to update.
    listing.paths.sort_unstable_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    listing
}

fn add(listing: &mut Listing, entry: &fs::DirEntry, path: PathBuf) {
    // Does not follow a link.
    let Ok(meta) = entry.metadata() else { return };
    let kind = meta.file_type();
    if kind.is_symlink() {
        listing.paths.push(path);
    } else if kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
        listing.left_out.push((path, "is no file"));
    } else if meta.mode() & 0o400 == 0 {
        listing.left_out.push((path, "cannot be read"));
    } else if meta.len() > SNAPSHOT_FILE_BYTES_MAX {
        listing.oversized.push((path, meta.len()));
    } else {
        listing.paths.push(path);
    }
}
