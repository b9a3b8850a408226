use std::fmt::Write;

use super::{AgentPolicy, Deed, DoorLimits, LayerName, Policies, PolicyFile, PolicyText, Who};
use crate::money::{Budget, MicroUsd};
use crate::{Entropy, SeededEntropy};

const ADA: Who<'_> = Who { role: "builder", agent: "ada", task: "auth" };

fn text(layer: LayerName, text: &str) -> PolicyText {
    PolicyText { layer, place: format!("{layer}.toml"), text: text.to_owned() }
}

fn policy(texts: &[(LayerName, &str)], who: Who<'_>) -> AgentPolicy {
    let texts: Vec<_> = texts.iter().map(|(layer, said)| text(*layer, said)).collect();
    Policies::parse(&texts).unwrap().of(who)
}

#[test]
fn every_mistake_is_named() {
    let many = format!("[write]\ndeny = [{}]", "\"x\",".repeat(300_000));
    for (said, part) in [
        ("", "says nothing"),
        ("# nothing\n", "says nothing"),
        ("\n[limit]\nprocesses = 1", "line 2: unknown field `limit`"),
        ("[limits]\nmemory = 1", "unknown field `memory`"),
        ("[limits]\nprocesses = 0", "processes = 0 lets nothing start"),
        ("[limits]\nmemory_bytes = 1000", "at least 16777216"),
        ("[limits]\ndescriptors = 3", "at least 16"),
        ("[write]\nallow = [\"../x\"]", "must not leave the repository"),
        ("[write]\nallow = [\"a\"]\ndeny = [\"a\"]", "[write] allow and deny both name \"a\""),
        ("[read]\nhide = [\"a\"]\nshow = [\"a\"]", "[read] hide and show both name"),
        ("[read]\nhide = [\"[z\"]", "[z"),
        ("[tools]\nallow = [\"mail\"]\ndeny = [\"mail\"]", "[tools] allow and deny both name \"mail\""),
        ("[secrets]\nask = [\"a\"]\ndeny = [\"a\"]", "[secrets] ask and deny both name \"a\""),
        ("[secrets]\nallow = [\"\"]", "a name is empty"),
        ("[spend]\nagent_usd = 0", "agent_usd = 0 is no amount"),
        ("[spend]\nrun_usd = -1.0", "no amount of dollars"),
        ("[spend]\ntask_tokens = 0", "task_tokens = 0"),
        ("[spawn]\nat_once = 0", "at_once = 0 lets no agent start"),
        ("[spawn]\ntasks = 0", "tasks = 0"),
        ("[provider]\nallow = 3", "line 2"),
        ("[[rule]]\nid = \"a\"\nroles = [\"scout\"]", "rule \"a\": it says nothing"),
        ("[[rule]]\nid = \"a\"\n[rule.write]\nallow = []", "names no `roles`"),
        ("[[rule]]\nid = \"a b\"\nroles = [\"x\"]\n[rule.write]\nallow = []", "the id must be"),
        ("[[rule]]\nid = \"a\"\nagents = [\"[z\"]\n[rule.write]\nallow = []", "[z"),
        ("[[rule]]\nid = \"a\"\nroles = [\"x\"]\n[rule.spawn]\ntasks = 0", "rule \"a\": [spawn] tasks"),
        ("{\"limits\": {\"x\": 1}}", "unknown field `x`"),
        (&many, "more than 1048576 bytes"),
    ] {
        let error = PolicyFile::parse(said).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    let bad = Policies::parse(&[text(LayerName::User, "x = 1")]).unwrap_err().to_string();
    assert!(bad.starts_with("the policy user.toml: line 1: "), "{bad}");
    assert!(PolicyFile::parse("{\"write\": {\"deny\": [\"a\"]}}").is_ok());
}

#[test]
fn the_lower_limit_counts_whatever_the_layer() {
    use LayerName::{Organisation, Project, Run};
    let said = [
        (
            Organisation,
            "[limits]\nprocesses = 100\ncpu_s = 9\nrequests_per_minute = 60\nbytes_out = 1000\n[spend]\nagent_usd = 3.0\nrun_tokens = 50\n[spawn]\nat_once = 4",
        ),
        (
            Project,
            "[limits]\nprocesses = 200\nfile_bytes = 7\nrequests_per_minute = 90\nbytes_out = 10\nbytes_in = 5\n[[rule]]\nid = \"ada\"\nagents = [\"ada\"]\n[rule.limits]\ncpu_s = 3\n",
        ),
        (Run, "[spend]\nagent_usd = 9.0\ntask_usd = 1.5\n[spawn]\nat_once = 8"),
    ];
    let ada = policy(&said, ADA);
    let limits = ada.limits();
    assert_eq!((limits.processes, limits.file_bytes, limits.cpu.unwrap().as_secs()), (Some(100), Some(7), 3));
    let door = DoorLimits { requests_per_minute: Some(60), bytes_out: Some(10), bytes_in: Some(5) };
    assert_eq!(ada.door_limits(), door);
    assert_eq!((limits.memory_bytes, limits.descriptors, limits.disk_bytes, limits.wall), (None, None, None, None));
    assert_eq!(policy(&said, Who { agent: "bob", ..ADA }).limits().cpu.unwrap().as_secs(), 9);
    let (cpu, source) = ada.lowest(|said| said.limits.cpu_s).unwrap();
    assert_eq!((cpu, source.layer, source.key("limits.cpu_s")), (3, Project, "ada/limits.cpu_s".to_owned()));
    let usd = |usd| Budget { usd: Some(MicroUsd(usd)), tokens: None };
    assert_eq!(ada.agent_budget(usd(9_000_000)), usd(3_000_000));
    assert_eq!(ada.agent_budget(usd(1)), usd(1));
    assert_eq!(ada.task_budget(Budget::default()), usd(1_500_000));
    assert_eq!(ada.run_budget(Budget { tokens: Some(70), usd: None }), Budget { tokens: Some(50), usd: None });
    assert_eq!(ada.lowest(|said| said.spawn.at_once).unwrap().0, 4);
}

#[test]
fn what_is_denied_names_layer_and_rule_and_what_may_be_done_instead() {
    use LayerName::{Organisation, Project};
    let said = [
        (
            Organisation,
            "[write]\ndeny = [\"infra/**\"]\n[tools]\ndeny = [\"fetch\"]\n[secrets]\nallow = [\"npm-*\"]\nask = [\"*-deploy\"]\n[spend]\ntask_usd = 2.0\n[spawn]\nmodels = [\"anthropic/*\"]\nruntimes = [\"aedile\"]",
        ),
        (
            Project,
            "[write]\nallow = [\"src/**\", \"infra/**\"]\n[read]\nhide = [\"data/**\"]\nshow = [\"data/.env\", \".env.ci\"]\n[[rule]]\nid = \"scouts\"\nroles = [\"scout\"]\n[rule.write]\nallow = []",
        ),
    ];
    let scout = Who { role: "scout", ..ADA };
    for (who, deed, allowed, layer, rule) in [
        (ADA, "write src/a.rs", true, Some(Project), "write.allow"),
        (ADA, "write ./src/a.rs", true, Some(Project), "write.allow"),
        (ADA, "write infra/a", false, Some(Organisation), "write.deny"),
        (ADA, "write docs/a", false, Some(Project), "write.allow"),
        (scout, "write src/a.rs", false, Some(Project), "scouts/write.allow"),
        (ADA, "read src/a.rs", true, None, "default"),
        (ADA, "read data/x", false, Some(Project), "read.hide"),
        (ADA, "read .env.ci", true, Some(Project), "read.show"),
        (ADA, "secret npm-read", true, Some(Organisation), "secrets.allow"),
        (ADA, "secret npm-deploy", false, Some(Organisation), "secrets.ask"),
        (ADA, "secret x-deploy", false, Some(Organisation), "secrets.allow"),
        (ADA, "secret deploy", false, Some(Organisation), "secrets.allow"),
        (ADA, "tool fetch", false, Some(Organisation), "tools.deny"),
        (ADA, "tool mail", true, None, "default"),
        (ADA, "spend 1.50", true, Some(Organisation), "spend.task_usd"),
        (ADA, "spend $2.01", false, Some(Organisation), "spend.task_usd"),
        (ADA, "spawn", true, None, "default"),
        (ADA, "spawn runtime claude", false, Some(Organisation), "spawn.runtimes"),
        (ADA, "spawn model anthropic/x", true, Some(Organisation), "spawn.models"),
    ] {
        let said = policy(&said, who).may(&deed.parse().unwrap()).unwrap();
        assert_eq!((said.allowed, said.layer, said.rule.as_str()), (allowed, layer, rule), "{deed}: {said:?}");
        assert_eq!(said.instead.is_some(), !allowed, "{deed}");
    }
    let ada = policy(&said, ADA);
    assert_eq!((ada.hidden(), ada.shown()), (vec!["data/**".to_owned()], vec![".env.ci".to_owned()]));
    assert_eq!(ada.write_denied(), ["infra/**"]);
    for bad in ["", "net GET", "fly", "spend much", "write", "spawn x", "spawn x y"] {
        assert!(bad.parse::<Deed>().is_err(), "{bad}");
    }
    assert!(ada.may(&"net GET https://x.org/".parse().unwrap()).is_none());
}

#[test]
fn a_provider_does_nothing_unless_every_list_that_there_is_allows_it() {
    use LayerName::{Organisation, Project};
    let (some, none) = ("[provider]\nallow = [\"web_search_*\"]", "[limits]\nprocesses = 9");
    assert!(!policy(&[(Organisation, none)], ADA).provider_may("web_search_1"));
    assert!(policy(&[(Organisation, none), (Project, some)], ADA).provider_may("web_search_1"));
    assert!(!policy(&[(Organisation, "[provider]\nallow = []"), (Project, some)], ADA).provider_may("web_search_1"));
    assert!(!policy(&[(Project, some)], ADA).provider_may("code_execution_1"));
}

const LINES: &[&str] = &[
    "[limits]\nprocesses = 5\n",
    "[limits]\nprocesses = 50\nmemory_bytes = 20000000\n",
    "[write]\nallow = [\"src/**\"]\n",
    "[write]\nallow = [\"**\"]\n",
    "[write]\ndeny = [\"src/a\"]\n",
    "[write]\nallow = []\n",
    "[read]\nhide = [\"src/**\"]\n",
    "[read]\nshow = [\".env\"]\n",
    "[secrets]\nallow = [\"a*\"]\n",
    "[secrets]\ndeny = [\"ab\"]\n",
    "[tools]\nallow = [\"*\"]\n",
    "[tools]\ndeny = [\"mail\"]\n",
    "[spend]\nagent_usd = 1.0\n",
    "[spend]\nagent_usd = 100.0\nrun_usd = 2.0\n",
    "[spawn]\nat_once = 1\n",
    "[spawn]\nmodels = [\"a/*\"]\n",
    "[spawn]\nmodels = [\"*\"]\nruntimes = [\"aedile\"]\n",
    "[provider]\nallow = [\"x\"]\n",
    "[provider]\nallow = []\n",
];
const DEEDS: &[&str] = &[
    "write src/a",
    "write src/b",
    "write docs/a",
    "read src/a",
    "read .env",
    "secret ab",
    "secret ac",
    "secret b",
    "tool mail",
    "tool bash",
    "spend 0.50",
    "spend 1.50",
    "spend 3",
    "spawn model a/b",
    "spawn model b/c",
    "spawn runtime aedile",
    "spawn runtime x",
];

/// A file of some of the lines, each section once, at the top or in a rule.
fn file(picks: &[(usize, bool)]) -> String {
    let (mut top, mut rules, mut seen) = (String::new(), String::new(), std::collections::BTreeSet::new());
    for (at, (pick, ruled)) in picks.iter().enumerate() {
        let line = LINES[pick % LINES.len()];
        let section = line.split(']').next().unwrap_or_default();
        if *ruled {
            let line = line.replacen('[', "[rule.", 1);
            let _ = write!(rules, "[[rule]]\nid = \"r{at}\"\nroles = [\"builder\"]\n{line}");
        } else if seen.insert(section) {
            top += line;
        }
    }
    top + &rules
}

/// Random files of each layer, read once.
fn pool(entropy: &SeededEntropy, layer: LayerName) -> Vec<Policies> {
    let one = |_| {
        let mut bytes = [0; 9];
        entropy.fill(&mut bytes);
        let picks: Vec<_> =
            bytes[1..].chunks(2).take(1 + usize::from(bytes[0] % 4)).map(|pair| (usize::from(pair[0]), pair[1] % 2 == 0)).collect();
        Policies::parse(&[text(layer, &file(&picks))]).unwrap()
    };
    (0..300).map(one).collect()
}

#[test]
fn a_lower_layer_never_widens() {
    let entropy = SeededEntropy::new(4);
    let (uppers, lowers) = (pool(&entropy, LayerName::User), pool(&entropy, LayerName::Project));
    let deeds: Vec<Deed> = DEEDS.iter().map(|deed| deed.parse().unwrap()).collect();
    let mut picks = [0; 4];
    for _ in 0..20_000 {
        entropy.fill(&mut picks);
        let pick = |at: usize| usize::from(u16::from_le_bytes([picks[at], picks[at + 1]])) % 300;
        let (upper, lower) = (&uppers[pick(0)], &lowers[pick(2)]);
        let (before, after) = (upper.of(ADA), upper.over(lower).of(ADA));
        for deed in &deeds {
            let (was, is) = (before.may(deed).unwrap(), after.may(deed).unwrap());
            assert!(was.allowed || !is.allowed, "{deed}: {upper:?} {lower:?}");
        }
        let least =
            |policy: &AgentPolicy| (policy.limits().processes.unwrap_or(u64::MAX), policy.limits().memory_bytes.unwrap_or(u64::MAX));
        assert!(least(&after).0 <= least(&before).0 && least(&after).1 <= least(&before).1);
        let spent = |policy: &AgentPolicy| policy.run_budget(Budget::default()).usd.map_or(u64::MAX, |usd| usd.0);
        assert!(spent(&after) <= spent(&before));
        // The first layer that says something of providers opens; every further one narrows.
        let opened = |policy: &AgentPolicy| policy.parts().iter().any(|(_, said)| said.provider.allow.is_some());
        assert!(before.provider_may("x") || !after.provider_may("x") || !opened(&before));
        assert!(before.hidden().iter().all(|glob| after.hidden().contains(glob)));
    }
}

/// Pieces of files, right and wrong.
const PIECES: &[&str] = &[
    "[",
    "]",
    "[[",
    "]]",
    "rule",
    "write",
    ".write",
    "limits",
    "network",
    "spend",
    "\n",
    " = ",
    "id",
    "allow",
    "roles",
    "deny",
    "agent_usd",
    "\"",
    "'",
    ",",
    "{",
    "}",
    "**",
    "*",
    "/",
    "\\",
    "..",
    ".git",
    "0",
    "-1",
    "1e400",
    "nan",
    "true",
    "a",
    "ä",
    "\u{0}",
    "\u{feff}",
    "\"a\"",
    "[\"src/**\"]",
    "#",
];

#[test]
fn no_text_breaks_the_parser() {
    let entropy = SeededEntropy::new(4);
    let mut bytes = [0; 40];
    for _ in 0..20_000 {
        entropy.fill(&mut bytes);
        let length = usize::from(bytes[0]) % bytes.len();
        let text: String = bytes[..length].iter().map(|byte| PIECES[usize::from(*byte) % PIECES.len()]).collect();
        let _ = PolicyFile::parse(&text);
        let _ = text.parse::<Deed>();
    }
}
