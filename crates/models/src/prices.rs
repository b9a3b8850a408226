//! The catalogue: prices of models and what they can do, as data.

pub use aedile_core::model::Abilities;
use aedile_core::model::ModelRef;
use aedile_core::{MicroUsd, Usage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use aedile_core::limits::AGENT_CONTEXT_TOKENS_MAX;

/// One row of the table. Prices are US dollars per million tokens, exact to six decimals.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceRow {
    /// The provider, for example `anthropic`.
    pub provider: String,
    /// Names of models. A name stands for itself, also with a date or `-latest` behind it; one that ends with `*` for all that begin so.
    pub models: Vec<String>,
    /// Input at the full price.
    pub input: f64,
    /// Output.
    pub output: f64,
    /// Input that was read from a cache.
    pub cache_read: f64,
    /// Input that was written into a cache.
    pub cache_write: f64,
    /// Input that was written into a cache which is kept for longer; twice `cache_write` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_long: Option<f64>,
    /// Other prices for long requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long: Option<LongPrices>,
    /// What a service tier multiplies all prices by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<String, f64>,
    /// What the model can do; a row without it only names prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can: Option<Abilities>,
    /// When the row was compared with its source, `YYYY-MM-DD`.
    #[serde(default)]
    pub date: String,
    /// Where the prices are from.
    #[serde(default)]
    pub source: String,
}

/// Prices of a whole request whose input, cached input included, is long.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongPrices {
    /// The most input tokens for which the ordinary prices hold.
    pub above: u64,
    /// Input at the full price.
    pub input: f64,
    /// Output.
    pub output: f64,
    /// Input that was read from a cache.
    pub cache_read: f64,
    /// Input that was written into a cache.
    pub cache_write: f64,
    /// Input that was written into a cache which is kept for longer; twice `cache_write` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_long: Option<f64>,
}

/// What a request asks for that changes its price.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// Service tiers that are not the ordinary one, by the names that the catalogue uses.
    pub tiers: Vec<String>,
    /// Whether it may write into a cache that is kept for longer.
    pub long_cache: bool,
}

/// Why a request has no price.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unpriced {
    /// The model's price is not known.
    Model,
    /// The price of this service tier of the model is not known.
    Tier(String),
}

/// A price table that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the price table cannot be used: {0}")]
pub struct BadPrices(pub String);

/// The largest price that is believed, in dollars per million tokens; a larger one is a mistake in the unit.
const PRICE_MAX: f64 = 100_000.0;

/// Prices in millionths of a microdollar per token, which is dollars per million tokens times one million.
#[derive(Clone, Copy, Debug)]
struct Rates {
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write: u64,
    cache_write_long: u64,
}

#[derive(Clone, Debug)]
struct Rule {
    row: PriceRow,
    rates: Rates,
    long: Option<(u64, Rates)>,
    /// Factors in thousandths.
    tiers: BTreeMap<String, u64>,
}

impl Rule {
    fn rates_for(&self, input_tokens: u64) -> Rates {
        match self.long {
            Some((above, rates)) if input_tokens > above => rates,
            _ => self.rates,
        }
    }

    /// What the terms multiply the prices by, in thousandths.
    fn factor(&self, terms: &Terms) -> Result<u64, Unpriced> {
        terms.tiers.iter().try_fold(1000, |factor, tier| {
            let times = self.tiers.get(tier).ok_or_else(|| Unpriced::Tier(tier.clone()))?;
            Ok(factor * times / 1000)
        })
    }
}

/// Prices of models. Among several matches of a model's name the exact one, then the longest wins; of equal ones the row that was added last.
#[derive(Clone, Debug, Default)]
pub struct PriceTable {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    price: Vec<PriceRow>,
}

impl PriceTable {
    /// Returns the list prices that come with the program.
    #[expect(clippy::expect_used, reason = "the text is compiled in and a test reads it")]
    pub fn builtin() -> Self {
        Self::parse(include_str!("catalogue.toml")).expect("the built-in price table is valid")
    }

