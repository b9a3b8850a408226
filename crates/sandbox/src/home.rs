//! The box's home and environment.

use crate::exec::NOT_A_PROGRAM;
use crate::idmap::INSIDE_ID;
use crate::toolchain::Toolchains;
use crate::wire::{Failure, Plan};
use aedile_core::sandbox::{HOME_INSIDE, PROGRAM_INSIDE};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Directories of programs that every box has, after the tools' own.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Links in one directory of a spread.
const SPREAD_ENTRIES_MAX: usize = 10_000;
/// Variables that the caller cannot change: the box is built for them.
const FIXED: &[&str] = &["HOME", "PATH", "TMPDIR", "USER", "LOGNAME"];

/// Puts the tools' files and links into the home. Runs inside the box without any privilege, so that a planted link leads nowhere.
/// What cannot be put there is left out: a home that an agent has spoilt must not keep its next incarnation from starting.
pub(crate) fn seed(home: &Path, toolchains: &Toolchains) {
    for (path, target) in &toolchains.links {
        let link = home.join(path);
        if target.exists() && fs::symlink_metadata(&link).is_err() && make_parent(&link).is_ok() {
            let _ = std::os::unix::fs::symlink(target, &link);
        }
    }
    for (path, target) in &toolchains.spread {
        spread(&home.join(path), target);
    }
    for (path, text) in &toolchains.files {
        let file = home.join(path);
        if fs::symlink_metadata(&file).is_err() && make_parent(&file).is_ok() {
            let _ = fs::write(&file, text);
        }
    }
}

/// Makes `own/x/y` a link to `shared/x/y` for all that is there and that the box does not have itself.
fn spread(own: &Path, shared: &Path) {
    for group in fs::read_dir(shared).into_iter().flatten().flatten() {
        let (own, shared) = (own.join(group.file_name()), group.path());
        if fs::create_dir_all(&own).is_err() {
            continue;
        }
        for entry in fs::read_dir(&shared).into_iter().flatten().flatten().take(SPREAD_ENTRIES_MAX) {
            // What is there already stays: the box's own, or the link of an earlier start.
            let _ = std::os::unix::fs::symlink(entry.path(), own.join(entry.file_name()));
        }
    }
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// The program's whole environment.
pub(crate) fn environment(plan: &Plan) -> Vec<(String, String)> {
    let own = Path::new(PROGRAM_INSIDE).parent().map(Path::to_path_buf);
    let path: Vec<PathBuf> =
        own.into_iter().chain(plan.toolchains.path.iter().cloned()).chain(SYSTEM_PATH.split(':').map(PathBuf::from)).collect();
    let path = path.iter().map(|part| part.to_string_lossy().into_owned()).collect::<Vec<_>>().join(":");
    let fixed = [("HOME", HOME_INSIDE), ("PATH", &path), ("TMPDIR", "/tmp"), ("USER", "agent"), ("LOGNAME", "agent")];
    let mut env: Vec<(String, String)> = fixed.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mut set = |name: &str, value: &str| {
        if FIXED.contains(&name) {
            return;
        }
        match env.iter_mut().find(|(known, _)| known == name) {
            Some(known) => value.clone_into(&mut known.1),
            None => env.push((name.to_owned(), value.to_owned())),
        }
    };
    set("LANG", "C.UTF-8");
    for (name, value) in plan.toolchains.env.iter().chain(&plan.spec.env) {
        set(name, value);
    }
    env
}

/// Finds the program on the box's PATH; a name with a `/` is taken as it is.
pub(crate) fn find_program(command: &[String], env: &[(String, String)]) -> Result<PathBuf, Failure> {
    let name = command.first().filter(|name| !name.is_empty()).ok_or_else(|| Failure::refused("the box was given no command"))?;
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let path = env.iter().find(|(known, _)| known == "PATH").map_or("", |(_, value)| value);
    path.split(':')
        .map(|directory| Path::new(directory).join(name))
        .find(|candidate| is_program(candidate))
        .ok_or_else(|| Failure::refused(format!("{name} {NOT_A_PROGRAM} (user {INSIDE_ID} there, PATH {path})")))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file()) && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}
