//! `aedile sandbox exec`, as its harshest user: any command in a box round a directory of one's own.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use aedile_testkit::environment::{Finished, ORDINARY_ID, User};
use aedile_testkit::{Conversation, ScriptedServer, Step, TestEnvironment, require, wait_for};

const LIMIT: Duration = Duration::from_secs(30);
const USERS: [User; 2] = [User::Same, User::Ordinary];

/// An environment with the directory `work/dir`, which the user of the program owns.
fn environment(user: User) -> (TestEnvironment, PathBuf) {
    let env = TestEnvironment::for_user(super::program(), user);
    let dir = env.work().join("dir");
    std::fs::create_dir(&dir).unwrap();
    env.give_to_user();
    (env, dir.canonicalize().unwrap())
}

/// A command in a box round the directory.
fn command(env: &TestEnvironment, dir: &Path, options: &[&str], words: &[&str]) -> Command {
    let mut command = env.command();
    command.args(["sandbox", "exec", "--dir"]).arg(dir).args(options).arg("--").args(words);
    command
}

/// Runs a shell script in a box round the directory.
fn script(env: &TestEnvironment, dir: &Path, options: &[&str], script: &str) -> Finished {
    env.run_command(command(env, dir, options, &["sh", "-c", script]), LIMIT)
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_exit_code_is_the_commands() {
    for user in USERS {
        let (env, dir) = environment(user);
        std::fs::write(dir.join("plain"), "no program").unwrap();
        mode(&dir.join("plain"), 0o644);
        for (words, code) in [
            (&["true"][..], 0),
            (&["sh", "-c", "exit 7"], 7),
            (&["sh", "-c", "exit 255"], 255),
            (&["sh", "-c", "kill -TERM $$"], 143),
            (&["sh", "-c", "kill -9 $$"], 137),
            (&["sh", "-c", "exec no-such-program 2>/dev/null"], 127),
            (&["no-such-program"], 127),
            (&["./missing"], 127),
            (&["./plain"], 126),
        ] {
            let finished = env.run_command(command(&env, &dir, &[], words), LIMIT);
            let said = finished.expect_code(code);
            assert_eq!(said.is_empty(), !matches!(words[0], "no-such-program" | "./missing" | "./plain"), "{words:?}: {said}");
            assert!(said.is_empty() || said.contains(words[0]), "{words:?}: {said}");
        }
        env.assert_nothing_left();
    }
}

#[test]
fn streams_pass_byte_for_byte() {
    for user in USERS {
        let (env, dir) = environment(user);
        let bytes: Vec<u8> = (0..700_001_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
        let mut command = command(&env, &dir, &[], &["sh", "-c", "cat; printf 'to stderr' >&2"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let sent = bytes.clone();
        let sender = std::thread::spawn(move || stdin.write_all(&sent));
        let output = child.wait_with_output().unwrap();
        sender.join().unwrap().unwrap();
        assert!(output.status.success());
        assert!(output.stdout == bytes, "{} bytes came of {}", output.stdout.len(), bytes.len());
        assert_eq!(output.stderr, b"to stderr");
        env.assert_nothing_left();
    }
}

#[test]
fn the_directory_is_at_its_own_path_and_everything_else_is_away() {
    for user in USERS {
        let (env, dir) = environment(user);
        std::fs::write(env.home().join("private"), "private").unwrap();
        std::fs::write(env.work().join("beside"), "beside").unwrap();
        let text = format!(
            "pwd; cat {}/private {}/beside 2>/dev/null; touch ../new /usr/new 2>/dev/null; mkdir -p a/b && echo in > a/b/c && mv a/b/c moved; rm -r a; ls",
            env.home().display(),
            env.work().display()
        );
        // Relative, and through a link: the box still sees the real path.
        symlink(&dir, env.work().join("link")).unwrap();
        for name in ["dir", "./dir", "link"] {
            let _ = std::fs::remove_file(dir.join("moved"));
            let finished = script(&env, Path::new(name), &[], &text);
            assert_eq!(finished.success(), format!("{}\nmoved\n", dir.display()));
            assert_eq!(std::fs::read_to_string(dir.join("moved")).unwrap(), "in\n");
        }
        assert!(!env.work().join("new").exists());
        env.assert_nothing_left();
    }
}

/// A file system that is unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn new(kind: &str, at: &Path) -> Self {
        super::output_of("mount", &["-t", kind, kind, &at.to_string_lossy()], Path::new("/"));
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        super::output_of("umount", &[&self.0.to_string_lossy()], Path::new("/"));
    }
}

/// What is written belongs to the directory's owner, and what was there keeps its owner, whoever that is.
fn owners_hold(env: &TestEnvironment, dir: &Path, owner: u32, other: u32) {
    std::fs::write(dir.join("other"), "other\n").unwrap();
    mode(&dir.join("other"), 0o644);
    if is_root() {
        std::os::unix::fs::chown(dir, Some(owner), Some(owner)).unwrap();
        std::os::unix::fs::chown(dir.join("other"), Some(other), Some(other)).unwrap();
    }
    let before = std::fs::metadata(dir.join("other")).unwrap();
    let finished = script(env, dir, &[], "cat other; mkdir sub && echo new > sub/new && ln -s new sub/link && test -O sub/new");
    assert_eq!(finished.success(), "other\n");
    for path in ["sub", "sub/new", "sub/link"] {
        let found = dir.join(path).symlink_metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (owner, std::fs::metadata(dir).unwrap().gid()), "{path} in {}", dir.display());
    }
    let after = std::fs::metadata(dir.join("other")).unwrap();
    assert_eq!(
        (after.uid(), after.ino(), after.ctime(), after.ctime_nsec()),
        (before.uid(), before.ino(), before.ctime(), before.ctime_nsec())
    );
    assert_eq!(std::fs::metadata(dir).unwrap().uid(), owner);
    std::fs::remove_dir_all(dir.join("sub")).unwrap();
    env.assert_nothing_left();
}

#[test]
fn what_is_written_belongs_to_the_directorys_owner() {
    let (env, dir) = environment(User::Ordinary);
    let owner = std::fs::metadata(&dir).unwrap().uid();
    owners_hold(&env, &dir, owner, owner);
    if !require("owners as root", (!is_root()).then_some("only root starts boxes for the directories of others")) {
        return;
    }
    for owner in [0, 4321] {
        let (env, dir) = environment(User::Same);
        owners_hold(&env, &dir, owner, 1234);
        let shared = tempfile::Builder::new().prefix("aedile-exec-").tempdir_in("/dev/shm").unwrap();
        owners_hold(&env, shared.path(), owner, 1234);
    }
}

/// ramfs has no id-mapped mounts, so root's box works on a copy there.
#[test]
fn a_file_system_without_id_mapped_mounts_is_written_too() {
    if !require("exec on a copy", (!is_root()).then_some("only root mounts a file system and needs the copy")) {
        return;
    }
    let (env, dir) = environment(User::Same);
    let mounted = Mounted::new("ramfs", &dir);
    let dir = dir.join("tree");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("gone"), "gone").unwrap();
    std::fs::write(dir.join("kept"), "kept").unwrap();
    std::os::unix::fs::chown(&dir, Some(4321), Some(4321)).unwrap();
    std::os::unix::fs::chown(dir.join("kept"), Some(1234), Some(1234)).unwrap();
    let finished = script(&env, &dir, &[], "rm gone; echo new > new; pwd; exit 3");
    finished.expect_code(3);
    assert_eq!(finished.stdout, format!("{}\n", dir.display()));
    assert!(!dir.join("gone").exists());
    let owner = |name: &str| std::fs::metadata(dir.join(name)).unwrap().uid();
    assert_eq!((owner("new"), owner("kept"), owner(".")), (4321, 1234, 4321));
    let copies = || std::fs::read_dir(env.state().join("exec")).unwrap().count();
    assert_eq!(copies(), 0, "the copy is gone");
    // What a killed one could not give back is kept until it is cleaned away.
    let killed = env.start(command(&env, &dir, &[], &["sh", "-c", "echo unfinished > unfinished; echo up; sleep 500"]));
    killed.wait_for_stdout("up", LIMIT);
    env.run(["clean", "--days", "0"]).expect_code(0);
    assert_eq!(copies(), 1, "a box that runs keeps its copy");
    killed.kill_9();
    let kept = env.run(["clean", "--days", "0", "--dry-run", "--json"]).last_json();
    let kept = PathBuf::from(kept["removed"][0].as_str().unwrap());
    assert!(super::output_of("find", &[".", "-name", "unfinished"], &kept).lines().count() == 1);
    env.run(["clean", "--days", "0"]).expect_code(0);
    assert_eq!(copies(), 0);
    drop(mounted);
    env.assert_nothing_left();
}

