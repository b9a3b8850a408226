//! The rules, put together, and the pass over a text.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use super::assigned::{assigned, ends_value, loosely_assigned};
use super::judge::{entropy, is_example, is_random, is_words};
use super::named_rules::{NAMED, Named};
use super::pattern::{Match, Pattern};
use super::prefilter::Prefilter;
use super::published::is_published;
use super::token_rules::{Check, Edge, Level, MODELS_AND_CLOUDS, Token};
use super::token_rules_new::NEW_FORMS;
use super::token_rules_trade::MESSAGES_AND_TRADE;
use super::token_rules_work::CODE_AND_TEAMS;
use super::{Finding, REACH, Rank, Span, checks, documents, generic, headers, merged, urls};

/// A rule that is a function: called with the text and the place of its anchor.
pub(super) type Document = fn(&[u8], usize, &mut Vec<Finding>);

/// The anchors of such rules: a form, whether case counts, the rule, and the names of what it finds.
static DOCUMENTS: &[(&str, bool, Document, &[&str])] = &[
    ("PRIVATE KEY", true, documents::private_key, &["private-key", "pgp-private-key", "openssh-private-key", "encrypted-private-key"]),
    ("PuTTY-User-Key-File-", true, documents::putty_key, &["putty-private-key"]),
    ("ey<n2>", true, documents::jwt, &["jwt"]),
    ("ZXlK", true, documents::jwt_base64, &["jwt-base64"]),
    ("kind", false, documents::kubernetes, &["kubernetes-secret"]),
    ("machine ", true, documents::netrc, &["netrc-password"]),
    ("auth\"", true, documents::registry_auth, &["basic-credentials"]),
    ("_auth", true, documents::registry_auth, &["basic-credentials"]),
    ("LS0tLS1CRUdJTi", true, documents::private_key_base64, &["private-key-base64"]),
    (":5432:", true, documents::pgpass, &["pgpass-password"]),
    ("mysql", true, headers::command_password, &["command-password"]),
    ("sshpass ", true, headers::command_password, &["command-password"]),
    ("docker login", true, headers::command_password, &["command-password"]),
    ("redis-cli ", true, headers::command_password, &["command-password"]),
    ("bearer ", false, headers::scheme, &["bearer-token"]),
    ("basic ", false, headers::scheme, &["basic-credentials"]),
    ("authorization", false, headers::authorization, &["authorization-header"]),
    ("curl", true, headers::curl, &["curl-user", "curl-header"]),
    ("wget", true, headers::curl, &["curl-user", "curl-header"]),
    ("facebook", false, documents::facebook, &["facebook-app-token"]),
    ("://", true, urls::credentials, &["url-credentials", "database-url"]),
];

/// What is done at an anchor.
pub(super) enum Anchor {
    Token(&'static Token, Pattern),
    Word(Word),
    Document(Vec<u8>, bool, Document),
}

/// A word of names, with everything that it may mean.
#[derive(Default)]
pub(super) struct Word {
    pub(super) word: Vec<u8>,
    named: Vec<(&'static Named, Pattern)>,
    /// Whether it is a word for passwords (`true`) or for keys.
    generic: Option<bool>,
}

/// The rules for credentials that are known by their shape. There is one set, built when it is first used.
pub struct Shapes {
    pub(super) prefilter: Prefilter,
    pub(super) anchors: Vec<Anchor>,
}

/// Every rule with a form of its own.
pub(super) fn tokens() -> impl Iterator<Item = &'static Token> {
    MODELS_AND_CLOUDS.iter().chain(CODE_AND_TEAMS).chain(MESSAGES_AND_TRADE).chain(NEW_FORMS)
}

/// Returns the names of all rules, sorted, without doubles.
pub fn rule_names() -> BTreeSet<&'static str> {
    let documents = DOCUMENTS.iter().flat_map(|(.., names)| names.iter().copied());
    let others = ["generic-password", "generic-secret"];
    tokens().map(|token| token.id).chain(NAMED.iter().map(|named| named.id)).chain(documents).chain(others).collect()
}

fn words() -> Vec<Word> {
    let mut words: BTreeMap<&str, Word> = BTreeMap::new();
    for named in NAMED {
        for word in named.words {
            words.entry(word).or_default().named.push((named, Pattern::parse(named.form)));
        }
    }
    for (list, password) in [(generic::SECRET_WORDS, false), (generic::PASSWORD_WORDS, true)] {
        for word in list {
            words.entry(word).or_default().generic = Some(password);
        }
    }
    words.into_iter().map(|(word, meaning)| Word { word: word.as_bytes().to_vec(), ..meaning }).collect()
}

