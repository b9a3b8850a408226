//! Tests of the fleet.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod bounds;
mod cancels;
mod decides;
mod drives;
mod fakes;
mod goals;
mod hubs;
mod mails;
mod plans;
mod policies;
mod resumes;
mod returns;
mod simulation;
mod supervision;
mod support;