#[test]
fn only_what_the_globs_allow_is_writable() {
    for user in USERS {
        for (globs, wrote) in [
            (&["src/**"][..], "src/deep/new src/lib new/"),
            (&["src/lib"], "src/lib"),
            (&["docs/"], "docs/new"),
            (&["src/**", "docs/**"], "docs/new src/deep/new src/lib"),
            (&["fresh/here/**"], "fresh/here/new"),
            (&["*.md"], "top.md"),
        ] {
            let (env, dir) = environment(user);
            for path in ["src/deep", "docs", ".git"] {
                std::fs::create_dir_all(dir.join(path)).unwrap();
            }
            for path in ["src/lib", "top.md", "other"] {
                std::fs::write(dir.join(path), "old\n").unwrap();
            }
            env.give_to_user();
            let options: Vec<&str> = globs.iter().flat_map(|glob| ["--write", glob]).collect();
            let tried = "for path in docs/new fresh/here/new src/deep/new src/lib top.md other .git/config new/new; do (echo new > $path) 2>/dev/null && echo $path; done";
            let finished = script(&env, &dir, &options, tried);
            let written: Vec<&str> = finished.stdout.lines().collect();
            let expected: Vec<&str> = wrote.split(' ').filter(|path| !path.ends_with('/')).collect();
            assert_eq!(written, expected, "{globs:?}: {}", finished.stderr);
            for path in &written {
                assert_eq!(std::fs::read_to_string(dir.join(path)).unwrap(), "new\n");
            }
            env.assert_nothing_left();
        }
    }
}

