use aedile_code::merge::{Outcome, Receipt, merge};
use aedile_code::{Language, Sides};
use proptest::prelude::*;

fn of(path: &str, [base, ours, theirs]: [&str; 3]) -> Outcome {
    merge(&Sides { base: base.as_bytes(), ours: ours.as_bytes(), theirs: theirs.as_bytes(), path })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The merged text and its rules; or why there is none.
fn told(outcome: Outcome) -> Result<(String, Vec<&'static str>), Receipt> {
    match outcome {
        Outcome::Clean { bytes, receipt } => Ok((text(&bytes), receipt.regions.iter().filter_map(|region| region.by).collect())),
        Outcome::Conflict { receipt, .. } => Err(receipt),
        Outcome::Declined { reason } => panic!("{reason}"),
    }
}

/// Puts a line before the last one of a block.
fn with(block: &str, line: &str) -> String {
    let (head, last) = block.trim_end().rsplit_once('\n').unwrap();
    format!("{head}\n{line}\n{last}\n")
}

#[test]
fn members_that_both_add_at_one_place_stand_one_behind_the_other() {
    for (path, block, one, other) in [
        ("a.rs", "struct A {\n    first: u8,\n}\n", "    height: Option<Meters>,", "    names: Vec<String>,"),
        ("a.rs", "enum A {\n    First,\n}\n", "    Circle(Radius),", "    Square { side: Side },"),
        (
            "a.rs",
            "fn f(a: A) -> u8 {\n    match a {\n        A::First => 1,\n    }\n}\n".replace("    }\n}", "    } }").as_str(),
            "        A::Height(b) => meters(b),",
            "        A::Names { .. } => 2,",
        ),
        ("a.ts", "interface A {\n    first: string\n}\n", "    height?: Meters", "    readonly names: string[]"),
        ("a.tsx", "class A {\n    first = 1;\n}\n", "    height: Meters = zero();", "    render() { return <p/>; }"),
        ("a.js", "const a = {\n    first: 1,\n};\n", "    height: meters(2),", "    names: [],"),
        ("a.go", "package a\n\ntype A struct {\n\tFirst int\n}\n", "\tHeight *Meters", "\tNames []string"),
        ("a.java", "class A {\n    int first;\n}\n", "    private Meters height;", "    List<String> names = List.of();"),
        ("a.kt", "class A {\n    val first = 1\n}\n", "    private var height: Meters? = null", "    val names = listOf<String>()"),
        ("a.c", "struct a {\n    int first;\n};\n", "    double height;", "    char *names[4];"),
        ("a.yaml", "first: 1\nlast: 2\n", "height: {meters: 1}", "names: [a, b]"),
        ("a.toml", "[a]\nfirst = 1\nlast = 2\n", "height = { meters = 1 }", "names = [\"a\"]"),
    ] {
        let (ours, theirs) = (with(block, one), with(block, other));
        let expected = with(&ours, other);
        let merged = told(of(path, [block, &ours, &theirs])).unwrap_or_else(|why| panic!("{path} {block}: {why:?}"));
        assert_eq!(merged, (expected, vec!["joined"]), "{path}");
    }
    let functions = "def first():\n    return 1\n";
    let (one, other) = ("\n\ndef height(a):\n    return a.meters\n", "\n\nclass Names:\n    pass\n");
    let merged = told(of("a.py", [functions, &format!("{functions}{one}"), &format!("{functions}{other}")])).unwrap();
    assert_eq!(merged, (format!("{functions}{one}{other}"), vec!["joined"]));
}

#[test]
fn the_same_member_or_import_is_not_declared_twice() {
    let block = "struct A {\n    first: u8,\n}\n";
    let (ours, theirs) = (
        with(block, "    /// How high.\n    size: Option<Meters>,"),
        with(block, "    size: Vec<usize>,\n    // by lot\n    lots: [u8; 3],"),
    );
    let why = told(of("a.rs", [block, &ours, &theirs])).unwrap_err();
    assert!(why.refused.unwrap().contains("declares `"), "doubled");
    let imports = "use b::B;\n\nfn f(b: B) {}\n";
    let both = imports.replace("use b::B;", "use b::B;\nuse c::C;").replace("{}", "{ C::new(); }");
    assert_eq!(told(of("a.rs", [imports, &both, &both])).unwrap().0, both);
}

#[test]
fn lines_in_a_sorted_list_stay_sorted() {
    let base = "use a::A;\nuse d::D;\nuse m::M;\n\nfn f(_: A, _: D, _: M) {}\n\nfn g() {}\n";
    let ours = base.replace("use m", "use k::K;\nuse m").replace("M) {}", "M) { K; }");
    let theirs = format!("{}\nfn e(_: E) {{}}\n", base.replace("use m", "use e::E;\nuse m"));
    let (merged, rules) = told(of("a.rs", [base, &ours, &theirs])).unwrap();
    assert!(merged.starts_with("use a::A;\nuse d::D;\nuse e::E;\nuse k::K;\nuse m::M;\n") && rules == ["sorted"], "{merged} {rules:?}");
}

#[test]
fn six_insertions_at_one_anchor_all_land() {
    let mut target = "pub fn all() -> Vec<Tool> {\n    vec![\n        // registry\n    ]\n}\n".to_owned();
    let base = target.clone();
    for name in ["hammer", "saw", "drill", "file", "clamp", "level"] {
        let theirs = base.replace("    ]", &format!("        Tool::new(\"{name}\", {name}::run),\n    ]"));
        target = told(of("src/tools.rs", [&base, &target, &theirs])).map_or_else(|why| panic!("{name}: {why:?}"), |(text, _)| text);
    }
    assert_eq!(target.matches("Tool::new").count(), 6, "{target}");
}

#[test]
fn changes_of_one_line_that_stand_apart_are_both_made() {
    let line = |a: &str, b: &str| format!("fn f() {{\n    call({a}, middle.of(it), {b});\n}}\n");
    let merged = told(of("a.rs", [&line("one", "two"), &line("uno", "two"), &line("one", "due")])).unwrap();
    assert_eq!(merged, (line("uno", "due"), vec!["words"]));
    assert!(told(of("a.rs", [&line("one", "two"), &line("uno", "two"), &line("eins", "two")])).is_err(), "the same word");
    // Lines that touch: git calls that a conflict.
    let lines = |a: &str, b: &str| format!("{{\n  \"name\": \"{a}\",\n  \"size\": {b}\n}}\n");
    let merged = told(of("a.json", [&lines("x", "1"), &lines("y", "1"), &lines("x", "2")])).unwrap();
    assert_eq!(merged.0, lines("y", "2"));
}

#[test]
fn a_change_is_carried_into_the_layout_of_the_other() {
    let base = "fn f() {\n    if a { call(one, two); }\n}\n";
    let ours = "fn f() {\n    if a {\n        call(one, two);\n    }\n}\n";
    let theirs = base.replace("two", "three");
    let merged = told(of("a.rs", [base, ours, &theirs])).unwrap();
    assert_eq!(merged, (ours.replace("two", "three"), vec!["layout"]));
    let tabs = base.replace("    ", "\t").replace("{ call(one, two); }", "{  call(one, two);  }");
    assert_eq!(
        told(of("a.rs", [base, &tabs, &base.replace("    if a { call(one, two); }", "  if a { call(one, two); }")])).unwrap().1,
        ["space"]
    );
}

#[test]
fn neighbours_that_were_aligned_anew_do_not_make_a_conflict() {
    let base = "package a\n\ntype A struct {\n\tFirst  int\n\tSecond int\n\tLast   int\n}\n";
    let ours = "package a\n\ntype A struct {\n\tFirst       int\n\tDescription string\n\tSecond      int\n\tLast        int\n}\n";
    let theirs = base.replace("\tLast   int\n", "\tLast   int64\n");
    let (merged, rules) = told(of("a.go", [base, ours, &theirs])).unwrap();
    assert_eq!(merged, ours.replace("Last        int\n", "Last        int64\n"), "{rules:?}");
    // Both aligned it in the same way, around an insertion each.
    let theirs =
        ours.replace("\tDescription string\n", "").replace("\tLast        int\n", "\tLast        int\n\tExplanation map[string]int\n");
    let merged = told(of("a.go", [base, ours, &theirs])).unwrap().0;
    assert_eq!(merged, ours.replace("\tLast        int\n", "\tLast        int\n\tExplanation map[string]int\n"));
}

#[test]
fn who_did_all_that_the_other_did_and_more_stands() {
    let base = "fn f() {\n    old(a);\n}\n";
    let ours = "fn f() {\n    let b = fresh(a, b);\n    log(b);\n}\n";
    let theirs = "fn f() {\n    fresh(a);\n}\n";
    assert_eq!(told(of("a.rs", [base, ours, theirs])).unwrap(), (ours.to_owned(), vec!["holds"]));
    assert_eq!(told(of("a.rs", [base, theirs, ours])).unwrap(), (ours.to_owned(), vec!["holds"]));
}

#[test]
fn versions_take_the_higher_one() {
    let at = |version: &str| format!("[package]\nname = \"a\"\nversion = \"{version}\"\n");
    assert_eq!(told(of("Cargo.toml", [&at("1.2.3"), &at("1.2.10"), &at("1.2.9")])).unwrap(), (at("1.2.10"), vec!["version"]));
    assert!(told(of("Cargo.toml", [&at("1.2.3"), &at("1.1.0"), &at("1.3.0")])).is_err(), "one went back");
}

#[test]
fn what_was_deleted_and_edited_stays_contested() {
    for path in ["a.rs", "a.py", "a.txt"] {
        let base = "one\ntwo\nthree\nfour\n";
        assert!(told(of(path, [base, "one\nfour\n", "one\ntwo\nTHREE\nfour\n"])).is_err(), "{path}");
        assert!(told(of(path, [base, "one\ntwo\nTHREE\nfour\n", "one\nfour\n"])).is_err(), "{path}");
    }
}

#[test]
fn a_rename_against_a_new_use_of_the_old_name_is_refused() {
    let base = "fn f(conn: C) {\n    conn.open();\n    one(conn, middle, 2);\n}\n";
    let ours = base.replace("conn", "source");
    let theirs = base.replace("2);", "3);\n    conn.close(); conn.drop();");
    let why = told(of("a.rs", [base, &ours, &theirs])).unwrap_err();
    assert!(why.refused.as_deref().is_none_or(|why| why.contains("conn")), "{why:?}");
    // Where lines alone would do, git's answer stands: gates judge it.
    let far = format!("{base}\n\n\nfn g() {{\n    call();\n}}\n");
    assert!(told(of("a.rs", [&far, &far.replace("conn", "source"), &far.replace("call()", "call(conn)")])).is_ok());
}

#[test]
fn an_import_whose_use_is_gone_is_refused() {
    let base = "use std::collections::{HashMap, HashSet};\n\nfn f(a: HashMap<u8, u8>, b: HashSet<u8>) {}\n\n\n\nfn g() {\n    one();\n}\n";
    let ours =
        base.replace("{HashMap, HashSet}", "{BTreeMap, HashMap, HashSet}").replace("one();", "let a = BTreeMap::new();\n    one(a);");
    let theirs = base.replace("HashSet}", "HashSet, VecDeque}").replace("b: HashSet<u8>", "b: VecDeque<HashSet<u8>>");
    // Both only add names to one line.
    assert!(told(of("a.rs", [base, &ours, &theirs])).is_err());
}

#[test]
fn two_tries_at_one_thing_are_not_both_kept() {
    // Each begins with much the same comment.
    let base = "fn f(t: &T) {\n    start(t);\n\n    finish(t);\n}\n";
    let with = |lines: &str| base.replace("\n\n", &format!("\n\n{lines}\n"));
    let ours =
        with("    // Close the rows explicitly before more statements run\n    if t.rows().close().is_err() {\n        panic!();\n    }\n");
    let theirs = with("    // Close the rows before any statements run\n    let all = t.names();\n    drop(all);\n    end(t);\n");
    assert!(told(of("a.rs", [base, &ours, &theirs])).is_err());
    let other = with("    // Count what is left of the names\n    let all = t.names();\n    drop(all);\n    end(t);\n");
    assert_eq!(told(of("a.rs", [base, &ours, &other])).unwrap().1, ["joined"]);
    // A line that both added in different places stands once, or a person looks.
    let base = "fn f() {\n    one(a, middle, b);\n    two();\n    three();\n}\n";
    let ours = base.replace("one(a,", "let guard = lock(registry);\n    one(c,");
    let theirs = base.replace("b);", "d);").replace("three();", "let guard = lock(registry);\n    three();");
    let why = told(of("a.rs", [base, &ours, &theirs])).unwrap_err();
    assert!(why.refused.as_deref().is_some_and(|why| why.contains("stands twice")), "{why:?}");
    let far = |text: &str| text.replace("    three();", &format!("{}    three();", "    step();\n".repeat(60)));
    let late = far(base).replace("b);", "d);").replace("    three();", "    let guard = lock(registry);\n    three();");
    assert!(told(of("a.rs", [&far(base), &far(&ours), &late])).is_ok());
}

#[test]
fn what_was_put_elsewhere_is_not_held_by_a_rewrite() {
    let base = "fn f() {\n    run(first, second, third);\n}\n";
    let ours = "fn f() {\n    let plan = Plan::new();\n    plan.go();\n}\n";
    let theirs = "fn f() {\n    third(run, first);\n}\n";
    assert!(told(of("a.rs", [base, ours, theirs])).is_err());
    let less = "fn f() {\n    run(first, third);\n}\n";
    assert_eq!(told(of("a.rs", [base, ours, less])).unwrap(), (ours.to_owned(), vec!["holds"]));
}

#[test]
fn bytes_stay_as_they_are() {
    // Line ends, a byte order mark, no end of the last line, bytes that are no UTF-8.
    let base = b"\xef\xbb\xbfone\r\ntwo\r\nthree\r\nfour\xff".to_vec();
    let edit = |from: &[u8], to: &[u8]| {
        let at = base.windows(from.len()).position(|window| window == from).unwrap();
        [&base[..at], to, &base[at + from.len()..]].concat()
    };
    let (ours, theirs) = (edit(b"one", b"ONE"), edit(b"four", b"FOUR"));
    let Outcome::Clean { bytes, .. } = merge(&Sides { base: &base, ours: &ours, theirs: &theirs, path: "a.txt" }) else { panic!() };
    assert_eq!(bytes, b"\xef\xbb\xbfONE\r\ntwo\r\nthree\r\nFOUR\xff");
    let other = edit(b"one", b"eins");
    let Outcome::Conflict { bytes, .. } = merge(&Sides { base: &base, ours: &ours, theirs: &other, path: "a.txt" }) else { panic!() };
    assert_eq!(
        text(&bytes),
        "<<<<<<< ours\r\n\u{feff}ONE\r\n||||||| base\r\n\u{feff}one\r\n=======\r\n\u{feff}eins\r\n>>>>>>> theirs\r\ntwo\r\nthree\r\nfour\u{fffd}"
    );
    for side in [&b"a\0b"[..], b"\0"] {
        let outcome = merge(&Sides { base: b"y", ours: side, theirs: b"x", path: "a.txt" });
        assert!(matches!(outcome, Outcome::Declined { .. }), "{side:?}");
    }
}

#[test]
fn two_files_of_one_name_are_not_joined() {
    assert!(told(of("a.rs", ["", "fn one() -> Meters { 1 }\n", "struct Names(Vec<String>);\n"])).is_err());
    assert_eq!(told(of("a.rs", ["", "fn one() {}\n", "fn one() {}\n\nfn two() {}\n"])).ok(), None, "theirs holds ours: a person looks");
    assert_eq!(told(of("a.rs", ["", "fn one() {}\n\nfn two() {}\n", "fn one() {}\n"])).unwrap().1, ["holds"]);
}

#[test]
fn long_files_and_long_lines_end_soon() {
    let lines: String = (0..200_000).map(|n| format!("    call({n}, \"some text\");\n")).collect();
    assert!(lines.len() > 5 << 20);
    let (ours, theirs) = (lines.replacen("call(7,", "CALL(7,", 1), lines.replacen("call(9,", "CALL(9,", 1));
    assert!(told(of("a.rs", [&lines, &ours, &theirs])).is_ok());
    let line = "word ".repeat(420_000);
    let (ours, theirs) = (format!("x{line}"), format!("{line}y"));
    assert!(told(of("a.js", [&line, &ours, &theirs])).is_err(), "too many words to be merged one by one");
    // A text that keeps a parser which mends errors busy.
    let odd: String = (0..60_000).map(|n| ["((", "]{", "if(", "=>", "`${", "/*", "<a>"][n % 7]).collect::<Vec<_>>().join("\n");
    let (ours, theirs) = (odd.replacen("]{", "]{x", 9), odd.replacen("=>", "=>y", 7));
    let _ = of("a.tsx", [&odd, &ours, &theirs]);
    let same = "}\n".repeat(100_000);
    assert!(told(of("a.rs", [&same, &format!("a\n{same}"), &format!("b\n{same}")])).is_err());
}

fn program() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("fn a() {".to_owned()),
        Just("}".to_owned()),
        Just("    call(one, two);".to_owned()),
        Just("use a::{b, c};".to_owned()),
        Just("    x: 1,".to_owned()),
        Just(String::new()),
        "[a-c \\(\\){};,]{0,6}",
    ];
    proptest::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn any_three_texts_are_merged_or_not_and_the_same_each_time(base in program(), ours in program(), theirs in program(), at in 0..Language::ALL.len()) {
        let path = ["a.rs", "a.ts", "a.py", "a.go", "a.java", "a.json", "a.md", "a.txt", "Makefile"][at % 9];
        let one = of(path, [&base, &ours, &theirs]);
        prop_assert_eq!(&one, &of(path, [&base, &ours, &theirs]));
        if let Outcome::Clean { bytes, receipt } = &one {
            prop_assert!(receipt.refused.is_none() && receipt.regions.iter().all(|region| region.by.is_some()));
            prop_assert!(!text(bytes).contains("<<<<<<<"));
        }
        // Where only one side changed something, that side stands, byte by byte.
        for (sides, stands) in [([&base, &ours, &base], &ours), ([&base, &base, &theirs], &theirs), ([&base, &ours, &ours], &ours)] {
            let Outcome::Clean { bytes, receipt } = of(path, sides.map(String::as_str)) else { panic!() };
            prop_assert!(text(&bytes) == **stands && receipt.regions.is_empty());
        }
    }
}
