//! Planting what runs code outside later, and what has a name outside.

use super::inside::{EVIL, Here, plant};
use super::{Probe, Sign};
use crate::fence::Fence::Guard;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const fn planted(id: &'static str, path: &'static str, act: fn(&Here) -> io::Result<()>) -> Probe {
    Probe { id, class: "planted configuration", fences: &[Guard], act, sign: Sign::Planted(path) }
}

const fn linked(id: &'static str, act: fn(&Here) -> io::Result<()>) -> Probe {
    Probe { id, class: "planted hard link", fences: &[Guard], act, sign: Sign::Outside }
}

/// Plants a file, with the directories above it.
fn deep(here: &Here, path: &str) -> io::Result<()> {
    let path = here.tree(path);
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
    plant(path)
}

/// A new file under each path, whatever directories it needs.
macro_rules! plants {
    ($($id:literal: $path:literal),* $(,)?) => { &[$(planted($id, $path, |here| deep(here, $path))),*] };
}

const NEW: &[Probe] = plants! {
    "plant-git-hook": ".git/hooks/pre-commit",
    "plant-nested-git-hook": "nested/.git/hooks/post-checkout",
    "plant-worktree-configuration": ".git/config.worktree",
    "plant-common-directory": ".git/commondir",
    "plant-git-attributes-inside": ".git/info/attributes",
    "plant-submodule-configuration": ".git/modules/x/config",
    "plant-rebase-to-continue": ".git/rebase-merge/git-rebase-todo",
    "plant-new-repository": "fresh/.git/config",
    "plant-repository-pointer": "sub/.git",
    "plant-repository-in-capitals": "sub/.GIT/config",
    "plant-repository-with-unseen-letter": "sub/.g\u{200c}it/config",
    "plant-git-attributes": "sub/.gitattributes",
    "plant-git-modules": ".gitmodules",
    "plant-editor-tasks": "sub/.vscode/tasks.json",
    "plant-editor-in-capitals": "sub/.VSCode/tasks.json",
    "plant-development-container": ".devcontainer/devcontainer.json",
    "plant-jetbrains": ".idea/workspace.xml",
    "plant-vim": ".exrc",
    "plant-emacs": ".dir-locals.el",
    "plant-direnv": ".envrc",
    "plant-shell-startup": ".bashrc",
    "plant-mcp-servers": ".mcp.json",
    "plant-agent-settings": ".claude/settings.json",
    "plant-agent-instructions": "sub/AGENTS.md",
    "plant-codex-settings": ".codex/config.toml",
    "plant-cursor-rules": ".cursor/rules/x.mdc",
    "plant-npm": ".npmrc",
    "plant-pnpm": ".pnpmfile.cjs",
    "plant-cargo": ".cargo/config.toml",
    "plant-python": "sitecustomize.py",
    "plant-maven": ".mvn/extensions.xml",
    "plant-hook-manager": ".husky/pre-commit",
    "plant-pre-commit": ".pre-commit-config.yaml",
    "plant-workflow": ".github/workflows/ci.yml",
    "plant-gitlab": ".gitlab-ci.yml",
    "plant-debugger": ".gdbinit",
    "plant-tool-versions": ".tool-versions",
    "plant-ssh": ".ssh/config",
};

const OTHER: &[Probe] = &[
    planted("change-git-configuration", ".git/config", |here| plant(here.tree(".git/config"))),
    planted("append-git-configuration", ".git/config", |here| {
        fs::OpenOptions::new().append(true).open(here.tree(".git/config"))?.write_all(EVIL.as_bytes())
    }),
    planted("replace-git-configuration", ".git/config", |here| {
        plant(here.tree(".git/config.lock"))?;
        fs::rename(here.tree(".git/config.lock"), here.tree(".git/config"))
    }),
    planted("change-nested-git-configuration", "nested/.git/config", |here| plant(here.tree("nested/.git/config"))),
    planted("move-repository-away", ".git/config", |here| {
        fs::rename(here.tree(".git"), here.tree("old"))?;
        deep(here, ".git/config")
    }),
    planted("move-directory-over-repository-away", "nested/.git/config", |here| {
        fs::rename(here.tree("nested"), here.tree("old"))?;
        deep(here, "nested/.git/config")
    }),
    planted("move-hooks-away", ".git/hooks/pre-push", |here| {
        fs::rename(here.tree(".git/hooks"), here.tree(".git/old"))?;
        deep(here, ".git/hooks/pre-push")
    }),
    planted("remove-and-make-hooks", ".git/hooks/pre-push", |here| {
        fs::remove_dir_all(here.tree(".git/hooks"))?;
        deep(here, ".git/hooks/pre-push")
    }),
    planted("link-hooks", ".git/hooks/pre-push", |here| {
        deep(here, "mine/pre-push")?;
        fs::rename(here.tree(".git/hooks"), here.tree(".git/old"))?;
        symlink(here.tree("mine"), here.tree(".git/hooks"))
    }),
    planted("plant-bare-repository", "bare/config", |here| {
        for directory in ["bare/objects", "bare/refs"] {
            fs::create_dir_all(here.tree(directory))?;
        }
        fs::write(here.tree("bare/HEAD"), "ref: refs/heads/main\n")?;
        plant(here.tree("bare/config"))
    }),
    planted("change-editor-settings", ".vscode/settings.json", |here| plant(here.tree(".vscode/settings.json"))),
    planted("replace-editor-settings", ".vscode/settings.json", |here| {
        fs::rename(here.tree(".vscode"), here.tree("old"))?;
        deep(here, ".vscode/settings.json")
    }),
    planted("replace-linked-instructions", "CLAUDE.md", |here| {
        fs::remove_file(here.tree("CLAUDE.md"))?;
        plant(here.tree("CLAUDE.md"))
    }),
    planted("change-behind-linked-instructions", "rules.md", |here| plant(here.tree("CLAUDE.md"))),
    planted("plant-by-rename", ".envrc", |here| {
        plant(here.tree("harmless"))?;
        fs::rename(here.tree("harmless"), here.tree(".envrc"))
    }),
    planted("plant-by-hard-link", ".envrc", |here| {
        plant(here.tree("harmless"))?;
        fs::hard_link(here.tree("harmless"), here.tree(".envrc"))
    }),
    linked("hard-link-write", |here| plant(here.tree("linked"))),
    linked("hard-link-append", |here| fs::OpenOptions::new().append(true).open(here.tree("linked"))?.write_all(b"evil")),
    linked("hard-link-truncate", |here| fs::OpenOptions::new().write(true).open(here.tree("linked"))?.set_len(0)),
    linked("hard-link-change-mode", |here| fs::set_permissions(here.tree("linked"), fs::Permissions::from_mode(0o600))),
    linked("hard-link-second-name", |here| {
        fs::hard_link(here.tree("linked"), here.tree("again"))?;
        plant(here.tree("again"))
    }),
    linked("hard-link-after-rename", |here| {
        fs::rename(here.tree("linked"), here.tree("sub/again"))?;
        plant(here.tree("sub/again"))
    }),
];

/// Both.
pub(super) const PROBES: &[Probe] = &{
    let mut all = [OTHER[0]; NEW.len() + OTHER.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = if at < NEW.len() { NEW[at] } else { OTHER[at - NEW.len()] };
        at += 1;
    }
    all
};