#[test]
fn read_only_paths_are_at_their_own_place() {
    for user in USERS {
        let (env, dir) = environment(user);
        let shown = env.work().join("shown");
        std::fs::create_dir(&shown).unwrap();
        std::fs::write(shown.join("file"), "shown\n").unwrap();
        std::fs::write(env.work().join("single"), "single\n").unwrap();
        std::fs::write(env.work().join("hidden"), "hidden\n").unwrap();
        env.give_to_user();
        let work = env.work().canonicalize().unwrap();
        let text = format!(
            "cd {} && cat shown/file single; ls; (echo x > shown/file) 2>/dev/null || (echo x > shown/more) 2>/dev/null || (echo x > single) 2>/dev/null || echo refused",
            work.display()
        );
        let shown = shown.canonicalize().unwrap();
        for options in [&["--ro", "shown", "--ro", "./single"][..], &["--ro", &shown.to_string_lossy(), "--ro", "single"]] {
            let finished = script(&env, &dir, options, &text);
            assert_eq!(finished.success(), "shown\nsingle\ndir\nshown\nsingle\nrefused\n", "{}", finished.stderr);
        }
        for (path, part) in [("/", "root"), ("missing", "missing does not exist"), ("../state", "state"), ("/proc", "/proc")] {
            let finished = script(&env, &dir, &["--ro", path], "echo ran");
            assert!(finished.expect_code(2).contains(part) && finished.stdout.is_empty(), "{path}: {}", finished.stderr);
        }
    }
}

#[test]
fn the_environment_holds_what_was_asked_for_and_nothing_of_the_persons() {
    for user in USERS {
        let (mut env, dir) = environment(user);
        for name in ["MY_TOKEN", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "SSH_AUTH_SOCK", "LD_PRELOAD_NOT"] {
            env.var(name, format!("/leak-{name}"));
        }
        // What is planted has to go somewhere.
        env.var("AEDILE_STATE", env.work().join("leak-AEDILE_STATE"));
        let options = ["--env", "A=b=c d", "--env", "EMPTY=", "--env", "TWICE=1", "--env", "TWICE=2"];
        let finished = script(&env, &dir, &options, "env; cat /proc/*/environ | tr '\\0' '\\n'");
        let said = finished.success();
        for line in ["A=b=c d", "EMPTY=", "TWICE=2"] {
            assert!(said.lines().any(|found| found == line), "{line}: {said}");
        }
        let names: Vec<&str> = said.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        assert!(!said.contains("leak-") && !names.contains(&"XDG_STATE_HOME") && !said.contains("TWICE=1"), "{said}");
        assert!(!said.contains(&*env.home().to_string_lossy()), "{said}");
        for pair in ["NAME", "=value", ""] {
            let finished = script(&env, &dir, &["--env", pair], "echo ran");
            assert!(finished.expect_code(2).contains("NAME=VALUE") && finished.stdout.is_empty());
        }
    }
}

