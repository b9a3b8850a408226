//! Passwords in URLs: `scheme://name:password@host`.

use super::judge::{is_example, pairs};
use super::token_rules::Level;
use super::{Finding, Rank};

/// Passwords of tutorials and of databases on one's own machine.
const COMMON: &[&str] = &[
    "password",
    "pass",
    "passwd",
    "pwd",
    "secret",
    "admin",
    "root",
    "user",
    "test",
    "guest",
    "postgres",
    "mysql",
    "redis",
    "mongo",
    "rabbitmq",
    "123456",
    "1234",
    "12345",
    "12345678",
    "hunter2",
    "foobared",
    "foo",
    "bar",
    "baz",
    "token",
    "key",
    "pw",
    "p4ss",
    "p4ssw0rd",
    "passw0rd",
    "p@ssw0rd",
    "pa55w0rd",
    "letmein",
    "x-oauth-basic",
    "opensesame",
    "open sesame",
    "mypassword",
    "dev",
    "docker",
    "welcome",
    "changeme",
    "qwerty",
    "superuser",
    "administrator",
    "minio",
    "minioadmin",
    "default",
    "local",
    "sa",
    "api",
    "none",
    "null",
    "empty",
    "app",
    "db",
    "database",
    "demo",
    "username",
    "prisma",
    "django",
    "rails",
    "flask",
    "laravel",
    "sentry",
    "airflow",
    "keycloak",
];

/// Whether a password that stands beside the name may be a real one.
pub(super) fn is_plausible_password(name: &[u8], password: &[u8]) -> bool {
    let lower = password.to_ascii_lowercase();
    let first = password.first().copied().unwrap_or(b' ');
    let reference = matches!(first, b'$' | b'<' | b'{' | b'[' | b'%' | b'*' | b'(' | b':') && !percent_encoded(password)
        || password.windows(2).any(|pair| matches!(pair, b"${" | b"{{" | b"}}" | b"$(" | b"%s" | b"**" | b"{}" | b".."))
        || (first == b'{' && password.last() == Some(&b'}'));
    // `admin123` is no better than `admin`.
    let strip: Vec<u8> = lower.iter().copied().filter(|byte| !byte.is_ascii_digit()).collect();
    let strip = if lower.len() - strip.len() <= 3 { strip } else { Vec::new() };
    let common = COMMON.iter().any(|word| lower == word.as_bytes() || strip == word.as_bytes());
    let number = password.iter().all(u8::is_ascii_digit);
    !reference && !common && !number && !password.eq_ignore_ascii_case(name) && !is_example(password) && password.len() >= 3
}

/// Whether it is a word of tutorials, also with signs for letters and with a few digits behind: `P@ssw0rd1!`.
pub(super) fn is_common(password: &[u8]) -> bool {
    let letter = |byte: &u8| match byte {
        b'@' | b'4' => b'a',
        b'0' => b'o',
        b'1' | b'!' => b'i',
        b'3' => b'e',
        b'$' | b'5' => b's',
        byte => byte.to_ascii_lowercase(),
    };
    let behind = password.iter().rev().take(3).take_while(|byte| !byte.is_ascii_alphabetic()).count();
    let whole: Vec<u8> = password.iter().map(letter).collect();
    let begun: Vec<u8> = password[..password.len() - behind].iter().map(letter).collect();
    COMMON.iter().any(|word| [&whole, &begun].iter().any(|text| text.as_slice() == word.as_bytes()))
}

fn percent_encoded(password: &[u8]) -> bool {
    matches!(password, [b'%', one, other, ..] if one.is_ascii_hexdigit() && other.is_ascii_hexdigit())
}

/// Called for at `://`.
pub(super) fn credentials(text: &[u8], at: usize, out: &mut Vec<Finding>) {
    let scheme =
        text[..at].iter().rev().take(24).take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'.' | b'-')).count();
    let from = at + 3;
    let stop = |byte: &u8| {
        byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`' | b'\\' | b'|' | b')' | b']' | b',' | b';')
    };
    let length = text[from..].iter().take(320).take_while(|byte| !stop(byte)).count();
    let part = &text[from..from + length];
    // The host begins behind the last `@` before the path; a password may hold a slash that was not encoded.
    let path = part.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(part.len());
    let sign = part[..path].iter().rposition(|byte| *byte == b'@').or_else(|| {
        let sign = part.iter().position(|byte| *byte == b'@')?;
        (database(&text[at - scheme..at]) && part[..path].contains(&b':')).then_some(sign)
    });
    let Some(sign) = sign else { return };
    let Some(colon) = part[..sign].iter().position(|byte| *byte == b':') else { return };
    let (name, password, host) = (&part[..colon], &part[colon + 1..sign], &part[sign + 1..]);
    if scheme == 0
        || name.is_empty() && password.contains(&b':')
        || name.len() > 120
        || !is_plausible_password(name, password)
        || is_example_host(host, password)
    {
        return;
    }
    let rule = if database(&text[at - scheme..at]) { "database-url" } else { "url-credentials" };
    out.push(Finding { start: from + colon + 1, end: from + sign, rule, level: Level::Block, rank: Rank::Document });
}

fn database(scheme: &[u8]) -> bool {
    let schemes = [
        b"postgres".as_slice(),
        b"mysql",
        b"mariadb",
        b"mongodb",
        b"redis",
        b"amqp",
        b"mssql",
        b"sqlserver",
        b"clickhouse",
        b"cockroach",
        b"oracle",
        b"jdbc",
        b"nats",
        b"kafka",
        b"cassandra",
        b"neo4j",
        b"bolt",
        b"snowflake",
        b"influx",
        b"db2",
        b"couchbase",
        b"mqtt",
    ];
    let lower = scheme.to_ascii_lowercase();
    schemes.iter().any(|name| lower.windows(name.len()).any(|part| part == *name))
}

/// `example.com` and the like, and plain words as a password for one's own machine.
fn is_example_host(host: &[u8], password: &[u8]) -> bool {
    let end = host.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#' | b':')).unwrap_or(host.len());
    let host = host[..end].to_ascii_lowercase();
    let (pairs, common) = pairs(password);
    let plain = password.iter().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-'));
    let wordy = plain && pairs > 0 && common * 100 >= pairs * 60;
    let own = host.is_empty()
        || matches!(host.as_slice(), b"localhost" | b"127.0.0.1" | b"0.0.0.0" | b"host" | b"hostname" | b"db" | b"server" | b"domain");
    let reserved = [b".test".as_slice(), b".invalid", b".localhost"].iter().any(|end| host.ends_with(end));
    let example =
        [b"example.com".as_slice(), b"example.org", b"example.net", b"domain.com", b"foo.com", b"bar.com", b"host.com", b".example"]
            .iter()
            .any(|name| host.ends_with(name));
    (own || reserved || example) && (wordy || password.len() < 8) || (plain && wordy && password.len() < 8)
}
