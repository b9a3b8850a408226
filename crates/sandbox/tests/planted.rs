//! What a box leaves in a person's tree under other names, behind links and in directories that nobody can read.

use crate::support::{Done, Host, outside, persons_host};
use aedile_sandbox::BoxNote;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

fn run(host: &Host, script: &str) -> (Done, Vec<BoxNote>) {
    host.guarded(host.spec(script)).unwrap()
}

fn told(notes: &[BoxNote], rule: &str, path: &str) -> bool {
    notes.iter().any(|note| note.rule == rule && note.path == Path::new(path))
}

fn there(host: &Host, path: &str) -> bool {
    fs::symlink_metadata(host.tree.join(path)).is_ok()
}

fn git(host: &Host, more: &str) {
    let made = format!("git init -q . && git -c user.name=t -c user.email=t@t commit -q --allow-empty -m start && {more}");
    let done = outside(&host.tree, &[], &made);
    assert!(done.exit.success(), "{done:?}");
}

#[test]
fn repositories_behind_links_and_among_packages_are_moved_away() {
    let host = persons_host();
    git(&host, "true");
    host.write("node_modules/p/index.js", "good\n");
    let script = "git init -q --bare node_modules/g; git -C node_modules/g config core.bare false; git -C node_modules/g config core.fsmonitor ./evil; \
                  mkdir sub other shared; ln -s ../node_modules/g sub/.git; ln -s sub/.git other/.GIT; \
                  rm -rf .git/info; echo '* filter=evil' > shared/attributes; ln -s ../shared .git/info; \
                  mkdir redirect; echo x > redirect/HEAD; echo ../shared > redirect/commondir; ln -s nowhere .git/commondir";
    let (done, notes) = run(&host, script);
    done.ok();
    let planted = ["sub/.git", "other/.GIT", ".git/info", ".git/commondir"].map(|path| ("git-directory", path));
    for (rule, path) in planted.into_iter().chain(["node_modules/g", "redirect"].map(|path| ("git-bare-repository", path))) {
        assert!(!there(&host, path) && told(&notes, rule, path), "{path}: {notes:?}");
    }
    assert!(there(&host, "node_modules/p/index.js") && there(&host, "shared/attributes"));
    assert!(outside(&host.tree, &[], "git status").exit.success());
}

#[test]
fn a_tree_that_was_made_a_repository_is_none_afterwards() {
    let host = persons_host();
    run(&host, "mkdir objects refs; echo ref: refs/heads/x > HEAD; echo evil > config; echo evil > .envrc").0.ok();
    assert!(!there(&host, "HEAD") && !there(&host, ".envrc") && there(&host, "config"));
}

#[test]
fn names_of_several_parts_are_known_behind_links_and_in_closed_directories() {
    let host = persons_host();
    host.write("src/main.rs", "x\n");
    host.write("sub/.hg/hgrc", "old\n");
    fs::set_permissions(host.tree.join("sub/.hg"), fs::Permissions::from_mode(0o311)).unwrap();
    let script = "mkdir b .hg closed; echo evil > b/config; ln -s b .bundle; ln -s src .envrc; echo evil > .hg/hgrc; chmod 0311 .hg; \
                  mkdir -p closed/deep/.vscode; chmod 0 closed/deep closed; \
                  chmod 755 sub/.hg; echo evil > sub/.hg/hgrc; rm -rf sub/.hg; mv sub s2; true";
    let (done, notes) = run(&host, script);
    done.ok();
    for (rule, path) in
        [("packages-ruby", ".bundle"), ("shell-direnv", ".envrc"), ("vcs-other", ".hg/hgrc"), ("editor-vscode", "closed/deep/.vscode")]
    {
        assert!(!there(&host, path) && told(&notes, rule, path), "{path}: {notes:?}");
    }
    assert!(there(&host, "b/config") && there(&host, "src/main.rs"), "what a planted link names stays");
    fs::set_permissions(host.tree.join("sub/.hg"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(fs::read_to_string(host.tree.join("sub/.hg/hgrc")).unwrap(), "old\n");
}

#[test]
fn directories_that_may_not_be_changed_do_not_stop_the_others() {
    let host = persons_host();
    let script = "mkdir -p a/.vscode/deep b/.idea; echo evil > a/.vscode/deep/x; echo evil > .envrc; \
                  chmod 400 a/.vscode/deep/x; chmod 000 a/.vscode/deep; chmod 555 a/.vscode a; chmod 555 b/.idea b";
    let (done, notes) = run(&host, script);
    done.ok();
    for (rule, path) in [("editor-vscode", "a/.vscode"), ("editor-jetbrains", "b/.idea"), ("shell-direnv", ".envrc")] {
        assert!(!there(&host, path) && told(&notes, rule, path), "{path}: {notes:?}");
    }
    assert_eq!(fs::metadata(host.tree.join("a")).unwrap().permissions().mode() & 0o777, 0o555);
}

#[test]
fn what_links_and_settings_lead_to_is_held() {
    let host = persons_host();
    for path in ["githooks/pre-commit", "tools/hooks/pre-push", "shared.cfg", "docs/real/rules.md"] {
        host.write(path, "old = x\n");
    }
    git(&host, "rm -rf .git/hooks && git config core.hooksPath tools/hooks && git config include.path ../shared.cfg");
    symlink("../githooks", host.tree.join(".git/hooks")).unwrap();
    symlink("docs/now/rules.md", host.tree.join("AGENTS.md")).unwrap();
    symlink("real", host.tree.join("docs/now")).unwrap();
    let script = "exec 2>/dev/null; for f in githooks/pre-commit tools/hooks/pre-push shared.cfg docs/real/rules.md githooks/new tools/hooks/new; do \
                  echo evil > $f; rm -f $f; done; mv githooks g2; mv tools t2; mv docs d2; \
                  rm .git/hooks && mkdir .git/hooks && echo evil > .git/hooks/pre-commit; \
                  rm docs/now && mkdir docs/now && echo evil > docs/now/rules.md; true";
    let (done, _) = run(&host, script);
    done.ok();
    for path in ["githooks/pre-commit", "tools/hooks/pre-push", "shared.cfg", "docs/real/rules.md", "AGENTS.md"] {
        assert_eq!(fs::read_to_string(host.tree.join(path)).unwrap(), "old = x\n", "{path}");
    }
    assert!(!there(&host, "githooks/new") && !there(&host, "tools/hooks/new"));
    let link = |path: &str| fs::read_link(host.tree.join(path)).unwrap();
    assert_eq!((link(".git/hooks"), link("docs/now")), (PathBuf::from("../githooks"), PathBuf::from("real")));
}

#[test]
fn the_file_behind_a_link_with_a_secrets_name_is_empty() {
    let host = persons_host();
    host.write("config/local.settings", "canary\n");
    host.write("config/open", "shown\n");
    host.write("keys/real", "-----BEGIN PRIVATE KEY-----\ncanary\n");
    symlink("config/local.settings", host.tree.join(".env")).unwrap();
    symlink("../keys/real", host.tree.join("config/tls.key")).unwrap();
    symlink("config/open", host.tree.join("plain")).unwrap();
    let (done, notes) = run(&host, "cat .env config/* keys/real plain; grep -r canary . && echo found; true");
    assert!(!done.output.contains("canary") && done.output.contains("shown"), "{done:?}");
    assert!(told(&notes, "masked", "config/local.settings") && told(&notes, "masked", "keys/real"), "{notes:?}");
}
