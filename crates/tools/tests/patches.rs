//! `apply_patch` and `multi_edit`.

use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::Bench;

async fn applied(bench: &Bench, patch: &str) -> String {
    bench.ok("apply_patch", json!({ "patch": patch })).await
}

async fn refused(bench: &Bench, patch: &str) -> String {
    bench.err("apply_patch", json!({ "patch": patch })).await
}

fn code() -> Bench {
    let bench = Bench::new();
    bench.put(
        "src/a.rs",
        "struct A;\n\nimpl A {\n    fn one() {\n        old();\n    }\n}\n\nimpl B {\n    fn one() {\n        old();\n    }\n}\n",
    );
    bench.put("src/gone.rs", "gone\n");
    bench.put("run.sh", "echo one\necho two\n");
    fs::set_permissions(bench.path("run.sh"), fs::Permissions::from_mode(0o750)).unwrap();
    bench
}

#[tokio::test]
async fn an_envelope_adds_updates_moves_and_deletes() {
    let bench = code();
    let patch = "*** Begin Patch\n*** Add File: src/deep/new.rs\n+fn new() {}\n+\n*** Update File: src/a.rs\n@@ impl B {\n@@     fn one() {\n-        old();\n+        new();\n     }\n*** Update File: run.sh\n*** Move to: bin/run.sh\n@@\n echo one\n+echo more\n echo two\n*** Delete File: src/gone.rs\n*** End Patch\n";
    let said = applied(&bench, patch).await;
    assert_eq!(
        said,
        "added src/deep/new.rs (2 lines)\nupdated src/a.rs (1 hunk, +1 -1)\nmoved run.sh to bin/run.sh (1 hunk, +1 -0)\ndeleted src/gone.rs"
    );
    assert_eq!(bench.get("src/deep/new.rs"), "fn new() {}\n\n");
    let text = bench.get("src/a.rs");
    assert!(
        text.contains("impl A {\n    fn one() {\n        old();") && text.contains("impl B {\n    fn one() {\n        new();"),
        "{text}"
    );
    assert_eq!(bench.get("bin/run.sh"), "echo one\necho more\necho two\n");
    assert_eq!(fs::metadata(bench.path("bin/run.sh")).unwrap().permissions().mode() & 0o777, 0o750);
    assert!(!bench.path("run.sh").exists() && !bench.path("src/gone.rs").exists());
    let left: Vec<_> = fs::read_dir(bench.path("src")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "no temporary file may stay: {left:?}");
}

#[tokio::test]
async fn a_hunk_that_does_not_fit_is_named_and_nothing_changes() {
    let bench = code();
    let patch = "*** Begin Patch\n*** Delete File: src/gone.rs\n*** Update File: src/a.rs\n@@ impl A {\n-        old();\n+        new();\n@@\n     fn two() {\n-        old(1);\n+        new();\n*** End Patch";
    let said = refused(&bench, patch).await;
    assert!(said.starts_with("src/a.rs: hunk 2 of 2 does not fit. It looks for:\n      \t    fn two() {\n"), "{said}");
    assert!(
        said.contains("The nearest text is lines 4 to 5:\n     4\t    fn one() {\n") && said.contains("differs first at line 4"),
        "{said}"
    );
    assert!(said.ends_with("Nothing was changed."), "{said}");
    assert!(bench.path("src/gone.rs").exists() && !bench.get("src/a.rs").contains("new"));
    let twice = refused(&bench, "*** Begin Patch\n*** Update File: src/a.rs\n@@\n-        old();\n+        new();\n*** End Patch").await;
    assert!(twice.contains("fits in 2 places, at lines 5, 11"), "{twice}");
    let nowhere = refused(&bench, "*** Begin Patch\n*** Update File: src/a.rs\n@@ impl C {\n-        old();\n*** End Patch").await;
    assert!(nowhere.contains("there is no such line") && nowhere.contains("3\timpl A {"), "{nowhere}");
}

#[tokio::test]
async fn a_patch_that_fails_while_it_is_written_is_taken_back() {
    let bench = code();
    let before = (bench.get("src/a.rs"), bench.get("run.sh"));
    // `zz` comes to be a file by the patch itself, so nothing can be written under it.
    let patch = "*** Begin Patch\n*** Add File: a/b/new.txt\n+x\n*** Delete File: src/gone.rs\n*** Update File: src/a.rs\n@@ impl B {\n-        old();\n+        new();\n*** Add File: zz\n+x\n*** Add File: zz/under\n+x\n*** End Patch";
    let said = refused(&bench, patch).await;
    assert!(said.contains("cannot write zz/under") && said.ends_with("Nothing was changed"), "{said}");
    assert_eq!((bench.get("src/a.rs"), bench.get("run.sh")), before);
    assert_eq!(bench.get("src/gone.rs"), "gone\n");
    let mut names: Vec<_> =
        fs::read_dir(bench.directory.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["run.sh", "src"]);
}