#[test]
fn directories_that_no_box_may_have() {
    for user in USERS {
        let (env, dir) = environment(user);
        std::fs::create_dir_all(env.state().join("inner")).unwrap();
        std::fs::write(env.work().join("file"), "").unwrap();
        for (target, name) in [(env.home(), "to-home"), (env.state().join("inner"), "to-state"), (PathBuf::from("/"), "to-root")] {
            symlink(target, env.work().join(name)).unwrap();
        }
        env.give_to_user();
        let (home, state, root) = (env.home(), env.state(), env.root().to_owned());
        for (dir, part) in [
            (Path::new("/"), "root directory"),
            (&home, "your home"),
            (&root, "state"),
            (&state, "state"),
            (&state.join("inner"), "state"),
            (state.parent().unwrap(), "state"),
            (Path::new("to-home"), "your home"),
            (Path::new("to-state"), "state"),
            (Path::new("to-root"), "root directory"),
            (Path::new("missing"), "missing does not exist"),
            (Path::new("file"), "not a directory"),
            (Path::new("/usr"), "system"),
        ] {
            let finished = script(&env, dir, &[], "echo ran");
            let said = finished.expect_code(2);
            assert!(said.starts_with("error: ") && said.contains(part) && finished.stdout.is_empty(), "{}: {said}", dir.display());
        }
        // A state directory that is not there yet, behind a link into DIR.
        symlink(&dir, env.work().join("to-dir")).unwrap();
        let mut command = command(&env, &dir, &[], &["true"]);
        command.env("AEDILE_STATE", env.work().join("to-dir/later/state"));
        assert!(env.run_command(command, LIMIT).expect_code(2).contains("state"));
        let finished = env.run(["--json", "sandbox", "exec", "--dir", "/", "--", "true"]);
        assert_eq!(finished.last_json()["exit_code"], 2);
        for args in
            [&["sandbox", "exec", "--", "true"][..], &["sandbox", "exec", "--dir", "dir"], &["sandbox", "exec", "--dir", "dir", "true"]]
        {
            env.run(args).expect_code(2);
        }
    }
}

/// All processes below one.
fn below(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> = lists.flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect();
    children.iter().copied().chain(children.iter().flat_map(|child| below(*child))).collect()
}

#[test]
fn the_box_is_nobody_on_the_host() {
    if !require("the box's id on the host", (!is_root()).then_some("only root could give a box an id of root")) {
        return;
    }
    let (env, dir) = environment(User::Same);
    let mut running = env.start(command(&env, &dir, &[], &["sh", "-c", "sleep 100 & echo up; wait"]));
    running.wait_for_stdout("up", LIMIT);
    // The launcher, which is not in the box, may still be on its way out.
    let space = |process: u32| std::fs::read_link(format!("/proc/{process}/ns/pid")).unwrap_or_default();
    let processes: Vec<u32> = below(running.id()).into_iter().filter(|process| space(*process) != space(std::process::id())).collect();
    assert!(processes.len() >= 3, "the box's first process, the shell and what it started: {processes:?}");
    for process in processes {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        for name in ["Uid:", "Gid:"] {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            assert!(line.split_whitespace().skip(1).all(|id| id != "0"), "{process}: {line}");
        }
    }
    assert!(running.is_running());
    running.signal("TERM");
    running.wait(LIMIT).expect_code(143);
    env.assert_nothing_left();
}

#[test]
fn signals_are_handed_on_and_nothing_outlives_the_program() {
    for user in USERS {
        let (env, dir) = environment(user);
        let start = |text: &str| {
            let running = env.start(command(&env, &dir, &[], &["sh", "-c", text]));
            running.wait_for_stdout("up", LIMIT);
            running
        };
        let polite = "trap 'echo saved > saved; exit 9' TERM; echo up; while :; do sleep 0.02; done";
        for name in ["INT", "TERM", "HUP"] {
            let running = start(polite);
            running.signal(name);
            running.wait(LIMIT).expect_code(9);
            assert_eq!(std::fs::read_to_string(dir.join("saved")).unwrap(), "saved\n");
            std::fs::remove_file(dir.join("saved")).unwrap();
        }
        let stubborn = start("trap 'echo asked' TERM; echo up; while :; do sleep 0.02; done");
        stubborn.signal("INT");
        stubborn.wait_for_stdout("asked", LIMIT);
        stubborn.signal("INT");
        stubborn.wait(LIMIT).expect_code(137);
        env.assert_nothing_left();

        let killed = start("setsid sleep 500 & (sleep 501 &) ; echo up; exec sleep 502");
        killed.kill_9();
        env.assert_nothing_left();
        env.run(["clean", "--days", "0"]).success();
        assert_eq!(std::fs::read_dir(env.state().join("exec")).unwrap().count(), 0, "a box that needs no copy leaves nothing");
    }
}

