//! What tools the person has outside `/usr`, as data: directories that boxes see read-only, and the variables that go with them.

use aedile_core::sandbox::HOME_INSIDE;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// One read-only directory or file of tools.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ToolMount {
    /// Where it is on the host.
    pub host: PathBuf,
    /// Where the box sees it; the same place, since installed tools name their own directories.
    pub inside: PathBuf,
    /// Files below it (relative) that the box sees empty, because they hold credentials.
    pub masked: Vec<PathBuf>,
}

/// Everything about tools that a box is given.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Toolchains {
    /// Read-only mounts, no one inside another.
    pub mounts: Vec<ToolMount>,
    /// Variables.
    pub env: Vec<(String, String)>,
    /// Directories that come before the system's on the box's PATH.
    pub path: Vec<PathBuf>,
    /// Links in the box's home: where (relative), and what they point to.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Directories in the box's home (relative) that are its own but hold, two levels down, links to what a read-only directory holds.
    pub spread: Vec<(PathBuf, PathBuf)>,
    /// Files in the box's home: where (relative), and their text. A file that is there is left.
    pub files: Vec<(PathBuf, String)>,
}

/// Where to look. The caller reads the environment; this crate does not.
#[derive(Clone, Debug, Default)]
pub struct ToolSearch {
    /// The person's home.
    pub home: Option<PathBuf>,
    /// The directories of the person's PATH, in order.
    pub path: Vec<PathBuf>,
    /// Further directories of tools, from the configuration.
    pub candidates: Vec<PathBuf>,
    /// Programs that a box must be able to start, looked up on `path`: what a link there leads to is shown too.
    pub programs: Vec<String>,
    /// Our state directory: nothing that holds it or lies in it is given to a box.
    pub state_dir: Option<PathBuf>,
    /// The person's values of the variables in [`TOOL_VARIABLES`] that are set.
    pub variables: Vec<(String, String)>,
}

/// Variables that say where tools are. The caller passes the ones that are set.
pub const TOOL_VARIABLES: &[&str] = &[
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "PYENV_ROOT",
    "PYENV_VERSION",
    "NVM_DIR",
    "SDKMAN_DIR",
    "JAVA_HOME",
    "GOROOT",
    "GOPATH",
    "VOLTA_HOME",
    "ASDF_DATA_DIR",
];

/// Directories in a home that hold tools as a whole.
const HOME_TOOLS: &[&str] = &[
    ".pyenv",
    ".nvm",
    ".fnm",
    ".volta",
    ".sdkman",
    ".asdf",
    ".rbenv",
    ".rvm",
    ".bun",
    ".deno",
    ".ghcup",
    ".goenv",
    ".nodenv",
    ".jenv",
    ".elan",
    ".opam",
    ".dotnet",
    ".local/bin",
    ".local/share/mise",
    ".local/share/uv",
    ".local/share/pipx",
    ".local/share/fnm",
    ".local/share/pnpm",
    ".local/pipx",
    "go/bin",
    "go/pkg/mod",
];
/// Variables that name such a directory, and its usual place.
const HOME_VARIABLES: &[(&str, &str)] =
    &[("PYENV_ROOT", ".pyenv"), ("NVM_DIR", ".nvm"), ("SDKMAN_DIR", ".sdkman"), ("VOLTA_HOME", ".volta"), ("ASDF_DATA_DIR", ".asdf")];
/// Directories that every box has anyway.
const SYSTEM: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/nix/store", "/gnu/store"];
/// Files that hold credentials, wherever a tool keeps them.
const CREDENTIALS: &[&str] = &[
    ".npmrc",
    "etc/npmrc",
    ".netrc",
    ".pypirc",
    ".yarnrc.yml",
    ".config/gcloud",
    ".docker/config.json",
    "credentials",
    "credentials.toml",
    "auth.json",
    ".git-credentials",
    ".config/pip/pip.conf",
    ".aws",
    ".ssh",
];
const CONFIG_BYTES_MAX: u64 = 256 * 1024;

/// Finds the tools. A directory that is the home itself, or above it, is never given to a box.
pub fn discover(search: &ToolSearch) -> Toolchains {
    let mut found = Found { search, tools: Toolchains::default() };
    found.rust();
    found.home_tools();
    found.path_directories();
    found.programs();
    found.variables();
    found.go();
    found.finish()
}

