use aedile_code::lines::{Origin, pieces, split};
use proptest::prelude::*;

fn origins(base: &str, ours: &str, theirs: &str) -> Vec<Origin> {
    pieces(base.as_bytes(), ours.as_bytes(), theirs.as_bytes()).into_iter().map(|piece| piece.origin).collect()
}

#[test]
fn each_piece_says_whose_text_it_holds() {
    use Origin::{Agreed, Contested, Ours, Same, Theirs};
    let base = "a\nb\nc\nd\ne\n";
    assert_eq!(origins(base, base, base), [Same]);
    assert_eq!(origins(base, "a\nB\nc\nd\ne\n", "a\nb\nc\nD\ne\n"), [Same, Ours, Same, Theirs, Same]);
    assert_eq!(origins(base, "a\nB\nc\nd\ne\n", "a\nB\nc\nd\ne\n"), [Same, Agreed, Same]);
    assert_eq!(origins(base, "a\nB\nc\nd\ne\n", "a\nX\nc\nd\ne\n"), [Same, Contested, Same]);
    // No line between the two changes: git calls that a conflict too.
    assert_eq!(origins(base, "a\nB\nc\nd\ne\n", "a\nb\nC\nd\ne\n"), [Same, Contested, Same]);
    assert_eq!(origins("", "a\n", "b\n"), [Contested]);
    assert_eq!(origins("", "", ""), []);
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(0..6_u8, 0..14).prop_map(|lines| lines.iter().map(|line| format!("{line}\n")).collect())
}

proptest! {
    #[test]
    fn pieces_cover_all_three_versions(base in text(), ours in text(), theirs in text()) {
        let (mut b, mut o, mut t) = (0, 0, 0);
        let (base_lines, ours_lines, theirs_lines) = (split(base.as_bytes()), split(ours.as_bytes()), split(theirs.as_bytes()));
        for piece in pieces(base.as_bytes(), ours.as_bytes(), theirs.as_bytes()) {
            prop_assert_eq!((piece.base.start, piece.ours.start, piece.theirs.start), (b, o, t));
            (b, o, t) = (piece.base.end, piece.ours.end, piece.theirs.end);
            let (base, ours, theirs) = (&base_lines[piece.base], &ours_lines[piece.ours], &theirs_lines[piece.theirs]);
            match piece.origin {
                Origin::Same => prop_assert!(base == ours && base == theirs),
                Origin::Ours => prop_assert!(base == theirs && base != ours),
                Origin::Theirs => prop_assert!(base == ours && base != theirs),
                Origin::Agreed => prop_assert!(ours == theirs && base != ours),
                Origin::Contested => prop_assert!(ours != theirs),
            }
        }
        prop_assert_eq!((b, o, t), (base_lines.len(), ours_lines.len(), theirs_lines.len()));
    }
}
