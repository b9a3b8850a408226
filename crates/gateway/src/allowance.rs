//! What a door may still send to other hosts and get from them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aedile_core::limits::{DOOR_BYTES_IN_MAX, DOOR_BYTES_OUT_MAX};
use aedile_core::policy::DoorLimits;
use tokio::time::Instant;

use crate::error::Refused;

/// Counts over the life of one door.
pub(crate) struct Allowance {
    per_minute: Option<u64>,
    out_max: u64,
    in_max: u64,
    counts: Mutex<Counts>,
}

struct Counts {
    /// Requests that may go now; they come back with time.
    left: f64,
    at: Instant,
    bytes_out: u64,
    bytes_in: u64,
}

impl Allowance {
    /// Starts whole. Without a limit of the policy the program's own count.
    pub(crate) fn new(limits: DoorLimits) -> Self {
        Self {
            per_minute: limits.requests_per_minute,
            out_max: limits.bytes_out.unwrap_or(DOOR_BYTES_OUT_MAX),
            in_max: limits.bytes_in.unwrap_or(DOOR_BYTES_IN_MAX),
            counts: Mutex::new(Counts {
                left: limits.requests_per_minute.unwrap_or(0) as f64,
                at: Instant::now(),
                bytes_out: 0,
                bytes_in: 0,
            }),
        }
    }

    /// Takes a request.
    ///
    /// # Errors
    /// 429 with the time after which one may go.
    pub(crate) fn request(&self) -> Result<(), Refused> {
        let Some(per_minute) = self.per_minute else { return Ok(()) };
        let (rate, now) = (per_minute as f64 / 60.0, Instant::now());
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.left = (counts.left + now.duration_since(counts.at).as_secs_f64() * rate).min(per_minute as f64);
        counts.at = now;
        if counts.left >= 1.0 {
            counts.left -= 1.0;
            return Ok(());
        }
        Err(Refused::too_many(per_minute, Duration::from_secs_f64(((1.0 - counts.left) / rate).min(60.0))))
    }

    /// Takes what is about to be sent.
    ///
    /// # Errors
    /// The limit would be passed; nothing is counted then.
    pub(crate) fn send(&self, bytes: u64) -> Result<(), Refused> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let after = counts.bytes_out.saturating_add(bytes);
        if after > self.out_max {
            let why = format!("{} bytes were sent through this door, and it may send {} in all", counts.bytes_out, self.out_max);
            return Err(Refused::denied("limits.bytes_out", why));
        }
        counts.bytes_out = after;
        Ok(())
    }

    /// Counts what has come.
    ///
    /// # Errors
    /// More has come than may come; a sentence.
    pub(crate) fn receive(&self, bytes: u64) -> Result<(), String> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.bytes_in = counts.bytes_in.saturating_add(bytes);
        if counts.bytes_in > self.in_max {
            Err(format!("limits.bytes_in: more than {} bytes came through this door", self.in_max))
        } else {
            Ok(())
        }
    }

    /// Whether anything may still come.
    ///
    /// # Errors
    /// The limit was reached before.
    pub(crate) fn open(&self) -> Result<(), Refused> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.bytes_in >= self.in_max {
            let why = format!("{} bytes came through this door, and {} may in all", counts.bytes_in, self.in_max);
            return Err(Refused::denied("limits.bytes_in", why));
        }
        Ok(())
    }
}
