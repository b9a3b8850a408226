//! What landings do to the project: one ref moves, by compare-and-swap, and never one that is checked out.

use std::io::Read;
use std::os::fd::OwnedFd;

use aedile_core::{CommitId, RefName};

use crate::error::GitError;
use crate::hub::Hub;
use crate::locks;
use crate::project::Project;

/// Packs with fewer objects are unpacked, as `git fetch` does; a larger one stays one file.
const UNPACK_OBJECTS_MAX: u32 = 1000;

/// Where the next landing goes and what it builds on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LandingPoint {
    /// The target itself when no worktree holds it, else `refs/heads/aedile/<target>`.
    pub reference: RefName,
    /// Where that ref is; `None` when it does not exist yet.
    pub old: Option<CommitId>,
    /// The commit to build on: the newer of the target and the ref.
    pub base: CommitId,
}

/// One move of a ref.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Landing {
    /// The ref.
    pub reference: RefName,
    /// Where it must be; `None`: it must not exist.
    pub old: Option<CommitId>,
    /// Where it goes. Must be in the hub and have `old` among its ancestors.
    pub new: CommitId,
}

/// What a landing did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moved {
    /// The ref moved now.
    Now,
    /// The ref already was there, or further on: an earlier try had worked.
    Before,
}

impl Project {
    /// Says where changes for `target` (`refs/heads/...`) land now. Asked again for each landing.
    ///
    /// # Errors
    /// [`GitError::Missing`] when the target does not exist, [`GitError::Diverged`], [`GitError::RefUnusable`].
    pub fn landing_point(&self, target: &RefName) -> Result<LandingPoint, GitError> {
        let short = target
            .as_str()
            .strip_prefix("refs/heads/")
            .ok_or_else(|| unusable(target, "it is not a branch; name one under refs/heads/"))?;
        let aside = RefName::new(format!("refs/heads/aedile/{short}")).map_err(|error| unusable(target, &error.to_string()))?;
        let [(at_target, alias), (at_aside, _)] = self.read_refs([target, &aside])?;
        if alias {
            return Err(unusable(target, "it is a symbolic ref; name the branch it stands for"));
        }
        let at_target = at_target.ok_or_else(|| GitError::Missing { what: target.to_string(), dir: self.root().to_owned() })?;
        let checkouts = self.checkouts()?;
        let held = |name: &RefName| checkouts.iter().find(|checkout| checkout.reference.as_ref() == Some(name));
        if held(target).is_none() {
            // What landed beside the target while it was checked out comes along with the next landing.
            let base = self.newer(target, (&aside, at_aside.as_ref()), &at_target)?;
            return Ok(LandingPoint { reference: target.clone(), old: Some(at_target), base });
        }
        if let Some(checkout) = held(&aside) {
            return Err(GitError::CheckedOut { reference: aside, worktree: checkout.worktree.clone(), how: checkout.how });
        }
        let base = self.newer(target, (&aside, at_aside.as_ref()), &at_target)?;
        Ok(LandingPoint { reference: aside, old: at_aside, base })
    }

    /// The newer of the target and what landed beside it: no landing leaves out an earlier one.
    fn newer(
        &self,
        target: &RefName,
        (aside, at_aside): (&RefName, Option<&CommitId>),
        at_target: &CommitId,
    ) -> Result<CommitId, GitError> {
        match at_aside {
            None => Ok(at_target.clone()),
            Some(at) if at == at_target || self.has_ancestor(at_target, at)? => Ok(at.clone()),
            Some(at) if self.has_ancestor(at, at_target)? => Ok(at_target.clone()),
            Some(at) => {
                let range = format!("{at_target}..{at}");
                let only = self.call("log").reading().args(["--no-show-signature", "--format=%h %s", &range, "--"]).text()?;
                Err(GitError::Diverged { target: target.clone(), landing: aside.clone(), only: only.lines().map(shown).collect() })
            }
        }
    }