struct Found<'a> {
    search: &'a ToolSearch,
    tools: Toolchains,
}

impl Found<'_> {
    fn variable(&self, name: &str) -> Option<&str> {
        self.search.variables.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The directory that a variable names, or its usual place in the home.
    fn place(&self, variable: &str, usual: &str) -> Option<PathBuf> {
        let place = self.variable(variable).map(PathBuf::from).or_else(|| Some(self.search.home.as_ref()?.join(usual)))?;
        place.is_dir().then_some(place)
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.tools.env.push((name.to_owned(), value.into()));
    }

    /// Adds a read-only mount; false when the directory must not be shown or is not there.
    fn mount(&mut self, directory: &Path) -> bool {
        if SYSTEM.iter().any(|system| directory.starts_with(system)) {
            return true;
        }
        let plain = directory.is_absolute() && directory.components().all(|part| !matches!(part, std::path::Component::ParentDir));
        // What a link leads to is judged as well, and shown at its real place too, where links of installed tools look for it.
        let Some(host) = plain.then(|| fs::canonicalize(directory).ok()).flatten() else {
            return false;
        };
        if self.forbidden(directory) || self.forbidden(&host) {
            return false;
        }
        let masked: Vec<PathBuf> =
            CREDENTIALS.iter().map(PathBuf::from).filter(|path| fs::symlink_metadata(host.join(path)).is_ok()).collect();
        if host != directory {
            self.tools.mounts.push(ToolMount { host: host.clone(), inside: directory.to_owned(), masked: masked.clone() });
        }
        if !SYSTEM.iter().any(|system| host.starts_with(system)) {
            self.tools.mounts.push(ToolMount { inside: host.clone(), host, masked });
        }
        true
    }

    /// Whether a directory holds too much: the root, the home, our state.
    fn forbidden(&self, directory: &Path) -> bool {
        let holds = |inner: &Option<PathBuf>| inner.as_ref().is_some_and(|inner| inner.starts_with(directory));
        let in_state = self.search.state_dir.as_ref().is_some_and(|state| directory.starts_with(state));
        directory.parent().is_none() || holds(&self.search.home) || holds(&self.search.state_dir) || in_state
    }

    /// Rust: toolchains and programs as they are; of cargo's home only what is downloaded, in a private one that can be locked and written.
    fn rust(&mut self) {
        if let Some(rustup) = self.place("RUSTUP_HOME", ".rustup")
            && self.mount(&rustup)
        {
            self.set("RUSTUP_HOME", rustup.to_string_lossy());
        }
        if let Some(toolchain) = self.variable("RUSTUP_TOOLCHAIN").map(str::to_owned) {
            self.set("RUSTUP_TOOLCHAIN", toolchain);
        }
        let Some(cargo) = self.place("CARGO_HOME", ".cargo") else {
            return;
        };
        self.set("CARGO_HOME", format!("{HOME_INSIDE}/.cargo"));
        if self.mount(&cargo.join("bin")) {
            self.tools.path.push(cargo.join("bin"));
        }
        for part in ["registry/index", "registry/cache", "registry/src", "git/db", "git/checkouts"] {
            if self.mount(&cargo.join(part)) {
                let link = (Path::new(".cargo").join(part), cargo.join(part));
                // Cargo adds to these two when it may download; the rest it only reads.
                match part {
                    "registry/cache" | "registry/src" => self.tools.spread.push(link),
                    _ => self.tools.links.push(link),
                }
            }
        }
        for name in ["config.toml", "config"] {
            let file = cargo.join(name);
            let small = fs::metadata(&file).is_ok_and(|meta| meta.is_file() && meta.len() <= CONFIG_BYTES_MAX);
            if let Some(text) = small.then(|| fs::read_to_string(&file).ok()).flatten() {
                self.tools.files.push((Path::new(".cargo").join(name), without_credentials(&text)));
            }
        }
    }

    fn home_tools(&mut self) {
        let homes = self.search.home.iter().flat_map(|home| HOME_TOOLS.iter().map(|name| home.join(name)));
        let variables = HOME_VARIABLES.iter().map(|(name, _)| *name).chain(["JAVA_HOME", "GOROOT"]);
        let named = variables.filter_map(|name| self.variable(name));
        let places: Vec<PathBuf> = homes.chain(named.map(PathBuf::from)).chain(self.search.candidates.iter().cloned()).collect();
        for place in places {
            self.mount(&place);
        }
    }

    fn path_directories(&mut self) {
        for directory in &self.search.path {
            let known = self.tools.path.contains(directory) || SYSTEM.iter().any(|system| directory.starts_with(system));
            if known || !directory.is_absolute() || !directory.is_dir() {
                continue;
            }
            // Programs in `/opt/x/bin` belong to what is in `/opt/x`.
            let root =
                directory.strip_prefix("/opt").ok().and_then(|rest| rest.components().next()).map(|first| Path::new("/opt").join(first));
            if self.mount(root.as_deref().unwrap_or(directory)) {
                self.tools.path.push(directory.clone());
            }
        }
    }

    /// A program on the PATH is often a link into the place where it is really installed. That place is shown as a whole: all installed
    /// packages of Node where it is one of them, since they use each other, else the directory of the file.
    fn programs(&mut self) {
        for name in &self.search.programs {
            let Some((_, real)) = find_program(&self.search.path, name) else { continue };
            let packages = real.ancestors().filter(|part| part.ends_with("node_modules")).last();
            if let Some(place) = packages.or_else(|| real.parent()) {
                self.mount(place);
            }
        }
    }

    /// The variables by which tools find themselves; most look in the home otherwise, which is another one in the box.
    fn variables(&mut self) {
        for (name, usual) in HOME_VARIABLES {
            if let Some(place) = self.place(name, usual) {
                self.set(name, place.to_string_lossy());
            }
        }
        for name in ["PYENV_VERSION", "JAVA_HOME", "GOROOT"] {
            if let Some(value) = self.variable(name).map(str::to_owned) {
                self.set(name, value);
            }
        }
    }

    /// Go: the downloaded modules serve as a proxy of files, since their cache wants to be locked and written.
    fn go(&mut self) {
        let Some(modules) = self.place("GOPATH", "go").map(|path| path.join("pkg/mod/cache/download")).filter(|path| path.is_dir()) else {
            return;
        };
        if self.mount(&modules) {
            self.set("GOPROXY", format!("file://{},off", modules.display()));
        }
    }

    /// Leaves out what lies in another mount: it is seen there.
    fn finish(self) -> Toolchains {
        let mut tools = self.tools;
        tools.mounts.sort_by(|a, b| a.inside.cmp(&b.inside));
        let mut kept: Vec<ToolMount> = Vec::new();
        for mount in tools.mounts {
            if !kept.iter().any(|outer| mount.inside.starts_with(&outer.inside)) {
                kept.push(mount);
            }
        }
        tools.mounts = kept;
        tools
    }
}