    /// Reads a table from TOML with `[[price]]` rows.
    ///
    /// # Errors
    /// [`BadPrices`] names the line or the row that is wrong.
    pub fn parse(text: &str) -> Result<Self, BadPrices> {
        let file: File = toml::from_str(text).map_err(|error| BadPrices(error.to_string()))?;
        Self::default().with(file.price)
    }

    /// Adds rows, which win over equal ones that are there: for overrides from the configuration.
    ///
    /// # Errors
    /// [`BadPrices`] names the row that is wrong.
    pub fn with(mut self, rows: impl IntoIterator<Item = PriceRow>) -> Result<Self, BadPrices> {
        for row in rows {
            self.rules.push(rule(row)?);
        }
        Ok(self)
    }

    /// Returns the row for a model; `None` when its price is not known.
    pub fn find(&self, model: &ModelRef) -> Option<&PriceRow> {
        self.rule(model).map(|rule| &rule.row)
    }

    /// Returns what one request with this usage costs, rounded up to a microdollar; `None` when the model's price is not
    /// known. Prices of long requests go by the request, so costs must be added up, never usages.
    pub fn cost(&self, model: &ModelRef, usage: &Usage) -> Option<MicroUsd> {
        self.cost_on(model, usage, &Terms::default()).ok()
    }

    /// As [`Self::cost`], under the terms that the request asked for.
    ///
    /// # Errors
    /// [`Unpriced`] when a price is not known.
    pub fn cost_on(&self, model: &ModelRef, usage: &Usage, terms: &Terms) -> Result<MicroUsd, Unpriced> {
        let input = usage.total().saturating_sub(usage.output_tokens);
        let rule = self.rule(model).ok_or(Unpriced::Model)?;
        let rates = rule.rates_for(input);
        let parts = [
            (usage.input_tokens, rates.input),
            (usage.output_tokens, rates.output),
            (usage.cache_read_tokens, rates.cache_read),
            (usage.cache_write_tokens, rates.cache_write),
            (usage.cache_write_long_tokens, rates.cache_write_long),
        ];
        Ok(sum(&parts, rule.factor(terms)?))
    }

    /// Returns the most that a request can cost: all input at the dearest input price, all output; `None` when the price is not known.
    pub fn reserve(&self, model: &ModelRef, input_tokens: u64, output_tokens: u64) -> Option<MicroUsd> {
        self.reserve_on(model, input_tokens, output_tokens, &Terms::default()).ok()
    }

    /// As [`Self::reserve`], under the terms that the request asks for.
    ///
    /// # Errors
    /// [`Unpriced`] when a price is not known.
    pub fn reserve_on(&self, model: &ModelRef, input_tokens: u64, output_tokens: u64, terms: &Terms) -> Result<MicroUsd, Unpriced> {
        let rule = self.rule(model).ok_or(Unpriced::Model)?;
        let rates = rule.rates_for(input_tokens);
        let long = if terms.long_cache { rates.cache_write_long } else { 0 };
        let dearest = rates.input.max(rates.cache_write).max(rates.cache_read).max(long);
        Ok(sum(&[(input_tokens, dearest), (output_tokens, rates.output)], rule.factor(terms)?))
    }

    /// Returns what a model can do; `None` when it is not in the catalogue.
    pub fn abilities(&self, model: &ModelRef) -> Option<Abilities> {
        self.best(model, |rule| rule.row.can.is_some()).and_then(|rule| rule.row.can)
    }

    /// Returns how many tokens of a model's window an agent should fill: never more than it has, than is sensible to pay for with every
    /// request, or than its ordinary prices hold for.
    pub fn working_window(&self, model: &ModelRef) -> u64 {
        let window = self.abilities(model).unwrap_or(Abilities::UNKNOWN).context.min(AGENT_CONTEXT_TOKENS_MAX);
        let ordinary = self.rule(model).and_then(|rule| rule.long).map(|(above, _)| above);
        window.min(ordinary.unwrap_or(u64::MAX))
    }

