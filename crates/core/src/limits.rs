//! Every limit in one place, with the unit in its name.

use std::time::Duration;

/// A claim lives this long unless it is renewed.
pub const LEASE: Duration = Duration::from_secs(60);
/// A worker renews its claims this often.
pub const LEASE_RENEW_EVERY: Duration = Duration::from_secs(15);
/// The largest event, as JSON.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;
/// The most items of a list from outside that one event names; it says how many more there were.
pub const EVENT_LIST_MAX: usize = 200;
/// The characters of such an item that stand in the event.
pub const EVENT_ITEM_CHARS_MAX: usize = 1000;
/// The most bytes of such a list, as JSON.
pub const EVENT_LIST_BYTES_MAX: usize = 32 * 1024;
/// A text from outside that is longer than this many bytes stands in an event with its beginning and its end.
pub const EVENT_TEXT_BYTES_MAX: usize = 8 * 1024;
/// The largest blob.
pub const BLOB_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most events that one append may carry.
pub const APPEND_EVENTS_MAX: usize = 256;
/// The most appends that one transaction of the writer groups.
pub const GROUP_COMMIT_APPENDS_MAX: usize = 128;
/// The most rows that one read of the log returns.
pub const READ_EVENTS_MAX: usize = 10_000;

/// The most tasks in one run.
pub const TASKS_PER_RUN_MAX: usize = 1000;
/// The most agents at work at once, whatever was asked for.
pub const AGENTS_MAX: usize = 64;
/// The most tasks of a plan that a model makes.
pub const PLAN_TASKS_MAX: usize = 50;
/// How often a plan is handed in before a person is asked.
pub const PLAN_ROUNDS_MAX: u32 = 3;
/// The longest goal, in bytes.
pub const GOAL_BYTES_MAX: usize = 16 * 1024;
/// The shortest prompt of a planned task, in bytes: an agent that knows nothing else cannot begin with less.
pub const PLAN_PROMPT_BYTES_MIN: usize = 40;
/// The longest prompt of a planned task, in bytes.
pub const PLAN_PROMPT_BYTES_MAX: usize = 16 * 1024;
/// The largest planned task: its prompt, its scope and what must be true of it, in bytes as JSON. Its event then fits.
pub const PLAN_TASK_BYTES_MAX: usize = 96 * 1024;
/// How often a person may ask for another plan in one run.
pub const PLAN_WISHES_MAX: usize = 5;
/// The most that they may say each time, in bytes; about what a terminal takes in one line.
pub const PLAN_WISH_BYTES_MAX: usize = 4096;
/// Reasons against a plan that are told at once.
pub const PLAN_REASONS_MAX: usize = 20;
/// Levels of new directories that one path of a plan may bring.
pub const PLAN_NEW_LEVELS_MAX: usize = 2;
/// Tasks of which no two could be worked on at once are made one up to this many.
pub const PLAN_JOINED_MAX: usize = 4;
/// Model requests that one turn of planning may make.
pub const PLAN_STEPS_MAX: u32 = 60;
/// A turn of planning is ended after this long.
pub const PLAN_TIMEOUT: Duration = Duration::from_secs(900);
/// Lines of the repository's layout that a planning agent is told.
pub const PLAN_LAYOUT_LINES_MAX: usize = 400;

/// How often a change goes back to its agent before a person is asked.
pub const RETURNS_MAX: u32 = 3;
/// How often an agent is started again after it died without a result.
pub const RESTARTS_MAX: u32 = 3;
/// The largest mail body.
pub const MAIL_BYTES_MAX: usize = 64 * 1024;
/// The most pieces of unread mail for one agent; a sender is told when it is reached.
pub const MAIL_UNREAD_MAX: usize = 200;

