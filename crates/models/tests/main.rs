//! Tests of the model formats through a real server, and properties of the parsers.
#![expect(clippy::unwrap_used, clippy::panic, clippy::format_push_string, clippy::needless_pass_by_value, reason = "tests")]

mod bad_answers;
mod body;
mod media;
mod meter;
mod prices;
mod provider;
mod retries;
mod round_trip;
mod script;
mod sdk;
mod sse;
mod support;