/// One HTTP/1.1 exchange with the door, by the shell alone.
fn ask(method: &str, path: &str, body: &str) -> String {
    let head = format!(
        "{method} {path} HTTP/1.1\\r\\nhost: 127.0.0.1:7070\\r\\nauthorization: Bearer placeholder\\r\\ncontent-type: application/json"
    );
    format!(
        "exec 3<>/dev/tcp/127.0.0.1/7070; printf '{head}\\r\\nconnection: close\\r\\ncontent-length: {}\\r\\n\\r\\n%s' '{body}' >&3; cat <&3; exec 3<&-",
        body.len()
    )
}

#[test]
fn without_a_door_there_is_no_network() {
    let missing = (!Path::new("/bin/bash").exists()).then_some("there is no bash, whose /dev/tcp the test uses");
    if !require("no network", missing) {
        return;
    }
    for user in USERS {
        let (env, dir) = environment(user);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let text = format!(
            "for port in {} 7070; do (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null && echo reached $port; done; grep -cv 'lo:\\||' /proc/net/dev",
            listener.local_addr().unwrap().port()
        );
        for options in [&[][..], &["--net", "none"]] {
            let finished = env.run_command(command(&env, &dir, options, &["bash", "-c", &text]), LIMIT);
            assert_eq!(finished.stdout, "0\n", "{}", finished.stderr);
        }
        assert!(listener.accept().is_err(), "nobody came");
    }
}

#[test]
fn the_door_serves_the_projects_model_and_nothing_else() {
    let missing = (!Path::new("/bin/bash").exists()).then_some("there is no bash, whose /dev/tcp the test uses");
    if !require("the door of exec", missing) {
        return;
    }
    for user in USERS {
        let (mut env, dir) = environment(user);
        let door = ["--net", "door"];
        let finished = script(&env, &dir, &door, "echo ran");
        assert!(finished.expect_code(4).contains("[agents] model") && finished.stdout.is_empty());
        std::fs::write(dir.join("aedile.toml"), "[agents]\nmodel = \"openai/gpt-4.1\"\n").unwrap();
        let step = Step::text("the answer").expect_header_value("authorization", "Bearer sk-real-key-of-the-person");
        let server = ScriptedServer::start(vec![Conversation::about("a question").step(step)]);
        env.var("AEDILE_OPENAI_BASE_URL", server.url()).var("OPENAI_API_KEY", "sk-real-key-of-the-person");
        let body = r#"{"model":"gpt-4.1","max_tokens":9,"messages":[{"role":"user","content":"a question"}]}"#;
        let question = format!("{}; env", ask("POST", "/v1/chat/completions", body));
        let finished = env.run_command(command(&env, &dir, &door, &["bash", "-c", &question]), LIMIT);
        let said = finished.success();
        assert!(said.starts_with("HTTP/1.1 200") && said.contains("the answer"), "{said}");
        assert!(!said.contains("sk-real"), "{said}");
        let paths = ["/", "/v1/embeddings", "/v1/assistants", "/v1/files", "/v1/chat/completions/../files", "/v1/images/generations"];
        let tries: Vec<String> = paths.iter().map(|path| ask("POST", path, "{}")).collect();
        let finished = env.run_command(command(&env, &dir, &door, &["bash", "-c", &tries.join("; echo; ")]), LIMIT);
        let answers: Vec<&str> = finished.stdout.lines().filter(|line| line.starts_with("HTTP/")).collect();
        assert!(answers.len() == paths.len() && answers.iter().all(|line| line.starts_with("HTTP/1.1 404")), "{}", finished.stdout);
        assert_eq!(server.finish().len(), 1);
        let costs = env.run(["costs", "--json"]).last_json();
        assert_eq!((&costs["costs"][0]["agent"], &costs["costs"][0]["requests"]), (&"exec".into(), &1.into()), "{costs}");
        assert!(!env.run(["events"]).success().contains("sk-real"));
        env.assert_nothing_left();
    }
}

#[test]
fn several_boxes_share_a_directory() {
    let (env, dir) = environment(User::Ordinary);
    let running: Vec<_> = (0..4)
        .map(|n| {
            env.start(command(&env, &dir, &[], &["sh", "-c", &format!("echo {n} > {n}; until [ -e go ]; do sleep 0.02; done; ls | wc -l")]))
        })
        .collect();
    wait_for("all boxes to write", LIMIT, || (0..4).all(|n| dir.join(n.to_string()).exists()).then_some(()));
    std::fs::write(dir.join("go"), "").unwrap();
    for running in running {
        assert_eq!(running.wait(LIMIT).success().trim(), "5");
    }
    let owner = std::fs::metadata(dir.join("0")).unwrap().uid();
    assert!(!is_root() || owner == ORDINARY_ID);
    env.assert_nothing_left();
}
