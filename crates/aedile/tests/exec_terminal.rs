//! `aedile sandbox exec` at a terminal: the command has a terminal of its own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use aedile_testkit::TestEnvironment;
use aedile_testkit::environment::User;
use rustix::termios::{LocalModes, Winsize};

use super::terminal::Terminal;

fn environment(user: User) -> (TestEnvironment, PathBuf) {
    let env = TestEnvironment::for_user(super::program(), user);
    let dir = env.work().join("dir");
    std::fs::create_dir(&dir).unwrap();
    env.give_to_user();
    (env, dir.canonicalize().unwrap())
}

fn boxed(env: &TestEnvironment, dir: &PathBuf, script: &str) -> Command {
    let mut command = env.command();
    command.args(["sandbox", "exec", "--dir"]).arg(dir).args(["--", "sh", "-c", script]);
    command
}

#[test]
fn the_command_has_a_terminal_of_its_own() {
    for user in [User::Same, User::Ordinary] {
        let (env, dir) = environment(user);
        let script = "tty; read line; echo got-$line; test -t 0 && test -t 1 && test -t 2 && : < /dev/tty && echo controls; stty -echo raw";
        let mut terminal = Terminal::start(boxed(&env, &dir, script));
        terminal.wait_for("/dev/pts/0");
        terminal.type_line("words");
        terminal.wait_for("controls");
        let settings = terminal.settings_at_end();
        let (code, screen) = terminal.end();
        assert!(code == Some(0) && screen.contains("got-words"), "{screen}");
        // What the command did to its own is not done to the person's.
        assert!(settings.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG), "the terminal was left raw");
    }
}

#[test]
fn keys_sizes_and_ends_are_those_of_the_persons_terminal() {
    let (env, dir) = environment(User::Same);
    let script = "trap 'echo interrupted; exit 7' INT; trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done";
    let terminal = Terminal::start(boxed(&env, &dir, script));
    terminal.wait_for("ready");
    terminal.resize(Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 });
    terminal.signal("WINCH");
    terminal.wait_for("33 77");
    terminal.type_text("\x03");
    terminal.wait_for("interrupted");
    assert_eq!(terminal.end().0, Some(7));
}

#[test]
fn what_nobody_reads_does_not_stop_what_is_written() {
    let (env, dir) = environment(User::Same);
    let script = "stty raw -echo; echo ready; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo whole";
    let terminal = Terminal::start(boxed(&env, &dir, script));
    terminal.wait_for("ready");
    // More than any buffer between the two terminals holds.
    terminal.type_in_background("z".repeat(300_000));
    terminal.wait_for("whole");
    let (code, screen) = terminal.end();
    assert_eq!((code, screen.matches('x').count()), (Some(0), 3_000_000));
}

#[test]
fn streams_that_are_no_terminal_stay_what_they_are() {
    let (env, dir) = environment(User::Same);
    let mut command = boxed(&env, &dir, "cat; test -t 0 || test -t 1 || echo no-terminals >&2; tty < /dev/stderr");
    command.stdin(Stdio::null());
    let said = dir.join("out");
    command.stdout(std::fs::File::create(&said).unwrap());
    let terminal = Terminal::start_with(command, [false, false, true]);
    terminal.wait_for("no-terminals");
    assert_eq!(terminal.end().0, Some(0));
    assert_eq!(std::fs::read_to_string(said).unwrap(), "/dev/pts/0\n");
}
