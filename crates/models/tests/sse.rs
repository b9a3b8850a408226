use aedile_models::{SseEvent, SseParser};
use proptest::prelude::*;

fn parse(pieces: &[&[u8]]) -> Vec<SseEvent> {
    let mut events = Vec::new();
    let mut parser = SseParser::new();
    for piece in pieces {
        parser.feed(piece, |event| events.push(event)).unwrap();
    }
    events
}

fn event(name: &str, data: &str) -> SseEvent {
    SseEvent { name: name.to_owned(), data: data.to_owned() }
}

#[test]
fn the_standard_is_followed() {
    let text = "\u{feff}event: a\ndata: 1\n\n: comment\n\ndata:2\rdata: 3\r\rid: 9\r\nevent:b\r\nretry: 5\r\ndata\r\n\r\nevent: without data\n\ndata:  two spaces\n\n";
    let expected = [event("a", "1"), event("", "2\n3"), event("b", ""), event("", " two spaces")];
    assert_eq!(parse(&[text.as_bytes()]), expected);
}

#[test]
fn an_event_that_is_not_ended_is_not_given_out() {
    assert_eq!(parse(&[b"data: whole\n\ndata: cut\n"]), [event("", "whole")]);
}

#[test]
fn an_endless_event_is_refused() {
    let mut parser = SseParser::new();
    let line = [b"data: ".as_slice(), &[b'x'; 1 << 20], b"\n"].concat();
    let refused = (0..20).any(|_| parser.feed(&line, |_| {}).is_err());
    assert!(refused);
}

/// Lines without CR and LF; the data of an event may have several.
fn events() -> impl Strategy<Value = Vec<(String, Vec<String>)>> {
    proptest::collection::vec(("[a-z_]{0,8}", proptest::collection::vec("[^\r\n]{0,20}", 1..4)), 0..6)
}

proptest! {
    #[test]
    fn events_survive_any_line_end_and_any_split(
        events in events(), ends in proptest::collection::vec(0..3_usize, 64), bom: bool, comments: bool,
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut ends = ends.iter().cycle().map(|end| ["\n", "\r", "\r\n"][*end]);
        let mut text = if bom { "\u{feff}".to_owned() } else { String::new() };
        for (name, lines) in &events {
            // A lone CR followed by an LF would be read as one line end, so blank lines use one kind.
            let end = ends.next().unwrap();
            if comments {
                text.push_str(&format!(": keep-alive{end}"));
            }
            text.push_str(&format!("event: {name}{end}"));
            lines.iter().for_each(|line| text.push_str(&format!("data: {line}{end}")));
            text.push_str(end);
        }
        let bytes = text.as_bytes();
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let expected: Vec<SseEvent> = events.iter().map(|(name, lines)| event(name, &lines.join("\n"))).collect();
        prop_assert_eq!(parse(&pieces), expected);
    }

    #[test]
    fn any_bytes_are_read_the_same_whole_and_one_by_one(bytes: Vec<u8>) {
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(parse(&[&bytes]), parse(&single));
    }
}
