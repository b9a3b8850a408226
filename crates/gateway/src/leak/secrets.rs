//! The values of known secrets, by name, ready to be found: in a text, in its layers, and over the fields of several texts.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::deep;
use super::forms::forms_of;
use super::known::{Hit, Known, PATTERN_BYTES_MIN};

/// A value of which fewer letters and digits remain is not searched for in parts.
const SPLIT_BYTES_MIN: usize = 12;
/// Parts of a value are found over so many letters and digits of earlier texts.
pub const MEMORY_BYTES: usize = 64 * 1024;

/// Known secrets. Values shorter than 8 bytes (local servers are often given `x` or `ollama`) would be found in innocent text and are not searched for.
pub struct Secrets {
    names: Vec<String>,
    known: Known,
    /// The same without everything that is neither a letter nor a digit.
    squeezed: Known,
    /// The same in small letters.
    folded: Known,
}

impl Secrets {
    /// Takes names with their values.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let (mut names, mut forms, mut squeezed, mut folded) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (name, value) in secrets {
            let owner = names.len();
            names.push(name.to_owned());
            if value.len() < PATTERN_BYTES_MIN {
                continue;
            }
            let value_forms = forms_of(value);
            squeezed.extend(value_forms.iter().map(|form| (squeeze(form), owner)).filter(|(form, _)| form.len() >= SPLIT_BYTES_MIN));
            folded.push((squeeze(value.to_ascii_lowercase().as_bytes()), owner));
            forms.extend(value_forms.into_iter().map(|form| (form, owner)));
        }
        Self {
            names,
            known: Known::new(forms),
            squeezed: Known::new(squeezed),
            folded: Known::new(folded.into_iter().filter(|(form, _)| form.len() >= SPLIT_BYTES_MIN)),
        }
    }

    /// The name of the secret with this number.
    pub fn name(&self, owner: usize) -> &str {
        self.names.get(owner).map_or("", String::as_str)
    }

    /// The length of the longest form of a value, in bytes.
    pub(crate) fn longest(&self) -> usize {
        self.known.longest()
    }

    /// Finds the values in every form that is written in one piece.
    pub(crate) fn find(&self, text: &[u8]) -> Vec<Hit> {
        self.known.find(text)
    }

    /// The same, and in runs of base64 that hold something packed.
    pub(crate) fn find_packed(&self, text: &[u8]) -> Vec<Hit> {
        let mut hits = self.find(text);
        hits.extend(deep::packed_runs(&self.known, text));
        hits
    }

    /// Finds the values in a text and in its layers.
    pub(crate) fn find_deep(&self, text: &[u8]) -> deep::Layers {
        deep::find(&self.known, text)
    }

    /// Finds a value whose parts stand one behind the other in the texts, whatever stands between that is neither a letter nor a digit.
    /// `memory` holds what was seen before and is what will have been seen afterwards.
    pub fn find_split<'a>(&self, memory: &mut Vec<u8>, texts: impl IntoIterator<Item = &'a [u8]>) -> Option<&str> {
        let before = memory.len();
        texts.into_iter().for_each(|text| memory.extend(squeeze(text)));
        // What was seen before was looked through then; a value that ends in what is new begins at most its length before it.
        let from = before.saturating_sub(self.squeezed.longest());
        let found = self.squeezed.find(&memory[from..]).first().map(|hit| self.name(hit.owner));
        let kept = memory.len().saturating_sub(MEMORY_BYTES.max(self.squeezed.longest()));
        memory.drain(..kept);
        found
    }

    /// Finds a value of which the case of letters and everything else than letters and digits was lost, as in the name of a host.
    pub fn find_folded(&self, text: &str) -> Option<&str> {
        let found = self.folded.find(&squeeze(text.to_ascii_lowercase().as_bytes()));
        found.first().map(|hit| self.name(hit.owner))
    }

    /// See [`aedile_core::Redactor::settled`].
    pub(crate) fn settled(&self, text: &[u8]) -> usize {
        let longest = self.known.longest();
        let begins = |at: usize| {
            let rest = &text[at..];
            self.known.patterns().any(|pattern| pattern.len() > rest.len() && pattern.starts_with(rest))
        };
        let Some(open) = (text.len().saturating_sub(longest.saturating_sub(1))..text.len()).find(|at| begins(*at)) else {
            return text.len();
        };
        // A whole one that reaches into such a beginning is not cut either.
        self.find(text).iter().find(|hit| (hit.start..hit.end).contains(&open)).map_or(open, |hit| hit.start)
    }
}

