//! Takes a shell command apart, so that permission rules can judge each thing that it would run.
//!
//! This is not a shell. What it does not surely understand (here-documents, `case`, functions) it calls unclear, and an unclear command is never
//! allowed by a rule for a part. A parser of the whole language was left out: the one that is kept up brings sixty crates.

/// Texts nested deeper than this are unclear.
const DEPTH_MAX: u32 = 8;
/// Programs that run what stands behind them.
const WRAPPERS: &[&str] = &[
    "sudo", "doas", "env", "nohup", "nice", "ionice", "timeout", "time", "command", "builtin", "exec", "xargs", "setsid", "stdbuf",
    "watch", "find", "parallel", "busybox", "eval", "bash", "sh", "dash", "zsh", "ash", "ksh",
];
/// Words that stand before a command.
const KEYWORDS: &[&str] = &["if", "then", "else", "elif", "while", "until", "do", "!", "{", "time"];
/// Words that end something.
const ENDS: &[&str] = &["fi", "done", "}", "esac"];

/// What a command would do.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Parts {
    /// Each simple command: its words without quotes.
    pub(crate) commands: Vec<Vec<String>>,
    /// Files that are written by redirections.
    pub(crate) writes: Vec<String>,
    /// Files that are fed in by redirections, but for `/dev/null`: what a program does with its input is not seen here.
    pub(crate) reads: Vec<String>,
    /// Whether there is something that was not understood.
    pub(crate) unclear: bool,
}

/// Takes a command apart.
pub(crate) fn parts_of(command: &str) -> Parts {
    let mut parts = Parts::default();
    read(command, 0, &mut parts);
    parts
}

impl Parts {
    /// Whether a pattern can say what it does: all of it is understood, and nothing is fed in.
    pub(crate) fn is_known(&self) -> bool {
        !self.unclear && !self.commands.is_empty() && self.reads.is_empty()
    }
}

/// What stands for a nested command in a word.
const PLACEHOLDERS: [&str; 2] = ["(...)", "`...`"];

/// Whether the output of another command stands in the words.
pub(crate) fn has_placeholder(words: &[String]) -> bool {
    words.iter().any(|word| PLACEHOLDERS.iter().any(|placeholder| word.contains(placeholder)))
}

/// What may be run behind the words of a command that runs others: every rest of its words, and the text for a shell.
pub(crate) fn wrapped(words: &[String]) -> Vec<Vec<String>> {
    let Some(first) = words.first().map(|word| base_name(word)) else { return Vec::new() };
    if !WRAPPERS.contains(&first) {
        return Vec::new();
    }
    let mut inner: Vec<Vec<String>> = (1..words.len()).map(|at| words[at..].to_vec()).collect();
    for word in words.iter().skip(1).filter(|word| word.contains(char::is_whitespace)) {
        inner.extend(parts_of(word).commands);
    }
    inner
}

/// The name of a program without its directory.
pub(crate) fn base_name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// Whether the word sets a variable for the command behind it.
pub(crate) fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '+')
    })
}

struct Reader<'a> {
    text: &'a [char],
    at: usize,
    depth: u32,
    words: Vec<String>,
    word: Option<String>,
    /// The next word is the target of a redirection that writes.
    target: bool,
    /// The next word is the target of a redirection that reads.
    source: bool,
}

