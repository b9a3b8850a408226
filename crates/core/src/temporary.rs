//! Names of what a tool of ours keeps for a moment beside the files that it changes.

/// The name of a process's file or directory: `.aedile-<process>-<number>.tmp`.
pub fn temporary_name(process: u32, number: u64) -> String {
    format!(".aedile-{process}-{number}.tmp")
}

/// Whether a name is one of them.
pub fn is_temporary_name(name: &[u8]) -> bool {
    let inner = name.strip_prefix(b".aedile-").and_then(|rest| rest.strip_suffix(b".tmp"));
    let number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    inner.is_some_and(|inner| {
        let mut parts = inner.split(|byte| *byte == b'-');
        parts.next().is_some_and(number) && parts.next().is_some_and(number) && parts.next().is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_known() {
        assert!(is_temporary_name(temporary_name(7, 12).as_bytes()));
        for other in [".aedile-7.tmp", ".aedile--1.tmp", ".aedile-7-1-2.tmp", ".aedile-a-1.tmp", ".aedile-7-1.tmp.rs", "aedile-7-1.tmp"] {
            assert!(!is_temporary_name(other.as_bytes()), "{other}");
        }
    }
}