impl Shapes {
    /// Returns the rules.
    pub fn get() -> &'static Self {
        static SHAPES: OnceLock<Shapes> = OnceLock::new();
        SHAPES.get_or_init(Self::build)
    }

    fn build() -> Self {
        let (mut anchors, mut grams) = (Vec::new(), Vec::new());
        let mut add = |pattern: &Pattern, anchor: Anchor| {
            let number = u16::try_from(anchors.len()).unwrap_or(u16::MAX);
            grams.extend(pattern.beginnings().into_iter().map(|beginning| (beginning, number)));
            anchors.push(anchor);
        };
        for token in tokens() {
            let pattern = Pattern::parse(token.form);
            add(&pattern.clone(), Anchor::Token(token, pattern));
        }
        for word in words() {
            let literal = String::from_utf8_lossy(&word.word).into_owned();
            add(&Pattern::parse(&literal), Anchor::Word(word));
        }
        for (form, case, rule, _) in DOCUMENTS {
            let literal = form.split('<').next().unwrap_or_default().as_bytes().to_vec();
            add(&Pattern::parse(form), Anchor::Document(literal, *case, *rule));
        }
        Self { prefilter: Prefilter::new(grams), anchors }
    }

    /// Finds the credentials in a text.
    pub fn scan(&self, text: &[u8]) -> Vec<Span> {
        let mut findings = Vec::new();
        self.range(text, 0, text.len(), &mut findings);
        on_borders(text, merged(findings))
    }

    /// Adds what is found by anchors that begin in `from..to`. What is found depends on [`REACH`] bytes on either side of the anchor.
    pub(super) fn range(&self, text: &[u8], from: usize, to: usize, out: &mut Vec<Finding>) {
        self.prefilter.each(text, from, to, |at, anchor| {
            let low = at.saturating_sub(REACH);
            let window = &text[low..text.len().min(at + REACH)];
            let known = out.len();
            self.anchors[usize::from(anchor)].look(window, at - low, out);
            if out.len() > known {
                let new = out.split_off(known);
                out.extend(new.into_iter().filter(|finding| !is_published(&window[finding.start..finding.end])));
            }
            for finding in &mut out[known..] {
                finding.start += low;
                finding.end += low;
            }
        });
    }

    /// How many ways there are for an anchor to begin.
    #[cfg(test)]
    pub(super) fn beginnings(&self) -> usize {
        self.prefilter.len()
    }
}

/// Widens spans to whole characters: a value may hold some that are not ASCII.
pub(super) fn on_borders(text: &[u8], mut spans: Vec<Span>) -> Vec<Span> {
    let inside = |at: usize| text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    for span in &mut spans {
        while span.start > 0 && inside(span.start) {
            span.start -= 1;
        }
        while inside(span.end) {
            span.end += 1;
        }
    }
    spans
}

impl Anchor {
    fn look(&self, text: &[u8], at: usize, out: &mut Vec<Finding>) {
        match self {
            Self::Token(token, pattern) => {
                let Some(found) = pattern.match_at(text, at).filter(|found| stands_clear(text, found, token.edge, pattern)) else { return };
                let Some(level) = judged(token, &found).filter(|_| is_near(text, found.start, token.near)) else { return };
                out.push(Finding { start: found.start, end: found.end, rule: token.id, level, rank: Rank::Token });
                if token.id == "aws-access-key" {
                    documents::aws_pair(text, found.end, out);
                }
            }
            Self::Word(word) => word.look(text, at, out),
            Self::Document(literal, case, rule) => {
                let here = text.get(at..at + literal.len());
                if here.is_some_and(|here| if *case { here == literal } else { here.eq_ignore_ascii_case(literal) }) {
                    rule(text, at, out);
                }
            }
        }
    }
}

impl Word {
    fn look(&self, text: &[u8], at: usize, out: &mut Vec<Finding>) {
        let end = at + self.word.len();
        if !text.get(at..end).is_some_and(|here| here.eq_ignore_ascii_case(&self.word)) {
            return;
        }
        if let Some(password) = self.generic {
            generic::find(text, (at, end), password, out);
        }
        if self.named.is_empty() {
            return;
        }
        let value = assigned(text, (at, end)).map(|value| value.start);
        let places = value.into_iter().chain(loosely_assigned(text, end).filter(|place| Some(*place) != value));
        let known = out.len();
        for place in places {
            for (named, pattern) in &self.named {
                let Some(found) = pattern.match_at(text, place) else { continue };
                if ends_value(text.get(found.end)) && is_value(&found, pattern) {
                    let level = if named.public { Level::Warn } else { Level::Redact };
                    out.push(Finding { start: found.start, end: found.end, rule: named.id, level, rank: Rank::Named });
                }
            }
            if out.len() > known {
                return;
            }
        }
    }
}

