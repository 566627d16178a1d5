//! Instants as whole seconds since 1970, the unit of X.509 validity.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted; negative before.
///
/// Displays and serialises as RFC 3339 in UTC. Covers the years that X.509 can say (RFC 5280,
/// section 4.1.2.5), 9999-12-31T23:59:59Z among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(seconds(span)))
    }

    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(seconds(span)))
    }

    /// As HTTP writes it, in any of its three forms (RFC 9110, section 5.6.7). No date before 1970 is one.
    pub fn from_http_date(text: &str) -> Option<Self> {
        // The crate looks past whatever stands between day and time in the form of RFC 850.
        let is_apart = !text.contains('-') || text.trim().split(' ').count() == 4;
        let since = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        is_apart.then_some(Self(seconds(since)))
    }

    /// How long until `later`; zero when it has passed.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_secs(later.0.saturating_sub(self.0).try_into().unwrap_or(0))
    }
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

const EPOCH: jiff::civil::DateTime = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let civil = EPOCH.checked_add(jiff::SignedDuration::from_secs(self.0)).unwrap_or(if self.0 < 0 {
            jiff::civil::DateTime::MIN
        } else {
            jiff::civil::DateTime::MAX
        });
        write!(f, "{}Z", civil.strftime("%Y-%m-%dT%H:%M:%S"))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("not an instant such as 2027-01-31T12:00:00Z: {0:?}")]
pub struct NotATimestamp(pub String);

impl FromStr for Timestamp {
    type Err = NotATimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotATimestamp(text.to_string());
        if let Ok(instant) = text.parse::<jiff::Timestamp>() {
            return Ok(Self(instant.as_second()));
        }
        // The last day of 9999 is beyond jiff's instants, yet RFC 5280 uses it for "never".
        let civil: jiff::civil::DateTime = text.strip_suffix('Z').ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
        Ok(Self(civil.duration_since(EPOCH).as_secs()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_calendar_holds_is_shown_as_its_first_or_last_instant() {
        assert_eq!(Timestamp(i64::MIN).to_string(), "-9999-01-01T00:00:00Z");
        assert_eq!(Timestamp(i64::MAX).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Timestamp(-1).to_string(), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn shows_the_years_that_certificates_use_and_reads_them_back() {
        for (second, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (-631_152_000, "1950-01-01T00:00:00Z"),
            (2_524_608_000, "2050-01-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp(second).to_string(), text);
            assert_eq!(text.parse::<Timestamp>().unwrap(), Timestamp(second));
        }
    }

    #[test]
    fn arithmetic_saturates_and_a_passed_instant_is_no_time_away() {
        assert_eq!(Timestamp(10).plus(Duration::from_secs(5)), Timestamp(15));
        assert_eq!(Timestamp(10).minus(Duration::from_secs(15)), Timestamp(-5));
        assert_eq!(Timestamp(i64::MAX).plus(Duration::MAX), Timestamp(i64::MAX));
        assert_eq!(Timestamp(10).until(Timestamp(14)), Duration::from_secs(4));
        assert_eq!(Timestamp(14).until(Timestamp(10)), Duration::ZERO);
    }

    #[test]
    fn text_that_is_no_instant_is_refused() {
        for text in ["", "tomorrow", "2027-01-31", "2027-13-01T00:00:00Z", "9999-12-31T23:59:59"] {
            assert_eq!(text.parse::<Timestamp>().unwrap_err().0, text);
        }
        assert_eq!("2027-01-15T10:00:00+02:00".parse::<Timestamp>().unwrap(), Timestamp(1_800_000_000));
    }

    proptest::proptest! {
        #[test]
        fn every_instant_of_x509_is_read_back(second in -62_135_596_800_i64..=253_402_300_799) {
            let shown = Timestamp(second).to_string();
            proptest::prop_assert_eq!(shown.parse::<Timestamp>().unwrap(), Timestamp(second));
            let json = serde_json::to_string(&Timestamp(second)).unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), Timestamp(second));
        }
    }
}
