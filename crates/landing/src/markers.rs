//! Conflict markers in the bytes of a file, whatever its encoding and the size of its markers.

/// What was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Marks {
    /// No whole set.
    None,
    /// A whole set: lines that begin with seven or more of `<`, `=` and `>`.
    Some,
    /// A whole set that a merge in the hub has left: behind the signs stands the id of a commit.
    Ours,
}

/// The fewest signs of a marker; `conflict-marker-size` makes them longer.
const SIGNS_MIN: usize = 7;

/// Looks for a whole set of markers. Zero bytes are passed over, so that UTF-16 is read like its ASCII part.
pub(crate) fn look(bytes: &[u8]) -> Marks {
    if bytes.contains(&0) {
        let narrow: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0).collect();
        return look(&narrow);
    }
    let (mut begins, mut divides, mut ends, mut ours) = (false, false, false, false);
    for line in bytes.split(|byte| matches!(byte, b'\n' | b'\r')) {
        // The mark of an encoding may stand before the first line.
        let line = line.strip_prefix(b"\xef\xbb\xbf").or_else(|| line.strip_prefix(b"\xff\xfe")).unwrap_or(line);
        let Some(sign @ (b'<' | b'=' | b'>')) = line.first().copied() else { continue };
        let signs = line.iter().take_while(|byte| **byte == sign).count();
        let label = &line[signs..];
        if signs < SIGNS_MIN || !(label.is_empty() || label.starts_with(b" ")) {
            continue;
        }
        match sign {
            b'<' => begins = true,
            b'=' => divides = true,
            _ => ends = true,
        }
        ours |= sign != b'=' && is_commit(label.trim_ascii());
    }
    match (begins && divides && ends, ours) {
        (false, _) => Marks::None,
        (true, false) => Marks::Some,
        (true, true) => Marks::Ours,
    }
}

/// `<id>`, or `<id>:<path>` where the path differs.
fn is_commit(label: &[u8]) -> bool {
    let id = label.split(|byte| *byte == b':').next().unwrap_or_default();
    matches!(id.len(), 40 | 64) && id.iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_seen_in_any_encoding_and_size() {
        let id = "a".repeat(40);
        let ours = format!("x\n<<<<<<< {id}\none\n||||||| {id}\n=======\ntwo\n>>>>>>> {id}:src/b.txt\n");
        assert_eq!(look(ours.as_bytes()), Marks::Ours);
        assert_eq!(look(b"<<<<<<< ours\r\none\r\n=======\r\ntwo\r\n>>>>>>> theirs\r\n"), Marks::Some);
        assert_eq!(look(b"\xe4\n<<<<<<<<<<\n\xff\n==========\n>>>>>>>>>> x\n"), Marks::Some);
        let wide: Vec<u8> = [b"\xff\xfe".to_vec(), ours.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat();
        assert_eq!(look(&wide), Marks::Ours);
    }

    #[test]
    fn what_only_looks_a_little_like_them_is_none() {
        for text in [
            "Title\n=======\n",
            "<<<<<<< a\n=======\n",
            "<<<<<<\n======\n>>>>>>\n",
            "let s = \"<<<<<<< \";\n",
            "<<<<<<<x\n=======\n>>>>>>>x\n",
            "",
        ] {
            assert_eq!(look(text.as_bytes()), Marks::None, "{text:?}");
        }
    }
}
