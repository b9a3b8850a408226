use aedile_code::Language;

#[test]
fn every_language_of_this_build_parses_a_line_of_its_own() {
    let samples = [
        ("a.sh", "f() { echo \"$1\"; }\n"),
        ("a.c", "int main(void) { return 0; }\n"),
        ("a.cpp", "class A { int b; };\n"),
        ("a.cs", "class A { int B { get; } }\n"),
        ("a.css", "a { color: red; }\n"),
        ("a.go", "package a\n\nfunc F() {}\n"),
        ("a.html", "<p>one</p>\n"),
        ("a.java", "class A { int b; }\n"),
        ("a.js", "export const a = 1;\n"),
        ("a.json", "{\"a\": [1, 2]}\n"),
        ("a.kt", "fun main() { println(1) }\n"),
        ("a.md", "# One\n\ntwo\n"),
        ("a.php", "<?php function f() { return 1; }\n"),
        ("a.py", "def f():\n    return 1\n"),
        ("a.rb", "def f\n  1\nend\n"),
        ("a.rs", "fn f() -> u8 { 1 }\n"),
        ("a.sql", "SELECT a FROM b WHERE c = 1;\n"),
        ("Cargo.lock", "[[package]]\nname = \"a\"\n"),
        ("a.tsx", "const a = <p>{b}</p>;\n"),
        ("a.ts", "interface A { b: string }\n"),
        ("a.yaml", "a:\n  - b\n"),
    ];
    assert_eq!(samples.len(), Language::ALL.len());
    for (path, text) in samples {
        let language = Language::of_path(path).unwrap();
        if language.grammar().is_none() {
            assert!(matches!(path, "a.cpp" | "a.cs" | "a.php" | "a.rb" | "a.sql"), "{path} has a grammar in the default build");
            continue;
        }
        let tree = language.parse(text.as_bytes()).unwrap();
        assert!(!tree.root_node().has_error(), "{path}: {}", tree.root_node().to_sexp());
    }
    assert_eq!(Language::of_path("dir.rs/README"), None);
    assert_eq!(Language::of_path("Makefile"), None);
}