    fn rule(&self, model: &ModelRef) -> Option<&Rule> {
        self.best(model, |_| true)
    }

    fn best(&self, model: &ModelRef, counts: impl Fn(&Rule) -> bool) -> Option<&Rule> {
        let score = |rule: &Rule| {
            let same_provider = rule.row.provider == model.provider;
            same_provider.then(|| rule.row.models.iter().filter_map(|pattern| matches(pattern, &model.model)).max()).flatten()
        };
        let scored = self.rules.iter().filter(|rule| counts(rule)).filter_map(|rule| Some((score(rule)?, rule)));
        // `max_by_key` returns the last of equal ones.
        scored.max_by_key(|(score, _)| *score).map(|(_, rule)| rule)
    }
}

/// How well a pattern matches: an exact name before a dated one before a prefix, longer before shorter.
fn matches(pattern: &str, model: &str) -> Option<(u8, usize)> {
    if let Some(prefix) = pattern.strip_suffix('*') {
        return model.starts_with(prefix).then_some((0, prefix.len()));
    }
    let rest = model.strip_prefix(pattern)?;
    let version = rest.strip_prefix('-').unwrap_or_default();
    let dated = version.len() >= 8 && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if rest.is_empty() {
        Some((2, pattern.len()))
    } else if dated || version == "latest" {
        Some((1, pattern.len()))
    } else {
        None
    }
}

fn rule(row: PriceRow) -> Result<Rule, BadPrices> {
    let name = format!("{}/{}", row.provider, row.models.join(","));
    if row.provider.is_empty() || row.models.is_empty() || row.models.iter().any(String::is_empty) {
        return Err(BadPrices(format!("row {name}: `provider` and `models` must not be empty")));
    }
    let unit = |field: &str, price: f64| {
        if !(0.0..=PRICE_MAX).contains(&price) {
            return Err(BadPrices(format!("row {name}: `{field}` must be dollars per million tokens from 0 to {PRICE_MAX}")));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked above")]
        Ok((price * 1e6).round() as u64)
    };
    let rates = Rates {
        input: unit("input", row.input)?,
        output: unit("output", row.output)?,
        cache_read: unit("cache_read", row.cache_read)?,
        cache_write: unit("cache_write", row.cache_write)?,
        cache_write_long: unit("cache_write_long", row.cache_write_long.unwrap_or(row.cache_write * 2.0))?,
    };
    let long = match &row.long {
        None => None,
        Some(long) => Some((
            long.above,
            Rates {
                input: unit("long.input", long.input)?,
                output: unit("long.output", long.output)?,
                cache_read: unit("long.cache_read", long.cache_read)?,
                cache_write: unit("long.cache_write", long.cache_write)?,
                cache_write_long: unit("long.cache_write_long", long.cache_write_long.unwrap_or(long.cache_write * 2.0))?,
            },
        )),
    };
    let mut tiers = BTreeMap::new();
    for (tier, factor) in &row.tiers {
        if !(1.0..=100.0).contains(factor) {
            return Err(BadPrices(format!("row {name}: the tier `{tier}` must multiply by 1 to 100")));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked above")]
        tiers.insert(tier.clone(), (factor * 1000.0).round() as u64);
    }
    Ok(Rule { rates, long, tiers, row })
}

/// Sums tokens times price times the factor (in thousandths) exactly and rounds up once.
fn sum(parts: &[(u64, u64)], factor: u64) -> MicroUsd {
    // Prices are at most 1e11, so no sum of products leaves 128 bits.
    let total: u128 = parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(*price)).sum();
    let total = total.saturating_mul(u128::from(factor)).div_ceil(1000);
    MicroUsd(u64::try_from(total.div_ceil(1_000_000)).unwrap_or(u64::MAX))
}