#[tokio::test]
async fn line_ends_the_mark_and_the_last_newline_stay() {
    let bench = Bench::new();
    bench.put("dos.txt", "\u{feff}one\r\ntwo\r\nthree");
    applied(&bench, "*** Begin Patch\n*** Update File: dos.txt\n@@\n-one\n+ONE\n two\n three\n+four\n*** End of File\n*** End Patch").await;
    assert_eq!(bench.get("dos.txt"), "\u{feff}ONE\r\ntwo\r\nthree\r\nfour");
    bench.put("mixed.txt", "a\r\nb\nc\n");
    applied(&bench, "*** Begin Patch\n*** Update File: mixed.txt\n@@\n a\n+a2\n b\n+b2\n c\n*** End Patch").await;
    assert_eq!(bench.get("mixed.txt"), "a\r\na2\r\nb\nb2\nc\n");
    bench.put("end.txt", "a\nb\n");
    applied(&bench, "*** Begin Patch\n*** Update File: end.txt\n@@\n+c\n*** End of File\n*** End Patch").await;
    assert_eq!(bench.get("end.txt"), "a\nb\nc\n");
    applied(&bench, "--- end.txt\n+++ end.txt\n@@ -3 +3 @@\n-c\n+d\n\\ No newline at end of file\n").await;
    assert_eq!(bench.get("end.txt"), "a\nb\nd");
    applied(&bench, "--- end.txt\n+++ end.txt\n@@ -3 +3 @@\n-d\n\\ No newline at end of file\n+e\n").await;
    assert_eq!(bench.get("end.txt"), "a\nb\ne\n");
}

#[tokio::test]
async fn white_space_is_forgiven_last_and_what_stays_is_the_files_own() {
    let bench = Bench::new();
    bench.put("a.py", "def a():\n\tone()  \n\ttwo()\n");
    let said =
        applied(&bench, "*** Begin Patch\n*** Update File: a.py\n@@ def a():\n     one()\n-    two()\n+\tthree()\n\n*** End Patch").await;
    assert!(said.contains("note: in a.py hunk 1 fitted only without regard to white space"), "{said}");
    assert_eq!(bench.get("a.py"), "def a():\n\tone()  \n\tthree()\n");
    bench.put("b.py", "  x\nx\n");
    applied(&bench, "*** Begin Patch\n*** Update File: b.py\n@@\n-x\n+y\n*** End Patch").await;
    assert_eq!(bench.get("b.py"), "  x\ny\n", "the exact line is taken although another one is alike");
}

#[tokio::test]
async fn lines_that_come_stand_beside_the_hunk_below_them() {
    let bench = Bench::new();
    bench.put("a.rs", "fn foo() {\n    old();\n}\n");
    applied(&bench, "*** Begin Patch\n*** Update File: a.rs\n@@ fn foo() {\n+    log();\n@@\n-    old();\n+    new();\n*** End Patch")
        .await;
    assert_eq!(bench.get("a.rs"), "fn foo() {\n    log();\n    new();\n}\n");
    applied(&bench, "*** Begin Patch\n*** Update File: a.rs\n@@\n+// one\n@@\n+// two\n*** End Patch").await;
    assert_eq!(bench.get("a.rs"), "fn foo() {\n    log();\n    new();\n}\n// one\n// two\n");
}

#[tokio::test]
async fn a_unified_diff_is_taken_even_with_wrong_counts() {
    let bench = code();
    let patch = "Here it is:\n\ndiff --git a/src/a.rs b/src/a.rs\nindex 1..2 100644\n--- a/src/a.rs\n+++ b/src/a.rs\n@@ -9,9 +9,2 @@ impl B {\n     fn one() {\n-        old();\n+        new();\n     }\ndiff --git a/run.sh b/bin/run.sh\nsimilarity index 100%\nrename from run.sh\nrename to bin/run.sh\ndiff --git a/src/gone.rs b/src/gone.rs\ndeleted file mode 100644\n--- a/src/gone.rs\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\ndiff --git a/n.txt b/n.txt\nnew file mode 100644\n--- /dev/null\n+++ b/n.txt\n@@ -0,0 +1,2 @@\n+--- n\n+2\n";
    let said = applied(&bench, patch).await;
    assert!(
        said.contains("updated src/a.rs (1 hunk, +1 -1)\nmoved run.sh to bin/run.sh") && said.contains("deleted src/gone.rs\nadded n.txt"),
        "{said}"
    );
    assert!(bench.get("src/a.rs").contains("impl B {\n    fn one() {\n        new();"));
    assert!(bench.get("src/a.rs").contains("impl A {\n    fn one() {\n        old();"));
    assert_eq!((bench.get("n.txt"), bench.get("bin/run.sh")), ("--- n\n2\n".to_owned(), "echo one\necho two\n".to_owned()));
    // What a real git writes is taken as it is.
    let git = |args: &[&str]| crate::support::git(bench.directory.path(), args);
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "x"]);
    bench.put("src/a.rs", bench.get("src/a.rs").replace("struct A;", "struct A {}").replace("fn one", "fn two"));
    let (diff, wanted) = (git(&["diff"]), bench.get("src/a.rs"));
    git(&["checkout", "-q", "--", "."]);
    applied(&bench, &diff).await;
    assert_eq!(bench.get("src/a.rs"), wanted);
}

