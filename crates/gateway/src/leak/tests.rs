//! Every rule on samples that its own form makes, ordinary texts, and what must hold for any text.

use std::collections::BTreeSet;

use super::checks::{base62, crc32, making};
use super::engine::tokens;
use super::named_rules::NAMED;
use super::pattern::{Pattern, Piece};
use super::token_rules::Check;
use super::{Shapes, Span, Stream, Verdict, cases, rule_names, verdict};

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).unwrap()
    }
    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A text of the form, from parts: nothing that looks like a key stands in this file.
fn sample(pattern: &Pattern, dice: &mut Dice) -> Vec<u8> {
    let mut text = Vec::new();
    for piece in &pattern.pieces {
        match piece {
            Piece::Literal(bytes) => text.extend_from_slice(bytes),
            Piece::Run { class, min, max } => {
                let set: Vec<u8> = (0..=255_u8).filter(|byte| class[usize::from(*byte)] && !b"./+=-_%~".contains(byte)).collect();
                let set = if set.is_empty() { (0..=255_u8).filter(|byte| class[usize::from(*byte)]).collect() } else { set };
                let count = min + dice.below((max - min).min(60) + 1);
                text.extend((0..count).map(|_| *dice.pick(&set)));
            }
        }
    }
    text
}

fn scan(text: &str) -> Vec<Span> {
    Shapes::get().scan(text.as_bytes())
}

const PLACES: &[(&str, &str)] = &[
    ("", ""),
    ("key: ", "\n"),
    ("{\"value\": \"", "\"}"),
    ("VALUE='", "'\n"),
    ("2026-01-02T03:04:05Z INFO using ", " for this\n"),
    ("+value = \"", "\"\n"),
    ("{\"log\":\"first\\n", "\\nlast\"}"),
    ("https://host.io/x?value=", "&page=2"),
    ("https://host.io/x?value%3D", "%26page=2"),
];

