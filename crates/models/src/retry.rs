//! When a failed request is tried again, and after how long.

use std::time::Duration;

use aedile_core::limits::{MODEL_BACKOFF_BASE, MODEL_BACKOFF_MAX, RETRY_AFTER_MAX};
use aedile_core::{Entropy, Timestamp};

/// Whether the status says that the same request may succeed later.
pub(crate) fn status_is_retryable(status: u16) -> bool {
    matches!(status, 408 | 409 | 425 | 429) || status >= 500
}

/// How long to wait before try number `attempt` (from 2): the provider's word when it gave one, else exponential backoff
/// of which a random half is taken off. `None` when the provider asks for longer than [`RETRY_AFTER_MAX`].
pub(crate) fn wait_before(attempt: u32, asked: Option<Duration>, entropy: &dyn Entropy) -> Option<Duration> {
    if let Some(asked) = asked {
        return (asked <= RETRY_AFTER_MAX).then_some(asked);
    }
    let doublings = attempt.saturating_sub(2).min(16);
    let full = MODEL_BACKOFF_BASE.saturating_mul(1 << doublings).min(MODEL_BACKOFF_MAX);
    let mut random = [0_u8; 2];
    entropy.fill(&mut random);
    let share = u32::from(u16::from_le_bytes(random));
    Some(full / 2 + full / 2 * share / u32::from(u16::MAX))
}

/// Reads a `Retry-After` value: seconds (a fraction is allowed) or an HTTP date.
pub(crate) fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = http_date_seconds(value)?;
    Some(Timestamp(at.checked_mul(1_000_000)?).since(now))
}

/// Seconds since 1970 of an IMF-fixdate such as `Sun, 06 Nov 1994 08:49:37 GMT`. The two obsolete forms are not sent by anybody.
fn http_date_seconds(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let parts: Vec<&str> = rest.split_ascii_whitespace().collect();
    let [day, month, year, time, "GMT"] = parts[..] else { return None };
    let month = i64::try_from(MONTHS.iter().position(|name| *name == month)?).ok()? + 1;
    let (day, year): (i64, i64) = (day.parse().ok()?, year.parse().ok()?);
    let clock: Vec<i64> = time.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [hour, minute, second] = clock[..] else { return None };
    let in_range = (1..=31).contains(&day) && (1970..=9999).contains(&year) && (0..24).contains(&hour);
    if !in_range || !(0..60).contains(&minute) || !(0..=60).contains(&second) {
        return None;
    }
    Some(days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (years counted from March, so that the leap day is the last).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use aedile_core::clock::SeededEntropy;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = Timestamp(784_111_777 * 1_000_000);
        let ms = |text| parse_retry_after(text, now).map(|wait| wait.as_millis());
        assert_eq!(ms("7"), Some(7000));
        assert_eq!(ms(" 0.5 "), Some(500));
        assert_eq!(ms("Sun, 06 Nov 1994 08:49:37 GMT"), Some(0));
        assert_eq!(ms("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30_000));
        assert_eq!(ms("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0), "a date in the past means now");
        for bad in ["", "-1", "soon", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 99 Nov 1994 08:49:37 GMT", "NaN", "inf"] {
            assert_eq!(ms(bad), None, "{bad:?}");
        }
        assert_eq!(http_date_seconds("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
    }

    #[test]
    fn backoff_grows_is_jittered_and_has_a_limit() {
        let entropy = SeededEntropy::new(1);
        for attempt in 2..40 {
            let full = MODEL_BACKOFF_BASE.saturating_mul(1 << (attempt - 2).min(16)).min(MODEL_BACKOFF_MAX);
            let wait = wait_before(attempt, None, &entropy).unwrap();
            assert!(wait >= full / 2 && wait <= full, "{attempt}: {wait:?}");
        }
        assert_eq!(wait_before(2, Some(Duration::from_secs(3)), &entropy), Some(Duration::from_secs(3)));
        assert_eq!(wait_before(2, Some(RETRY_AFTER_MAX * 2), &entropy), None);
    }
}
