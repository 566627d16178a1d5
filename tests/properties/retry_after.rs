//! `Retry-After`: never negative, never more than a day, and what this reading by another calendar says.

use certd::domain::retry_after::RetryAfter;
use certd::domain::time::Timestamp;

const DAY: u64 = 86_400;

/// As HTTP writes an instant (RFC 9110, section 5.6.7).
const FORMS: [&str; 3] = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// Seconds since 1970 of 1970-01-01 and of the last second of 2069: two digits of a year are of these years.
const OF_TWO_DIGITS: std::ops::Range<i64> = 0..3_155_760_000;

/// Eight bytes of an instant `now`, and the header's value.
pub fn check(data: &[u8]) -> bool {
    let Some((now, value)) = data.split_first_chunk::<8>() else { return false };
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let now = i64::from_be_bytes(*now);
    let read = RetryAfter::parse(value, Timestamp(now));
    if let Some(read) = read {
        assert!(read.wait.as_secs() <= DAY && read.wait.subsec_nanos() == 0, "{value:?}: {read:?}");
    }
    assert_eq!(read.map(|read| (read.wait.as_secs(), read.is_capped)), expected(value, now), "{value:?} at {now}");
    dates_are_read_as_they_are_written(now);
    read.is_some()
}

fn expected(value: &str, now: i64) -> Option<(u64, bool)> {
    let trimmed = value.trim_matches([' ', '\t']);
    let is_number = !trimmed.is_empty() && trimmed.chars().all(|c| c.is_ascii_digit());
    let asked = match is_number {
        true => trimmed.trim_start_matches('0').chars().try_fold(0_i128, |n, digit| {
            (n < i128::from(u64::MAX)).then_some(n * 10 + i128::from(digit.to_digit(10)?)).or(Some(n))
        })?,
        false => i128::from(instant(value)?) - i128::from(now),
    };
    let asked = u64::try_from(asked.max(0)).unwrap_or(u64::MAX);
    Some((asked.min(DAY), asked > DAY))
}

/// The instant whose form this text is, if it is of any: nothing else may be read as a date.
fn instant(text: &str) -> Option<i64> {
    let read = Timestamp::from_http_date(text)?;
    assert!(read.0 >= 0, "{text:?}");
    let text = text.trim();
    let forms = FORMS.map(|form| written(read.0, form));
    let zero_padded = written(read.0, "%a %b %d %H:%M:%S %Y");
    assert!(forms.iter().chain([&zero_padded]).any(|form| form == text), "{text:?} was read as {forms:?}");
    Some(read.0)
}

fn dates_are_read_as_they_are_written(seed: i64) {
    let second = seed.rem_euclid(253_402_300_800);
    for form in FORMS {
        let second = if form.contains("%y") { second % OF_TWO_DIGITS.end } else { second };
        let text = written(second, form);
        assert_eq!(Timestamp::from_http_date(&text), Some(Timestamp(second)), "{text}");
    }
}

fn written(second: i64, form: &str) -> String {
    let epoch = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);
    epoch
        .checked_add(jiff::SignedDuration::from_secs(second))
        .expect("it is of a year up to 9999")
        .strftime(form)
        .to_string()
}

pub fn seeds() -> Vec<Vec<u8>> {
    let now = 784_111_777_i64;
    let dates = FORMS.map(|form| written(now + 90, form));
    let numbers = ["0", "120", " 86400 ", "86401", "99999999999999999999"].map(String::from);
    numbers.iter().chain(&dates).map(|value| [&now.to_be_bytes(), value.as_bytes()].concat()).collect()
}
