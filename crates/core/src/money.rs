//! Tokens and money.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Millionths of a US dollar. Whole numbers, so that sums are exact.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(pub u64);

impl MicroUsd {
    /// Returns the sum, at most the largest value.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Returns the difference, at least zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Converts from dollars; `None` when negative, not finite or too large.
    pub fn from_usd(usd: f64) -> Option<Self> {
        let micros = usd * 1e6;
        if !micros.is_finite() || !(0.0..=9e15).contains(&micros) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked above")]
        Some(Self(micros.round() as u64))
    }
}

impl fmt::Display for MicroUsd {
    /// Dollars with two decimals, four below one cent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dollars, rest) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if self.0 > 0 && self.0 < 10_000 { write!(f, "${dollars}.{:04}", rest / 100) } else { write!(f, "${dollars}.{:02}", rest / 10_000) }
    }
}

/// What a model request used, as the provider counts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read at the full price.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Tokens read from a cache.
    pub cache_read_tokens: u64,
    /// Tokens written into a cache.
    pub cache_write_tokens: u64,
    /// Tokens written into a cache that is kept for longer than the provider's shortest time, at a price of its own; not among the others.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_long_tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Usage {
    /// Returns all tokens together.
    pub fn total(&self) -> u64 {
        let caches = [self.cache_read_tokens, self.cache_write_tokens, self.cache_write_long_tokens];
        caches.into_iter().fold(self.input_tokens.saturating_add(self.output_tokens), u64::saturating_add)
    }

    /// Returns the sum.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cache_read_tokens: self.cache_read_tokens.saturating_add(other.cache_read_tokens),
            cache_write_tokens: self.cache_write_tokens.saturating_add(other.cache_write_tokens),
            cache_write_long_tokens: self.cache_write_long_tokens.saturating_add(other.cache_write_long_tokens),
        }
    }
}

/// A limit in tokens, in money, or both. Nothing set means no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Budget {
    /// The most tokens of all kinds together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// The most money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd: Option<MicroUsd>,
}
