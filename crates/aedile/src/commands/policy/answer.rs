//! `aedile policy answer`.

use std::time::Duration;

use aedile_core::Clock as _;
use aedile_core::ask::AskScope;
use aedile_core::event::Event;
use aedile_core::store::{Append, Store as _, list};
use aedile_core::view::AskView;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::clock::SystemClock;
use crate::error::{CliError, CliResult};
use crate::output::Output;
use crate::{exit, state};

/// The longest that an answer can be given for.
const DAYS_MAX: u64 = 365;

#[derive(Debug, Args)]
pub struct AnswerArgs {
    /// The question, as `aedile policy asks` names it
    #[arg(value_name = "QUESTION")]
    question: String,
    /// The answer
    #[arg(value_enum)]
    answer: Word,
    /// How long it holds, as 30m, 1h or 2d; as long as the run when absent
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    time: Option<Duration>,
    /// How far it reaches: this agent's requests of this kind (`request`), to this host (`host`) or by this rule (`agent`), or to this host for every
    /// agent of the run (`run`)
    #[arg(long, value_name = "SCOPE", default_value = "request")]
    scope: AskScope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Word {
    /// Let it pass
    Allow,
    /// Do not
    Deny,
}

fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a number of seconds, minutes, hours or days, such as 90s, 30m, 1h or 2d".to_owned();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 24 * 3600,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(unit).filter(|seconds| (1..=DAYS_MAX * 24 * 3600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| format!("must be between a second and {DAYS_MAX} days"))
}

/// Runs `aedile policy answer`.
pub fn cmd_answer(args: &AnswerArgs, out: Output) -> CliResult {
    let unknown = || {
        CliError::usage(format!("there is no question {}", args.question))
            .hint("`aedile policy asks` lists them, with --all also those that are answered")
    };
    let store = state::open_existing()?.ok_or_else(unknown)?;
    let named = |ask: &AskView| ask.ask.to_string() == args.question || ask.ask.short() == args.question;
    let mut found = list::<AskView>(&store, None)?.into_iter().filter(named);
    let ask = match (found.next(), found.next()) {
        (Some(ask), None) => ask,
        (Some(_), Some(_)) => {
            return Err(CliError::usage(format!("more than one question is called {}", args.question))
                .hint("give the whole id, as --json prints it"));
        }
        (None, _) => return Err(unknown()),
    };
    let allow = args.answer == Word::Allow;
    let until = args.time.map(|time| SystemClock.now().plus(time));
    let event = Event::AskAnswered { run: ask.run, ask: ask.ask, allow, scope: args.scope, until };
    store.append(Append::of(ask.run, event))?;
    out.object_or(&json!({ "ask": ask.ask, "allow": allow, "scope": args.scope, "until": until }), || {
        let word = if allow { "allowed" } else { "denied" };
        vec![format!("{word}: {} {}{} for {} (scope {})", ask.method, ask.host, ask.path, ask.agent, args.scope)]
    });
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_plain_units() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("1h", 3600), ("2d", 172_800)] {
            assert_eq!(time(text).unwrap().as_secs(), seconds);
        }
        for text in ["", "h", "0s", "1", "1w", "-1h", "400d", "1.5h", "99999999999999999999d", "1ä"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
