//! What the leak scan costs: a clean stream through all rules and a thousand known secrets, beside a search for one byte.

use std::path::Path;

use aedile_gateway::leak::{Secrets, Stream};
use anyhow::ensure;

use crate::figure::{Amount, Figure, Target};
use crate::measure::{median, own_cpu};

/// The stream comes in pieces of this size.
const PIECE_BYTES: usize = 64 * 1024;
const BLOCK_BYTES: usize = 4_000_000;
const BLOCKS: usize = 25;
const RUNS: usize = 5;
const SECRETS: usize = 1000;
/// 100 MB in so many milliseconds of one core are 400 MB in a second.
const MILLIS_MAX: f64 = 250.0;

/// Measures the scan.
pub(crate) fn figures(_program: &Path) -> anyhow::Result<Vec<Figure>> {
    let block = block();
    let values: Vec<(String, String)> = (0..SECRETS).map(|number| (format!("KEY{number}"), value(number))).collect();
    let secrets = Secrets::new(values.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let (mut scanned, mut passed) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let start = own_cpu();
        let mut stream = Stream::new(Some(&secrets));
        let mut found = 0;
        for _ in 0..BLOCKS {
            found += block.chunks(PIECE_BYTES).map(|piece| stream.push(piece).len()).sum::<usize>();
        }
        found += stream.end().len();
        scanned.push(own_cpu() - start);
        ensure!(found == 0, "there is no secret in the text, but {found} were found");
        let start = own_cpu();
        for _ in 0..BLOCKS {
            ensure!(!std::hint::black_box(&block).contains(&0), "there is no zero in the text");
        }
        passed.push(own_cpu() - start);
    }
    Ok(vec![Figure::beside(
        "leak scan of a clean stream of 100 MB, all rules and 1,000 known secrets, one core",
        Amount::millis(median(scanned)),
        ("search for one byte", Amount::millis(median(passed))),
        Target::AtMost(MILLIS_MAX),
    )])
}

/// A value without a pattern, another for each number.
fn value(number: usize) -> String {
    let mut state = number as u64 * 0x9e37_79b9_7f4a_7c15 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"[(state >> 33) as usize % 62])
    };
    (0..40).map(|_| next()).collect()
}

/// Lines of code, of logs, of prose and of data, in an order without a pattern.
fn block() -> Vec<u8> {
    const LINES: &[&str] = &[
        "    let found = self.known.iter().find(|known| known.root == root && known.token.is_some());\n",
        "2026-01-02T03:04:05.678Z INFO worker: landed change 7 of task parts/one in 81 ms, 4 left in the queue\n",
        "The queue takes it with others as a batch; the tiers are tried in order against the current target.\n",
        "        for (index, item) in items.iter().enumerate().filter(|(_, item)| !item.is_empty()) {\n",
        "{\"id\":4711,\"name\":\"widget\",\"price\":12.5,\"tags\":[\"a\",\"b\"],\"created\":\"2026-01-02T03:04:05Z\"}\n",
        "export function handler(event, context) { return context.done(null, { statusCode: 200 }); }\n",
        "checksum = \"6cf5c1a3a2d2b5ff2a3f1f9a4c8e0d7b6a59483726150f1e2d3c4b5a69788796\"\n",
        "<div class=\"row\"><a href=\"https://docs.rs/serde/latest/serde/\">the documentation</a></div>\n",
        "# Set the password of the database in the environment, see the chapter on secrets and tokens.\n",
        "def test_authorization_header_is_sent(client): assert client.get('/users').status_code == 200\n",
        ".button:hover { background: linear-gradient(to right, #ff8800, #ffaa00); padding: 4px 8px; }\n",
        "INSERT INTO orders (id, customer, total) VALUES (18, 'Smith', 99.95), (19, 'Jones', 12.00);\n",
    ];
    let mut state = 1_u64;
    let mut text = Vec::with_capacity(BLOCK_BYTES + 200);
    while text.len() < BLOCK_BYTES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(LINES[(state >> 33) as usize % LINES.len()].as_bytes());
    }
    text.truncate(BLOCK_BYTES);
    text
}
