//! How long a server asks to be left alone: the header `Retry-After` (RFC 9110, section 10.2.3).

use std::fmt;
use std::time::Duration;

use super::breaker::LONGEST_RETRY_AFTER;
use super::time::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter {
    /// A day at most.
    pub wait: Duration,
    /// It asked for more.
    pub is_capped: bool,
}

impl RetryAfter {
    /// From seconds or a date, which is one of the server's clock, as `now` should be. A date that has passed asks for
    /// no wait; what is neither asks for nothing.
    pub fn parse(value: &str, now: Timestamp) -> Option<Self> {
        let value = value.trim_matches([' ', '\t']);
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let asked = match is_number {
            // Digits that are no number any more are too many seconds.
            true => Duration::from_secs(value.parse().unwrap_or(u64::MAX)),
            false => now.until(Timestamp::from_http_date(value)?),
        };
        Some(Self { wait: asked.min(LONGEST_RETRY_AFTER), is_capped: asked > LONGEST_RETRY_AFTER })
    }
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.is_capped { "more than " } else { "" };
        write!(f, "it asks to be left alone for {more}{} s", self.wait.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1994-11-06T08:49:37Z, the instant of the RFC's examples.
    const THEN: i64 = 784_111_777;

    fn read(value: &str, now: i64) -> Option<(u64, bool)> {
        RetryAfter::parse(value, Timestamp(now)).map(|it| (it.wait.as_secs(), it.is_capped))
    }

    #[test]
    fn seconds_are_taken_as_they_are_up_to_a_day() {
        for (value, expected) in [
            ("0", (0, false)),
            ("120", (120, false)),
            (" 007\t", (7, false)),
            ("86399", (86_399, false)),
            ("86400", (86_400, false)),
            ("86401", (86_400, true)),
            ("18446744073709551615", (86_400, true)),
            ("18446744073709551616", (86_400, true)),
            ("999999999999999999999999999999", (86_400, true)),
        ] {
            assert_eq!(read(value, THEN), Some(expected), "{value}");
        }
    }

    #[test]
    fn a_date_in_each_of_its_three_forms_is_the_time_until_then_and_none_once_it_has_passed() {
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(read(date, THEN - 90), Some((90, false)), "{date}");
            assert_eq!(read(date, THEN), Some((0, false)), "{date}");
            assert_eq!(read(date, THEN + 1), Some((0, false)), "{date}");
            assert_eq!(read(date, THEN - 86_400), Some((86_400, false)), "{date}");
            assert_eq!(read(date, THEN - 86_401), Some((86_400, true)), "{date}");
        }
        assert_eq!(read("Fri, 31 Dec 9999 23:59:59 GMT", i64::MIN), Some((86_400, true)));
    }

    #[test]
    fn what_is_neither_seconds_nor_a_date_asks_for_nothing() {
        for value in [
            "",
            " ",
            "-1",
            "+1",
            "1.5",
            "1s",
            "1 2",
            "0x10",
            "\u{661}",
            "soon",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "1994-11-06T08:49:37Z",
            "Sunday, 06-Nov-94908:49:37 GMT",
        ] {
            assert_eq!(read(value, THEN), None, "{value}");
        }
    }

    #[test]
    fn a_wait_that_was_cut_says_that_more_was_asked_for() {
        let said = |value| RetryAfter::parse(value, Timestamp(0)).unwrap().to_string();
        assert_eq!(said("86400"), "it asks to be left alone for 86400 s");
        assert_eq!(said("86401"), "it asks to be left alone for more than 86400 s");
    }
}
