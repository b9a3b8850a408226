//! Pictures for the model: checked by decoding them, made smaller where they are larger than a model sees.

use aedile_core::model::Media;
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use std::io::Cursor;

/// The longer side that a picture is shown with; providers make larger ones smaller themselves and some refuse them.
const SIDE_PIXELS_MAX: u32 = 2000;
/// The largest file that is sent: 5 MB in base64.
const SENT_BYTES_MAX: usize = 3_750_000;
/// A picture with more pixels on one side is not decoded.
const DECODED_SIDE_MAX: u32 = 20_000;
/// Memory that decoding may take.
const DECODED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Quality of a picture that is too large as PNG.
const JPEG_QUALITY: u8 = 85;

/// What the first bytes of a file say about it.
pub(crate) fn format_of(head: &[u8]) -> Option<ImageFormat> {
    match image::guess_format(head) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::Gif | ImageFormat::WebP)) => Some(format),
        _ => None,
    }
}

/// A picture and what is said of it.
pub(crate) struct Picture {
    pub(crate) media: Media,
    pub(crate) said: String,
}

/// Reads a picture. `name` is what the model is told it is called.
pub(crate) fn picture(bytes: &[u8], format: ImageFormat, name: &str) -> Result<Picture, String> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(DECODED_SIDE_MAX);
    limits.max_image_height = Some(DECODED_SIDE_MAX);
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    reader.limits(limits);
    let kind = format.to_mime_type();
    // A provider refuses a whole conversation for one broken picture.
    let image =
        reader.decode().map_err(|error| format!("{name} cannot be shown: it looks like {kind} but is broken or too large ({error})"))?;
    let (width, height) = (image.width(), image.height());
    let said = format!("{name}: {kind}, {width} x {height} pixels, {} bytes", bytes.len());
    if width.max(height) <= SIDE_PIXELS_MAX && bytes.len() <= SENT_BYTES_MAX {
        return Ok(Picture { media: Media::new(kind, bytes, Some(name.to_owned())), said });
    }
    let image = if width.max(height) > SIDE_PIXELS_MAX { image.thumbnail(SIDE_PIXELS_MAX, SIDE_PIXELS_MAX) } else { image };
    let (kind, bytes) = encoded(&image).map_err(|error| format!("{name} cannot be made smaller: {error}"))?;
    let said = format!("{said}; shown as {} x {}", image.width(), image.height());
    Ok(Picture { media: Media::new(kind, &bytes, Some(name.to_owned())), said })
}

fn encoded(image: &DynamicImage) -> Result<(&'static str, Vec<u8>), image::ImageError> {
    let mut png = Vec::new();
    // Sixteen bits a channel would only make it larger.
    let rgba = image.to_rgba8();
    rgba.write_to(&mut Cursor::new(&mut png), ImageFormat::Png)?;
    if png.len() <= SENT_BYTES_MAX {
        return Ok((ImageFormat::Png.to_mime_type(), png));
    }
    let mut jpeg = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY);
    image.to_rgb8().write_with_encoder(encoder)?;
    Ok((ImageFormat::Jpeg.to_mime_type(), jpeg))
}
