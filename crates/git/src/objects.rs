//! Reads objects, many in one process.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use aedile_core::CommitId;

use crate::error::GitError;
use crate::hub::Hub;
use crate::run::Call;

/// One object: its type and its bytes.
pub(crate) type Object = (String, Vec<u8>);

/// Asks `cat-file --batch` for each name (which must have no newline). `None` stands for what does not exist.
pub(crate) fn batch(call: Call, names: &[String]) -> Result<Vec<Option<Object>>, GitError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let answer = call.reading().args(["--batch", "--buffer"]).input(names.join("\n") + "\n").output()?;
    let unreadable = || GitError::Unreadable { command: "cat-file --batch".to_owned(), what: "it ended too early".to_owned() };
    let mut rest = answer.stdout.as_slice();
    let mut found = Vec::with_capacity(names.len());
    for _ in names {
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(unreadable)?;
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 1..];
        // `<id> <type> <size>`, or `<name> missing`.
        let mut words = head.rsplit(' ');
        let size = words.next().and_then(|word| word.parse::<usize>().ok());
        let (Some(size), Some(kind)) = (size, words.next()) else {
            found.push(None);
            continue;
        };
        let body = rest.get(..size).ok_or_else(unreadable)?;
        found.push(Some((kind.to_owned(), body.to_vec())));
        rest = rest.get(size + 1..).ok_or_else(unreadable)?;
    }
    Ok(found)
}

/// Bytes of objects that are asked for at once.
const AT_ONCE_BYTES_MAX: usize = 64 * 1024 * 1024;

impl Hub {
    /// Returns the bytes of blobs by their ids, in order: `None` for what is missing, is no blob, or has more than `max` bytes. Two
    /// processes for up to 64 MiB together, one more for each further 64 MiB.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn blobs(&self, ids: &[String], max: usize) -> Result<Vec<Option<Vec<u8>>>, GitError> {
        let mut found: Vec<Option<Vec<u8>>> = vec![None; ids.len()];
        self.each_blob(ids, max, |at, bytes| found[at] = Some(bytes))?;
        Ok(found)
    }

    /// Hands over the bytes of blobs, each with its place in the list, not in order; what is missing, is no blob, or has more than `max` bytes is
    /// left out. No more than 64 MiB are held at once. Processes as [`Hub::blobs`].
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn each_blob(&self, ids: &[String], max: usize, take: impl FnMut(usize, Vec<u8>)) -> Result<(), GitError> {
        each_blob(|subcommand| self.call(subcommand), ids, max, take)
    }
}

/// As [`Hub::each_blob`], in the repository of the calls.
pub(crate) fn each_blob(
    call: impl Fn(&str) -> Call,
    ids: &[String],
    max: usize,
    mut take: impl FnMut(usize, Vec<u8>),
) -> Result<(), GitError> {
    if ids.is_empty() {
        return Ok(());
    }
    let sizes =
        call("cat-file").reading().args(["--batch-check=%(objecttype) %(objectsize)", "--buffer"]).input(ids.join("\n") + "\n").text()?;
    let size = |line: &str| line.strip_prefix("blob ")?.parse::<usize>().ok().filter(|size| *size <= max);
    let sizes: Vec<Option<usize>> = sizes.lines().map(size).chain(std::iter::repeat(None)).take(ids.len()).collect();
    let mut wanted: Vec<usize> = (0..ids.len()).filter(|at| sizes[*at].is_some()).rev().collect();
    while !wanted.is_empty() {
        let (mut these, mut bytes) = (Vec::new(), 0);
        while let Some(at) = wanted.pop_if(|at| these.is_empty() || bytes + sizes[*at].unwrap_or(0) <= AT_ONCE_BYTES_MAX) {
            bytes += sizes[at].unwrap_or(0);
            these.push(at);
        }
        let names: Vec<String> = these.iter().map(|at| ids[*at].clone()).collect();
        for (at, object) in these.into_iter().zip(batch(call("cat-file"), &names)?) {
            if let Some((_, bytes)) = object {
                take(at, bytes);
            }
        }
    }
    Ok(())
}

/// Reads a file of a commit; `None` when the commit has no file there.
pub(crate) fn file_at(call: Call, dir: &Path, commit: &CommitId, path: &str) -> Result<Option<Vec<u8>>, GitError> {
    if path.contains(['\n', '\0']) {
        return Err(GitError::BadText { what: "the path", text: path.chars().take(80).collect() });
    }
    let mut found = batch(call, &[format!("{commit}^{{commit}}"), format!("{commit}:{path}")])?.into_iter();
    if found.next().flatten().is_none() {
        return Err(GitError::Missing { what: format!("commit {commit}"), dir: dir.to_owned() });
    }
    Ok(found.next().flatten().and_then(|(kind, bytes)| (kind == "blob").then_some(bytes)))
}

/// A path in git's quotes: for lists in which some bytes mean something.
pub(crate) fn quoted(path: &Path) -> Vec<u8> {
    let mut text = vec![b'"'];
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', *byte]),
            b' '..=b'~' => text.push(*byte),
            other => text.extend(format!("\\{other:03o}").bytes()),
        }
    }
    text.push(b'"');
    text
}

/// An object directory as a value for `GIT_ALTERNATE_OBJECT_DIRECTORIES`, in which `:` separates.
pub(crate) fn alternate(dir: &Path) -> OsString {
    OsString::from_vec(quoted(dir))
}
