//! The sample project: a calculator for the shell, with tests that truly test it.

use super::words::Word;

/// The first command, which is there from the start.
pub const COUNT: Word = Word {
    name: "count",
    does: "Prints how many arguments there are.",
    body: "echo \"$#\"",
    checks: &[("a b c", "3"), ("", "0")],
    needs: &[],
};

const README: &str = "# abacus\n\nSmall sums and word games for the shell. Needs nothing but a POSIX shell.\n\n    sh bin/abacus count a b c\n\nEach command is one file in `lib/`, with its checks in `tests/` and a page in `docs/`.\nRun all checks with `sh tests/run.sh`.\n";

const PROGRAM: &str = r#"#!/bin/sh
# abacus COMMAND [ARGUMENT...]: runs one of the commands in lib/.
set -eu
root=$(CDPATH= cd -- "${0%/*}/.." && pwd)
if [ $# -eq 0 ]; then
    echo "usage: abacus COMMAND [ARGUMENT...]" >&2
    for file in "$root"/lib/*.sh; do name=${file##*/}; echo "  ${name%.sh}" >&2; done
    exit 2
fi
command=$1
shift
if [ ! -f "$root/lib/$command.sh" ]; then
    echo "abacus: there is no command $command" >&2
    exit 2
fi
. "$root/lib/$command.sh"
set +e
"cmd_$command" "$@"
"#;

const RUN_TESTS: &str = r#"#!/bin/sh
# Runs every check. Fails when one fails, or when a command has no checks or no page.
root=$(CDPATH= cd -- "${0%/*}/.." && pwd)
ran=0 failed=0

fail() {
    echo "FAIL $*"
    failed=$((failed + 1))
}

# check EXPECTED COMMAND [ARGUMENT...]
check() {
    expected=$1
    shift
    got=$(sh "$root/bin/abacus" "$@" 2>&1)
    ran=$((ran + 1))
    [ "$got" = "$expected" ] || fail "abacus $*: expected '$expected', got '$got'"
}

for file in "$root"/lib/*.sh; do
    name=${file##*/}
    name=${name%.sh}
    [ -f "$root/tests/$name.sh" ] || fail "lib/$name.sh has no checks: tests/$name.sh is missing"
    [ -f "$root/docs/$name.md" ] || fail "lib/$name.sh has no page: docs/$name.md is missing"
done
for file in "$root"/tests/*.sh; do
    [ "${file##*/}" = run.sh ] || . "$file"
done
echo "$ran checks, $failed failed"
[ "$failed" -eq 0 ] && [ "$ran" -gt 0 ]
"#;

const CONFIG: &str = "# What holds for this repository.\ntarget = \"main\"\n\n[[gate]]\nname = \"test\"\ncommand = \"sh tests/run.sh\"\n";

/// The implementation of a command.
pub fn library(word: &Word) -> String {
    let body: String = word.body.lines().map(|line| format!("    {line}\n")).collect();
    format!("# {}: {}\ncmd_{}() {{\n{body}}}\n", word.name, word.does, word.name)
}

/// Its checks.
pub fn checks(word: &Word) -> String {
    word.checks
        .iter()
        .map(|(arguments, expected)| format!("{}\n", format!("check '{expected}' {} {arguments}", word.name).trim_end()))
        .collect()
}

/// Its page.
pub fn page(word: &Word) -> String {
    let (arguments, expected) = word.checks.first().copied().unwrap_or_default();
    format!("# {}\n\n{}\n\n    $ abacus {} {arguments}\n    {expected}\n", word.name, word.does, word.name)
}

/// Every file of the project at the start: path and content.
pub fn files() -> Vec<(String, String)> {
    let fixed = [("README.md", README), ("bin/abacus", PROGRAM), ("tests/run.sh", RUN_TESTS), (crate::config::file::NAME, CONFIG)];
    let mut files: Vec<(String, String)> = fixed.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    files.extend([
        (format!("lib/{}.sh", COUNT.name), library(&COUNT)),
        (format!("tests/{}.sh", COUNT.name), checks(&COUNT)),
        (format!("docs/{}.md", COUNT.name), page(&COUNT)),
    ]);
    files
}
