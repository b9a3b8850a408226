//! Files of a commit in a directory of the person's: exactly what is stored, and nothing outside of it.

use std::fs;

use aedile_core::CommitId;
use aedile_testkit::TempRepo;

use crate::support::World;

/// A tree of entries `(mode, name, object)` that git itself would not write.
fn tree(hub: &TempRepo, entries: &[(&str, &str, &str)]) -> String {
    let unhex = |id: &str| (0..id.len()).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap()).collect::<Vec<u8>>();
    let bytes: Vec<u8> =
        entries.iter().flat_map(|(mode, name, id)| [format!("{mode} {name}\0").into_bytes(), unhex(id)].concat()).collect();
    write(hub, "tree", &bytes)
}

fn write(hub: &TempRepo, kind: &str, bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    hub.git(&["hash-object", "-w", "--literally", "-t", kind, &file.path().to_string_lossy()])
}

#[test]
fn names_that_lead_out_are_refused_and_the_rest_is_written() {
    let world = World::new();
    let hub = TempRepo::open(world.hub.dir());
    let (blob, link) = (write(&hub, "blob", b"x\r\n"), write(&hub, "blob", b"../.."));
    let hooks = tree(&hub, &[("100755", "post-checkout", &blob)]);
    let up = tree(&hub, &[("100644", "escaped", &blob)]);
    let through = tree(&hub, &[("100644", "file", &blob)]);
    let root = tree(
        &hub,
        &[
            ("40000", "..", &up),
            ("40000", ".GIT", &hooks),
            ("100644", ".gitattributes", &write(&hub, "blob", b"* text eol=lf filter=x\n")),
            ("100755", "run", &blob),
            ("120000", "way", &link),
            ("40000", "way", &through),
            ("160000", "module", &"1".repeat(40)),
        ],
    );
    let commit = CommitId::new(hub.git(&["commit-tree", &root, "-m", "hostile"])).unwrap();
    let place = tempfile::tempdir().unwrap();
    let dest = place.path().join("in/here");
    fs::create_dir_all(&dest).unwrap();
    let restored = world.hub.restore(&commit, &dest).unwrap();
    let refused: Vec<String> = restored.refused.iter().map(|(path, why)| format!("{}: {why}", path.display())).collect();
    assert_eq!(refused.len(), 4, "{refused:#?}");
    for part in ["../escaped: has a name", ".GIT/post-checkout: has a name", "module: is a submodule", "way: "] {
        assert!(refused.iter().any(|line| line.starts_with(part)), "{part}: {refused:#?}");
    }
    assert_eq!((restored.files, restored.bytes), (3, 29));
    assert_eq!(fs::read(dest.join("run")).unwrap(), b"x\r\n", "nothing is converted");
    assert_eq!(fs::read(dest.join("way/file")).unwrap(), b"x\r\n", "not through the link");
    assert_eq!(fs::read_dir(place.path().join("in")).unwrap().count(), 1, "nothing beside the directory");
}

#[test]
fn what_cannot_be_written_is_an_error_that_names_it() {
    let world = World::new();
    let place = tempfile::tempdir().unwrap();
    let missing = CommitId::new("1".repeat(40)).unwrap();
    assert!(world.hub.restore(&missing, place.path()).is_err());
    fs::write(place.path().join("file"), "").unwrap();
    let restored = world.hub.restore(world.project.head(), &place.path().join("file")).unwrap();
    assert_eq!(restored.files, 0, "a file is no directory: {restored:?}");
    assert!(!restored.refused.is_empty());
}
