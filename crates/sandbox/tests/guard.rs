//! What a box must not change or see in a person's tree although it may write there.

use crate::support::{Done, Host, outside, persons_host};
use aedile_core::sandbox::{BoxSpec, WriteScope};
use aedile_sandbox::BoxNote;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

fn run(host: &Host, script: &str) -> (Done, Vec<BoxNote>) {
    host.guarded(host.spec(script)).unwrap()
}

fn rules(notes: &[BoxNote]) -> Vec<(&str, &Path)> {
    notes.iter().map(|note| (note.rule.as_str(), note.path.as_path())).collect()
}

/// The names in a directory of the tree, sorted.
fn names(host: &Host, path: &str) -> Vec<String> {
    let entries = fs::read_dir(host.tree.join(path)).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn git(host: &Host, dir: &str) {
    let path = host.tree.join(dir);
    fs::create_dir_all(&path).unwrap();
    let made = "git init -q . && git -c user.name=t -c user.email=t@t commit -q --allow-empty -m start";
    assert!(outside(&path, &[], made).exit.success());
}

#[test]
fn a_file_with_a_name_outside_is_read_only_and_named() {
    let host = persons_host();
    let beside = host.dir.path().join("outside.txt");
    fs::write(&beside, "old\n").unwrap();
    fs::create_dir(host.tree.join("sub")).unwrap();
    fs::hard_link(&beside, host.tree.join("sub/planted")).unwrap();
    host.write("inside", "old\n");
    fs::hard_link(host.tree.join("inside"), host.tree.join("sub/both")).unwrap();
    let attack = "echo evil > sub/planted; echo evil >> sub/planted; truncate -s 0 sub/planted; chmod 777 sub/planted; \
                  ln sub/planted h && echo evil > h; mv sub s2; echo evil > s2/planted; rm -f s2/planted; touch -d 2001-01-01 s2/planted; \
                  echo new > inside && cat s2/both s2/planted";
    let before = fs::metadata(&beside).unwrap();
    let (done, notes) = run(&host, attack);
    let after = fs::metadata(&beside).unwrap();
    assert!(done.output.ends_with("new\nold\n"), "{done:?}");
    assert_eq!(fs::read_to_string(&beside).unwrap(), "old\n");
    use std::os::unix::fs::MetadataExt;
    assert_eq!((after.mode(), after.mtime()), (before.mode(), before.mtime()));
    assert_eq!(rules(&notes), [("hard-link", Path::new("sub/planted"))]);
    let free = persons_host();
    fs::write(free.dir.path().join("outside.txt"), "old\n").unwrap();
    fs::hard_link(free.dir.path().join("outside.txt"), free.tree.join("planted")).unwrap();
    free.script("echo evil > planted").ok();
    assert_eq!(fs::read_to_string(free.dir.path().join("outside.txt")).unwrap(), "evil\n", "what the guard keeps from happening");
}

#[test]
fn too_many_names_outside_are_refused_with_another_way() {
    let host = persons_host();
    let store = host.dir.path().join("store");
    fs::create_dir(&store).unwrap();
    for n in 0..600 {
        fs::write(store.join(n.to_string()), "x").unwrap();
        fs::hard_link(store.join(n.to_string()), host.tree.join(n.to_string())).unwrap();
    }
    let error = host.guarded(host.spec("true")).unwrap_err().to_string();
    assert!(error.contains("600 files") && error.contains("--cow"), "{error}");
}

#[test]
fn a_repository_works_but_its_hooks_and_configuration_are_held() {
    for place in ["", "deep/nested"] {
        let host = persons_host();
        git(&host, place);
        let repo = if place.is_empty() { ".git".to_owned() } else { format!("{place}/.git") };
        let config = fs::read_to_string(host.tree.join(&repo).join("config")).unwrap();
        let attack = "for f in config hooks/post-checkout hooks/pre-commit config.worktree commondir info/attributes modules/x/config; do \
                      mkdir -p G/$(dirname $f); echo evil > G/$f; done; git -C G config core.fsmonitor evil; mv G/hooks G/h2; rm -rf G/hooks; \
                      mv G G2 && mkdir G && echo evil > G/config; mv deep d2 && mkdir -p G && echo evil > G/config; rm -rf G/config; true";
        let (done, notes) = run(&host, &attack.replace('G', &repo).replace(".git2", ".gone"));
        done.ok();
        assert_eq!(fs::read_to_string(host.tree.join(&repo).join("config")).unwrap(), config, "{done:?}");
        let hooks = names(&host, &format!("{repo}/hooks"));
        assert!(hooks.iter().all(|name| name.ends_with(".sample")), "{hooks:?}");
        for planted in ["config.worktree", "commondir", "info/attributes", "modules"] {
            assert!(!host.tree.join(&repo).join(planted).exists(), "{planted}");
            assert!(rules(&notes).contains(&("git-directory", &Path::new(&repo).join(planted))), "{planted}: {notes:?}");
        }
        let work = format!(
            "cd ./{place} && echo x > f && git add f && git -c user.name=t -c user.email=t@t commit -qm more && git log --oneline | wc -l"
        );
        let (done, notes) = run(&host, &work);
        assert_eq!((done.ok(), rules(&notes)), ("2", vec![]));
        let log = outside(&host.tree.join(place), &[], "git status --porcelain | grep -v evil | wc -l; git log --oneline | wc -l");
        assert!(log.ok().ends_with('2'), "{log:?}");
    }
}

#[test]
fn protected_names_that_were_not_there_are_moved_to_the_state() {
    let host = persons_host();
    host.write("src/main.rs", "x\n");
    let script = "mkdir -p .vscode sub/.idea .github/workflows src/.GIT/hooks bare/objects bare/refs node_modules/p/.vscode; \
                  echo evil > .vscode/tasks.json; echo evil > .envrc; echo evil > .github/workflows/ci.yml; echo evil > sub/.mcp.json; \
                  echo evil > src/.GIT/config; ln -s /etc/passwd .bashrc; echo evil > bare/HEAD; echo evil > bare/config; \
                  git init -q fresh; echo good > src/main.rs; echo good > node_modules/p/index.js; mkdir -p sub/deep && mv .envrc sub/deep/.ENVRC";
    let (done, notes) = run(&host, script);
    done.ok();
    let want = [
        ("shell-startup", ".bashrc"),
        ("ci-workflow", ".github/workflows"),
        ("editor-vscode", ".vscode"),
        ("git-bare-repository", "bare"),
        ("git-directory", "fresh/.git"),
        ("git-directory", "src/.GIT"),
        ("editor-jetbrains", "sub/.idea"),
        ("agent-mcp", "sub/.mcp.json"),
        ("shell-direnv", "sub/deep/.ENVRC"),
    ];
    let mut got = rules(&notes);
    got.sort_by_key(|(_, path)| path.to_path_buf());
    assert_eq!(got, want.map(|(rule, path)| (rule, Path::new(path))).to_vec());
    for (_, path) in want {
        assert!(fs::symlink_metadata(host.tree.join(path)).is_err(), "{path}");
    }
    assert_eq!(fs::read_to_string(host.tree.join("src/main.rs")).unwrap(), "good\n");
    assert!(host.tree.join("node_modules/p/index.js").exists() && host.tree.join("fresh").exists());
    let moved = fs::read_dir(host.dir.path()).unwrap().flatten().find(|entry| entry.file_name().to_string_lossy().starts_with("moved-"));
    let moved = moved.unwrap().path();
    assert_eq!(fs::read_to_string(moved.join(".vscode/tasks.json")).unwrap(), "evil\n");
    assert!(notes.iter().any(|note| note.words.contains(moved.to_str().unwrap())), "{notes:?}");
}

#[test]
fn protected_names_that_are_there_stay_as_they_are() {
    let host = persons_host();
    let files = [".vscode/settings.json", "sub/.mcp.json", "a/b/.envrc", ".github/workflows/ci.yml", "AGENTS.md", "docs/rules.md"];
    for file in files {
        host.write(file, "old\n");
    }
    symlink("AGENTS.md", host.tree.join("CLAUDE.md")).unwrap();
    symlink("../docs/rules.md", host.tree.join("sub/GEMINI.md")).unwrap();
    let script = "exec 2>/dev/null; for f in .vscode/settings.json sub/.mcp.json a/b/.envrc .github/workflows/ci.yml AGENTS.md docs/rules.md; do \
                  echo evil > $f; rm -f $f; done; rm -rf .vscode; mv .vscode v; mv a a2; mv sub s2; mv .github g; \
                  mkdir -p a/b .vscode; echo evil > a/b/.envrc; echo evil > .vscode/new; \
                  rm CLAUDE.md; echo evil > CLAUDE.md; rm sub/GEMINI.md; ln -s /etc/passwd sub/GEMINI.md; echo ok > a/b/fine; true";
    let (done, notes) = run(&host, script);
    done.ok();
    for file in files {
        assert_eq!(fs::read_to_string(host.tree.join(file)).unwrap(), "old\n", "{file}");
    }
    assert_eq!(fs::read_link(host.tree.join("CLAUDE.md")).unwrap(), PathBuf::from("AGENTS.md"));
    assert_eq!(fs::read_link(host.tree.join("sub/GEMINI.md")).unwrap(), PathBuf::from("../docs/rules.md"));
    assert_eq!(rules(&notes), [("agent-instructions", Path::new("CLAUDE.md")), ("agent-instructions", Path::new("sub/GEMINI.md"))]);
    assert!(host.tree.join("a/b/fine").exists() && !host.tree.join(".vscode/new").exists());
}

#[test]
fn a_scope_that_names_a_protected_name_approves_it() {
    let host = persons_host();
    host.write(".vscode/settings.json", "old\n");
    host.write("src/.envrc", "old\n");
    let scoped = |globs: &[&str]| BoxSpec {
        write: WriteScope::Globs { globs: globs.iter().map(|glob| (*glob).to_owned()).collect(), also: Vec::new(), except: Vec::new() },
        ..host.spec("echo new > .vscode/settings.json; echo new > src/.envrc; mkdir -p src/.git; echo evil > src/.git/config; true")
    };
    let (_, notes) = host.guarded(scoped(&["src/**"])).unwrap();
    assert_eq!(rules(&notes), [("git-directory", Path::new("src/.git"))]);
    let read = |path: &str| fs::read_to_string(host.tree.join(path)).unwrap();
    assert_eq!((read(".vscode/settings.json"), read("src/.envrc")), ("old\n".into(), "old\n".into()));
    host.guarded(scoped(&["src/**", ".vscode/**"])).unwrap();
    assert_eq!((read(".vscode/settings.json"), read("src/.envrc")), ("new\n".into(), "old\n".into()));
}

#[test]
fn secrets_of_the_tree_are_empty_in_the_box() {
    let host = persons_host();
    let key = "-----BEGIN PRIVATE KEY-----\ncanary\n";
    for (path, text) in [
        (".env", "canary\n"),
        ("app/.env.production", "canary\n"),
        ("certs/server.pem", key),
        ("certs/id_ed25519", key),
        ("store.p12", "canary\n"),
        ("terraform.tfvars", "canary\n"),
    ] {
        host.write(path, text);
    }
    host.write(".env.example", "shown\n");
    host.write("certs/ca.pem", "-----BEGIN CERTIFICATE-----\nshown\n");
    let read = "cat .env app/.env.production certs/* store.p12 terraform.tfvars .env.example; mv app a2; cat a2/.env.production; \
                ln .env e2; cat e2; rm -f .env; cat .env; grep -r canary . && echo found; cat /proc/self/root$PWD/.env; true";
    assert!(outside(&host.tree, &[], "cat .env").ok().contains("canary"));
    let (done, notes) = run(&host, read);
    assert!(!done.output.contains("canary") && !done.output.contains("found"), "{done:?}");
    assert_eq!(done.output.matches("shown").count(), 2, "{done:?}");
    assert_eq!(rules(&notes).iter().filter(|(rule, _)| *rule == "masked").count(), 6, "{notes:?}");
    assert_eq!(fs::read_to_string(host.tree.join(".env")).unwrap(), "canary\n");
}

#[test]
fn sockets_of_the_hosts_programs_are_not_reached_through_the_tree() {
    let host = persons_host();
    fs::create_dir(host.tree.join("run")).unwrap();
    let socket = host.tree.join("run/server.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let attack = "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"run/server.sock\")'";
    assert!(outside(&host.tree, &[], attack).exit.success());
    host.script(attack).ok();
    let (done, _) = run(&host, attack);
    assert!(!done.exit.success(), "{done:?}");
    let (done, _) = run(
        &host,
        "mv run r2; cd r2 && ln server.sock s2; python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"s2\")'",
    );
    assert!(!done.exit.success(), "{done:?}");
}
