//! The commands that the demo's agents add to the sample project, each with its checks. Shell builtins only.

/// One command of the sample project.
#[derive(Debug)]
pub struct Word {
    /// Its name.
    pub name: &'static str,
    /// What it does, as its manual page says it.
    pub does: &'static str,
    /// The body of its shell function.
    pub body: &'static str,
    /// Arguments and the expected output.
    pub checks: &'static [(&'static str, &'static str)],
    /// Commands that it calls.
    pub needs: &'static [&'static str],
}

const fn word(name: &'static str, does: &'static str, body: &'static str, checks: &'static [(&'static str, &'static str)]) -> Word {
    Word { name, does, body, checks, needs: &[] }
}

/// Every command, in the order in which tasks are made of them.
pub const WORDS: &[Word] = &[
    word(
        "sum",
        "Adds whole numbers.",
        "total=0\nfor n in \"$@\"; do total=$((total + n)); done\necho \"$total\"",
        &[("1 2 3", "6"), ("-4 4", "0"), ("", "0")],
    ),
    word(
        "gcd",
        "Prints the greatest common divisor of two numbers.",
        "a=$1 b=$2\nwhile [ \"$b\" -ne 0 ]; do r=$((a % b)) a=$b b=$r; done\necho \"$a\"",
        &[("12 18", "6"), ("7 5", "1")],
    ),
    Word {
        name: "mean",
        does: "Prints the mean of whole numbers, rounded towards zero.",
        body: "total=$(sh \"$root/bin/abacus\" sum \"$@\")\nnumber=$(sh \"$root/bin/abacus\" count \"$@\")\necho $((total / number))",
        checks: &[("2 4 6", "4"), ("1 2", "1")],
        needs: &["sum"],
    },
    word(
        "reverse",
        "Prints its arguments in reverse order.",
        "out=\nfor w in \"$@\"; do out=\"$w${out:+ $out}\"; done\necho \"$out\"",
        &[("a b c", "c b a"), ("one", "one")],
    ),
    word(
        "max",
        "Prints the largest number.",
        "m=$1\nfor n in \"$@\"; do [ \"$n\" -gt \"$m\" ] && m=$n; done\necho \"$m\"",
        &[("3 9 2", "9"), ("-3 -9", "-3")],
    ),
    word(
        "min",
        "Prints the smallest number.",
        "m=$1\nfor n in \"$@\"; do [ \"$n\" -lt \"$m\" ] && m=$n; done\necho \"$m\"",
        &[("3 9 2", "2"), ("-3 -9", "-9")],
    ),
    word(
        "product",
        "Multiplies whole numbers.",
        "p=1\nfor n in \"$@\"; do p=$((p * n)); done\necho \"$p\"",
        &[("2 3 4", "24"), ("5 0", "0")],
    ),
    Word {
        name: "span",
        does: "Prints the largest number less the smallest.",
        body: "high=$(sh \"$root/bin/abacus\" max \"$@\")\nlow=$(sh \"$root/bin/abacus\" min \"$@\")\necho $((high - low))",
        checks: &[("3 9 2", "7"), ("5", "0")],
        needs: &["max", "min"],
    },
    word(
        "power",
        "Raises the first number to the second.",
        "p=1 i=0\nwhile [ \"$i\" -lt \"$2\" ]; do p=$((p * $1)) i=$((i + 1)); done\necho \"$p\"",
        &[("2 10", "1024"), ("7 0", "1")],
    ),
    word(
        "factorial",
        "Prints the product of all numbers up to this one.",
        "p=1 i=2\nwhile [ \"$i\" -le \"$1\" ]; do p=$((p * i)) i=$((i + 1)); done\necho \"$p\"",
        &[("5", "120"), ("0", "1")],
    ),
    word(
        "fibonacci",
        "Prints the Fibonacci number with this index.",
        "a=0 b=1 i=0\nwhile [ \"$i\" -lt \"$1\" ]; do c=$((a + b)) a=$b b=$c i=$((i + 1)); done\necho \"$a\"",
        &[("10", "55"), ("0", "0")],
    ),
    Word {
        name: "lcm",
        does: "Prints the least common multiple of two numbers.",
        body: "echo $(($1 / $(sh \"$root/bin/abacus\" gcd \"$1\" \"$2\") * $2))",
        checks: &[("4 6", "12"), ("3 7", "21")],
        needs: &["gcd"],
    },
    word(
        "prime",
        "Says whether a number is prime.",
        "d=2\nwhile [ $((d * d)) -le \"$1\" ]; do\n    [ $(($1 % d)) -eq 0 ] && { echo no; return; }\n    d=$((d + 1))\ndone\nif [ \"$1\" -lt 2 ]; then echo no; else echo yes; fi",
        &[("97", "yes"), ("91", "no"), ("1", "no")],
    ),
    word(
        "abs",
        "Prints a number without its sign.",
        "if [ \"$1\" -lt 0 ]; then echo $((-$1)); else echo \"$1\"; fi",
        &[("-7", "7"), ("7", "7")],
    ),
    word(
        "sign",
        "Prints -1, 0 or 1.",
        "if [ \"$1\" -lt 0 ]; then echo -1; elif [ \"$1\" -gt 0 ]; then echo 1; else echo 0; fi",
        &[("-7", "-1"), ("0", "0"), ("3", "1")],
    ),
    word(
        "even",
        "Says whether a number is even.",
        "if [ $(($1 % 2)) -eq 0 ]; then echo yes; else echo no; fi",
        &[("4", "yes"), ("7", "no")],
    ),
    word(
        "clamp",
        "Keeps the first number between the other two.",
        "n=$1\n[ \"$n\" -lt \"$2\" ] && n=$2\n[ \"$n\" -gt \"$3\" ] && n=$3\necho \"$n\"",
        &[("9 1 5", "5"), ("0 1 5", "1"), ("3 1 5", "3")],
    ),
    word(
        "digits",
        "Adds the digits of a number.",
        "n=$1 s=0\nwhile [ \"$n\" -gt 0 ]; do s=$((s + n % 10)) n=$((n / 10)); done\necho \"$s\"",
        &[("1234", "10"), ("0", "0")],
    ),
    word(
        "collatz",
        "Counts the Collatz steps down to 1.",
        "n=$1 steps=0\nwhile [ \"$n\" -ne 1 ]; do\n    if [ $((n % 2)) -eq 0 ]; then n=$((n / 2)); else n=$((3 * n + 1)); fi\n    steps=$((steps + 1))\ndone\necho \"$steps\"",
        &[("6", "8"), ("1", "0")],
    ),
    word("first", "Prints its first argument.", "echo \"$1\"", &[("a b c", "a")]),
    word("last", "Prints its last argument.", "for w in \"$@\"; do :; done\necho \"$w\"", &[("a b c", "c")]),
    word(
        "join",
        "Joins words with the first argument between them.",
        "sep=$1 out=\nshift\nfor w in \"$@\"; do out=\"${out:+$out$sep}$w\"; done\necho \"$out\"",
        &[("- a b c", "a-b-c"), ("- a", "a")],
    ),
    word(
        "repeat",
        "Prints the second argument as often as the first says.",
        "out= i=0\nwhile [ \"$i\" -lt \"$1\" ]; do out=$out$2 i=$((i + 1)); done\necho \"$out\"",
        &[("3 ab", "ababab"), ("0 ab", "")],
    ),
    word("size", "Prints the number of characters of a word.", "echo \"${#1}\"", &[("abacus", "6")]),
    word("file", "Prints the last part of a path.", "echo \"${1##*/}\"", &[("a/b/c.txt", "c.txt"), ("c", "c")]),
    word(
        "suffix",
        "Prints what follows the last dot.",
        "case $1 in\n*.*) echo \"${1##*.}\" ;;\n*) echo ;;\nesac",
        &[("a.tar.gz", "gz"), ("a", "")],
    ),
    word("stem", "Prints a name without its last suffix.", "echo \"${1%.*}\"", &[("a.tar.gz", "a.tar"), ("a", "a")]),
    word(
        "starts",
        "Says whether the first word starts with the second.",
        "case $1 in\n\"$2\"*) echo yes ;;\n*) echo no ;;\nesac",
        &[("abacus ab", "yes"), ("abacus b", "no")],
    ),
    word(
        "ends",
        "Says whether the first word ends with the second.",
        "case $1 in\n*\"$2\") echo yes ;;\n*) echo no ;;\nesac",
        &[("abacus us", "yes"), ("abacus ab", "no")],
    ),
    word(
        "holds",
        "Says whether the first word holds the second.",
        "case $1 in\n*\"$2\"*) echo yes ;;\n*) echo no ;;\nesac",
        &[("abacus cu", "yes"), ("abacus x", "no")],
    ),
    word(
        "mirror",
        "Prints a word backwards.",
        "rest=$1 out=\nwhile [ -n \"$rest\" ]; do tail=${rest#?} out=${rest%\"$tail\"}$out rest=$tail; done\necho \"$out\"",
        &[("abc", "cba"), ("a", "a")],
    ),
    Word {
        name: "palindrome",
        does: "Says whether a word reads the same backwards.",
        body: "if [ \"$1\" = \"$(sh \"$root/bin/abacus\" mirror \"$1\")\" ]; then echo yes; else echo no; fi",
        checks: &[("level", "yes"), ("abacus", "no")],
        needs: &["mirror"],
    },
    word(
        "pad",
        "Puts zeros before a number until it has that many digits.",
        "n=$1\nwhile [ \"${#n}\" -lt \"$2\" ]; do n=0$n; done\necho \"$n\"",
        &[("7 3", "007"), ("1234 3", "1234")],
    ),
    word(
        "unique",
        "Prints its arguments without repetition.",
        "out=\nfor w in \"$@\"; do\n    case \" $out \" in\n    *\" $w \"*) ;;\n    *) out=\"${out:+$out }$w\" ;;\n    esac\ndone\necho \"$out\"",
        &[("a b a c b", "a b c")],
    ),
    word("triangle", "Prints the sum of all numbers up to this one.", "echo $(($1 * ($1 + 1) / 2))", &[("4", "10"), ("0", "0")]),
    word("square", "Multiplies a number by itself.", "echo $(($1 * $1))", &[("12", "144"), ("-3", "9")]),
    word(
        "root",
        "Prints the whole part of a square root.",
        "r=0\nwhile [ $(((r + 1) * (r + 1))) -le \"$1\" ]; do r=$((r + 1)); done\necho \"$r\"",
        &[("17", "4"), ("16", "4"), ("0", "0")],
    ),
    word(
        "bits",
        "Prints a number in binary.",
        "n=$1 out=\nwhile [ \"$n\" -gt 1 ]; do out=$((n % 2))$out n=$((n / 2)); done\necho \"$n$out\"",
        &[("10", "1010"), ("0", "0")],
    ),
    word(
        "divisors",
        "Prints every divisor of a number.",
        "d=1 out=\nwhile [ \"$d\" -le \"$1\" ]; do\n    [ $(($1 % d)) -eq 0 ] && out=\"${out:+$out }$d\"\n    d=$((d + 1))\ndone\necho \"$out\"",
        &[("12", "1 2 3 4 6 12"), ("7", "1 7")],
    ),
    word(
        "leap",
        "Says whether a year is a leap year.",
        "if [ $(($1 % 4)) -eq 0 ] && { [ $(($1 % 100)) -ne 0 ] || [ $(($1 % 400)) -eq 0 ]; }; then echo yes; else echo no; fi",
        &[("2024", "yes"), ("1900", "no"), ("2000", "yes")],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_needs_come_earlier() {
        for (at, word) in WORDS.iter().enumerate() {
            let before = |name: &str| WORDS[..at].iter().any(|earlier| earlier.name == name);
            assert!(!before(word.name), "{} twice", word.name);
            assert!(word.needs.iter().all(|need| before(need)), "{} needs something that comes later", word.name);
        }
        assert!(WORDS.len() >= 40);
    }
}
