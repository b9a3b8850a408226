//! Merges real cases and scores the answers: `aedile-bench merge-cases --cases DIR --index FILE [--tune REPO,...]`.
//!
//! `DIR` holds a folder for each case with `base`, `ours`, `theirs` and `human`; `FILE` names them, a JSON object on each line with `id`, `repo`,
//! `path`, `lang`, `kind` (`conflict`, `addadd`, `clean`) and `stratum`. Neither is part of the project. The engine runs in process and asks nobody. Cases of
//! the repositories behind `--tune` are told apart from the others, on which nothing was tuned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use aedile_code::Sides;
use aedile_code::merge::{Outcome, merge};
use anyhow::{Context, bail};
use serde_json::Value;

use crate::merge_score::{Class, score};

/// The first argument that leads here.
pub(crate) const ARGUMENT: &str = "merge-cases";
/// Languages whose conflicts count as those of code.
const CODE: [&str; 8] = ["rust", "typescript", "tsx", "go", "python", "java", "javascript", "c"];

/// What is counted of a group of cases.
#[derive(Default)]
struct Row {
    cases: usize,
    clean: usize,
    exact: usize,
    right: usize,
    bag: usize,
    wrong: usize,
    lossy: usize,
    lost: usize,
    resurrects: usize,
    declined: usize,
}

struct Wanted {
    cases: PathBuf,
    index: PathBuf,
    tuned: Vec<String>,
}

fn wanted(args: &[String]) -> anyhow::Result<Wanted> {
    let (mut cases, mut index, mut tuned) = (None, None, Vec::new());
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let value = args.next().with_context(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--cases" => cases = Some(PathBuf::from(value)),
            "--index" => index = Some(PathBuf::from(value)),
            "--tune" => tuned = value.split(',').map(str::to_owned).collect(),
            _ => bail!("{name} is unknown; known are --cases DIR, --index FILE and --tune REPO,..."),
        }
    }
    let missing = "merge-cases measures cases that are not part of the project: name them with --cases DIR --index FILE";
    Ok(Wanted { cases: cases.context(missing)?, index: index.context(missing)?, tuned })
}

/// Merges every case and prints the tables.
#[expect(clippy::print_stdout, reason = "this is a program")]
pub(crate) fn main(args: &[String]) -> anyhow::Result<()> {
    let wanted = wanted(args)?;
    let (mut rows, mut rules) = (BTreeMap::<String, Row>::new(), BTreeMap::<String, Row>::new());
    let mut millis = Vec::new();
    let index = std::fs::read_to_string(&wanted.index).with_context(|| format!("reading {}", wanted.index.display()))?;
    for line in index.lines() {
        let case: Value = serde_json::from_str(line)?;
        one(&wanted, &case, (&mut rows, &mut rules), &mut millis)?;
    }
    println!(
        "{:<34}{:>6}{:>8}{:>8}{:>8}{:>8}{:>8}{:>10}{:>7}{:>8}{:>9}",
        "% of all", "n", "clean", "exact", "right", "bag", "wrong", "r/clean", "lossy", "lost", "declined"
    );
    rows.iter().for_each(|(name, row)| println!("{}", shown(name, row)));
    println!("\nclean answers of conflicted code by the rules that settled them");
    rules.iter().for_each(|(name, row)| println!("{}", shown(name, row)));
    millis.sort_by(f64::total_cmp);
    let at =
        |part: f64| millis.get(((part * millis.len() as f64) as usize).min(millis.len().saturating_sub(1))).copied().unwrap_or_default();
    println!("\nmilliseconds a file, in process: median {:.2}, p95 {:.1}, most {:.1}", at(0.5), at(0.95), at(1.0));
    verdicts(&rows, at(0.5), at(0.95));
    Ok(())
}

