use aedile_core::model::ModelRef;
use aedile_core::{MicroUsd, Usage};
use aedile_models::{Abilities, PriceRow, PriceTable, Terms, Unpriced};
use proptest::prelude::*;

fn model(text: &str) -> ModelRef {
    text.parse().unwrap()
}

fn row(provider: &str, name: &str, price: f64) -> PriceRow {
    PriceRow {
        provider: provider.to_owned(),
        models: vec![name.to_owned()],
        input: price,
        output: price,
        cache_read: price,
        cache_write: price,
        cache_write_long: None,
        long: None,
        tiers: std::collections::BTreeMap::new(),
        can: None,
        date: String::new(),
        source: String::new(),
    }
}

#[test]
fn the_built_in_table_is_whole() {
    let table = PriceTable::builtin();
    for name in [
        "anthropic/claude-sonnet-4-5",
        "anthropic/claude-sonnet-4-5-20250929",
        "anthropic/claude-3-5-haiku-latest",
        "anthropic/claude-opus-5-5",
        "openai/gpt-6.2-sol",
        "openai/gpt-4o-2024-08-06",
        "gemini/gemini-2.5-flash",
        "script/anything",
    ] {
        let row = table.find(&model(name)).unwrap_or_else(|| panic!("{name} has no price"));
        assert!(!row.source.is_empty() && row.date.len() == 10, "{name}");
    }
    for name in ["anthropic/claude-sonnet-4-9", "openai/gpt-5-ultra", "openai/qwen3", "ollama/llama3", "openai/claude-sonnet-4-5"] {
        assert!(table.find(&model(name)).is_none(), "{name} has no known price");
        assert_eq!(table.cost(&model(name), &Usage::default()), None);
    }
}

#[test]
fn costs_are_exact() {
    let table = PriceTable::builtin();
    let usage = Usage {
        input_tokens: 1_000_000,
        output_tokens: 100_000,
        cache_read_tokens: 2_000_000,
        cache_write_tokens: 400_000,
        ..Usage::default()
    };
    // 3.00 + 1.50 + 0.60 + 1.50 dollars.
    assert_eq!(table.cost(&model("anthropic/claude-sonnet-4-5"), &usage), Some(MicroUsd(6_600_000)));
    assert_eq!(table.reserve(&model("anthropic/claude-sonnet-4-5"), 1000, 1000), Some(MicroUsd(3750 + 15_000)));
    let one = Usage { cache_read_tokens: 1, ..Usage::default() };
    assert_eq!(table.cost(&model("openai/gpt-5-nano"), &one), Some(MicroUsd(1)), "a part of a microdollar counts as one");
    assert_eq!(table.cost(&model("script/x"), &usage), Some(MicroUsd(0)));
}

#[test]
fn a_long_request_has_its_own_prices() {
    let table = PriceTable::builtin();
    let haiku = model("anthropic/claude-haiku-5-5");
    let usage = |input, read| Usage { input_tokens: input, output_tokens: 1000, cache_read_tokens: read, ..Usage::default() };
    assert_eq!(table.cost(&haiku, &usage(100_000, 0)), Some(MicroUsd(10_500)));
    assert_eq!(table.cost(&haiku, &usage(100_000, 1)), Some(MicroUsd(52_501)), "cached input counts for the length");
    assert_eq!(table.reserve(&haiku, 200_000, 0), Some(MicroUsd(125_000)));
}

#[test]
fn a_cache_that_is_kept_for_longer_costs_more() {
    let table = PriceTable::builtin();
    let usage = Usage { cache_write_tokens: 1000, cache_write_long_tokens: 1000, ..Usage::default() };
    assert_eq!(table.cost(&model("anthropic/claude-sonnet-4-5"), &usage), Some(MicroUsd(3750 + 6000)));
    assert_eq!(table.cost(&model("openai/gpt-6.2-sol"), &usage), Some(MicroUsd(2500 + 5000)));
    let long = Terms { long_cache: true, ..Terms::default() };
    assert_eq!(table.reserve_on(&model("anthropic/claude-sonnet-4-5"), 1000, 0, &long), Ok(MicroUsd(6000)));
}

