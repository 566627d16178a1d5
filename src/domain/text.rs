//! Text from outside, made safe for a terminal, a log and a label.

/// The most bytes that one piece of foreign text may take.
pub const LONGEST_TEXT: usize = 256;

/// Control and direction-changing characters escaped, cut at [`LONGEST_TEXT`] bytes.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LONGEST_TEXT));
    for c in text.chars() {
        let start = out.len();
        if is_hostile(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        if out.len() > LONGEST_TEXT {
            out.truncate(start);
            break;
        }
    }
    out
}

/// Characters that move the cursor, hide text or turn its direction (Unicode UTR 36, section 3.1).
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_would_move_a_cursor_and_keeps_the_rest() {
        assert_eq!(printable("plain ü text"), "plain ü text");
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a\\u{1b}[31mb\\u{a}c");
        assert_eq!(printable("x\u{202e}y"), "x\\u{202e}y");
    }

    #[test]
    fn never_grows_past_the_cap_nor_splits_a_character() {
        assert_eq!(printable(&"a".repeat(300)).len(), LONGEST_TEXT);
        assert_eq!(printable(&"ü".repeat(300)).len(), LONGEST_TEXT);
        assert_eq!(printable(&format!("{}\n", "a".repeat(255))), "a".repeat(255));
    }
}
