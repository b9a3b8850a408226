//! The queue with real git, real boxes and a real store.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod cost;
mod crashes;
mod gates;
mod lands;
mod policies;
mod races;
mod resolutions;
mod returns;
mod structural;
mod support;
mod together;
mod window;