/// Finds a program in directories as a shell does: the directory that has it, and where it really is. A path is taken as it is.
pub fn find_program(path: &[PathBuf], name: &str) -> Option<(PathBuf, PathBuf)> {
    let found = |place: PathBuf| {
        let real = fs::canonicalize(&place).ok()?;
        let program = real.is_file() && rustix::fs::access(&real, rustix::fs::Access::EXEC_OK).is_ok();
        program.then_some((place, real))
    };
    if name.contains('/') {
        return found(PathBuf::from(name));
    }
    path.iter().filter(|directory| directory.is_absolute()).find_map(|directory| found(directory.join(name)))
}

/// Drops the lines of a configuration that may hold a token or a password.
fn without_credentials(text: &str) -> String {
    let secret = |line: &&str| {
        let lower = line.to_ascii_lowercase();
        let user_info = lower.split("://").skip(1).any(|rest| rest.split(['/', '"', '\'']).next().is_some_and(|host| host.contains('@')));
        !["token", "secret", "password", "authorization"].iter().any(|word| lower.contains(word)) && !user_info
    };
    text.lines().filter(secret).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home_with(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "index = \"x\"\ntoken = \"s3cret\"\nproxy = \"http://u:p@h/\"\n").unwrap();
        }
        dir
    }

    fn found(home: &tempfile::TempDir, path: &[&str]) -> Toolchains {
        let path = path.iter().map(|part| home.path().join(part)).collect();
        discover(&ToolSearch { home: Some(home.path().to_owned()), path, ..ToolSearch::default() })
    }

    #[test]
    fn cargo_home_is_shown_without_credentials() {
        let home = home_with(&[
            ".cargo/bin/cargo",
            ".cargo/registry/index/x",
            ".cargo/credentials.toml",
            ".cargo/config.toml",
            ".rustup/settings.toml",
        ]);
        let tools = found(&home, &[".cargo/bin"]);
        let inside: Vec<_> = tools.mounts.iter().map(|mount| mount.inside.strip_prefix(home.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(inside, [".cargo/bin", ".cargo/registry/index", ".rustup"]);
        assert_eq!(tools.files, [(".cargo/config.toml".into(), "index = \"x\"\n".to_owned())]);
        assert!(tools.env.contains(&("CARGO_HOME".into(), "/home/agent/.cargo".into())));
        assert_eq!(tools.path, [home.path().join(".cargo/bin")]);
    }

    #[test]
    fn the_home_itself_and_its_parents_are_never_shown() {
        let home = home_with(&["x"]);
        assert_eq!(found(&home, &["", ".."]).mounts, []);
        assert_eq!(found(&home, &["", ".."]).path, Vec::<PathBuf>::new());
    }

    #[test]
    fn a_link_in_a_tool_directory_is_followed_to_what_it_means() {
        let home = home_with(&[".nvm/v1/bin/node", "elsewhere/bin/x"]);
        std::os::unix::fs::symlink("v1", home.path().join(".nvm/current")).unwrap();
        std::os::unix::fs::symlink("../elsewhere", home.path().join(".nvm/out")).unwrap();
        let tools = found(&home, &[".nvm/current/bin", ".nvm/out/bin"]);
        let inside: Vec<_> = tools.mounts.iter().map(|mount| mount.inside.strip_prefix(home.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(inside, [".nvm", "elsewhere/bin"]);
        assert_eq!(tools.path.len(), 2);
    }

    #[test]
    fn what_a_program_on_the_path_really_is_is_shown_with_what_it_needs() {
        use std::os::unix::fs::PermissionsExt;
        let home = home_with(&["bin/x", "lib/node_modules/agent/cli.js", "lib/node_modules/agent/node_modules/dep/d.js", "share/v/1.0"]);
        let at = |path: &str| home.path().join(path);
        for (link, target) in [("bin/agent", "../lib/node_modules/agent/cli.js"), ("bin/native", "../share/v/1.0"), ("bin/gone", "../x")] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        for program in ["lib/node_modules/agent/cli.js", "share/v/1.0"] {
            fs::set_permissions(at(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let programs = ["agent", "native", "gone", "nowhere"].map(str::to_owned).to_vec();
        let tools = discover(&ToolSearch { home: Some(at("")), path: vec![at("bin")], programs, ..ToolSearch::default() });
        let inside: Vec<_> = tools.mounts.iter().map(|mount| mount.inside.strip_prefix(home.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(inside, ["bin", "lib/node_modules", "share/v"]);
        assert_eq!(find_program(&[at("bin")], "native"), Some((at("bin/native"), at("share/v/1.0").canonicalize().unwrap())));
    }

    #[test]
    fn the_state_directory_is_never_shown() {
        let home = home_with(&["state/bin/x"]);
        let search =
            ToolSearch { path: vec![home.path().join("state/bin")], state_dir: Some(home.path().join("state")), ..ToolSearch::default() };
        assert_eq!(discover(&search), Toolchains::default());
    }

    #[test]
    fn credentials_in_a_tool_directory_are_masked_and_inner_mounts_left_out() {
        let home = home_with(&[".nvm/.npmrc", ".nvm/versions/node/v1/bin/node", "tools/bin/x"]);
        let tools = found(&home, &[".nvm/versions/node/v1/bin", "tools/bin"]);
        assert_eq!(tools.mounts.len(), 2);
        assert_eq!(tools.mounts[0].masked, [PathBuf::from(".npmrc")]);
        assert_eq!(tools.path.len(), 2);
    }
}