/// The most turns of our own agent within one prompt.
pub const AGENT_STEPS_MAX: u32 = 200;
/// The most turns of a sub-agent of our own agent.
pub const SUBAGENT_STEPS_MAX: u32 = 100;
/// How long an interrupted turn waits for the orderly end of its sub-agents: longer than hooks may hold up the end of one of their calls.
pub const SUBAGENT_END_MAX: Duration = Duration::from_secs(8);
/// Sub-agents of one session at work at once; further ones wait.
pub const SUBAGENTS_AT_ONCE_MAX: usize = 4;
/// The same tool call with the same answer this many times in a row is a loop.
pub const AGENT_LOOP_REPEATS_MAX: u32 = 5;
/// The context window that our own agent assumes when the configuration names none, in tokens.
pub const AGENT_CONTEXT_TOKENS_DEFAULT: u64 = 128_000;
/// The most of a larger window that our own agent fills unless the configuration names a number, in tokens: every request pays for all of it.
pub const AGENT_CONTEXT_TOKENS_MAX: u64 = 200_000;
/// How often our own agent asks again after an answer that was cut, and how often it lets an answer at the output limit go on.
pub const AGENT_ANSWER_RETRIES_MAX: u32 = 2;
/// Read-only tool calls that run side by side.
pub const AGENT_PARALLEL_CALLS_MAX: usize = 8;
/// How much of one instruction file (`AGENTS.md`, `CLAUDE.md`) goes into the system prompt.
pub const INSTRUCTION_BYTES_MAX: usize = 32 * 1024;
/// The largest file of hooks and permission rules (`settings.json`).
pub const SETTINGS_BYTES_MAX: u64 = 256 * 1024;
/// Permission rules of one kind and one file; further ones are not used.
pub const PERMISSION_RULES_MAX: usize = 200;
/// Hooks of one session; further ones are not run.
pub const HOOKS_MAX: usize = 64;
/// A hook without a limit of its own is ended after this.
pub const HOOK_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest limit a hook may have.
pub const HOOK_TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// The longest that hooks may hold up the end of a session or of an interrupted call.
pub const HOOK_TIMEOUT_AT_END: Duration = Duration::from_secs(5);
/// The most that a hook may say; the answer of one that says more is not used.
pub const HOOK_OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Times in one prompt that `Stop` hooks may send the agent back to work.
pub const HOOK_STOP_BLOCKS_MAX: u32 = 8;
/// Tool output beyond this is cut in the middle; head and tail stay.
pub const TOOL_OUTPUT_BYTES_MAX: usize = 30_000;
/// A shell command without a limit of its own is ended after this.
pub const BASH_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest limit a shell command may ask for.
pub const BASH_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// The largest file that `read` shows without a range.
pub const READ_FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Lines that `read` shows at once.
pub const READ_LINES_MAX: usize = 2000;
/// One protocol line from an agent.
pub const PROTOCOL_LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Lines from an agent that are not its protocol; one more ends the session.
pub const PROTOCOL_GARBAGE_LINES_MAX: usize = 100;
/// Lines that an agent may send at once, beyond what it may send all the time; one more ends the session.
pub const PROTOCOL_BURST_LINES_MAX: u64 = 50_000;
/// Lines that an agent may send all the time, in a second.
pub const PROTOCOL_LINES_PER_SECOND: u64 = 2_000;
/// Bytes that an agent may send at once, beyond what it may send all the time; one more ends the session.
pub const PROTOCOL_BURST_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes that an agent may send all the time, in a second.
pub const PROTOCOL_BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;
/// Messages that may wait until the other side of a protocol reads them.
pub const PROTOCOL_QUEUE_MAX: usize = 4096;
/// An agent that has not answered the handshake after this is given up on.
pub const AGENT_HANDSHAKE: Duration = Duration::from_secs(120);
/// The end of an agent's stderr that is kept as evidence.
pub const STDERR_TAIL_BYTES_MAX: usize = 16 * 1024;

