//! Fifty secrets in use at once: what agents say, do and send is searched for all of them, in every place that aedile keeps.

use std::path::Path;

use aedile_testkit::{TempRepo, require};

use super::scenario::{LIMIT, Scenario, bash, submit, task, turn, write};

const SECRETS: usize = 50;

/// A value, in two halves that no file holds together.
fn halves(number: usize) -> (String, String) {
    (format!("Kq{number:02}v-first-half-"), format!("Zt{}x9-second-half-{number:02}", number * 7919))
}

fn value(number: usize) -> String {
    let (first, second) = halves(number);
    first + &second
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for part in text.as_bytes().chunks(3) {
        let bits = part.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - part.len()));
        (0..=part.len()).for_each(|digit| out.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63])));
    }
    out
}

/// The forms in which a value would be found: as it is, hexadecimal, base64, reversed.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    [value.to_owned(), hex, base64(value), value.chars().rev().collect()].map(String::into_bytes).to_vec()
}

/// Every file below a directory with its bytes; links are not followed.
fn files(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), found);
        } else if kind.is_file() {
            found.push((entry.path().display().to_string(), std::fs::read(entry.path()).unwrap()));
        }
    }
}

/// What git keeps, unpacked: every object of a repository.
fn objects(git_dir: &Path) -> Vec<u8> {
    TempRepo::open(git_dir).git(&["cat-file", "--batch-all-objects", "--batch", "--buffer", "--unordered"]).into_bytes()
}

/// The places that hold one of the values in some form.
fn holding(places: &[(String, Vec<u8>)]) -> Vec<String> {
    let mut found = Vec::new();
    for number in 0..SECRETS {
        for form in forms(&value(number)) {
            let finder = |bytes: &Vec<u8>| bytes.windows(form.len()).any(|window| window == form);
            found.extend(places.iter().filter(|(_, bytes)| finder(bytes)).map(|(place, _)| format!("{place}: {number}")));
        }
    }
    found
}

/// A command that says fifteen of the values in a form, put together only where it runs.
fn says(numbers: std::ops::Range<usize>, form: &str) -> String {
    let each = numbers.map(|number| {
        let (first, second) = halves(number);
        format!("v=$(printf %s%s {first} {second}); echo \"{number}: $({form})\"")
    });
    each.collect::<Vec<_>>().join("; ")
}

#[test]
fn no_value_of_fifty_is_found_in_what_aedile_keeps_of_a_run_that_said_them_all() {
    let tools = ["/usr/bin/base64", "/usr/bin/od", "/usr/bin/rev"];
    let missing = tools.iter().any(|tool| !Path::new(tool).exists()).then_some("base64, od and rev are not all there");
    if !require("fifty secrets", missing) {
        return;
    }
    let scenario = Scenario::new();
    let input = scenario.env.work().join("input");
    for number in 0..SECRETS {
        std::fs::write(&input, value(number)).unwrap();
        let mut set = scenario.command(&["secret", "set", &format!("secret-{number}"), "--env", &format!("TOKEN_{number}")]);
        set.stdin(std::fs::File::open(&input).unwrap());
        scenario.env.run_command(set, LIMIT).success();
    }
    std::fs::remove_file(&input).unwrap();
    let plain = says(0..20, "echo \"$v\"");
    let encoded = says(20..35, "printf %s \"$v\" | base64 -w0");
    let other =
        format!("{}; {}", says(35..43, "printf %s \"$v\" | od -An -v -tx1 | tr -d '[:space:]'"), says(43..50, "printf %s \"$v\" | rev"));
    let (first, second) = halves(3);
    let mail =
        format!("aedile mail send person -s \"$(printf %s%s {first} {second})\" -b \"$(printf %s%s {first} {second} | base64 -w0)\" 2>&1");
    let summary = format!("aedile submit -m \"Parts $(printf %s%s {first} {second})\" 2>&1");
    let turns = |name: &str, say: &str| {
        [turn(None, &[bash(say), bash(&format!("({say}) >&2; exit 7"))]), turn(None, &[write(name, "ok"), bash(&mail), submit("Write it")])]
    };
    let one = task("one", "", &turns("one", &plain));
    let two = task("two", "", &turns("two", &encoded));
    let turns = [turn(None, &[bash(&other), write("three", "ok")]), turn(None, &[bash(&summary)])];
    let three = task("three", "", &turns);
    scenario.tasks(&format!("goal = \"Parts\"\n{one}{two}{three}"));
    let finished = scenario.finish(&[]);
    finished.success();

    let mut places = vec![
        ("stdout".to_owned(), finished.stdout.clone().into_bytes()),
        ("stderr".to_owned(), finished.stderr.clone().into_bytes()),
        ("events".to_owned(), scenario.run(&["events"]).stdout.into_bytes()),
        ("feed".to_owned(), scenario.run(&["feed", "--all"]).stdout.into_bytes()),
        ("mail".to_owned(), scenario.run(&["mail", "list", "--json"]).stdout.into_bytes()),
        ("the project's objects".to_owned(), objects(&scenario.repo.path().join(".git"))),
    ];
    for claim in scenario.events_of("task_claimed") {
        let agent = claim["agent"].as_str().unwrap().to_owned();
        places.push((format!("transcript of {agent}"), scenario.run(&["transcript", &agent]).stdout.into_bytes()));
        places.push((format!("logs of {agent}"), scenario.run(&["logs", &agent]).stdout.into_bytes()));
    }
    let said = places
        .iter()
        .filter(|(place, _)| place.starts_with("transcript"))
        .map(|(_, text)| String::from_utf8_lossy(text))
        .collect::<String>();
    assert!((0..SECRETS).all(|number| said.contains(&format!("[secret secret-{number}]"))), "all were said: {said}");
    let hubs = std::fs::read_dir(scenario.env.state().join("hubs")).unwrap();
    places.extend(hubs.map(|hub| hub.unwrap().path()).map(|hub| (hub.display().to_string(), objects(&hub))));
    files(&scenario.env.state(), &mut places);
    files(&scenario.env.work().join("project"), &mut places);
    let scripts = "tasks.toml";
    places.retain(|(place, _)| !place.ends_with(scripts));
    // What an agent committed is kept in the hub as it is; its words are published nowhere.
    let found: Vec<String> = holding(&places).into_iter().filter(|place| !place.ends_with(".git: 3")).collect();
    assert_eq!(found, Vec::<String>::new());
    assert_eq!(scenario.events_of("landed").len(), 3);
    assert!(places.len() > 30, "{}", places.len());
    // The search itself finds what is there.
    assert_eq!(holding(&[("here".to_owned(), base64(&value(7)).into_bytes())]), ["here: 7"]);
}
