//! The rules of DESIGN sections 6 and 8 for git, against real repositories and real boxes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod boxes;
mod checkouts;
mod export;
mod hostile;
mod imports;
mod landings;
mod leaks;
mod merges;
mod ordinary;
mod projects;
mod restores;
mod robust;
mod snapshots;
mod support;
mod takes;
mod trees;
mod views;
