//! `aedile mail`.

use clap::{Args, Subcommand};
use serde_json::json;

use aedile_core::clock::uuid_v7;
use aedile_core::store::list;
use aedile_core::view::MailView;

use crate::clock::{OsEntropy, SystemClock, moment};
use crate::error::CliResult;
use crate::output::{Output, one_line, table};
use crate::{exit, state};

/// Send mail to agents and read what they sent
#[derive(Debug, Args)]
pub struct MailArgs {
    #[command(subcommand)]
    command: MailCommand,
    /// The run (its id or the eight characters that other commands print); otherwise the last one
    #[arg(long, value_name = "RUN", global = true)]
    run: Option<String>,
}

#[derive(Debug, Subcommand)]
enum MailCommand {
    /// Send mail to an agent; it is delivered between two of its turns
    Send {
        /// The agent's name
        to: String,
        /// One line; the beginning of the text when absent
        #[arg(long, short, default_value = "")]
        subject: String,
        /// The text
        #[arg(long, short)]
        body: String,
    },
    /// Print your unread mail and mark it read
    Read,
    /// List all mail of the run
    List,
}

/// Runs `aedile mail`.
pub fn cmd_mail(args: &MailArgs, out: Output) -> CliResult {
    let Some((store, run)) = state::last_run(args.run.as_deref())? else {
        if let MailCommand::Send { .. } = &args.command {
            return Err(state::nothing_yet());
        }
        out.object_or(&json!({ "mail": [] }), || vec![state::NOTHING_YET.to_owned()]);
        return Ok(exit::OK);
    };
    match &args.command {
        MailCommand::Send { to, subject, body } => {
            let subject = if subject.trim().is_empty() { one_line(body.lines().next().unwrap_or_default(), 80) } else { subject.clone() };
            let mail = aedile_fleet::send_mail(&store, (&SystemClock, &OsEntropy), run.run, ("person", to), (&subject, body))?;
            out.object_or(&json!({ "mail": mail, "to": to }), || vec![format!("sent to {to}; it is delivered when its present turn ends")]);
        }
        MailCommand::Read => {
            let holder = format!("reader/{}", uuid_v7(&SystemClock, &OsEntropy));
            let taken = aedile_fleet::take_mail(&store, run.run, "person", &holder)?;
            if out.json {
                out.object(&json!({ "mail": taken.mail }));
            } else if taken.mail.is_empty() {
                out.line("no unread mail");
            }
            for letter in taken.mail.iter().filter(|_| !out.json) {
                out.line(format!("from {}: {}", letter.from, one_line(&letter.subject, 200)));
                letter.body.lines().for_each(|line| out.line(format!("  {}", one_line(line, 2000))));
            }
            // Only now, after it was printed, is it marked read: mail is never lost between the two.
            taken.ack(&store)?;
        }
        MailCommand::List => {
            let mail: Vec<MailView> = list(&store, Some(run.run))?;
            if out.json {
                out.object(&json!({ "mail": mail }));
                return Ok(exit::OK);
            }
            let mut rows = vec![["sent", "from", "to", "subject", "state"].map(str::to_owned).to_vec()];
            for letter in &mail {
                let state = if letter.acked {
                    "read"
                } else if letter.claimed_by.is_some() {
                    "delivered"
                } else {
                    "unread"
                };
                rows.push(vec![
                    moment(letter.sent),
                    letter.from.clone(),
                    letter.to.clone(),
                    one_line(&letter.subject, 60),
                    state.to_owned(),
                ]);
            }
            table(&rows).into_iter().for_each(|row| out.line(row));
        }
    }
    Ok(exit::OK)
}
