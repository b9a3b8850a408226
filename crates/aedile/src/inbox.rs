//! `aedile` inside a box: it speaks only to the door.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aedile_core::agent_api::{AgentReply, AgentRequest};
use aedile_tools::{DoorClient, fetch_page, submit_work};
use clap::{Parser, Subcommand};

use crate::exit;
use crate::output::{Output, one_line};

/// The page that the manual shows.
#[cfg(test)]
pub const USAGE: &str = "\
aedile submit [-m SUMMARY]                            commit the changed files in scope and submit them
aedile task info                                      print the task, its scope and who else works
aedile plan submit FILE                               hand in the plan that the task asks for, as JSON (`-`: from stdin)
aedile plan schema                                    print the JSON schema of a plan
aedile mail send TO -s SUBJECT -b BODY                send mail to an agent of the run or to `person`
aedile mail read                                      print unread mail and mark it read
aedile fetch URL [--offset BYTES]                     print a page of a host that the project lists, as Markdown
";

/// The agent's side of aedile: submit work, see the task, send and read mail, read pages.
#[derive(Debug, Parser)]
#[command(name = "aedile", version)]
struct InBox {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Commit the changed files in scope and submit them
    Submit {
        /// What was done, in a few lines
        #[arg(short = 'm', long, default_value = "")]
        summary: String,
    },
    /// See the task
    Task {
        #[command(subcommand)]
        command: TaskCommand,
    },
    /// Hand in a plan, when the task is to make one
    Plan {
        #[command(subcommand)]
        command: PlanCommand,
    },
    /// Send and read mail
    Mail {
        #[command(subcommand)]
        command: MailCommand,
    },
    /// Print a page of a host that the project lists (`[fetch] hosts` in aedile.toml), as Markdown
    Fetch {
        /// The address, with https
        url: String,
        /// Where to go on in a long page
        #[arg(long, value_name = "BYTES", default_value_t = 0)]
        offset: usize,
    },
}

#[derive(Debug, Subcommand)]
enum TaskCommand {
    /// Print the task, its scope and who else works
    Info,
}

#[derive(Debug, Subcommand)]
enum PlanCommand {
    /// Hand a plan in; it is checked at once
    Submit {
        /// A file of JSON, or `-` for stdin
        file: PathBuf,
    },
    /// Print the JSON schema of a plan
    Schema,
}

#[derive(Debug, Subcommand)]
enum MailCommand {
    /// Send mail to an agent of the run or to `person`
    Send {
        /// Agent name or `person`
        to: String,
        /// One line
        #[arg(short, long)]
        subject: String,
        /// The text
        #[arg(short, long)]
        body: String,
    },
    /// Print unread mail and mark it read
    Read,
}

/// Runs the command line inside a box.
pub fn main(door: &str) -> ExitCode {
    let args = match InBox::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE));
        }
    };
    let out = Output { json: false };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => match runtime.block_on(answer(args.command, door, out)) {
            Ok(()) => ExitCode::from(exit::OK),
            Err(message) => {
                out.warn(format!("error: {message}"));
                ExitCode::from(exit::FAILURE)
            }
        },
        Err(error) => {
            out.warn(format!("error: {error}"));
            ExitCode::from(exit::FAILURE)
        }
    }
}

async fn answer(command: Command, door: &str, out: Output) -> Result<(), String> {
    let door = DoorClient::new(door).map_err(|error| error.to_string())?;
    match command {
        Command::Submit { summary } => {
            let here = std::env::current_dir().map_err(|error| error.to_string())?;
            let done = submit_work(&door, root_of(&here), &summary).await.map_err(|error| error.to_string())?;
            out.line(done.text());
        }
        Command::Task { command: TaskCommand::Info } => say(ask(&door, &AgentRequest::TaskInfo {}).await?, out),
        Command::Plan { command: PlanCommand::Submit { file } } => {
            say(ask(&door, &AgentRequest::PlanSubmit { plan: plan_in(&file)? }).await?, out);
        }
        Command::Plan { command: PlanCommand::Schema } => out.line(format!("{:#}", aedile_core::plan::plan_schema())),
        Command::Mail { command: MailCommand::Send { to, subject, body } } => {
            say(ask(&door, &AgentRequest::MailSend { to, subject, body }).await?, out);
        }
        Command::Fetch { url, offset } => {
            let page = fetch_page(&door, &url, offset).await?;
            if !page.well {
                return Err(page.text);
            }
            out.line(page.text);
        }
        Command::Mail { command: MailCommand::Read } => {
            let reply = ask(&door, &AgentRequest::MailRead { ack: Vec::new() }).await?;
            let read = match &reply {
                AgentReply::Mail { mail } => mail.iter().map(|letter| letter.id).collect(),
                _ => Vec::new(),
            };
            say(reply, out);
            // Printed, hence read. What comes in between stays unread for the next time.
            if !read.is_empty() {
                ask(&door, &AgentRequest::MailRead { ack: read }).await?;
            }
        }
    }
    Ok(())
}

/// Reads a plan. What it must hold is the orchestrator's to say.
fn plan_in(file: &Path) -> Result<serde_json::Value, String> {
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    let text = text.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is not JSON: {error}", file.display()))
}

/// The workspace: the nearest directory upwards that holds `.git`.
fn root_of(here: &Path) -> &Path {
    here.ancestors().find(|dir| dir.join(".git").exists()).unwrap_or(here)
}

async fn ask(door: &DoorClient, request: &AgentRequest) -> Result<AgentReply, String> {
    match door.call(request).await {
        Ok(AgentReply::Refused { message } | AgentReply::Over { message }) => Err(message),
        Ok(reply) => Ok(reply),
        Err(error) => Err(error.to_string()),
    }
}

fn say(reply: AgentReply, out: Output) {
    match reply {
        AgentReply::Task { key, title, prompt, scope, agent, agents, .. } => {
            out.line(format!(
                "task {key}: {title}\nyou are {agent}; others: {}\nscope: {}\n\n{prompt}",
                agents.join(", "),
                scope.join(" ")
            ));
        }
        AgentReply::Mail { mail } if mail.is_empty() => out.line("no unread mail"),
        AgentReply::Mail { mail } => {
            mail.iter().for_each(|letter| out.line(format!("from {}: {}\n{}\n", letter.from, one_line(&letter.subject, 200), letter.body)));
        }
        AgentReply::Fetched { text, .. } => out.line(text),
        AgentReply::Done { message } | AgentReply::Refused { message } | AgentReply::Over { message } => out.line(message),
    }
}
