//! Ordinary work goes on in a box.

use crate::support::host;

#[test]
fn a_box_runs_a_program_in_its_tree() {
    let host = host();
    host.write("a.txt", "hello\n");
    assert_eq!(host.script("pwd; cat a.txt; id -u; id -un; hostname").ok(), "/workspace\nhello\n1000\nagent\nbox");
}