/// An agent that shows neither a process change nor a token for this long is called silent.
pub const AGENT_SILENT: Duration = Duration::from_secs(600);
/// A turn is ended after this long.
pub const TURN_TIMEOUT: Duration = Duration::from_secs(3600);
/// A gate without a limit of its own is ended after this.
pub const GATE_TIMEOUT: Duration = Duration::from_secs(1800);
/// Gate output kept as evidence; head and tail stay.
pub const GATE_OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Time between asking a process to end and killing it.
pub const TERM_GRACE: Duration = Duration::from_secs(3);

/// The largest policy file; larger ones are data.
pub const POLICY_FILE_BYTES_MAX: usize = 1024 * 1024;
/// The largest policy file of a project or a run: it is kept in the event that starts the run, beside its gates.
pub const RUN_POLICY_BYTES_MAX: usize = 48 * 1024;
/// The least memory in which a program starts in a box.
pub const BOX_MEMORY_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// The largest request body that a door reads.
pub const DOOR_BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The largest call of the agent's own API at a door: a piece of mail or a plan, with its frame.
pub const DOOR_CALL_BYTES_MAX: usize = 1024 * 1024;
/// The head of a request at a door must have come after this, and each further piece of its body.
pub const DOOR_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The headers of one request at a door.
pub const DOOR_HEADER_BYTES_MAX: usize = 64 * 1024;
/// The header lines of one request at a door, and of an answer to it from another host.
pub const DOOR_HEADER_LINES_MAX: usize = 100;
/// The largest answer of another host through the proxy of a door.
pub const PROXY_ANSWER_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Bytes that a door sends to other hosts in all, where no policy says less.
pub const DOOR_BYTES_OUT_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// Bytes of answers of other hosts that come through a door in all, where no policy says less.
pub const DOOR_BYTES_IN_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// Connections at once to one door; more wait.
pub const DOOR_CONNECTIONS_MAX: usize = 64;
/// Requests at once through one door.
pub const DOOR_CONCURRENT_MAX: usize = 16;
/// Tries of a model request that was answered with a retryable error.
pub const MODEL_TRIES_MAX: u32 = 5;
/// The longest `Retry-After` that is waited for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);
/// Failed requests in a row, of all agents together, after which a model provider is left alone.
pub const BREAKER_FAILURES: usize = 5;
/// Failures that are further apart than this are not a row.
pub const BREAKER_WINDOW: Duration = Duration::from_secs(60);
/// How long a provider is left alone before one request tries it; doubled each time that request fails.
pub const BREAKER_PAUSE: Duration = Duration::from_secs(30);
/// The longest that is waited until a provider is tried again, whatever it asks for itself.
pub const BREAKER_PAUSE_MAX: Duration = Duration::from_secs(300);
/// Requests to other hosts that wait at one door until others have ended.
pub const DOOR_WAITING_MAX: usize = 256;
/// Models that an agent may change to besides its own.
pub const FALLBACKS_MAX: usize = 8;
/// The wait before the second try of a model request; doubled for each further one.
pub const MODEL_BACKOFF_BASE: Duration = Duration::from_millis(500);
/// The longest wait between tries that the provider did not ask for.
pub const MODEL_BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A model that sends no byte for this long is given up on.
pub const MODEL_SILENT_MAX: Duration = Duration::from_secs(300);
/// The most bytes of one answer; a longer one is taken for endless and given up on.
pub const MODEL_ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Output tokens asked for when a request names none.
pub const MODEL_OUTPUT_TOKENS_DEFAULT: u32 = 8192;

/// One git command.
pub const GIT_TIMEOUT: Duration = Duration::from_secs(300);
/// The largest pack that an import reads.
pub const IMPORT_PACK_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// The most paths that one change may touch.
pub const CHANGE_PATHS_MAX: usize = 100_000;
/// The largest file in which conflict markers are looked for, in bytes.
pub const MARKERS_FILE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A file over this size is recorded in a snapshot by name and hash only.
pub const SNAPSHOT_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Single existing entries that a file scope may bind read-only before the import filter alone decides.
pub const SCOPE_BINDS_MAX: usize = 512;
