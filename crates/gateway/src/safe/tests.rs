use aedile_core::{ExposeSecret, SecretString};

use super::*;

const VALUE: &str = "kX9q-w27Zr-LmT5vB8nYcD";

struct Place {
    _dir: tempfile::TempDir,
    places: Places,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let places = Places::of(&dir.path().join("state"), &dir.path().join("config"));
    Place { _dir: dir, places }
}

fn value(text: &str) -> Source {
    Source::Value(SecretString::from(text))
}

fn put(places: &Places, name: &str, source: &Source) -> u64 {
    let binding = Binding { hosts: vec!["api.example.org".to_owned()], ..Binding::default() };
    Safe::change(places, |safe| safe.put(name, binding, source, 7)).unwrap()
}

fn read(places: &Places, name: &str) -> Result<String, SafeError> {
    match Safe::open(places)?.expect("a vault").source(name)? {
        Source::Value(value) => Ok(value.expose_secret().to_owned()),
        other => Ok(format!("{other:?}")),
    }
}

#[test]
fn secrets_are_kept_sealed_and_come_back() {
    let Place { places, _dir } = place();
    assert!(Safe::open(&places).unwrap().is_none());
    assert_eq!((put(&places, "api", &value(VALUE)), put(&places, "b", &value("second-value"))), (1, 1));
    assert_eq!(put(&places, "api", &value("other-value-0123")), 2);
    assert_eq!(read(&places, "api").unwrap(), "other-value-0123");
    let command = Source::Command(vec!["op".to_owned(), "read".to_owned(), "op://x y/z".to_owned()]);
    put(&places, "c", &command);
    assert!(matches!(Safe::open(&places).unwrap().unwrap().source("c").unwrap(), Source::Command(parts) if parts[2] == "op://x y/z"));
    let stored = std::fs::read_to_string(&places.vault).unwrap();
    assert!(
        !stored.contains("other-value")
            && !stored.contains("second-value")
            && !stored.contains("op://")
            && stored.contains("api.example.org")
    );
    for path in [&places.vault, &places.key] {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(Safe::change(&places, |safe| Ok::<_, SafeError>(safe.remove("b"))).unwrap());
    assert!(read(&places, "b").is_err() && read(&places, "api").is_ok());
}

#[test]
fn a_new_key_opens_what_the_old_one_sealed_and_the_old_one_nothing() {
    let Place { places, _dir } = place();
    put(&places, "api", &value(VALUE));
    let old = std::fs::read(&places.key).unwrap();
    Safe::change(&places, Safe::rotate_key).unwrap();
    assert_eq!(read(&places, "api").unwrap(), VALUE);
    let new = std::fs::read_to_string(&places.key).unwrap();
    assert_eq!(new.matches("key ").count(), 1);
    super::disk::write_private(&places.key, &old).unwrap();
    assert!(matches!(read(&places, "api"), Err(SafeError::OtherKey { .. })));
}

#[test]
fn a_writer_that_was_killed_between_its_steps_leaves_a_vault_that_opens() {
    let Place { places, _dir } = place();
    put(&places, "api", &value(VALUE));
    let (vault, key) = (std::fs::read(&places.vault).unwrap(), std::fs::read(&places.key).unwrap());
    put(&places, "api", &value("other-value-0123"));
    // The key file of before, as when the writer ended behind the vault.
    super::disk::write_private(&places.key, &key).unwrap();
    assert_eq!(read(&places, "api").unwrap(), "other-value-0123");
    // While a new key is taken: the key file has both, whichever the vault was written with.
    super::disk::write_private(&places.vault, &vault).unwrap();
    let mut both = KeyFile::read(&places.key).unwrap().unwrap();
    both.keys.insert(0, new_key().unwrap());
    both.write(&places.key).unwrap();
    assert_eq!(read(&places, "api").unwrap(), VALUE);
    put(&places, "b", &value("second-value"));
    assert_eq!((read(&places, "api").unwrap(), KeyFile::read(&places.key).unwrap().unwrap().keys.len()), (VALUE.to_owned(), 1));
}

#[test]
fn who_reads_beside_a_writer_reads_the_old_or_the_new_one() {
    let Place { places, _dir } = place();
    put(&places, "api", &value(VALUE));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..60 {
                put(&places, "b", &value(&format!("another-value-{round}")));
                Safe::change(&places, Safe::rotate_key).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        let mut read_ones = 0;
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            assert_eq!(read(&places, "api").unwrap(), VALUE);
            read_ones += 1;
        }
        assert!(read_ones > 0);
    });
}