#[tokio::test]
async fn a_patch_stays_in_the_workspace() {
    let bench = code();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("x"), "x\n").unwrap();
    symlink(outside.path(), bench.path("out")).unwrap();
    symlink("src", bench.path("within")).unwrap();
    for path in ["../x", "/etc/x", "out/new", "out/x", "src/../../x", "."] {
        let said = refused(&bench, &format!("*** Begin Patch\n*** Add File: {path}\n+x\n*** End Patch")).await;
        assert!(said.contains("workspace") && said.ends_with("Nothing was changed."), "{said}");
    }
    let said = refused(&bench, "*** Begin Patch\n*** Update File: run.sh\n*** Move to: out/run.sh\n@@\n echo one\n*** End Patch").await;
    assert!(said.contains("leads out of the workspace to"), "{said}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    let absolute = bench.path("within/gone.rs").display().to_string();
    applied(&bench, &format!("*** Begin Patch\n*** Update File: {absolute}\n@@\n-gone\n+here\n*** End Patch")).await;
    assert_eq!(bench.get("src/gone.rs"), "here\n");
}

#[tokio::test]
async fn what_is_no_patch_is_refused_with_its_line() {
    let bench = code();
    bench.put("bin", [0xff, 0xfe]);
    let envelope = |body: &str| format!("*** Begin Patch\n{body}\n*** End Patch");
    for (patch, part) in [
        (String::new(), "the patch is empty"),
        ("please fix it".to_owned(), "line 1 of the patch is \"please fix it\""),
        (envelope(""), "changes no file"),
        ("*** Begin Patch\n*** Delete File: run.sh".to_owned(), "may have been cut"),
        (envelope("*** Rename File: a"), "line 2 of the patch is \"*** Rename File: a\""),
        (envelope("*** Add File: n\nx"), "begins with `+`"),
        (envelope("*** Add File: run.sh\n+x"), "is there already"),
        (envelope("*** Delete File: none"), "cannot be deleted"),
        (envelope("*** Delete File: src"), "is a directory"),
        (envelope("*** Update File: none\n@@\n-x"), "does not exist"),
        (envelope("*** Update File: run.sh\n@@\n*bad"), "line 4 of the patch is \"*bad\""),
        (envelope("*** Update File: run.sh"), "neither changes nor moves it"),
        (envelope("*** Update File: bin\n@@\n-x"), "not UTF-8"),
        ("--- run.sh\n+++ run.sh\n@@ one @@\n-x\n".to_owned(), "looks like `@@ -1,3 +1,4 @@`"),
        ("diff --git a/x b/x\nBinary files a/x and b/x differ\n--- ".to_owned(), "binary files cannot be patched"),
    ] {
        let said = refused(&bench, &patch).await;
        assert!(said.contains(part), "{patch:?}: {said}");
    }
    assert!(bench.err("apply_patch", json!({})).await.contains("`patch` is missing"));
    let fenced = "```diff\n*** Begin Patch\n*** Delete File: src/gone.rs\n*** End Patch\n```\n";
    applied(&bench, fenced).await;
    let heredoc = "apply_patch <<'EOF'\r\n*** Begin Patch\r\n*** Delete File: run.sh\r\n*** End Patch\r\nEOF\r\n";
    bench.ok("apply_patch", json!({"input": heredoc})).await;
    assert!(!bench.path("run.sh").exists());
}

#[tokio::test]
async fn many_edits_are_made_or_none() {
    let bench = Bench::new();
    bench.put("a.rs", "let a = 1;\r\nlet b = 1;\r\n");
    let edits =
        json!([{"old_string": "a = 1", "new_string": "a = 2"}, {"old_string": "a = 2;\nlet b = 1", "new_string": "c = 3;\nlet d = 4"}]);
    let said = bench.ok("multi_edit", json!({"path": "a.rs", "edits": edits})).await;
    assert_eq!(said, "changed a.rs (2 edits)\nedit 1: 1 place, line 1\nedit 2: 1 place, line 1");
    assert_eq!(bench.get("a.rs"), "let c = 3;\r\nlet d = 4;\r\n");
    let edits = json!([{"old_string": "c = 3", "new_string": "x"}, {"old_string": "let e = 4;", "new_string": "y"}]);
    let said = bench.err("multi_edit", json!({"path": "a.rs", "edits": edits})).await;
    assert!(said.starts_with("edit 2 of 2: `old_string` is not in a.rs") && said.ends_with("None of the edits was made."), "{said}");
    assert!(said.contains("The nearest text is line 2:\n     2\tlet d = 4;"), "{said}");
    assert_eq!(bench.get("a.rs"), "let c = 3;\r\nlet d = 4;\r\n");
    for (edits, part) in
        [(json!([]), "1 to 200 edits"), (json!(["x"]), "edit 1 of 1"), (json!([{"old_string": "c"}]), "`new_string` is missing")]
    {
        assert!(bench.err("multi_edit", json!({"path": "a.rs", "edits": edits})).await.contains(part));
    }
    assert!(bench.err("multi_edit", json!({"path": "a.rs"})).await.contains("`edits` is missing"));
}