#[test]
fn there_are_two_hundred_formats_and_each_finds_its_own() {
    let mut dice = Dice(1);
    let (mut known, mut missed) = (BTreeSet::new(), Vec::new());
    for token in tokens() {
        let pattern = Pattern::parse(token.form);
        let mut found = 0;
        for round in 0..20 {
            let mut text = sample(&pattern, &mut dice);
            if token.check == Check::Crc62 {
                let end = text.len() - 6;
                let body = text[text.len() - 36..end].to_vec();
                text.splice(end.., base62(crc32(&body), b'A', b'a'));
            } else if token.check == Check::Bech32 {
                let data = text.len() - 58;
                let signed = making::with_bech32(&text[data..data + 52]);
                text.splice(data.., signed);
            }
            let text = String::from_utf8(text).unwrap();
            let near = token.near.first().copied().unwrap_or_default();
            let (before, behind) = PLACES[round % PLACES.len()];
            let whole = format!("{near} {before}{text}{behind}");
            let spans = scan(&whole);
            let start = whole.find(&text).unwrap();
            // Another rule may know the same text better, and may know less or more of it.
            found += usize::from(spans.iter().any(|span| span.start <= start + text.len() / 2 && span.end > start + text.len() / 2));
        }
        known.insert(token.id);
        if found < 17 {
            missed.push(format!("{} {}: {found} of 20", token.id, token.form));
        }
    }
    assert!(known.len() >= 200, "{} formats", known.len());
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn values_are_known_by_the_names_they_are_given_to() {
    let mut dice = Dice(2);
    let mut missed = Vec::new();
    for named in NAMED {
        let pattern = Pattern::parse(named.form);
        for word in named.words {
            let mut found = 0;
            for round in 0..20 {
                let value = String::from_utf8(sample(&pattern, &mut dice)).unwrap();
                let name = word.to_ascii_uppercase();
                let whole = match round % 6 {
                    0 => format!("export {name}_X={value}\n"),
                    1 => format!("{{\"{word}\": \"{value}\"}}"),
                    2 => format!("const {word} = '{value}';\n"),
                    3 => format!("  {word}_value: {value}\n"),
                    4 => format!("<{word}>{value}</{word}>"),
                    _ => format!("set(\"{word}\", \"{value}\")"),
                };
                found += usize::from(!scan(&whole).is_empty());
            }
            if found < 17 {
                missed.push(format!("{} {word} {}: {found} of 20", named.id, named.form));
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    assert!(rule_names().len() > 300, "{}", rule_names().len());
}

/// Characters of base64 without a pattern.
fn chance(dice: &mut Dice, count: usize) -> String {
    (0..count).map(|_| char::from(*dice.pick(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"))).collect()
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

#[test]
fn documents_are_known() {
    let mut dice = Dice(3);
    let lines = |dice: &mut Dice, count: usize| (0..count).map(|_| chance(dice, 64)).collect::<Vec<_>>();
    let pem = |kind: &str, lines: &[String], end: &str| format!("-----BEGIN {kind}-----{end}{}{end}-----END {kind}-----", lines.join(end));
    let body = lines(&mut dice, 6);
    let (user, password) = ("deploy", format!("{}!x", chance(&mut dice, 12)));
    let token = |header: &str, dice: &mut Dice| {
        format!(
            "{}.{}.{}",
            encoded(header.as_bytes()).trim_end_matches('='),
            encoded(br#"{"sub":"u-81","iat":1760000000}"#).trim_end_matches('='),
            chance(dice, 43)
        )
    };
    let jwt = token(r#"{"alg":"HS256","typ":"JWT"}"#, &mut dice);
    let random = chance(&mut dice, 40);
    let hidden = encoded(format!("{user}:{password}").as_bytes());
    let cases: Vec<(&str, String)> = vec![
        ("private-key", pem(&["RSA", "PRIVATE KEY"].join(" "), &body, "\n")),
        ("private-key", pem(&["", "PRIVATE KEY"].concat(), &body, "\\n")),
        ("openssh-private-key", pem(&["OPENSSH", "PRIVATE KEY"].join(" "), &body, "\n")),
        ("encrypted-private-key", pem(&["ENCRYPTED", "PRIVATE KEY"].join(" "), &body, "\r\n")),
        ("pgp-private-key", pem(&["PGP", "PRIVATE KEY", "BLOCK"].join(" "), &body, "\n")),
        ("private-key", pem(&["EC", "PRIVATE KEY"].join(" "), &body, "\",\n  \"")),
        ("putty-private-key", format!("PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\nPrivate-Lines: 6\n{}\n", body.join("\n"))),
        ("jwt", format!("cookie={jwt}; path=/")),
        ("jwt-base64", encoded(jwt.as_bytes())),
        ("database-url", format!("DATABASE_URL=postgres://{user}:{password}@db.internal:5432/app?sslmode=require")),
        ("database-url", format!("mongodb+srv://{user}:{password}@cluster0.ab1cd.mongodb.net/app")),
        ("url-credentials", format!("git clone https://{user}:{password}@git.host.io/a/b.git")),
        ("bearer-token", format!("send it as Bearer {random}")),
        ("basic-credentials", format!("Authorization: Basic {hidden}")),
        ("authorization-header", format!("\"Authorization\": \"Token {random}\"")),
        ("basic-credentials", format!("{{\"auths\":{{\"reg.io\":{{\"auth\":\"{hidden}\"}}}}}}")),
        ("curl-user", format!("$ curl -s -u {user}:{password} https://host.io/x")),
        ("curl-user", format!("curl \\\n  --user '{user}:{password}' \\\n  https://host.io/x")),
        ("curl-header", format!("curl -H \"X-Api-Key: {random}\" https://host.io/x")),
        (
            "kubernetes-secret",
            format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: app\ndata:\n  key.txt: {}\n", encoded(password.as_bytes())),
        ),
        ("kubernetes-secret", format!("apiVersion: v1\ndata:\n  key.txt: {}\nkind: Secret\n", encoded(password.as_bytes()))),
        ("netrc-password", format!("machine git.host.io login {user} password {password}\n")),
        ("generic-password", format!("<add key=\"ClearTextPassword\" value=\"{password}\" />")),
        ("generic-password", format!("DB_PASSWORD={password}\n")),
        ("generic-secret", format!("my_service_token: \"{random}\"")),
        ("facebook-app-token", format!("# facebook\nid=123412341234987|{}\n", chance(&mut dice, 27))),
    ];
    for (rule, text) in cases {
        let found = scan(&text);
        assert!(found.iter().any(|span| span.rule == rule), "{rule}: {text}\n{found:?}");
        assert!(verdict(&found) >= Verdict::Redact);
    }
    let pair = format!("id {}{}\nkey {}/{}\n", "AKIA", "QZ3T5WX7M2KJV4LP", chance(&mut dice, 20), chance(&mut dice, 19));
    assert_eq!(scan(&pair).iter().map(|span| span.rule).collect::<Vec<_>>(), ["aws-access-key", "aws-secret-key"], "{pair}");
    // The whole token goes, not only its first part.
    let text = format!("x {jwt} y");
    assert_eq!(scan(&text).iter().map(|span| &text[span.start..span.end]).collect::<Vec<_>>(), [jwt.as_str()]);
}

#[test]
fn look_alikes_are_only_warned_of() {
    let mut dice = Dice(4);
    for prefix in ["ghp_", "gho_", "ghs_", "npm_"] {
        assert_eq!(verdict(&scan(&format!("x {prefix}{}", chance(&mut dice, 36)))), Verdict::Warn, "{prefix}");
    }
    let age: String = (0..58).map(|_| char::from(*dice.pick(b"QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"))).collect();
    assert_eq!(verdict(&scan(&["AGE-SECRET-", "KEY-1", &age].concat())), Verdict::Warn);
}

#[test]
fn ordinary_texts_are_clean() {
    let mut dice = Dice(5);
    let hex = |dice: &mut Dice, count: usize| (0..count).map(|_| char::from(*dice.pick(b"0123456789abcdef"))).collect::<String>();
    let uuid = |dice: &mut Dice| format!("{}-{}-{}-{}-{}", hex(dice, 8), hex(dice, 4), hex(dice, 4), hex(dice, 4), hex(dice, 12));
    let key = ["PRIVATE", "KEY"].join(" ");
    for round in 0..200 {
        let texts = [
            format!("commit {}\nAuthor: Pat <pat@example.org>\n    tokens: count them\n", hex(&mut dice, 40)),
            format!("{{\"id\": \"{}\", \"session\": \"{}\", \"status\": \"ok\"}}", uuid(&mut dice), uuid(&mut dice)),
            format!("name = \"serde\"\nversion = \"1.0.{round}\"\nchecksum = \"{}\"\n", hex(&mut dice, 64)),
            format!("\"integrity\": \"sha512-{}/{}+==\",", chance(&mut dice, 40), chance(&mut dice, 44)),
            format!("<img src=\"data:image/png;base64,iVBORw0KGgo{}\">", chance(&mut dice, 1000)),
            format!("-----BEGIN CERTIFICATE-----\n{}\n{}\n-----END CERTIFICATE-----\n", chance(&mut dice, 64), chance(&mut dice, 64)),
            format!("ssh-rsa AAAAB3NzaC1yc2E{} user@host", chance(&mut dice, 300)),
            format!("docker pull reg.io/a@sha256:{}", hex(&mut dice, 64)),
            format!("index {}..{} 100644", hex(&mut dice, 7), hex(&mut dice, 7)),
            format!("ETag: \"{}\"\nX-Request-Id: {}", hex(&mut dice, 32), uuid(&mut dice)),
            format!("{{\"csrf_token\": \"{}\", \"token_type\": \"bearer\"}}", hex(&mut dice, 32)),
        ];
        for text in texts {
            assert_eq!(scan(&text), [], "{text}");
        }
    }
    let written = [
        &["AWS_ACCESS_KEY_ID=AKIA", "IOSFODNN7EXAMPLE"].concat(),
        &["aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY", "EXAMPLEKEY"].concat(),
        "export OPENAI_API_KEY=your-api-key-here",
        "OPENAI_API_KEY=sk-proj-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        &format!("token = \"ghp_{}\"", "X".repeat(36)),
        "password: changeme",
        "password = os.environ[\"DB_PASSWORD\"]",
        "const token = await getAccessTokenFromSession2(request);",
        "api_key: ${{ secrets.API_KEY_V2 }}",
        "postgres://user:password@localhost:5432/db",
        "postgres://postgres:postgres@db/app",
        "https://user:pass@example.com/",
        "redis://:${REDIS_PASSWORD}@redis:6379/0",
        "curl -u \"$USER:$PASS\" https://example.com",
        "curl -H \"Authorization: Bearer $TOKEN\" https://api.example.com",
        &format!("a file that begins with `-----BEGIN {key}-----` is one"),
        &format!("-----BEGIN {key}-----\n...\n-----END {key}-----"),
        "The token is refreshed every 3600 seconds, the secret is rotated by hand.",
        "max_tokens: 4096, input_tokens=128374 output_tokens=9281",
        "primary_key=True, foreign_key=\"users_2.account_id_3\"",
        "background-image: linear-gradient(45deg, #ff0000, #00ff00);",
        "INSERT INTO tokens (id, kind) VALUES (12345678, 'refresh_token_v2');",
        "import { TokenStorage2 } from './auth/token-storage-2';",
        "PASSWORD=P@ssw0rd1!",
        "csrfmiddlewaretoken=a8f5f167f44f4964e6c998dee827110c",
        "kind: Secret\ndata:\n  password: cGFzc3dvcmQ=\n",
        "\"access_token\": \"2YotnFZFEjr1zCsicMWpAA\"",
        "password_hash: $2b$12$abcdefghijklmnopqrstuv",
        "example.org/token v1.1.0 h1:Vb3Ne7Rk0sYt2Lq9XwZc4Hd8Jm6Pf1Ga5Uo3Ti7Ek2=",
        "<input name=\"authenticity_token\"\n  value=\"q8Zt2LmP0vRx7KdWb3NcY5HsQq\">",
    ];
    for text in written {
        assert_eq!(scan(text), [], "{text}");
    }
}

/// A text of everything that rules look at.
fn strange(dice: &mut Dice) -> String {
    const PARTS: &[&str] = &[
        "password",
        "token",
        "=",
        ":",
        "\"",
        "'",
        " ",
        "\n",
        "://",
        "@",
        "user",
        "eyJ",
        ".",
        "ghp_",
        "AKIA",
        "sk-",
        "xoxb-",
        "\\n",
        "%3D",
        "{",
        "}",
        "(",
        ",",
        "-----BEGIN ",
        "PRIVATE KEY",
        "-----",
        "curl ",
        "-u ",
        "Bearer ",
        "Basic ",
        "\u{e9}",
        "\u{1f511}",
        "kind: Secret",
        "data:",
        "\t",
        "facebook",
        "|",
        "machine ",
        "login ",
        "auth\"",
        "heroku",
        "=>",
        "value=\"",
        "ZXlK",
        "authorization",
        "\\",
    ];
    let mut text = String::new();
    for _ in 0..dice.below(14) {
        if dice.below(3) == 0 {
            let count = dice.below(50);
            text.push_str(&chance(dice, count));
        } else {
            text.push_str(PARTS[dice.below(PARTS.len())]);
        }
    }
    text
}

#[test]
fn any_text_gives_sorted_spans_on_borders_of_characters() {
    let mut dice = Dice(6);
    let mut found = 0;
    for _ in 0..cases() {
        let text = strange(&mut dice);
        let (mut last, mut clean) = (0, String::new());
        let spans = scan(&text);
        let mut stream = Stream::new(None);
        let size = 1 + dice.below(20);
        let mut pieces: Vec<Span> = text.as_bytes().chunks(size).flat_map(|piece| stream.push(piece)).collect();
        pieces.extend(stream.end());
        assert_eq!(pieces.len(), spans.len(), "{text:?}");
        for span in spans.into_iter().filter(|span| span.verdict >= Verdict::Redact) {
            assert!(last <= span.start && span.start < span.end && text.get(span.start..span.end).is_some(), "{text:?} {span:?}");
            clean.push_str(&text[last..span.start]);
            clean.extend(["[redacted ", span.rule, "]"]);
            last = span.end;
            found += 1;
        }
        clean.push_str(&text[last..]);
        let again: Vec<Span> = scan(&clean).into_iter().filter(|span| span.verdict >= Verdict::Redact).collect();
        assert_eq!(again, [], "{text:?} became {clean:?}");
    }
    assert!(found > 500, "{found}: the texts must hold something");
}

#[test]
fn the_table_of_beginnings_is_sparse() {
    let count = Shapes::get().beginnings();
    assert!(count < 12_000, "{count} beginnings fill the table and every place would be looked at");
}

#[test]
fn hostile_repetitions_find_each_place_once() {
    let secret = "kind:Secret,data:QUJDREVGR0g1,";
    let found = scan(&secret.repeat(3000));
    assert!(found.len() <= 3000, "{} findings", found.len());
    // Two hundred programs before a wall of line ends: each looks at a bounded piece of it.
    let wall = format!("{}{}-", "curl ".repeat(200), "\n".repeat(200_000));
    assert_eq!(scan(&wall).len(), 0);
}