#[test]
fn every_changed_byte_is_found_out() {
    let Place { places, _dir } = place();
    put(&places, "api", &value(VALUE));
    put(&places, "b", &value("second-value"));
    let whole = std::fs::read(&places.vault).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        super::disk::write_private(&places.vault, &changed).unwrap();
        // White space between the parts says nothing and may change.
        match read(&places, "api") {
            Err(_) => {}
            Ok(text) => assert!(text == VALUE && whole[at].is_ascii_whitespace() == changed[at].is_ascii_whitespace(), "byte {at}"),
        }
    }
    for length in 0..whole.len() - 1 {
        super::disk::write_private(&places.vault, &whole[..length]).unwrap();
        assert!(read(&places, "api").is_err(), "cut at {length}");
    }
}

#[test]
fn older_vaults_lost_keys_and_open_files_are_told_apart() {
    let Place { places, _dir } = place();
    put(&places, "api", &value(VALUE));
    let old = std::fs::read(&places.vault).unwrap();
    put(&places, "api", &value("other-value-0123"));
    super::disk::write_private(&places.vault, &old).unwrap();
    assert!(matches!(read(&places, "api"), Err(SafeError::RolledBack { found: 1, expected: 2, .. })));
    std::fs::remove_file(&places.vault).unwrap();
    assert!(matches!(Safe::open(&places), Err(SafeError::Gone { .. })));
    put_raw(&places, &old);
    std::fs::rename(&places.key, places.key.with_extension("away")).unwrap();
    assert!(matches!(Safe::open(&places), Err(SafeError::NoKey { .. })));
    std::fs::rename(places.key.with_extension("away"), &places.key).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&places.key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Safe::open(&places).err().unwrap().to_string();
    assert!(error.contains("chmod 600"), "{error}");
    // What the messages propose helps.
    std::fs::remove_file(&places.key).unwrap();
    std::fs::remove_file(&places.vault).unwrap();
    assert_eq!((put(&places, "api", &value(VALUE)), read(&places, "api").unwrap()), (1, VALUE.to_owned()));
}

fn put_raw(places: &Places, bytes: &[u8]) {
    super::disk::write_private(&places.vault, bytes).unwrap();
}

#[test]
fn what_cannot_be_kept_is_refused_and_nothing_is_written() {
    let Place { places, _dir } = place();
    put(&places, "api", &value(VALUE));
    let before = std::fs::read(&places.vault).unwrap();
    let long = "x".repeat(1024 * 1024);
    let bound = |change: fn(&mut Binding)| {
        let mut binding = Binding::default();
        change(&mut binding);
        binding
    };
    for (name, source, binding, part) in [
        ("", value(VALUE), Binding::default(), "letters, digits"),
        ("a b", value(VALUE), Binding::default(), "letters, digits"),
        ("a", value(""), Binding::default(), "empty value"),
        ("a", value(" \n"), Binding::default(), "empty value"),
        ("a", value(&long), Binding::default(), "1048576 bytes"),
        ("a", value("a\0b"), Binding::default(), "NUL"),
        ("a", Source::Command(Vec::new()), Binding::default(), "without a program"),
        ("a", Source::File(String::new()), Binding::default(), "no variable or file"),
        ("a", value(VALUE), bound(|binding| binding.hosts.push("http://x".to_owned())), "host"),
        ("a", value(VALUE), bound(|binding| binding.place = Some("cookie".to_owned())), "place"),
        ("a", value(VALUE), bound(|binding| binding.methods.push("get".to_owned())), "method"),
        ("a", value(VALUE), bound(|binding| binding.env = Some("a".to_owned())), "variable"),
    ] {
        let error = Safe::change(&places, |safe| safe.put(name, binding, &source, 7)).unwrap_err().to_string();
        assert!(error.contains(part) && !error.contains(VALUE), "{error}");
    }
    assert_eq!(std::fs::read(&places.vault).unwrap(), before);
    let pem = value("-----BEGIN KEY-----\nabc\n-----END KEY-----");
    assert_eq!(put(&places, "pem", &pem), 1);
}

#[test]
fn any_bytes_in_its_place_are_an_error_or_the_vault() {
    let Place { places, _dir } = place();
    put(&places, "api", &value(VALUE));
    let whole = std::fs::read(&places.vault).unwrap();
    let mut state = 11_u64;
    let mut next = |most: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % most
    };
    for _ in 0..crate::leak::cases() / 100 {
        let mut bytes = whole.clone();
        for _ in 0..=next(4) {
            let (at, length) = (next(bytes.len()), next(40));
            let end = (at + length).min(bytes.len());
            match next(3) {
                0 => drop(bytes.drain(at..end)),
                1 => bytes[at..end].reverse(),
                _ => {
                    let part = bytes[at..end].to_vec();
                    bytes.splice(at..at, part);
                }
            }
        }
        put_raw(&places, &bytes);
        if let Ok(text) = read(&places, "api") {
            assert_eq!(text, VALUE);
        }
    }
}
