//! What a box may see.

use crate::support::{Host, host, host_with, is_root, outside};
use aedile_core::sandbox::{BoxSpec, Sandbox};
use aedile_sandbox::{ToolSearch, discover};
use std::fs;
use std::path::PathBuf;

fn with_secrets() -> (Host, Vec<(String, String)>) {
    let host = host();
    let home = host.dir.path().join("home");
    fs::create_dir_all(home.join(".ssh")).unwrap();
    fs::write(home.join(".ssh/id"), "canary\n").unwrap();
    fs::write(home.join("notes"), "canary\n").unwrap();
    std::os::unix::fs::symlink(home.join(".ssh"), host.tree.join("link")).unwrap();
    let env = vec![("THEIRS".to_owned(), home.to_str().unwrap().to_owned())];
    (host, env)
}

#[test]
fn other_files_of_the_host_cannot_be_read() {
    let attacks = [
        "cat \"$THEIRS/.ssh/id\"",
        "cat \"$THEIRS/notes\"",
        "cat link/id",
        "cat ../home/notes",
        "cat \"/proc/self/root$THEIRS/notes\"",
        "cat \"/proc/$PPID/root$THEIRS/notes\"",
        "ls \"$THEIRS\" | grep notes",
        "test -s /etc/machine-id && cat /proc/self/mountinfo | grep -q ' / / ' && echo canary",
    ];
    for attack in attacks {
        let (host, env) = with_secrets();
        let free = outside(&host.tree, &env, attack);
        assert!(free.exit.success(), "baseline of {attack}: {free:?}");
        let done = host.run(BoxSpec { env, ..host.spec(attack) });
        assert!(!done.exit.success() && !done.output.contains("canary"), "{attack}: {done:?}");
    }
}

#[test]
fn the_box_shows_no_other_homes_and_no_system_state() {
    assert_eq!(
        host().script("ls -A /home /root; ls -A /run /var/lib /boot /sys /srv /media 2>/dev/null | grep -v : | tr -d '\\n'").ok(),
        "/home:\nagent\n\n/root:"
    );
}

#[test]
fn nothing_of_the_callers_environment_is_there() {
    let host = host();
    let baseline =
        outside(&host.tree, &[("SECRET_CANARY".to_owned(), "x".to_owned())], "tr '\\0' '\\n' < /proc/$$/environ | grep SECRET_CANARY");
    assert!(baseline.exit.success());
    let done = host.run(BoxSpec { command: vec!["env".into()], env: vec![("GIVEN".into(), "1".into())], ..host.spec("") });
    let mut names: Vec<_> = done.ok().lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    assert_eq!(names, ["GIVEN", "HOME", "LANG", "LOGNAME", "PATH", "TMPDIR", "USER"]);
    // The first process keeps neither the caller's environment nor one that can be read.
    assert!(!host.script("cat /proc/1/environ").exit.success());
    assert!(!host.script("ls /proc/1/fd/ /proc/1/cwd/ /proc/1/root/").exit.success());
    let mut child = host.sandbox.spawn(host.spec("cat > /dev/null; sleep 5")).unwrap();
    if is_root() {
        assert_eq!(fs::read(format!("/proc/{}/environ", child.process().0)).unwrap(), b"");
    }
    child.kill();
    crate::support::wait(child.as_mut());
}

#[test]
fn descriptors_of_the_caller_are_closed() {
    let host = host();
    let secret = host.dir.path().join("secret");
    fs::write(&secret, "canary").unwrap();
    let file = fs::File::open(&secret).unwrap();
    // Not closed on exec, as a careless library leaves it.
    let leaked = rustix::io::dup(&file).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&leaked);
    let read = format!("cat /proc/self/fd/{number}");
    assert_eq!(outside(&host.tree, &[], &read).ok(), "canary");
    assert!(!host.script(&read).exit.success());
    let open = "import os
for n in range(1024):
  try: os.fstat(n); print(n, end=\" \")
  except OSError: pass";
    assert_eq!(host.script(&format!("python3 -c '{open}'")).ok(), "0 1 2");
}

#[test]
fn other_processes_cannot_be_seen() {
    let host = host();
    assert!(outside(&host.tree, &[], "echo /proc/[0-9]* | wc -w").ok().parse::<u32>().unwrap() > 4);
    assert_eq!(host.script("echo /proc/[0-9]*").ok(), "/proc/1 /proc/2");
    assert!(!host.script("grep -q . /proc/keys /proc/key-users").exit.success() || !is_root());
}

#[test]
fn a_home_is_kept_between_incarnations_and_tmp_is_not() {
    let host = host();
    let home = host.dir.path().join("kept");
    fs::create_dir(&home).unwrap();
    let spec = |script: &str| BoxSpec { home: Some(home.clone()), ..host.spec(script) };
    assert_eq!(host.run(spec("echo 1 > ~/a; echo 1 > /tmp/b; echo $HOME")).ok(), "/home/agent");
    assert_eq!(host.run(spec("cat ~/a; ls /tmp")).ok(), "1");
    assert_eq!(fs::read_to_string(home.join("a")).unwrap(), "1\n");
    assert_eq!(host.script("echo x > ~/x; ls -A ~").ok(), "x");
    assert_eq!(fs::read_dir(PathBuf::from(&home)).unwrap().count(), 1);
}

#[test]
fn credentials_beside_tools_are_hidden() {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::create_dir_all(home.path().join(".nvm/.config/gcloud")).unwrap();
    for (file, text) in [(".nvm/.npmrc", "canary"), (".nvm/tool", "tool"), (".nvm/.config/gcloud/key", "canary")] {
        fs::write(home.path().join(file), text).unwrap();
    }
    let tools = discover(&ToolSearch { home: Some(home.path().to_owned()), ..ToolSearch::default() });
    let host = host_with(tools);
    let nvm = home.path().join(".nvm");
    let script = format!(
        "cd {} && cat tool && find . -type f -name '[.k]*' -exec cat {{}} + && ! rm .npmrc && ! mv .npmrc x && ! umount .npmrc",
        nvm.display()
    );
    let done = host.script(&script);
    assert!(done.ok().starts_with("tool") && !done.output.contains("canary"), "{done:?}");
}
