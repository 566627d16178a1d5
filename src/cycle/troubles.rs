//! What stands in the way of a turn is said when it begins, when it changes and when it ends; a turn that
//! only meets it again says so at debug.

use std::collections::BTreeSet;

#[derive(Default)]
pub struct Troubles {
    /// Of the turn before: where, and what.
    before: BTreeSet<(String, String)>,
    now: BTreeSet<(String, String)>,
}

impl Troubles {
    pub fn meet(&mut self, place: String, message: String) {
        let trouble = (place, message);
        if self.now.contains(&trouble) {
            return;
        }
        let (place, message) = &trouble;
        match self.before.contains(&trouble) {
            false => tracing::warn!(place, "{message}"),
            true => tracing::debug!(place, "still: {message}"),
        }
        self.now.insert(trouble);
    }

    /// At the end of a turn: the places that were in trouble before it and are no longer.
    pub fn settle(&mut self) -> Vec<String> {
        let before = std::mem::replace(&mut self.before, std::mem::take(&mut self.now));
        let still: BTreeSet<&String> = self.before.iter().map(|(place, _)| place).collect();
        let over: BTreeSet<String> =
            before.into_iter().map(|(place, _)| place).filter(|it| !still.contains(it)).collect();
        for place in &over {
            tracing::info!(place, "no trouble any more");
        }
        over.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What a daemon at info says in turns that meet these.
    fn said(turns: &[&[(&str, &str)]]) -> Vec<String> {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .without_time()
            .with_target(false)
            .with_ansi(false)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let mut troubles = Troubles::default();
            for turn in turns {
                for (place, message) in *turn {
                    troubles.meet((*place).to_string(), (*message).to_string());
                }
                troubles.settle();
            }
        });
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().to_string()).collect()
    }

    #[test]
    fn trouble_is_said_when_it_begins_when_it_changes_and_when_it_ends() {
        let (denied, sealed) = (("source apps", "denied"), ("source apps", "sealed"));
        assert_eq!(
            said(&[&[], &[denied, denied], &[denied], &[denied, sealed], &[sealed], &[], &[], &[denied]]),
            [
                "WARN denied place=\"source apps\"",
                "WARN sealed place=\"source apps\"",
                "INFO no trouble any more place=\"source apps\"",
                "WARN denied place=\"source apps\"",
            ]
        );
    }

    #[test]
    fn one_place_that_is_well_again_says_nothing_of_another() {
        let (apps, edge) = (("source apps", "denied"), ("vault edge", "denied"));
        assert_eq!(
            said(&[&[apps, edge], &[edge]]),
            [
                "WARN denied place=\"source apps\"",
                "WARN denied place=\"vault edge\"",
                "INFO no trouble any more place=\"source apps\"",
            ]
        );
    }
}
