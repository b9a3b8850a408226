//! Skills and commands of the repository.

use aedile_core::runtime::TurnStop;
use serde_json::json;

use crate::support::{Bench, Turn, all_text, last_results};

const SKILL: &str = "---\nname: release\ndescription: Use it when: a release is made.\nallowed-tools: Bash\n---\nFirst tag, then push.\n";

#[tokio::test]
async fn a_skill_is_listed_and_loaded_on_demand() {
    let call = |name: &str| Turn::Calls(vec![("skill", json!({"name": name}))]);
    let bench = Bench::new(vec![call("release"), call("releases"), Turn::Calls(vec![("skill", json!("broken"))]), Turn::Say("ok")]);
    bench.put(".agents/skills/release/SKILL.md", SKILL);
    bench.put(".agents/skills/release/notes.sh", "echo\n");
    bench.put(".claude/skills/release/SKILL.md", SKILL);
    bench.put(".claude/skills/hidden/SKILL.md", "---\ndescription: For people.\ndisable-model-invocation: true\n---\nBody\n");
    assert_eq!(bench.prompt("go").await.stop, TurnStop::EndTurn);
    let first = bench.model.request(0);
    assert!(
        first.system.contains("- release: Use it when: a release is made.\n") && !first.system.contains("First tag"),
        "{}",
        first.system
    );
    assert!(!first.system.contains("hidden"));
    let loaded = last_results(&bench.model.request(1));
    assert!(loaded[0].0.contains("First tag, then push.") && loaded[0].0.ends_with(".agents/skills/release: notes.sh"), "{loaded:?}");
    assert_eq!(last_results(&bench.model.request(2)), [("there is no skill \"releases\"; there are: release".to_owned(), true)]);
    assert!(last_results(&bench.model.request(3))[0].1);
    let warnings = bench.warnings();
    assert!(warnings.contains("files of a repository give no rights"), "{warnings}");
    assert!(warnings.contains(".claude/skills/release/SKILL.md is not used: there is another skill release"), "{warnings}");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_and_the_rest_works() {
    let bench = Bench::new(vec![Turn::Say("ok")]);
    bench.put(".claude/skills/huge/SKILL.md", &format!("---\ndescription: x\n---\n{}", "y".repeat(70_000)));
    bench.put(".claude/skills/torn/SKILL.md", "---\ndescription: x\n");
    bench.put(".claude/skills/silent/SKILL.md", "Body\n");
    bench.put(".claude/skills/odd/SKILL.md", "---\nname: ../../x y\ndescription: x\n---\nBody\n");
    bench.put(".claude/skills/void/SKILL.md", "---\ndescription: x\n---\n\n");
    bench.put(".claude/skills/good/SKILL.md", "---\ndescription: Good.\n---\nBody\n");
    std::fs::write(bench.path(".claude/skills/bytes.md"), b"x").unwrap();
    std::fs::create_dir_all(bench.path(".claude/commands")).unwrap();
    std::fs::write(bench.path(".claude/commands/latin.md"), b"\xff\xfe").unwrap();
    bench.prompt("go").await;
    let warnings = bench.warnings();
    for words in [
        "huge/SKILL.md is not used: it has more than 65536 bytes",
        "torn/SKILL.md is not used: the fields at its top have no end",
        "silent/SKILL.md is not used: the field `description`",
        "odd/SKILL.md is not used: the name",
        "void/SKILL.md is not used: it is empty",
        "latin.md is not used: it is not UTF-8",
    ] {
        assert!(warnings.contains(words), "{words}: {warnings}");
    }
    assert!(bench.model.request(0).system.contains("- good: Good.\n"));
}

#[tokio::test]
async fn a_command_takes_the_place_of_its_name() {
    let say = || Turn::Say("ok");
    let bench = Bench::new(vec![say(), say(), say(), say(), say()]);
    bench.put(".claude/commands/fix.md", "---\ndescription: Fixes an issue.\nargument-hint: N\n---\nFix issue $1 ($ARGUMENTS).\n");
    bench.put(".agents/commands/db/reset.md", "Reset it.\n");
    bench.put(".agents/skills/release/SKILL.md", SKILL);
    let session = bench.session();
    let prompts = ["/fix 12 now", "/db:reset", "/release v2", "/nothing here", "/usr/bin is a directory"];
    let wanted = ["Fix issue 12 (12 now).", "Reset it.", "Arguments: v2", "/nothing here", "/usr/bin is a directory"];
    for (number, (prompt, wanted)) in prompts.into_iter().zip(wanted).enumerate() {
        session.prompt(prompt, &bench.sink()).await;
        assert!(all_text(&bench.model.request(number)).contains(wanted), "{prompt}");
    }
    assert!(!bench.model.request(0).system.contains("Fixes an issue"), "commands are the person's");
    let warnings = bench.warnings();
    assert!(warnings.contains("there is no command /nothing (there are: /db:reset, /fix, /release)"), "{warnings}");
    assert!(!warnings.contains("/usr"));
    std::fs::remove_file(bench.path(".claude/commands/fix.md")).unwrap();
    let end = session.prompt("/fix 12", &bench.sink()).await;
    assert!(end.stop == TurnStop::Failed && end.detail.unwrap().contains("the command /fix is gone"));
}