/// Whether the value of a named credential is chance: letters and digits, unless its form holds more.
fn is_value(found: &Match, pattern: &Pattern) -> bool {
    let random = &found.random;
    let digits = random.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = random.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let formed = pattern.pieces.len() > 1;
    let (small, capital) = random.iter().fold((0, 0), |(small, capital), byte| {
        (small + usize::from(byte.is_ascii_lowercase()), capital + usize::from(byte.is_ascii_uppercase()))
    });
    let mixed = formed || letters == 0 || (digits > 0 && letters > 0) || (small >= 4 && capital >= 4);
    let number = letters == 0 && !formed && !(random.len() >= 16 && random.len() <= 19 || random.len() >= 30);
    mixed && !number && !is_words(random) && !is_example(random) && entropy(random) >= if random.len() < 20 { 2.0 } else { 2.5 }
}

fn judged(token: &Token, found: &Match) -> Option<Level> {
    match token.check {
        Check::None => Some(token.level),
        Check::Random => is_random(&found.random).then_some(token.level),
        Check::Digits => {
            let digits = found.random.iter().filter(|byte| byte.is_ascii_digit()).count();
            (digits >= 2 && digits * 2 < found.random.len() && is_random(&found.random)).then_some(token.level)
        }
        Check::Crc62 => is_random(&found.random).then(|| if checks::crc62(&found.random) { token.level } else { Level::Warn }),
        Check::Bech32 => is_random(&found.random).then(|| if checks::bech32_age(&found.random) { token.level } else { Level::Warn }),
    }
}

fn is_near(text: &[u8], start: usize, words: &[&str]) -> bool {
    let before = text[start.saturating_sub(100)..start].to_ascii_lowercase();
    words.is_empty() || words.iter().any(|word| before.windows(word.len()).any(|part| part == word.as_bytes()))
}

fn stands_clear(text: &[u8], found: &Match, edge: Edge, pattern: &Pattern) -> bool {
    let before = found.start.checked_sub(1).map(|at| text[at]);
    let behind = text.get(found.end).copied();
    let longer = pattern.last_class().is_some_and(|class| behind.is_some_and(|byte| class[usize::from(byte)]));
    match edge {
        Edge::Free => !longer,
        Edge::Word => {
            let left = before.is_none_or(|byte| !byte.is_ascii_alphanumeric()) || escaped_before(text, found.start);
            left && !longer && behind.is_none_or(|byte| !byte.is_ascii_alphanumeric())
        }
        Edge::Alone => {
            let joined =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'/' | b'~' | b'.' | b'%' | b'$' | b'\\');
            let left = before.is_none_or(|byte| !joined(byte)) || escaped_before(text, found.start) || behind_sign(text, found.start);
            // A full stop ends a sentence.
            let stop = behind == Some(b'.') && text.get(found.end + 1).is_none_or(u8::is_ascii_whitespace);
            let right = behind.is_none_or(|byte| (!joined(byte) && byte != b'=') || matches!(byte, b'\\' | b'%')) || stop;
            left && right && !longer
        }
    }
}

/// Whether a line of a diff begins right before `at`.
pub(super) fn behind_sign(text: &[u8], at: usize) -> bool {
    matches!(text[at.saturating_sub(2)..at], [b'\n' | b'\r', b'+' | b'-'] | [b'+' | b'-'])
}

/// Whether what stands before `at` is an escape, so that its last letter is no neighbour: `\n`, `%3D`, `\u003d`, `\x3d`, a colour of a terminal.
pub(super) fn escaped_before(text: &[u8], at: usize) -> bool {
    let before = &text[at.saturating_sub(8)..at];
    let hex = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_hexdigit);
    match before {
        [.., b'\\', b'n' | b'r' | b't' | b'b' | b'f' | b'v' | b'0'] => true,
        [.., b'%', one, other] if hex(&[*one, *other]) => true,
        [.., b'\\', b'x', one, other] if hex(&[*one, *other]) => true,
        [.., b'\\', b'u', a, b, c, d] if hex(&[*a, *b, *c, *d]) => true,
        [.., b'm'] => before.contains(&0x1b),
        _ => false,
    }
}
