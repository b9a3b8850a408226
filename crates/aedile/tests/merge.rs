//! `aedile merge-file`: three files in, one out, with an exit code and a receipt.

use aedile_testkit::TestEnvironment;

const BASE: &str = "struct A {\n    first: u8,\n}\n";

fn files(env: &TestEnvironment, [base, ours, theirs]: [&[u8]; 3]) {
    for (name, text) in [("base", base), ("ours", ours), ("theirs", theirs)] {
        std::fs::write(env.work().join(name), text).unwrap();
    }
}

#[test]
fn a_file_is_merged_by_what_it_says_and_the_receipt_tells_how() {
    let env = TestEnvironment::new(super::program());
    let with = |line: &str| BASE.replace("}\n", &format!("    {line}\n}}\n"));
    files(&env, [BASE.as_bytes(), with("height: Option<Meters>,").as_bytes(), with("names: Vec<String>,").as_bytes()]);
    let merged = env.run(["merge-file", "base", "ours", "theirs", "--path", "src/a.rs", "--json", "receipt"]);
    assert_eq!(merged.success(), "struct A {\n    first: u8,\n    height: Option<Meters>,\n    names: Vec<String>,\n}\n");
    let receipt: serde_json::Value = serde_json::from_slice(&std::fs::read(env.work().join("receipt")).unwrap()).unwrap();
    assert_eq!((receipt["outcome"].as_str(), receipt["path"].as_str()), (Some("clean"), Some("src/a.rs")));
    assert_eq!(
        (&receipt["regions"][0]["by"], &receipt["regions"][0]["ours"]),
        (&"joined".into(), &serde_json::json!({ "start": 3, "end": 4 }))
    );
    // Without a language it is not known whether both may stand there.
    let text = env.run(["merge-file", "base", "ours", "theirs", "--path", "notes", "--receipt", "receipt"]);
    assert_eq!(text.code(), Some(1));
    assert!(text.stdout.contains("<<<<<<< ours\n    height: Option<Meters>,\n||||||| base\n=======\n"), "{}", text.stdout);
    assert!(std::fs::read_to_string(env.work().join("receipt")).unwrap().contains("\"conflict\""));
    let into = env.run(["merge-file", "base", "ours", "theirs", "--path", "a.rs", "--output", "ours"]);
    assert_eq!((into.code(), into.stdout.as_str()), (Some(0), ""));
    assert!(std::fs::read_to_string(env.work().join("ours")).unwrap().contains("names"));
}

#[test]
fn what_cannot_be_merged_is_declined_with_the_reason() {
    let env = TestEnvironment::new(super::program());
    files(&env, [b"a\n", b"\0b\n", b"c\n"]);
    let binary = env.run(["merge-file", "base", "ours", "theirs", "--path", "a.bin", "--output", "ours"]);
    assert!(binary.expect_code(2).contains("a.bin is not merged: a version is no text"));
    assert_eq!(std::fs::read(env.work().join("ours")).unwrap(), b"\0b\n", "the file stays as it is");
    let missing = env.run(["merge-file", "base", "nowhere", "theirs", "--path", "a.rs"]);
    assert!(missing.expect_code(2).contains("nowhere cannot be read"));
    let unwritten = env.run(["merge-file", "base", "base", "theirs", "--path", "a.rs", "--json", "no/where"]);
    assert!(unwritten.expect_code(2).contains("the receipt cannot be written"));
}