#[test]
fn a_service_tier_multiplies_and_an_unknown_one_has_no_price() {
    let table = PriceTable::builtin();
    let terms = |tier: &str| Terms { tiers: vec![tier.to_owned()], ..Terms::default() };
    let sol = model("openai/gpt-6.2-sol");
    assert_eq!(table.reserve_on(&sol, 0, 1000, &terms("priority")), Ok(MicroUsd(20_000)));
    let usage = Usage { output_tokens: 1000, ..Usage::default() };
    assert_eq!(table.cost_on(&sol, &usage, &terms("fast")), Ok(MicroUsd(20_000)));
    assert_eq!(table.cost_on(&sol, &usage, &terms("ultrafast")), Err(Unpriced::Tier("ultrafast".to_owned())));
    assert_eq!(table.cost_on(&model("openai/nobody"), &usage, &Terms::default()), Err(Unpriced::Model));
}

#[test]
fn the_catalogue_knows_what_models_can_do() {
    let table = PriceTable::builtin();
    for name in ["anthropic/claude-opus-5-5", "openai/gpt-6.2-sol", "gemini/gemini-2.5-pro", "anthropic/claude-sonnet-4-5-20250929"] {
        let can = table.abilities(&model(name)).unwrap_or_else(|| panic!("{name}"));
        assert!(
            can.context >= 200_000 && can.output >= 32_000 && can.images && can.pdf && can.thinking && can.structured,
            "{name}: {can:?}"
        );
    }
    assert_eq!(table.abilities(&model("ollama/llama3")), None);
    // A price of one's own does not take away what is known.
    let priced = PriceTable::builtin().with([row("openai", "gpt-4o", 1.0)]).unwrap();
    assert_eq!(priced.abilities(&model("openai/gpt-4o")).map(|can| can.context), Some(128_000));
    for (name, window) in [
        ("anthropic/claude-opus-5-5", 200_000),
        ("anthropic/claude-haiku-5-5", 100_000),
        ("openai/gpt-4o", 128_000),
        ("openai/qwen3", Abilities::UNKNOWN.context),
    ] {
        assert_eq!(table.working_window(&model(name)), window, "{name}");
    }
}

#[test]
fn the_configuration_wins() {
    let table = PriceTable::builtin().with([row("openai", "*", 0.0), row("openai", "gpt-5", 7.0), row("openai", "qwen*", 2.0)]).unwrap();
    let price = |name: &str| table.find(&model(name)).unwrap().input;
    assert_eq!(price("openai/gpt-5"), 7.0, "a row of the configuration wins over the same name");
    assert_eq!(price("openai/gpt-5-mini"), 0.25, "an exact name wins over a prefix");
    assert_eq!(price("openai/qwen3-coder"), 2.0, "a longer prefix wins");
    assert_eq!(price("openai/llama3"), 0.0);
}

#[test]
fn wrong_rows_are_named() {
    let error = |row| PriceTable::default().with([row]).unwrap_err().to_string();
    assert!(error(row("openai", "m", -1.0)).contains("openai/m"));
    assert!(error(row("openai", "m", f64::NAN)).contains("input"));
    assert!(error(row("openai", "", 1.0)).contains("models"));
    assert!(PriceTable::parse("[[price]]\nprovider = 1").is_err());
}

proptest! {
    #[test]
    fn a_cost_never_passes_its_reserve(input in 0..2_000_000_u64, output in 0..200_000_u64, read in 0..500_000_u64, write in 0..500_000_u64) {
        let table = PriceTable::builtin();
        let usage = Usage { input_tokens: input, output_tokens: output, cache_read_tokens: read, cache_write_tokens: write, ..Usage::default() };
        for name in ["anthropic/claude-sonnet-4-5", "anthropic/claude-haiku-5-5", "openai/gpt-6.2-sol", "openai/gpt-4o"] {
            let reserve = table.reserve(&model(name), input + read + write, output).unwrap();
            prop_assert!(table.cost(&model(name), &usage).unwrap() <= reserve, "{}", name);
        }
    }

    #[test]
    fn adding_up_loses_nothing(tokens in 0..u64::MAX / 8) {
        let table = PriceTable::builtin();
        let usage = Usage { input_tokens: tokens, output_tokens: tokens, cache_read_tokens: tokens, cache_write_tokens: tokens, cache_write_long_tokens: tokens };
        prop_assert!(table.cost(&model("anthropic/claude-opus-4-1"), &usage).is_some());
    }
}
