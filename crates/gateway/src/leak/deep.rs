//! Values within what was packed and encoded, in layers: base64, base32, hexadecimal and escapes, gzip and zlib, UTF-16, in any order.

use std::io::Read;

use super::checks::base64;
use super::known::{Hit, Known};

/// How many layers are taken off.
const LAYERS: u8 = 4;
/// How many bytes are unpacked and decoded for one text, all in all; what is behind is not looked at.
const DECODED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A shorter run of characters holds no value.
const RUN_MIN: usize = 12;
/// A run up to this length is decoded from each of its first four characters: where it begins may not be where the encoding begins.
const SHIFTED_RUN_MAX: usize = 16 * 1024;

/// What was found, and whether everything was looked at.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// The values, with the places of the outermost layer that they came from.
    pub(crate) hits: Vec<Hit>,
    /// Whether there was more than may be unpacked for one text.
    pub(crate) unread: bool,
}

/// Finds values in a text and within its layers.
pub(crate) fn find(known: &Known, text: &[u8]) -> Layers {
    let mut budget = DECODED_BYTES_MAX;
    let hits = layer(known, text, LAYERS, &mut budget);
    Layers { hits, unread: budget == 0 }
}

/// Finds values in runs of base64 that hold something packed: the one layer that no form of a value covers. Cheap where there is none.
pub(crate) fn packed_runs(known: &Known, text: &[u8]) -> Vec<Hit> {
    // How gzip and the three usual beginnings of zlib look in base64.
    let begins = |part: &[u8]| matches!(part, b"H4sI") || matches!(part, [b'e', b'A' | b'F' | b'J' | b'N', ..]);
    let mut hits = Vec::new();
    let mut budget = DECODED_BYTES_MAX;
    if known.longest() == 0 || !text.windows(4).any(|part| part == b"H4sI" || part.starts_with(b"eJ") || part.starts_with(b"eNr")) {
        return hits;
    }
    for (start, end) in runs(text).into_iter().filter(|(start, _)| begins(&text[*start..*start + 4])) {
        let decoded = base64(&text[start..end], usize::MAX);
        if is_packed(&decoded) {
            hits.extend(layer(known, &decoded, 2, &mut budget).first().map(|hit| Hit { start, end, owner: hit.owner }));
        }
    }
    hits
}

fn layer(known: &Known, text: &[u8], depth: u8, budget: &mut usize) -> Vec<Hit> {
    let mut hits = known.find(text);
    if depth == 0 || text.len() < RUN_MIN || *budget == 0 {
        return hits;
    }
    for start in packed_at(text) {
        let unpacked = unpack(&text[start..], budget);
        // The end of what was packed is not known; the rest of the text stands for it.
        hits.extend(layer(known, &unpacked, depth - 1, budget).first().map(|hit| Hit { start, end: text.len(), owner: hit.owner }));
    }
    if text.iter().any(|byte| matches!(byte, b'%' | b'\\' | b'&' | 0)) {
        let (view, places) = unescaped(text);
        spend(budget, view.len());
        if view.len() < text.len() {
            let place = |at: usize| places.get(at).copied().unwrap_or(text.len());
            hits.extend(layer(known, &view, depth - 1, budget).iter().map(|hit| Hit {
                start: place(hit.start),
                end: place(hit.end),
                owner: hit.owner,
            }));
        }
    }
    for (start, end) in runs(text) {
        let run = &text[start..end];
        let shifts = if run.len() > SHIFTED_RUN_MAX { 1 } else { 4 };
        let decodings = (0..shifts).map(|shift| base64(&run[shift..], usize::MAX)).chain([hex(run), base32(run)]);
        for decoded in decodings.filter(|decoded| decoded.len() >= 8 && (is_text(decoded) || is_packed(decoded))) {
            if *budget == 0 {
                break;
            }
            spend(budget, decoded.len());
            if let Some(hit) = layer(known, &decoded, depth - 1, budget).first() {
                hits.push(Hit { start, end, owner: hit.owner });
                break;
            }
        }
    }
    hits
}

fn spend(budget: &mut usize, bytes: usize) {
    *budget = budget.saturating_sub(bytes);
}

/// The runs of characters of base64, without padding.
fn runs(text: &[u8]) -> Vec<(usize, usize)> {
    let (mut runs, mut start) = (Vec::new(), 0);
    for at in 0..=text.len() {
        if !text.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')) {
            if at - start >= RUN_MIN {
                runs.push((start, at));
            }
            start = at + 1;
        }
    }
    runs
}

fn is_packed(bytes: &[u8]) -> bool {
    let zlib = bytes.len() > 2 && bytes[0] & 0x0f == 8 && bytes[0] >> 4 <= 7 && (u32::from(bytes[0]) << 8 | u32::from(bytes[1])) % 31 == 0;
    bytes.starts_with(&[0x1f, 0x8b, 8]) || zlib
}

