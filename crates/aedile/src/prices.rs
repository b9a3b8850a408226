//! Prices: the built-in table with the person's own on top.

use aedile_core::model::ModelRef;
use aedile_models::{PriceRow, PriceTable};

use crate::config::file::ConfigFile;
use crate::config::person;
use crate::error::CliError;

/// The table that budgets are held against.
pub fn table(config: &ConfigFile) -> Result<PriceTable, CliError> {
    let rows = config.person.prices.iter().map(|(model, price)| {
        let model: ModelRef = model.parse().map_err(CliError::config)?;
        Ok(PriceRow {
            provider: model.provider,
            models: vec![model.model],
            input: price.input,
            output: price.output,
            cache_read: price.cache_read.unwrap_or(price.input),
            cache_write: price.cache_write.unwrap_or(price.input),
            cache_write_long: price.cache_write_long,
            long: None,
            tiers: price.tiers.clone(),
            can: None,
            date: String::new(),
            source: "the person's file".to_owned(),
        })
    });
    let rows = rows.collect::<Result<Vec<_>, CliError>>()?;
    PriceTable::builtin().with(rows).map_err(|error| CliError::config(format!("{}: {error}", person::place())))
}
