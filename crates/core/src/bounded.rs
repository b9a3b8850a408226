//! What comes from outside, cut to what an event may hold: no agent may end a run by saying too much.

use crate::limits::{EVENT_ITEM_CHARS_MAX, EVENT_LIST_BYTES_MAX, EVENT_LIST_MAX, EVENT_TEXT_BYTES_MAX};
use crate::tool::cut_middle;

/// Keeps the first of the items, each cut, and says at the end how many more there were: at most `EVENT_LIST_MAX` of them and
/// `EVENT_LIST_BYTES_MAX` bytes as JSON, in which a control character takes six.
pub fn few(items: impl IntoIterator<Item = String>) -> Vec<String> {
    let (mut kept, mut bytes, mut more) = (Vec::new(), 0, 0_usize);
    for item in items {
        if more == 0 {
            let item = cut(&item);
            bytes += json_bytes(&item);
            if kept.len() < EVENT_LIST_MAX && bytes <= EVENT_LIST_BYTES_MAX {
                kept.push(item);
                continue;
            }
        }
        more += 1;
    }
    if more > 0 {
        kept.push(format!("... and {more} more"));
    }
    kept
}

/// Returns a text of at most about `EVENT_TEXT_BYTES_MAX` bytes; of a longer one its beginning and its end.
pub fn text(text: &str) -> String {
    cut_middle(text, EVENT_TEXT_BYTES_MAX)
}

/// How many bytes the text takes in an event.
pub fn json_bytes(text: &str) -> usize {
    let more = |byte: u8| match byte {
        b'"' | b'\\' => 1,
        0..=0x1f => 5,
        _ => 0,
    };
    text.len() + 2 + text.bytes().map(more).sum::<usize>()
}

fn cut(item: &str) -> String {
    match item.char_indices().nth(EVENT_ITEM_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &item[..at]),
        None => item.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_keeps_its_beginning_and_says_how_much_is_left_out() {
        let names = |count: usize| (0..count).map(|n| format!("src/f{n}"));
        assert_eq!(few(names(3)), ["src/f0", "src/f1", "src/f2"]);
        let kept = few(names(20_000));
        assert_eq!((kept.len(), kept[0].as_str(), kept.last().unwrap().as_str()), (EVENT_LIST_MAX + 1, "src/f0", "... and 19800 more"));
    }

    #[test]
    fn no_list_and_no_text_is_too_large_for_an_event_whatever_it_holds() {
        for piece in ["ä", "\u{1}", "€", "\"", "x"] {
            let kept = few((0..500).map(|_| piece.repeat(100_000)));
            let json = serde_json::to_string(&kept).unwrap();
            assert!(json.len() < EVENT_LIST_BYTES_MAX + 1024 && kept.len() > 1, "{piece:?}: {} bytes", json.len());
            assert!(serde_json::to_string(&text(&piece.repeat(1 << 20))).unwrap().len() < 7 * EVENT_TEXT_BYTES_MAX);
            assert_eq!(json_bytes(piece), serde_json::to_string(piece).unwrap().len());
        }
    }
}
