//! The languages with a grammar, told by a file's name.

use std::ops::ControlFlow;

/// Steps of the parser that any text may take.
const STEPS_BASE: usize = 1_000_000;
/// Steps that each byte may take besides; ordinary code takes less than one.
const STEPS_A_BYTE: usize = 20;
/// How often the parser says that it goes on: once in so many steps (`OP_COUNT_PER_PARSER_CALLBACK_CHECK` of tree-sitter).
const STEPS_A_CALL: usize = 100;

/// A language that the structural merge may know. Which of them have a grammar in this build is [`Language::grammar`]'s answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Language {
    /// Shell scripts.
    Bash,
    /// C, headers among it.
    C,
    /// C++.
    Cpp,
    /// C#.
    CSharp,
    /// Style sheets.
    Css,
    /// Go.
    Go,
    /// HTML.
    Html,
    /// Java.
    Java,
    /// JavaScript and JSX.
    JavaScript,
    /// JSON, with comments too.
    Json,
    /// Kotlin and its scripts.
    Kotlin,
    /// Markdown.
    Markdown,
    /// PHP.
    Php,
    /// Python.
    Python,
    /// Ruby.
    Ruby,
    /// Rust.
    Rust,
    /// SQL.
    Sql,
    /// TOML and lock files written in it.
    Toml,
    /// TypeScript with JSX.
    Tsx,
    /// TypeScript.
    TypeScript,
    /// YAML.
    Yaml,
}

impl Language {
    /// All languages, in the order of their names.
    pub const ALL: [Self; 21] = [
        Self::Bash,
        Self::C,
        Self::Cpp,
        Self::CSharp,
        Self::Css,
        Self::Go,
        Self::Html,
        Self::Java,
        Self::JavaScript,
        Self::Json,
        Self::Kotlin,
        Self::Markdown,
        Self::Php,
        Self::Python,
        Self::Ruby,
        Self::Rust,
        Self::Sql,
        Self::Toml,
        Self::Tsx,
        Self::TypeScript,
        Self::Yaml,
    ];

    /// The language of the file at `path`, by its extension or its whole name. None for a name that says nothing.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or(path);
        if matches!(name, "Cargo.lock" | "Pipfile" | "poetry.lock" | "uv.lock") {
            return Some(Self::Toml);
        }
        if matches!(name, "composer.lock" | ".babelrc" | ".eslintrc" | ".prettierrc") {
            return Some(Self::Json);
        }
        if matches!(name, "Gemfile" | "Rakefile" | "Podfile" | "Vagrantfile") {
            return Some(Self::Ruby);
        }
        let (_, extension) = name.rsplit_once('.')?;
        Some(match extension.to_ascii_lowercase().as_str() {
            "sh" | "bash" | "zsh" | "bats" => Self::Bash,
            // A header is taken for C, which the C++ grammar contains nearly whole; a file that does not parse is merged by lines.
            "c" | "h" => Self::C,
            "cc" | "cpp" | "cxx" | "c++" | "hh" | "hpp" | "hxx" | "h++" | "inl" | "ipp" => Self::Cpp,
            "cs" => Self::CSharp,
            "css" => Self::Css,
            "go" => Self::Go,
            "html" | "htm" | "xhtml" => Self::Html,
            "java" => Self::Java,
            "js" | "cjs" | "mjs" | "jsx" => Self::JavaScript,
            "json" | "jsonc" | "json5" | "webmanifest" => Self::Json,
            "kt" | "kts" => Self::Kotlin,
            "md" | "markdown" | "mdown" => Self::Markdown,
            "php" | "phtml" => Self::Php,
            "py" | "pyi" | "pyw" => Self::Python,
            "rb" | "rake" | "gemspec" => Self::Ruby,
            "rs" => Self::Rust,
            "sql" => Self::Sql,
            "toml" => Self::Toml,
            "tsx" => Self::Tsx,
            "ts" | "cts" | "mts" => Self::TypeScript,
            "yaml" | "yml" => Self::Yaml,
            _ => return None,
        })
    }

    /// The grammar, if this build holds it.
    #[must_use]
    pub fn grammar(self) -> Option<tree_sitter::Language> {
        Some(match self {
            #[cfg(feature = "bash")]
            Self::Bash => tree_sitter_bash::LANGUAGE.into(),
            #[cfg(feature = "c")]
            Self::C => tree_sitter_c::LANGUAGE.into(),
            #[cfg(feature = "cpp")]
            Self::Cpp => tree_sitter_cpp::LANGUAGE.into(),
            #[cfg(feature = "csharp")]
            Self::CSharp => tree_sitter_c_sharp::LANGUAGE.into(),
            #[cfg(feature = "css")]
            Self::Css => tree_sitter_css::LANGUAGE.into(),
            #[cfg(feature = "go")]
            Self::Go => tree_sitter_go::LANGUAGE.into(),
            #[cfg(feature = "html")]
            Self::Html => tree_sitter_html::LANGUAGE.into(),
            #[cfg(feature = "java")]
            Self::Java => tree_sitter_java::LANGUAGE.into(),
            #[cfg(feature = "javascript")]
            Self::JavaScript => tree_sitter_javascript::LANGUAGE.into(),
            #[cfg(feature = "json")]
            Self::Json => tree_sitter_json::LANGUAGE.into(),
            #[cfg(feature = "kotlin")]
            Self::Kotlin => tree_sitter_kotlin_ng::LANGUAGE.into(),
            #[cfg(feature = "markdown")]
            Self::Markdown => tree_sitter_md::LANGUAGE.into(),
            #[cfg(feature = "php")]
            Self::Php => tree_sitter_php::LANGUAGE_PHP.into(),
            #[cfg(feature = "python")]
            Self::Python => tree_sitter_python::LANGUAGE.into(),
            #[cfg(feature = "ruby")]
            Self::Ruby => tree_sitter_ruby::LANGUAGE.into(),
            #[cfg(feature = "rust")]
            Self::Rust => tree_sitter_rust::LANGUAGE.into(),
            #[cfg(feature = "sql")]
            Self::Sql => tree_sitter_sequel::LANGUAGE.into(),
            #[cfg(feature = "toml")]
            Self::Toml => tree_sitter_toml_ng::LANGUAGE.into(),
            #[cfg(feature = "typescript")]
            Self::Tsx => tree_sitter_typescript::LANGUAGE_TSX.into(),
            #[cfg(feature = "typescript")]
            Self::TypeScript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
            #[cfg(feature = "yaml")]
            Self::Yaml => tree_sitter_yaml::LANGUAGE.into(),
            #[cfg(not(feature = "all"))]
            _ => return None,
        })
    }

    /// Parses `source`. None without a grammar, or when it takes more steps than [`STEPS_BASE`] and [`STEPS_A_BYTE`] allow: a parser that mends
    /// errors can be kept busy by a text that was made for it.
    #[must_use]
    pub fn parse(self, source: &[u8]) -> Option<tree_sitter::Tree> {
        let mut parser = tree_sitter::Parser::new();
        parser.set_language(&self.grammar()?).ok()?;
        let (most, mut steps) = (STEPS_BASE + source.len() * STEPS_A_BYTE, 0_usize);
        let mut progress = |_: &tree_sitter::ParseState| {
            steps += STEPS_A_CALL;
            if steps > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let options = tree_sitter::ParseOptions::new().progress_callback(&mut progress);
        parser.parse_with_options(&mut |at, _| source.get(at..).unwrap_or_default(), None, Some(options))
    }
}