fn is_text(bytes: &[u8]) -> bool {
    let sample = &bytes[..bytes.len().min(256)];
    let good = sample.iter().filter(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t' | 0x80..)).count();
    let plain = sample.iter().filter(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t' | 0)).count();
    // UTF-16 is half zeros.
    good * 10 >= sample.len() * 9 && plain * 2 >= sample.len() || plain * 10 >= sample.len() * 9
}

/// Where something packed begins: the text itself, or a member of gzip within.
fn packed_at(text: &[u8]) -> Vec<usize> {
    let gzip = text.windows(3).enumerate().filter(|(_, part)| *part == [0x1f, 0x8b, 8]).map(|(at, _)| at).take(16);
    let mut starts: Vec<usize> = gzip.collect();
    if is_packed(text) && starts.first() != Some(&0) {
        starts.push(0);
    }
    starts
}

fn unpack(packed: &[u8], budget: &mut usize) -> Vec<u8> {
    let mut out = Vec::new();
    let most = u64::try_from(*budget).unwrap_or(u64::MAX);
    // What could be read before an error counts.
    if packed.starts_with(&[0x1f, 0x8b]) {
        let _ = flate2::read::MultiGzDecoder::new(packed).take(most).read_to_end(&mut out);
    } else {
        let _ = flate2::read::ZlibDecoder::new(packed).take(most).read_to_end(&mut out);
    }
    spend(budget, out.len());
    out
}

fn hex(run: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    run.chunks_exact(2).map_while(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

fn base32(run: &[u8]) -> Vec<u8> {
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for byte in run {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a',
            b'2'..=b'7' => byte - b'2' + 26,
            _ => break,
        };
        bits = bits << 5 | u32::from(value);
        count += 5;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    out
}

/// The text with escapes resolved (`%41`, `\x41`, `A`, `\"`, `&amp;`, `&#65;`) and zeros left out, and for each byte the place it came from.
pub(crate) fn unescaped(text: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut view, mut places) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len()));
    let mut at = 0;
    while at < text.len() {
        let (bytes, length) = escape(&text[at..]);
        let plain = [text[at]];
        let bytes: &[u8] = match &bytes {
            Some(bytes) => bytes,
            None => &plain,
        };
        if text[at] != 0 {
            view.extend_from_slice(bytes);
            places.extend(std::iter::repeat_n(at, bytes.len()));
        }
        at += length;
    }
    (view, places)
}

/// Returns what an escape stands for and how long it is.
fn escape(rest: &[u8]) -> (Option<Vec<u8>>, usize) {
    let number = |digits: &[u8], radix: u32| std::str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, radix).ok());
    let character = |code: Option<u32>| code.and_then(char::from_u32).map(|c| c.to_string().into_bytes());
    match rest {
        [b'%', one, other, ..] if one.is_ascii_hexdigit() && other.is_ascii_hexdigit() => (Some(hex(&[*one, *other])), 3),
        [b'\\', b'x', one, other, ..] if one.is_ascii_hexdigit() && other.is_ascii_hexdigit() => (Some(hex(&[*one, *other])), 4),
        [b'\\', b'u', a, b, c, d, ..] if number(&[*a, *b, *c, *d], 16).is_some() => (character(number(&[*a, *b, *c, *d], 16)), 6),
        [b'\\', b'u', b'{', ..] => braced(rest),
        [b'\\', b'U', digits @ ..] if digits.len() >= 8 && number(&digits[..8], 16).is_some() => (character(number(&digits[..8], 16)), 10),
        [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => (Some(vec![(a - b'0') * 64 + (b - b'0') * 8 + (c - b'0')]), 4),
        [b'\\', b'n', ..] => (Some(vec![b'\n']), 2),
        [b'\\', b't', ..] => (Some(vec![b'\t']), 2),
        [b'\\', b'r', ..] => (Some(vec![b'\r']), 2),
        [b'\\', other, ..] if other.is_ascii_punctuation() => (Some(vec![*other]), 2),
        [b'&', ..] => entity(rest),
        _ => (None, 1),
    }
}

/// `\u{41}`, as Rust, JavaScript and Swift write it.
fn braced(rest: &[u8]) -> (Option<Vec<u8>>, usize) {
    let digits = rest.get(3..).unwrap_or_default().iter().take(7).position(|byte| *byte == b'}').map(|end| &rest[3..3 + end]);
    let code = digits.and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    match (code.and_then(char::from_u32), digits) {
        (Some(c), Some(digits)) => (Some(c.to_string().into_bytes()), 4 + digits.len()),
        _ => (None, 1),
    }
}

fn entity(rest: &[u8]) -> (Option<Vec<u8>>, usize) {
    for (name, byte) in [(b"&amp;".as_slice(), b'&'), (b"&lt;", b'<'), (b"&gt;", b'>'), (b"&quot;", b'"'), (b"&apos;", b'\'')] {
        if rest.starts_with(name) {
            return (Some(vec![byte]), name.len());
        }
    }
    let end = rest.iter().take(10).position(|byte| *byte == b';');
    let code = end.and_then(|end| std::str::from_utf8(&rest[..end]).ok()).and_then(|text| {
        let digits = text.strip_prefix("&#")?;
        digits.strip_prefix(['x', 'X']).map_or_else(|| digits.parse().ok(), |digits| u32::from_str_radix(digits, 16).ok())
    });
    match (code.and_then(char::from_u32), end) {
        (Some(c), Some(end)) => (Some(c.to_string().into_bytes()), end + 1),
        _ => (None, 1),
    }
}
