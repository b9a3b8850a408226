//! Pictures and documents in a conversation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// Input tokens that a picture is taken for. Anthropic's vision guide gives (width x height) / 750 and scales larger pictures down
/// to about 1600 tokens, its newest models to about 4800; OpenAI's high-detail tiles and Gemini's stay below that.
const IMAGE_TOKENS: u64 = 4800;
/// Input tokens of one page of a PDF: Anthropic reads up to 3000 tokens of text and a picture of each page, the others less.
const PDF_PAGE_TOKENS: u64 = 5000;
/// Pages of a PDF that hides them in compressed objects: one for so many bytes, up to the number that providers take by default.
const PDF_BYTES_PER_HIDDEN_PAGE: usize = 3000;
const PDF_HIDDEN_PAGES_MAX: usize = 100;

/// A picture or a document, held in the message itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Media {
    /// `image/png`, `image/jpeg`, `image/gif`, `image/webp` or `application/pdf`.
    pub media_type: String,
    /// The bytes, in base64 with the standard alphabet and padding.
    pub data: String,
    /// The file's name, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Media {
    /// Takes the bytes of a file.
    pub fn new(media_type: impl Into<String>, bytes: &[u8], name: Option<String>) -> Self {
        Self { media_type: media_type.into(), data: STANDARD.encode(bytes), name }
    }

    /// Whether it is a PDF; everything else is a picture.
    pub fn is_pdf(&self) -> bool {
        self.media_type == "application/pdf"
    }

    /// Estimates the input tokens that it costs, rather too high.
    pub fn token_estimate(&self) -> u64 {
        media_tokens(&self.media_type, &self.data)
    }
}

/// Estimates the input tokens of base64 data of a media type, rather too high.
pub fn media_tokens(media_type: &str, data: &str) -> u64 {
    if media_type != "application/pdf" {
        return IMAGE_TOKENS;
    }
    let bytes = STANDARD.decode(data).unwrap_or_else(|_| data.as_bytes().to_vec());
    let pages = bytes.windows(5).enumerate().filter(|(at, window)| *window == b"/Page" && is_page(&bytes, *at)).count();
    let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    let pages = if pages == 0 || holds(b"/ObjStm") {
        pages.max((bytes.len() / PDF_BYTES_PER_HIDDEN_PAGE).clamp(1, PDF_HIDDEN_PAGES_MAX))
    } else {
        pages
    };
    pages as u64 * PDF_PAGE_TOKENS
}

/// Whether the name at this place is the type of a page: `/Type /Page`, and not `/Pages`.
fn is_page(bytes: &[u8], at: usize) -> bool {
    let before = bytes[..at].trim_ascii_end();
    before.ends_with(b"/Type") && !bytes.get(at + 5).is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_and_hidden_ones_assumed() {
        let pdf = |text: &str| Media::new("application/pdf", text.as_bytes(), None).token_estimate();
        assert_eq!(pdf("%PDF-1.4 << /Type /Pages /Count 2 >> << /Type /Page >> << /Type/Page/Parent 1 0 R >>"), 2 * PDF_PAGE_TOKENS);
        assert_eq!(pdf("%PDF-1.7 << /Type /ObjStm >>"), PDF_PAGE_TOKENS);
        assert_eq!(pdf(&format!("%PDF-1.7 /ObjStm {}", "x".repeat(30_000))), 10 * PDF_PAGE_TOKENS);
        assert_eq!(Media::new("image/png", &[0; 1_000_000], None).token_estimate(), IMAGE_TOKENS);
    }
}
