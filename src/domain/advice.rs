//! What a CA says of when a certificate is best renewed: its renewal information (RFC 9773).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cert::Fingerprint;
use super::time::Timestamp;

/// RFC 9773, section 4.3.3, of what a server asks for.
const MOST_OFTEN: Duration = Duration::from_secs(60);
pub const MOST_RARELY: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a server does not say.
const USUALLY: Duration = Duration::from_secs(6 * 60 * 60);

/// A window that is no window is none: such as one whose end comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    start: Timestamp,
    end: Timestamp,
}

/// Of one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    pub fingerprint: Fingerprint,
    pub window: Window,
    /// Where the CA says why.
    #[serde(default)]
    pub explanation: Option<String>,
}

impl Window {
    pub fn new(start: Timestamp, end: Timestamp) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    pub fn start(self) -> Timestamp {
        self.start
    }

    pub fn end(self) -> Timestamp {
        self.end
    }

    /// A moment within it, the same after every restart and another for every certificate.
    pub fn moment(self, fingerprint: Fingerprint) -> Timestamp {
        let [a, b, c, d, e, f, g, h, ..] = fingerprint.0;
        let spread = u128::from(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
        let width = u128::from(self.start.until(self.end).as_secs());
        let share = u64::try_from((width * spread) >> 64).expect("less than the width, which is one");
        self.start.plus(Duration::from_secs(share))
    }

    pub fn moves_earlier_than(self, before: Self) -> bool {
        self.start < before.start || self.end < before.end
    }
}

impl Advice {
    /// When the certificate is to be renewed; `None` where this is about another.
    pub fn renew_at(&self, fingerprint: Fingerprint) -> Option<Timestamp> {
        (self.fingerprint == fingerprint).then(|| self.window.moment(fingerprint))
    }
}

/// After so long the CA is asked again.
pub fn asked_again_after(retry_after: Option<Duration>) -> Duration {
    retry_after.map_or(USUALLY, |asked| asked.clamp(MOST_OFTEN, MOST_RARELY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::{NOW, SECOND};

    fn window(start: u32, end: u32) -> Window {
        Window::new(NOW.plus(start * SECOND), NOW.plus(end * SECOND)).unwrap()
    }

    fn fingerprint(first: u8) -> Fingerprint {
        let mut bytes = [0; 32];
        bytes[0] = first;
        Fingerprint(bytes)
    }

    #[test]
    fn a_window_begins_before_it_ends() {
        assert_eq!(Window::new(NOW, NOW), None);
        assert_eq!(Window::new(NOW.plus(SECOND), NOW), None);
        let least = Window::new(NOW, NOW.plus(SECOND)).unwrap();
        assert_eq!((least.start(), least.end()), (NOW, NOW.plus(SECOND)));
    }

    #[test]
    fn the_moment_lies_within_the_window_where_the_fingerprint_puts_it() {
        let moments = [(0, 0), (0x40, 250), (0x80, 500), (0xc0, 750)];
        for (first, after) in moments {
            let moment = window(0, 1000).moment(fingerprint(first));
            assert_eq!(NOW.until(moment), after * SECOND, "{first}");
        }
        assert_eq!(NOW.until(window(7, 1007).moment(Fingerprint([0xff; 32]))), 1006 * SECOND);
        let mut last_of_eight = [0; 32];
        (last_of_eight[0], last_of_eight[7]) = (0x80, 0xff);
        assert_eq!(NOW.until(window(0, 1000).moment(Fingerprint(last_of_eight))), 500 * SECOND);
    }

    #[test]
    fn a_window_is_of_one_certificate_alone() {
        let advice = Advice { fingerprint: fingerprint(0), window: window(5, 9), explanation: None };
        assert_eq!(advice.renew_at(fingerprint(0)), Some(NOW.plus(5 * SECOND)));
        assert_eq!(advice.renew_at(fingerprint(1)), None);
    }

    #[test]
    fn one_that_begins_or_ends_sooner_has_moved_earlier() {
        let before = window(100, 200);
        for (after, earlier) in
            [((100, 200), false), ((99, 200), true), ((100, 199), true), ((101, 201), false), ((150, 199), true)]
        {
            assert_eq!(window(after.0, after.1).moves_earlier_than(before), earlier, "{after:?}");
        }
    }

    #[test]
    fn the_ca_says_how_soon_it_is_asked_again_between_a_minute_and_a_day() {
        let again = |seconds: u64| asked_again_after(Some(Duration::from_secs(seconds))).as_secs();
        assert_eq!(asked_again_after(None), Duration::from_secs(21_600));
        assert_eq!((again(0), again(59), again(60), again(61)), (60, 60, 60, 61));
        assert_eq!((again(86_399), again(86_400), again(u64::MAX)), (86_399, 86_400, 86_400));
    }
}
