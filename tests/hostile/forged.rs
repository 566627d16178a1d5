//! Text that would steer a terminal, forge a line or end a label, and what must hold wherever it comes out.

use serde_json::Value;

/// What a line would begin with that certd never wrote.
pub const FORGED: &str = "FORGED";

/// Cursor and colour, a title, lines of its own, a bell, NUL, C1, text that runs backwards or is not seen, the ends of a label
/// and of a JSON text, and a way out of a folder.
pub const EVIL: &str = "e\u{1b}[2J\u{1b}]0;x\u{7}\r\nFORGED all is well\u{9b}31m\0\u{202e}gpj.\u{200b}\u{feff}\u{2028}\u{e0041}\"} 1\\\
                        ../../../FORGED|ok=1 ";

/// The same without what a name in ASCII cannot have.
pub fn ascii() -> String {
    EVIL.chars().filter(char::is_ascii).collect()
}

pub fn a_megabyte() -> String {
    format!("{EVIL} ").repeat((1 << 20) / EVIL.len())
}

/// The longest line that anybody is shown.
const LONGEST_LINE: usize = 16 * 1024;

pub fn is_safe(what: &str, text: &str) {
    if let Some(bad) = text.chars().find(|c| is_hostile(*c)) {
        let at = text.find(bad).unwrap();
        let around: String = text[..at].chars().rev().take(60).collect::<String>().chars().rev().collect();
        panic!("{what} lets {} through, after {around:?}", bad.escape_unicode());
    }
    for line in text.lines() {
        assert!(!line.trim_start().starts_with(FORGED), "{what}: a line that certd did not make: {line}");
        assert!(line.len() <= LONGEST_LINE, "{what}: a line of {} bytes: {:.200}", line.len(), line);
    }
}

fn is_hostile(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// JSON may hold all of it, but in ASCII.
pub fn json(what: &str, text: &str) -> Value {
    let plain = |byte: u8| byte == b'\n' || (b' '..=b'~').contains(&byte);
    assert!(
        text.bytes().all(plain),
        "{what}: not all of it is plain: {:?}",
        text.chars().find(|c| !c.is_ascii_graphic())
    );
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{what}: {error}: {text}"))
}

/// Each line of a log is one that certd made.
pub fn log_for_people(lines: &[String]) {
    for line in lines {
        is_safe("the log", line);
        let mut words = line.split_whitespace();
        let time = words.next().and_then(|word| word.parse::<jiff::Timestamp>().ok());
        let level = words.next().unwrap_or_default();
        assert!(
            time.is_some() && ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level),
            "not a line of certd: {line}"
        );
    }
}

pub fn log_for_programs(lines: &[String]) {
    for line in lines {
        let event = json("the log", line);
        assert!(event["timestamp"].is_string() && event["level"].is_string() && event["message"].is_string(), "{line}");
        assert!(line.len() <= LONGEST_LINE, "a line of {} bytes", line.len());
    }
}

/// A page that promtool and a reader of our own understand, each label within its bounds.
pub fn page(text: &str) {
    is_safe("the page", text);
    assert_eq!(promtool(text), "");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a series: {line}"));
        assert!(series.starts_with("certd_") || series.starts_with("process_"), "not one of ours: {line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        if let Some((_, labels)) = series.split_once('{') {
            labels_end(labels.strip_suffix('}').unwrap_or_else(|| panic!("it does not end: {line}")));
        }
    }
}

/// `name="value"` over and over, with every quote of a value escaped.
fn labels_end(mut rest: &str) {
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {rest}"));
        assert!(
            name.trim_start_matches(',')
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
            "{name}"
        );
        let mut is_escaped = false;
        let end = value.bytes().position(|byte| {
            let ends = byte == b'"' && !is_escaped;
            is_escaped = byte == b'\\' && !is_escaped;
            ends
        });
        let end = end.unwrap_or_else(|| panic!("a label without an end: {value}"));
        // Twice the bound, since quotes and backslashes are escaped after it.
        assert!(end <= 512, "a label of {end} bytes");
        rest = &value[end + 1..];
    }
}

fn promtool(page: &str) -> String {
    let promtool = std::env::var_os("CERTD_TEST_PROMTOOL").unwrap_or_else(|| "promtool".into());
    let judged =
        super::support::certd::output(std::process::Command::new(promtool).args(["check", "metrics"]), page.as_bytes());
    let said = String::from_utf8_lossy(&[judged.stdout, judged.stderr].concat()).into_owned();
    if judged.status.success() { said } else { format!("{}: {said}", judged.status) }
}

#[test]
fn these_rules_see_what_they_forbid() {
    let refuses = |check: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err();
    for text in ["a\u{1b}[2J", "a\rb", "\u{9b}", "\u{202e}", "ok\nFORGED all is well", &"x".repeat(LONGEST_LINE + 1)] {
        assert!(refuses(&|| is_safe("it", text)), "{text:?}");
    }
    assert!(refuses(&|| drop(json("it", "{\"a\": \"\u{202e}\"}"))) && refuses(&|| drop(json("it", "{\"a\": "))));
    assert!(refuses(&|| log_for_people(&["all is well".to_string()])));
    assert!(refuses(&|| log_for_programs(&["{\"message\": \"x\"}".to_string()])));
    for line in ["other 1\n", "certd_x{a=\"b\"} one\n", "certd_x{a=\"b\" 1\n", "certd_x{a=\"b\\\"} 1\n"] {
        assert!(refuses(&|| page(line)), "{line}");
    }
    page("# HELP certd_x X.\n# TYPE certd_x gauge\ncertd_x{a=\"\\\"} 1\\\\\"} 1\n");
    is_safe("it", "plain ü text\nand more");
}