    /// Reads where refs are (`None`: nowhere) and whether each is symbolic. One process.
    fn read_refs<const N: usize>(&self, names: [&RefName; N]) -> Result<[(Option<CommitId>, bool); N], GitError> {
        let text = self
            .call("for-each-ref")
            .reading()
            .arg("--format=%(refname) %(objectname) %(symref)")
            .args(names.map(RefName::as_str))
            .text()?;
        Ok(names.map(|name| {
            let words = text.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|words| words.first() == Some(&name.as_str()));
            let id = words.as_ref().and_then(|words| CommitId::new(*words.get(1)?).ok());
            (id, words.is_some_and(|words| words.get(2).is_some_and(|symref| !symref.is_empty())))
        }))
    }

    fn has_ancestor(&self, ancestor: &CommitId, commit: &CommitId) -> Result<bool, GitError> {
        let answer = self.call("merge-base").reading().args(["--is-ancestor", ancestor.as_str(), commit.as_str()]).accept(1).output()?;
        Ok(answer.code == 0)
    }

    /// Whether the commit has landed: it is in the project and reachable from the ref. For recovery, before anything is repeated.
    ///
    /// # Errors
    /// [`GitError`] when git fails.
    pub fn is_landed(&self, reference: &RefName, commit: &CommitId) -> Result<bool, GitError> {
        let [(at, _)] = self.read_refs([reference])?;
        match at {
            None => Ok(false),
            Some(at) if at == *commit => Ok(true),
            // The project has no such commit when nothing of it arrived.
            Some(at) => Ok(self.resolve(commit.as_str())?.is_some() && self.has_ancestor(commit, &at)?),
        }
    }

    /// Lands a commit of the hub: its objects are copied to the project, then the ref moves if it still is at `old` and no worktree holds
    /// it, asked immediately before. `reason` goes to the reflog. Working trees, index and stash are never touched. Repeating a landing
    /// that worked is harmless. Six processes.
    ///
    /// # Errors
    /// [`GitError::CheckedOut`], [`GitError::RefMoved`], [`GitError::Locked`], [`GitError::RefUnusable`]; the ref did not move then.
    pub fn land(&self, hub: &Hub, landing: &Landing, reason: &str) -> Result<Moved, GitError> {
        locks::clear_dead(hub.dir())?;
        let [(found, symbolic)] = self.read_refs([&landing.reference])?;
        if symbolic {
            return Err(unusable(&landing.reference, "it has become a symbolic ref; make it a branch again"));
        }
        if found != landing.old {
            return self.already_there(landing, found);
        }
        if let Some(old) = &landing.old
            && !hub.is_ancestor(old, &landing.new)?
        {
            return Err(unusable(&landing.reference, "the commit to land does not build on what is there; merge again"));
        }
        let known = match &landing.old {
            Some(old) => vec![old.clone()],
            None => hub.refs("refs/aedile/keep/")?.into_iter().map(|(_, commit)| commit).collect(),
        };
        self.copy_objects(hub, &landing.new, &known)?;
        if let Some(checkout) = self.held(&landing.reference)? {
            return Err(GitError::CheckedOut { reference: landing.reference.clone(), worktree: checkout.worktree, how: checkout.how });
        }
        self.swap(hub, landing, reason)
    }

    /// The compare-and-swap. The child is written down before it may take the lock: it waits for its orders on stdin.
    pub(crate) fn swap(&self, hub: &Hub, landing: &Landing, reason: &str) -> Result<Moved, GitError> {
        let who = self.committer();
        let running = self
            .call("update-ref")
            .env("GIT_COMMITTER_NAME", who.name())
            .env("GIT_COMMITTER_EMAIL", who.email())
            .args(["--no-deref", "--create-reflog", "-m", reason, "--stdin", "-z"])
            .start()?;
        let lock = self.common_dir().join(format!("{}.lock", landing.reference));
        let recorded = match locks::record(hub.dir(), running.child.id(), vec![lock]) {
            Ok(recorded) => recorded,
            Err(error) => {
                running.kill();
                return Err(error);
            }
        };
        let order = match &landing.old {
            Some(old) => format!("update {}\0{}\0{old}\0", landing.reference, landing.new),
            None => format!("create {}\0{}\0", landing.reference, landing.new),
        };
        let outcome = running.finish(order.as_bytes());
        drop(recorded);
        match outcome {
            Ok(_) => Ok(Moved::Now),
            Err(GitError::Failed { stderr, .. }) if locks::named_lock(&stderr).is_some() => {
                Err(GitError::Locked { lock: locks::named_lock(&stderr).unwrap_or_default() })
            }
            Err(error) => {
                let [(found, _)] = self.read_refs([&landing.reference])?;
                if found != landing.old {
                    return self.already_there(landing, found);
                }
                match &error {
                    GitError::Failed { stderr, .. } if stderr.contains("exists; cannot create") => Err(unusable(
                        &landing.reference,
                        "another branch has a name that begins or ends there; rename that branch, or switch the checkout of the target to another branch",
                    )),
                    _ => Err(error),
                }
            }
        }
    }

    /// A ref that is not at `old` lost the race, unless an earlier try of this very landing moved it.
    fn already_there(&self, landing: &Landing, found: Option<CommitId>) -> Result<Moved, GitError> {
        if let Some(at) = &found
            && (*at == landing.new || (self.resolve(landing.new.as_str())?.is_some() && self.has_ancestor(&landing.new, at)?))
        {
            return Ok(Moved::Before);
        }
        Err(GitError::RefMoved { reference: landing.reference.clone(), expected: landing.old.clone(), found })
    }

    /// Copies what the new commit adds to the known ones into the project. Two processes joined by a pipe; nothing refers to the objects yet.
    pub(crate) fn copy_objects(&self, hub: &Hub, new: &CommitId, known: &[CommitId]) -> Result<(), GitError> {
        let wanted = known.iter().fold(new.to_string(), |list, commit| list + "\n^" + commit.as_str()) + "\n";
        let mut packing = hub.call("pack-objects").reading().args(["--revs", "--thin", "--stdout", "-q", "--delta-base-offset"]).start()?;
        let (Some(mut stdin), Some(mut stdout)) = (packing.child.stdin.take(), packing.child.stdout.take()) else {
            return Err(GitError::Unreadable { command: "pack-objects".to_owned(), what: "it has no pipes".to_owned() });
        };
        // Small enough for the pipe to take at once; a packer that died says why when it is waited for.
        let _ = std::io::Write::write_all(&mut stdin, wanted.as_bytes());
        drop(stdin);
        let mut head = [0_u8; 12];
        if stdout.read_exact(&mut head).is_err() {
            return packing.finish(b"").map(drop);
        }
        let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let header = format!("--pack_header={},{}", number(4), number(8));
        let call = if number(8) <= UNPACK_OBJECTS_MAX {
            self.call("unpack-objects").args(["-q", "--strict", &header])
        } else {
            self.call("index-pack").args(["--stdin", "--strict", "--fix-thin", &header])
        };
        let unpacked = call.input_from(OwnedFd::from(stdout)).output();
        packing.finish(b"")?;
        unpacked.map(drop)
    }

    /// Brings the person's checkout of `target` to what has landed: `git merge --ff-only refs/heads/aedile/<target>`, as the person, where
    /// they are. Files that git ignores are the person's too: one in the way is not overwritten. Returns git's words.
    ///
    /// # Errors
    /// [`GitError::SyncRefused`] when git refuses or another branch is checked out; nothing was changed then.
    pub fn sync(&self, target: &RefName) -> Result<String, GitError> {
        let short = target.as_str().trim_start_matches("refs/heads/");
        let refused = |words: String| GitError::SyncRefused { words };
        let here = self.person_call("symbolic-ref").args(["--quiet", "HEAD"]).accept(1).text()?;
        if here != target.as_str() {
            return Err(refused(format!("{short} is not checked out in {}; go to the worktree that has it", self.root().display())));
        }
        let landing = format!("refs/heads/aedile/{short}");
        if self.resolve(&landing)?.is_none() {
            return Err(refused(format!("nothing has landed for {short} yet ({landing} does not exist)")));
        }
        match self
            .person_call("merge")
            .may_ask()
            .args(["--ff-only", "--no-autostash", "--no-stat", "--no-overwrite-ignore", &landing])
            .output()
        {
            Ok(answer) => Ok(answer.text()),
            Err(GitError::Failed { stderr, .. }) => Err(refused(stderr)),
            Err(error) => Err(error),
        }
    }
}

/// A line of a commit as it can be shown.
fn shown(line: &str) -> String {
    line.chars().take(120).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn unusable(reference: &RefName, why: &str) -> GitError {
    GitError::RefUnusable { reference: reference.clone(), why: why.to_owned() }
}