/// Known secrets that change while others look for them.
pub(crate) struct Values {
    now: RwLock<Arc<Secrets>>,
    /// Held from the look at what there is until it is looked for.
    looking: Mutex<()>,
}

impl Values {
    /// Begins with these.
    pub(crate) fn new(secrets: Secrets) -> Self {
        Self { now: RwLock::new(Arc::new(secrets)), looking: Mutex::new(()) }
    }

    /// Those of now.
    pub(crate) fn now(&self) -> Arc<Secrets> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on what `look` finds. One look at a time: none that began earlier takes the place of a later one.
    pub(crate) fn look(&self, look: impl FnOnce() -> Secrets) {
        let _one = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let found = Arc::new(look());
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

fn squeeze(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(u8::is_ascii_alphanumeric).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const VALUE: &str = "kX9\"q/+w27Zr-LmT5vB8nYcD";

    #[test]
    fn a_look_that_began_earlier_does_not_take_the_place_of_a_later_one() {
        let known = std::sync::Mutex::new(vec![VALUE.to_owned()]);
        let made = || {
            let values: Vec<String> = known.lock().unwrap().clone();
            Secrets::new(values.iter().map(|value| ("n", value.as_str())))
        };
        let values = Values::new(made());
        let (began, begins) = std::sync::mpsc::channel();
        let (go, goes) = std::sync::mpsc::channel::<()>();
        let (values, made) = (&values, &made);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                values.look(|| {
                    let slow = made();
                    began.send(()).unwrap();
                    // A look that did not wait for this one would be over long before.
                    let _ = goes.recv_timeout(std::time::Duration::from_millis(300));
                    slow
                });
            });
            begins.recv().unwrap();
            known.lock().unwrap().push("another-Vn6Ys1Hb7Wp3".to_owned());
            values.look(made);
            let _ = go.send(());
        });
        assert!(!values.now().find(b"x another-Vn6Ys1Hb7Wp3 y").is_empty());
    }

    fn secrets() -> Secrets {
        Secrets::new([("KEY", VALUE), ("SHORT", "ollama")])
    }

    fn found(text: &[u8]) -> Option<String> {
        let secrets = secrets();
        secrets.find_deep(text).hits.first().map(|hit| secrets.name(hit.owner).to_owned())
    }

    fn encoded(bytes: &[u8]) -> String {
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for sextet in 0..=chunk.len() {
                let at = (word >> (18 - 6 * sextet)) as usize & 63;
                text.push(char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[at]));
            }
        }
        text.extend(std::iter::repeat_n('=', (4 - text.len() % 4) % 4));
        text
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn a_value_is_found_in_every_form_and_layer() {
        let hex: String = VALUE.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mixed: String = hex.chars().enumerate().map(|(at, c)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c }).collect();
        let wide: Vec<u8> = VALUE.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let json = format!("{{\"note\":\"see {}\"}}", VALUE.replace('"', "\\\""));
        let padded = format!("some words before {VALUE} and behind");
        let percent: String = VALUE.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("plain", padded.clone().into_bytes()),
            ("json", json.clone().into_bytes()),
            ("json in json", json.replace('\\', "\\\\").replace('"', "\\\"").into_bytes()),
            ("unicode escapes", VALUE.bytes().map(|byte| format!("\\u{byte:04x}")).collect::<String>().into_bytes()),
            ("octal escapes", VALUE.bytes().map(|byte| format!("\\{byte:03o}")).collect::<String>().into_bytes()),
            ("braced escapes", VALUE.bytes().map(|byte| format!("\\u{{{byte:x}}}")).collect::<String>().into_bytes()),
            ("long escapes", VALUE.bytes().map(|byte| format!("\\U{byte:08x}")).collect::<String>().into_bytes()),
            ("upper-case escapes", VALUE.bytes().map(|byte| format!("\\u{byte:04X}")).collect::<String>().into_bytes()),
            ("percent", percent.clone().into_bytes()),
            ("percent twice", percent.replace('%', "%25").into_bytes()),
            ("entities", VALUE.bytes().map(|byte| format!("&#{byte};")).collect::<String>().into_bytes()),
            ("html", VALUE.replace('"', "&quot;").into_bytes()),
            ("hex", hex.clone().into_bytes()),
            ("mixed hex", mixed.into_bytes()),
            ("reversed", VALUE.chars().rev().collect::<String>().into_bytes()),
            ("shell", VALUE.replace('"', "\\\"").into_bytes()),
            ("base64", encoded(padded.as_bytes()).into_bytes()),
            ("base64 url", encoded(padded.as_bytes()).replace('+', "-").replace('/', "_").into_bytes()),
            ("base64 of base64", encoded(encoded(padded.as_bytes()).as_bytes()).into_bytes()),
            ("base64 of hex", encoded(hex.as_bytes()).into_bytes()),
            ("base64 in json", format!("{{\"a\":\"{}\"}}", encoded(json.as_bytes())).into_bytes()),
            (
                "base64 in a url",
                format!("/x?d={}", encoded(padded.as_bytes()).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")).into_bytes(),
            ),
            ("gzip", gzip(padded.as_bytes())),
            ("zlib", zlib(padded.as_bytes())),
            ("gzip in base64", encoded(&gzip(padded.as_bytes())).into_bytes()),
            ("gzip of base64 of json", gzip(encoded(json.as_bytes()).as_bytes())),
            ("gzip within a form", [b"--x\r\n\r\n".to_vec(), gzip(padded.as_bytes()), b"\r\n--x--".to_vec()].concat()),
            ("utf-16", wide),
        ];
        for (what, text) in cases {
            assert_eq!(found(&text).as_deref(), Some("KEY"), "{what}: {}", String::from_utf8_lossy(&text));
        }
        for innocent in ["ollama", "kX9 q w27Zr LmT5", "the key is not here", "aGVsbG8gd29ybGQgaGVsbG8gd29ybGQ="] {
            assert_eq!(found(innocent.as_bytes()), None, "{innocent}");
        }
    }

    #[test]
    fn the_place_is_that_of_the_outer_text() {
        let text = format!("a=%41&b={}&c", VALUE.replace('"', "%22").replace('/', "%2f").replace('+', "\\x2b"));
        let hits = secrets().find_deep(text.as_bytes()).hits;
        assert_eq!(&text[hits[0].start..hits[0].end], &text[8..text.len() - 2]);
    }

    #[test]
    fn parts_are_found_over_texts() {
        let secrets = secrets();
        let (one, two) = VALUE.split_at(13);
        let mut memory = Vec::new();
        assert_eq!(secrets.find_split(&mut memory, [one.as_bytes(), b"\", \"".as_slice(), two.as_bytes()]), Some("KEY"));
        let mut memory = Vec::new();
        assert_eq!(secrets.find_split(&mut memory, [one.as_bytes()]), None);
        assert_eq!(secrets.find_split(&mut memory, [two.as_bytes()]), Some("KEY"));
        let spread = VALUE.chars().map(|c| format!("{c}\u{200b} ")).collect::<String>();
        assert_eq!(secrets.find_split(&mut Vec::new(), [spread.as_bytes()]), Some("KEY"));
        let mut memory = Vec::new();
        let noise = vec![b'x'; 3 * MEMORY_BYTES];
        secrets.find_split(&mut memory, [noise.as_slice()]);
        assert!(memory.len() <= MEMORY_BYTES);
    }

    #[test]
    fn a_bomb_is_not_unpacked_whole() {
        let bomb = gzip(&vec![0_u8; 64 * 1024 * 1024]);
        assert!(secrets().find_deep(&bomb).unread);
    }

    #[test]
    fn any_bytes_are_looked_into() {
        let secrets = secrets();
        let mut state = 3_u64;
        let mut next = |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % most
        };
        let packed = gzip(VALUE.as_bytes());
        let parts: [&[u8]; 14] = [
            VALUE.as_bytes(),
            &packed,
            &packed[..9],
            b"%",
            b"\\u00",
            b"&#",
            b";",
            b"H4sI",
            b"\x78\x9c",
            b"AAAAAAAAAAAAAAAAAAAAAAAA",
            b"\0",
            b"6b58",
            b"=",
            "\u{e9}".as_bytes(),
        ];
        let mut found = 0;
        for _ in 0..crate::leak::cases() {
            let mut text: Vec<u8> = (0..next(7)).flat_map(|_| parts[next(parts.len())].to_vec()).collect();
            if next(2) == 0 {
                text = encoded(&text).into_bytes();
            }
            for hit in secrets.find_deep(&text).hits {
                assert!(hit.start < hit.end && hit.end <= text.len(), "{text:?} {hit:?}");
                found += 1;
            }
        }
        assert!(found > 1000, "{found}");
    }
}
