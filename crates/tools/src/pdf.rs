//! PDFs: as a document for a model that reads them, otherwise as text.

use aedile_core::limits::TOOL_OUTPUT_BYTES_MAX;
use lopdf::{DecompressError, Document, Error, LoadOptions};
use std::fmt::Write;
use std::ops::RangeInclusive;

/// The largest part of a PDF when decompressed.
const STREAM_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Pages of one call.
const PAGES_MAX: u32 = 50;

/// A PDF that can be read.
pub(crate) struct Pdf {
    document: Document,
    pub(crate) pages: u32,
}

impl Pdf {
    /// Reads it. `name` is what messages call it.
    pub(crate) fn load(bytes: &[u8], name: &str) -> Result<Self, String> {
        let options = LoadOptions { max_decompressed_size: Some(STREAM_BYTES_MAX), ..LoadOptions::default() };
        let document = Document::load_mem_with_options(bytes, options).map_err(|error| match error {
            Error::Decompress(DecompressError::MemoryLimitExceeded { .. }) => too_large(name),
            Error::InvalidPassword => locked(name),
            error => format!("{name} is not a PDF that can be read: {error}"),
        })?;
        if document.is_encrypted() {
            return Err(locked(name));
        }
        let pages = u32::try_from(document.get_pages().len()).unwrap_or(u32::MAX);
        if pages == 0 { Err(format!("{name} is a PDF without pages")) } else { Ok(Self { document, pages }) }
    }

    /// The text of the pages; what does not fit is named by its pages.
    pub(crate) fn text(&self, pages: &RangeInclusive<u32>, name: &str) -> String {
        let mut text = String::new();
        let mut empty = Vec::new();
        for page in pages.clone() {
            let content = match self.document.extract_text_with_limit(&[page], STREAM_BYTES_MAX) {
                Ok(content) => content,
                Err(Error::Decompress(DecompressError::MemoryLimitExceeded { .. })) => format!("[{}]", too_large(&format!("page {page}"))),
                Err(error) => format!("[page {page} cannot be read: {error}]"),
            };
            if content.trim().is_empty() {
                empty.push(page.to_string());
            }
            if text.len() + content.len() > TOOL_OUTPUT_BYTES_MAX - 1000 && !text.is_empty() {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "[pages up to {} of {} are shown; go on with `pages` {page}-{}]", page - 1, self.pages, self.pages);
                return text;
            }
            let _ = writeln!(text, "--- page {page} ---\n{}", content.trim());
        }
        if !empty.is_empty() {
            let _ = writeln!(text, "[no text on page {}: it may be a picture]", empty.join(", "));
        }
        if *pages.end() < self.pages || *pages.start() > 1 {
            let _ = writeln!(text, "[{name} has {} pages; others are shown with `pages`]", self.pages);
        }
        text
    }

    /// Reads `3` or `2-5`; absent is the beginning.
    pub(crate) fn range(&self, wanted: Option<&str>) -> Result<RangeInclusive<u32>, String> {
        let Some(wanted) = wanted else { return Ok(1..=self.pages.min(PAGES_MAX)) };
        let (first, last) = wanted.split_once('-').unwrap_or((wanted, wanted));
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|number| *number > 0);
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last && first <= self.pages => {
                Ok(first..=last.min(self.pages).min(first + PAGES_MAX - 1))
            }
            (Some(first), Some(last)) if first <= last => {
                Err(format!("`pages` {wanted} is behind the end: there are {} pages", self.pages))
            }
            _ => Err(format!("the field `pages` must look like 3 or 2-5, not {wanted:?}")),
        }
    }
}

fn too_large(name: &str) -> String {
    format!("{name} holds compressed data of more than {} MiB and is not read", STREAM_BYTES_MAX / (1024 * 1024))
}

fn locked(name: &str) -> String {
    format!("{name} is encrypted and needs a password; decrypt it with `bash` first")
}