fn one(
    wanted: &Wanted,
    case: &Value,
    (rows, rules): (&mut BTreeMap<String, Row>, &mut BTreeMap<String, Row>),
    millis: &mut Vec<f64>,
) -> anyhow::Result<()> {
    let text = |key: &str| case[key].as_str().with_context(|| format!("a case without {key}"));
    let (id, path, kind, language) = (text("id")?, text("path")?, text("kind")?, text("lang")?);
    let dir = wanted.cases.join(id);
    let [base, ours, theirs, human] = ["base", "ours", "theirs", "human"].map(|name| read(&dir, name));
    let (base, ours, theirs, human) = (base?, ours?, theirs?, human?);
    let sides = Sides { base: &base, ours: &ours, theirs: &theirs, path };
    let begun = Instant::now();
    let outcome = merge(&sides);
    millis.push(begun.elapsed().as_secs_f64() * 1000.0);
    let is_code = CODE.contains(&language);
    let mut names = vec![format!("{kind}, {}", if is_code { "code" } else { "other" })];
    if kind == "conflict" && is_code {
        let half = if wanted.tuned.iter().any(|repo| Some(repo.as_str()) == case["repo"].as_str()) { "tuned on" } else { "not tuned on" };
        names.extend([format!("  {half}"), format!("  {}", text("stratum")?), format!("  language {language}")]);
    }
    for name in &names {
        count(rows.entry(name.clone()).or_default(), &sides, &human, &outcome);
    }
    if let (Outcome::Clean { receipt, .. }, "conflict", true) = (&outcome, kind, is_code) {
        let mut by: Vec<&str> = receipt.regions.iter().filter_map(|region| region.by).collect();
        by.sort_unstable();
        by.dedup();
        count(rules.entry(by.join("+")).or_default(), &sides, &human, &outcome);
    }
    Ok(())
}

fn read(dir: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(dir.join(name)).with_context(|| format!("reading {name} of {}", dir.display()))
}

fn count(row: &mut Row, sides: &Sides<'_>, human: &[u8], outcome: &Outcome) {
    row.cases += 1;
    match outcome {
        Outcome::Conflict { .. } => {}
        Outcome::Declined { .. } => row.declined += 1,
        Outcome::Clean { bytes, .. } => {
            let score = score(sides, human, bytes);
            row.clean += 1;
            row.exact += usize::from(score.class == Class::Exact);
            row.right += usize::from(score.class.is_right());
            row.bag += usize::from(score.class == Class::Bag);
            row.wrong += usize::from(score.class.is_wrong());
            row.lossy += usize::from(score.class == Class::Lossy);
            row.lost += score.lost;
            row.resurrects += usize::from(score.class.is_wrong() && score.resurrected > 0);
        }
    }
}

fn percent(part: usize, of: usize) -> f64 {
    100.0 * part as f64 / of.max(1) as f64
}

fn shown(name: &str, row: &Row) -> String {
    let of = |part| percent(part, row.cases);
    format!(
        "{name:<34}{:>6}{:>8.1}{:>8.1}{:>8.1}{:>8.1}{:>8.1}{:>10.1}{:>7.1}{:>8}{:>9}",
        row.cases,
        of(row.clean),
        of(row.exact),
        of(row.right),
        of(row.bag),
        of(row.wrong),
        percent(row.right, row.clean),
        of(row.lossy),
        row.lost,
        row.declined
    )
}

/// Each target beside its figure.
#[expect(clippy::print_stdout, reason = "this is a program")]
fn verdicts(rows: &BTreeMap<String, Row>, median: f64, p95: f64) {
    let none = Row::default();
    let row = |name: &str| rows.get(name).unwrap_or(&none);
    let (all, agents, clean) = (row("conflict, code"), row("  agent-era"), row("clean, code"));
    let of = |row: &Row, part: usize| percent(part, row.cases);
    println!("\nconflicted code files, no model");
    for (what, figure, target, at_least) in [
        ("right of all, %", of(all, all.right), 30.0, true),
        ("silently wrong of all, %", of(all, all.wrong), 4.0, false),
        ("lossy of all, %", of(all, all.lossy), 0.2, false),
        ("right of clean, %", percent(all.right, all.clean), 80.0, true),
        ("right of agents' conflicts, %", of(agents, agents.right), 24.0, true),
        ("refused of what git merges, %", of(clean, clean.cases - clean.clean), 0.5, false),
        ("milliseconds a file, median", median, 25.0, false),
        ("milliseconds a file, p95", p95, 150.0, false),
    ] {
        let met = if at_least { figure >= target } else { figure <= target };
        let word = if at_least { "at least" } else { "at most" };
        println!("{what:<34}{figure:>8.2}   {word} {target:<6} {}", if met { "met" } else { "NOT MET" });
    }
}
