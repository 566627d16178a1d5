//! Text made fit for a terminal, a log and a label: what came from outside, and errors.

/// The most bytes that one piece of foreign text may take.
pub const LONGEST_TEXT: usize = 256;

/// The most bytes of one message, which may be made of several: what a person reads of it, a log and a journal keep.
pub const LONGEST_MESSAGE: usize = 4_096;

/// Control and direction-changing characters escaped, nothing cut: for what must stay distinct.
pub fn one_line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        push(&mut out, c);
        out
    })
}

/// Writes a path so that no two paths read alike: hostile characters, bytes that are no text and those in `reserved`
/// become `%` and two hexadecimal digits for each byte (RFC 3986, section 2.1).
pub fn percent_encoded(path: &[u8], reserved: &[char]) -> String {
    let mut out = String::with_capacity(path.len());
    let encode = |out: &mut String, bytes: &[u8]| bytes.iter().for_each(|byte| *out += &format!("%{byte:02X}"));
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            match is_hostile(c) || reserved.contains(&c) {
                true => encode(&mut out, c.encode_utf8(&mut [0; 4]).as_bytes()),
                false => out.push(c),
            }
        }
        encode(&mut out, chunk.invalid());
    }
    out
}

/// Reads what [`percent_encoded`] wrote, but for the bytes in `kept`. A `%` that no two digits follow stands for itself.
pub fn percent_decoded(text: &str, kept: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.filter(|two| !two.starts_with('+')).and_then(|two| u8::from_str_radix(two, 16).ok());
        match byte.filter(|byte| *first == b'%' && !kept.contains(byte)) {
            Some(byte) => {
                out.push(byte);
                rest = &behind[2..];
            }
            None => {
                out.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// As [`one_line`], cut at [`LONGEST_TEXT`] bytes.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LONGEST_TEXT));
    for c in text.chars() {
        let start = out.len();
        push(&mut out, c);
        if out.len() > LONGEST_TEXT {
            out.truncate(start);
            break;
        }
    }
    out
}

/// Longer than one foreign text, yet one line: each word as [`printable`] has it, the whole cut at [`LONGEST_MESSAGE`]
/// bytes.
pub fn message(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LONGEST_MESSAGE));
    for word in text.split_inclusive(' ').map(printable) {
        if out.len() + word.len() > LONGEST_MESSAGE - CUT.len() {
            out.push_str(CUT);
            break;
        }
        out.push_str(&word);
    }
    out
}

/// For a terminal: the lines are certd's own, and nothing else in them moves the cursor.
pub fn lines(text: &str) -> String {
    text.split_inclusive('\n').fold(String::with_capacity(text.len()), |mut out, line| {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        line.chars().for_each(|c| push(&mut out, c));
        out + end
    })
}

/// An error and all its sources, in one line, whatever certificates and servers put into it.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let texts: Vec<String> = std::iter::once(error).chain(causes).map(ToString::to_string).collect();
    message(&texts.join(": "))
}

fn push(out: &mut String, c: char) {
    if is_hostile(c) {
        out.extend(c.escape_unicode());
    } else {
        out.push(c);
    }
}

const CUT: &str = "…";

/// Whether a character moves the cursor, hides text or turns its direction (Unicode UTR 36, section 3.1).
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_all_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("could not open")]
        struct Outer(#[source] std::fmt::Error);
        assert_eq!(with_causes(&Outer(std::fmt::Error)), format!("could not open: {}", std::fmt::Error));

        #[derive(Debug, thiserror::Error)]
        #[error("refused: a\nINFO all is well\u{1b}[2J")]
        struct Hostile;
        assert_eq!(with_causes(&Hostile), "refused: a\\u{a}INFO all is well\\u{1b}[2J");
    }

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

    #[test]
    fn a_message_is_one_line_of_many_words_and_never_without_end() {
        let long = "word ".repeat(200);
        assert_eq!(message(&long), long);
        assert_eq!(message("a\nb\u{1b}[2J c"), "a\\u{a}b\\u{1b}[2J c");
        assert_eq!(message(&"x".repeat(1 << 20)), "x".repeat(LONGEST_TEXT));
        for word in ["word ", "ü ", "\u{202e} "] {
            let shown = message(&word.repeat(1 << 20));
            assert!(shown.ends_with(" …") && shown.len() <= LONGEST_MESSAGE, "{}", shown.len());
            assert!(shown.len() > LONGEST_MESSAGE - 16, "{}", shown.len());
        }
    }

    #[test]
    fn lines_stay_lines_and_nothing_else_moves_the_cursor() {
        assert_eq!(lines("a\r\nb\u{1b}[2J\n\nc\u{202e}"), "a\\u{d}\nb\\u{1b}[2J\n\nc\\u{202e}");
        assert_eq!(lines("\n"), "\n");
        assert_eq!(lines(""), "");
    }

    #[test]
    fn invisible_and_direction_changing_characters_are_escaped() {
        for c in [
            '\u{61c}',
            '\u{200b}',
            '\u{200f}',
            '\u{2028}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{feff}',
            '\u{e0041}',
            '\u{7f}',
            '\u{9b}',
        ] {
            assert_eq!(printable(&c.to_string()), c.escape_unicode().to_string());
        }
        assert_eq!(printable("\u{2010}\u{2030}é漢"), "\u{2010}\u{2030}é漢");
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_one_short_safe_line(text: String) {
            let shown = printable(&text);
            proptest::prop_assert!(shown.len() <= LONGEST_TEXT);
            proptest::prop_assert!(!shown.contains(is_hostile));
            proptest::prop_assert!(one_line(&text).starts_with(&shown));
        }
    }
}
