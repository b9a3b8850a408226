//! Blobs: files named by the SHA-256 of their bytes, in directories named by its first two digits.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aedile_core::BlobId;
use aedile_core::limits::BLOB_BYTES_MAX;
use aedile_core::store::StoreError;

use crate::create::{make_directory, private_file, sync_directory};
use crate::error;

/// A blob younger than this is never removed: the event that names it may be on its way.
const REMOVE_AFTER: Duration = Duration::from_secs(3600);

/// What [`crate::SqliteStore::remove_blobs`] removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Removed {
    /// How many blobs.
    pub blobs: u64,
    /// How many bytes they had.
    pub bytes: u64,
}

/// The directory of blobs.
pub(crate) struct Blobs {
    root: PathBuf,
    made: AtomicU64,
}

impl Blobs {
    /// Blobs below `root`, which is made with the first one.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, made: AtomicU64::new(0) }
    }

    fn shard(&self, id: &BlobId) -> PathBuf {
        self.root.join(&id.as_str()[..2])
    }

    /// Stores the bytes; they are on the disk when this returns. A blob that is there already is written again: that
    /// repairs a damaged one and makes it young for `remove`.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<BlobId, StoreError> {
        if bytes.len() > BLOB_BYTES_MAX {
            return Err(StoreError::TooLarge { what: "a blob", got: bytes.len(), max: BLOB_BYTES_MAX });
        }
        let id = BlobId::of(bytes);
        let shard = self.shard(&id);
        if !shard.is_dir() {
            make_directory(&shard)?;
            sync_directory(&self.root).map_err(|error| error::file("write", &self.root, &error))?;
        }
        let _shared = self.lock(&shard, File::lock_shared)?;
        let path = shard.join(id.as_str());
        self.write(&shard, &path, bytes).map_err(|error| error::file("write the blob", &path, &error))?;
        Ok(id)
    }

    fn write(&self, shard: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (draft, mut file) = self.draft(shard)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&draft, path));
        if written.is_err() {
            // The error says what went wrong; `remove` takes the draft away if this cannot.
            let _ = fs::remove_file(&draft);
        }
        written.and_then(|()| sync_directory(shard))
    }

    fn draft(&self, shard: &Path) -> io::Result<(PathBuf, File)> {
        loop {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            let draft = shard.join(format!("new-{}-{number}", std::process::id()));
            match private_file(&draft) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other.map(|file| (draft, file)),
            }
        }
    }

    /// Keeps `put` and `remove` apart, in all processes; the lock ends with the file.
    fn lock(&self, shard: &Path, lock: fn(&File) -> io::Result<()>) -> Result<File, StoreError> {
        let locked = File::open(shard).and_then(|directory| lock(&directory).map(|()| directory));
        locked.map_err(|error| error::file("lock", shard, &error))
    }

    /// Returns the bytes, checked against their name.
    pub(crate) fn get(&self, id: &BlobId) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.shard(id).join(id.as_str());
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error::file("read the blob", &path, &error)),
        };
        if BlobId::of(&bytes) != *id {
            let problem = "its bytes are not those that were stored".to_owned();
            return Err(StoreError::Damaged { place: path.display().to_string(), problem });
        }
        Ok(Some(bytes))
    }

    /// Whether there is a file for the blob.
    pub(crate) fn has(&self, id: &BlobId) -> bool {
        self.shard(id).join(id.as_str()).exists()
    }

    /// Calls the function with every blob and its size.
    pub(crate) fn each(&self, mut take: impl FnMut(BlobId, u64)) -> Result<(), StoreError> {
        for shard in self.shards()? {
            for (id, _, meta) in entries(&shard)? {
                if let Some(id) = id {
                    take(id, meta.len());
                }
            }
        }
        Ok(())
    }

    /// Removes what `keep` does not want and what was never finished, unless it is young.
    pub(crate) fn remove(&self, keep: &dyn Fn(&BlobId) -> bool) -> Result<Removed, StoreError> {
        let mut removed = Removed::default();
        for shard in self.shards()? {
            let _alone = self.lock(&shard, File::lock)?;
            let now = self.time_of(&shard)?;
            for (id, path, meta) in entries(&shard)? {
                if id.is_some_and(|id| keep(&id)) || !is_old(&meta, now) {
                    continue;
                }
                fs::remove_file(&path).map_err(|error| error::file("remove", &path, &error))?;
                removed.blobs += 1;
                removed.bytes += meta.len();
            }
        }
        Ok(removed)
    }

    /// Returns the file system's time, which is the one that the blobs' ages go by.
    fn time_of(&self, shard: &Path) -> Result<SystemTime, StoreError> {
        let asked = self.draft(shard).and_then(|(draft, file)| {
            let time = file.metadata()?.modified()?;
            fs::remove_file(draft)?;
            Ok(time)
        });
        asked.map_err(|error| error::file("write to", shard, &error))
    }

    fn shards(&self) -> Result<Vec<PathBuf>, StoreError> {
        let failed = |error| error::file("read the directory", &self.root, &error);
        let listed = match fs::read_dir(&self.root) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        listed.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
    }
}

/// A blob's id (`None` for a file that was never finished), its path and what the file system knows of it.
type Entry = (Option<BlobId>, PathBuf, fs::Metadata);

fn entries(shard: &Path) -> Result<Vec<Entry>, StoreError> {
    let failed = |error| error::file("read the directory", shard, &error);
    let mut entries = Vec::new();
    for entry in fs::read_dir(shard).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let id = entry.file_name().into_string().ok().and_then(|name| BlobId::new(name).ok());
        match entry.metadata() {
            Ok(meta) => entries.push((id, entry.path(), meta)),
            // Another process has just finished or removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(entries)
}

fn is_old(meta: &fs::Metadata, now: SystemTime) -> bool {
    meta.modified().is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age > REMOVE_AFTER))
}
