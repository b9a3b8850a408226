//! Waiting for conditions, and tests that this machine cannot run.

use std::future::Future;
use std::time::{Duration, Instant};

use aedile_core::{Clock, Entropy, Timestamp};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until `condition` returns a value and returns that.
///
/// # Panics
/// After `limit`, naming `what`.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain for: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Like [`wait_for`], for conditions that are futures.
///
/// # Panics
/// After `limit`, naming `what`.
pub async fn wait_for_async<T, F>(what: &str, limit: Duration, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain for: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Says whether a test can run here. When `missing` names something the machine lacks, prints `SKIPPED <test>: <why>` and
/// returns false; the test returns then.
///
/// # Panics
/// When something is missing and `AEDILE_REQUIRE_ALL=1` is set.
#[expect(clippy::print_stdout, reason = "the line is for the person who runs the tests")]
#[expect(clippy::disallowed_methods, reason = "the environment says whether a test may be skipped")]
#[must_use]
pub fn require(test: &str, missing: Option<&str>) -> bool {
    let Some(why) = missing else { return true };
    let all = std::env::var_os("AEDILE_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!all, "{test} cannot run and AEDILE_REQUIRE_ALL=1 is set: {why}");
    println!("SKIPPED {test}: {why}");
    false
}

/// The real time.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp(i64::try_from(since.as_micros()).unwrap())
    }
}

/// The operating system's random bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        rustix::rand::getrandom(buffer, rustix::rand::GetRandomFlags::empty()).unwrap();
    }
}