fn read(command: &str, depth: u32, parts: &mut Parts) {
    if depth > DEPTH_MAX {
        parts.unclear = true;
        return;
    }
    let text: Vec<char> = command.chars().collect();
    let mut reader = Reader { text: &text, at: 0, depth, words: Vec::new(), word: None, target: false, source: false };
    while let Some(c) = reader.next() {
        reader.take(c, parts);
    }
    reader.end_command(parts);
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.text.get(self.at).copied();
        self.at += 1;
        c
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn take(&mut self, c: char, parts: &mut Parts) {
        match c {
            ' ' | '\t' | '\r' => self.end_word(parts),
            '\n' | ';' | '|' | '(' | ')' => self.end_command(parts),
            '&' if self.peek() == Some('>') => self.end_word(parts),
            '&' => self.end_command(parts),
            '#' if self.word.is_none() => {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.at += 1;
                }
            }
            '>' => self.redirect_out(parts),
            '<' => self.redirect_in(parts),
            '\\' => match self.next() {
                Some('\n') | None => {}
                Some(c) => self.push(c),
            },
            '\'' => self.single_quoted(parts),
            '"' => self.double_quoted(parts),
            '`' => self.backquoted(parts),
            '$' => self.dollar(parts),
            c => self.push(c),
        }
    }

    fn redirect_out(&mut self, parts: &mut Parts) {
        // A number before it is a descriptor.
        if self.word.as_ref().is_some_and(|word| word.chars().all(|c| c.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word(parts);
        if self.peek() == Some('(') {
            return self.nested(parts);
        }
        while matches!(self.peek(), Some('>' | '|')) {
            self.at += 1;
        }
        if self.peek() == Some('&') {
            self.at += 1;
            if self.peek().is_some_and(|c| c.is_ascii_digit() || c == '-') {
                while self.peek().is_some_and(|c| c.is_ascii_digit() || c == '-') {
                    self.at += 1;
                }
                return;
            }
        }
        self.target = true;
    }

    fn redirect_in(&mut self, parts: &mut Parts) {
        if self.word.as_ref().is_some_and(|word| word.chars().all(|c| c.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word(parts);
        match self.peek() {
            Some('(') => self.nested(parts),
            Some('<' | '&') => parts.unclear = true,
            // Opened for reading and writing.
            Some('>') => {
                self.at += 1;
                self.target = true;
            }
            _ => self.source = true,
        }
    }

    fn single_quoted(&mut self, parts: &mut Parts) {
        self.word.get_or_insert_default();
        loop {
            match self.next() {
                Some('\'') => return,
                Some(c) => self.push(c),
                None => {
                    parts.unclear = true;
                    return;
                }
            }
        }
    }

    fn double_quoted(&mut self, parts: &mut Parts) {
        self.word.get_or_insert_default();
        loop {
            match self.next() {
                Some('"') => return,
                Some('\\') => match self.next() {
                    Some('\n') | None => {}
                    Some(c) => {
                        if !matches!(c, '$' | '`' | '"' | '\\') {
                            self.push('\\');
                        }
                        self.push(c);
                    }
                },
                Some('`') => self.backquoted(parts),
                Some('$') => self.dollar(parts),
                Some(c) => self.push(c),
                None => {
                    parts.unclear = true;
                    return;
                }
            }
        }
    }

    fn backquoted(&mut self, parts: &mut Parts) {
        let mut inner = String::new();
        loop {
            match self.next() {
                Some('`') => break,
                Some('\\') => inner.extend(self.next()),
                Some(c) => inner.push(c),
                None => {
                    parts.unclear = true;
                    break;
                }
            }
        }
        self.word.get_or_insert_default().push_str(PLACEHOLDERS[1]);
        read(&inner, self.depth + 1, parts);
    }

    fn dollar(&mut self, parts: &mut Parts) {
        self.push('$');
        match self.peek() {
            Some('(') => self.nested(parts),
            // A value that is worked out may hold commands again.
            Some('{') => {
                let rest: String = self.text[self.at..].iter().take_while(|c| **c != '}').collect();
                parts.unclear |= rest.contains(['$', '`', '@']) && rest.len() > 1 || rest.contains("${");
            }
            Some('\'') => parts.unclear = true,
            _ => {}
        }
    }

    /// A command in parentheses within a word.
    fn nested(&mut self, parts: &mut Parts) {
        let start = self.at + 1;
        let (mut open, mut quote) = (0, None);
        while let Some(c) = self.next() {
            match (quote, c) {
                (Some(q), c) if q == c => quote = None,
                (Some('\''), _) => {}
                (_, '\\') => self.at += 1,
                (None, '\'' | '"') => quote = Some(c),
                (None, '(') => open += 1,
                (None, ')') => {
                    open -= 1;
                    if open == 0 {
                        break;
                    }
                }
                _ => {}
            }
        }
        if open != 0 || quote.is_some() {
            parts.unclear = true;
        }
        let end = (self.at - 1).min(self.text.len());
        let inner: String = self.text.get(start..end.max(start)).unwrap_or_default().iter().collect();
        self.word.get_or_insert_default().push_str(PLACEHOLDERS[0]);
        read(&inner, self.depth + 1, parts);
    }

    fn end_word(&mut self, parts: &mut Parts) {
        let Some(word) = self.word.take() else { return };
        if std::mem::take(&mut self.target) {
            if word != "/dev/null" {
                parts.unclear |= word.contains('$') || word.contains('`');
                parts.writes.push(word);
            }
        } else if std::mem::take(&mut self.source) {
            if word != "/dev/null" {
                parts.reads.push(word);
            }
        } else {
            self.words.push(word);
        }
    }

    fn end_command(&mut self, parts: &mut Parts) {
        self.end_word(parts);
        if std::mem::take(&mut self.target) | std::mem::take(&mut self.source) {
            parts.unclear = true;
        }
        let mut words = std::mem::take(&mut self.words);
        let leading = words.iter().take_while(|word| KEYWORDS.contains(&word.as_str())).count();
        words.drain(..leading);
        match words.first().map(String::as_str) {
            None => {}
            Some("for" | "select") => {}
            Some("case" | "function" | "coproc" | "[[") => parts.unclear = true,
            Some(word) if ENDS.contains(&word) => {}
            Some(_) => parts.commands.push(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(text: &str) -> Vec<String> {
        let parts = parts_of(text);
        assert!(!parts.unclear, "{text}");
        parts.commands.iter().map(|words| words.join(" ")).collect()
    }

    #[test]
    fn every_command_is_found() {
        for (text, wanted) in [
            ("git status", vec!["git status"]),
            ("git add . && git commit -m 'a; b' || true", vec!["git add .", "git commit -m a; b", "true"]),
            ("a | b |& c & d; e\nf", vec!["a", "b", "c", "d", "e", "f"]),
            ("echo \"$(rm -rf x)\"", vec!["rm -rf x", "echo $(...)"]),
            ("echo `rm x`", vec!["rm x", "echo `...`"]),
            ("diff <(sort a) <(sort b)", vec!["sort a", "sort b", "diff (...) (...)"]),
            ("(cd x && make)", vec!["cd x", "make"]),
            ("if test -f x; then rm x; fi", vec!["test -f x", "rm x"]),
            ("for f in *; do cat $f; done", vec!["cat $f"]),
            ("r\"m\" \\-rf x # rm y", vec!["rm -rf x"]),
            ("echo $(echo $(rm x))", vec!["rm x", "echo $(...)", "echo $(...)"]),
            ("make 2>&1 >/dev/null", vec!["make"]),
            ("echo 'it is $(not run)'", vec!["echo it is $(not run)"]),
            ("FOO=1 git log", vec!["FOO=1 git log"]),
        ] {
            let mut found = commands(text);
            let mut wanted: Vec<String> = wanted.into_iter().map(str::to_owned).collect();
            found.sort();
            wanted.sort();
            assert_eq!(found, wanted, "{text}");
        }
    }

    #[test]
    fn writes_are_found_and_what_is_not_understood_is_said() {
        assert_eq!(parts_of("echo x >> ~/.bashrc 2> err").writes, ["~/.bashrc", "err"]);
        assert_eq!(parts_of("sort < in > out").writes, ["out"]);
        assert_eq!(parts_of("bash <scripts/a.sh; sort 0< 'b c' </dev/null").reads, ["scripts/a.sh", "b c"]);
        assert!(parts_of("sort </dev/null").is_known() && !parts_of("sort <in").is_known());
        assert_eq!(parts_of("make &> log").writes, ["log"]);
        for text in [
            "cat <<EOF\n$(rm x)\nEOF",
            "case x in y) rm;; esac",
            "f() { rm x; }; function g { rm; }",
            "echo 'open",
            "echo \"open",
            "echo $(open",
            "echo $'\\x41'",
            "echo ${x:-$(rm y)}",
            "echo > $x",
            "echo >",
        ] {
            assert!(parts_of(text).unclear, "{text}");
        }
        let deep = format!("{}rm{}", "$(".repeat(20), ")".repeat(20));
        assert!(parts_of(&deep).unclear);
        assert!(parts_of(&"(".repeat(100_000)).commands.is_empty());
    }

    #[test]
    fn programs_that_run_others_show_what_they_run() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(wrapped(&words("/usr/bin/sudo -u x rm y")).contains(&words("rm y")));
        let shell = vec!["bash".to_owned(), "-c".to_owned(), "cd x && rm y".to_owned()];
        assert!(wrapped(&shell).contains(&words("rm y")));
        assert!(wrapped(&words("git log")).is_empty());
    }
}
