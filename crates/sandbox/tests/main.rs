//! The box on this kernel. Started as root, the whole suite runs a second time as an ordinary user.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;
mod tools;
