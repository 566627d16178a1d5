//! The places that rules and people adopted, as their events add up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event::{Entry, Event};
use crate::domain::homes::{Agreed, Contests, Home, Homes, Lodging};
use crate::domain::name::CertName;
use crate::domain::time::Timestamp;

/// What happened to places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placed {
    /// A rule adopted them, or found another valid certificate of their names there.
    Homes { rule: String, places: BTreeMap<CertName, Lodging> },
    /// The first look of a rule is over: a place that comes later is judged by the homes that there are.
    Looked { rule: String },
    /// They have names of other places, and are held until a person agrees.
    Contested { places: Contests },
    /// A person agreed that the place is a home of these names, with this certificate.
    Agreed { holds: Lodging, by: String },
    /// A person released the names of the place.
    Forgotten { by: String },
}

/// Empty where the journal is of a format before 4: then each rule has its first look again.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Places {
    #[serde(default)]
    pub homes: Homes,
    /// By `Rule::id`.
    #[serde(default)]
    pub looked: BTreeMap<String, Timestamp>,
    #[serde(default)]
    pub contests: Contests,
}

impl Places {
    /// Folds an event about places, and gives back every other.
    pub fn fold(&mut self, entry: Entry) -> Option<Entry> {
        let at = entry.at;
        match (entry.certificate, entry.event) {
            (None, Event::Place(Placed::Homes { rule, places })) => {
                for (place, holds) in places {
                    self.settle(at, place, holds, &rule);
                }
            }
            (None, Event::Place(Placed::Looked { rule })) => {
                self.looked.entry(rule).or_insert(at);
            }
            (None, Event::Place(Placed::Contested { places })) => self.contests.extend(places),
            (Some(place), Event::Place(Placed::Agreed { holds, by })) => {
                let agreed = Some(Agreed { by, fingerprint: holds.fingerprint });
                let home = self.settle(at, place, holds, "");
                home.agreed = agreed;
            }
            (Some(place), Event::Place(Placed::Forgotten { .. })) => {
                self.homes.remove(&place);
                self.release(&place);
            }
            (certificate, event) => return Some(Entry { at, certificate, event }),
        }
        None
    }

    /// Nobody is held for a place whose names a person released.
    fn release(&mut self, place: &CertName) {
        self.contests.remove(place);
        self.contests.retain(|_, contest| !contest.by.remove(place) || !contest.by.is_empty());
    }

    /// A place keeps its age and its rule as long as it keeps its names.
    fn settle(&mut self, at: Timestamp, place: CertName, holds: Lodging, rule: &str) -> &mut Home {
        let Lodging { names, fingerprint } = holds;
        self.contests.remove(&place);
        let before = self.homes.remove(&place).filter(|before| before.names == names);
        let home = match before {
            Some(before) => Home { fingerprint, ..before },
            None => Home { names, since: at, fingerprint, rule: rule.to_string(), agreed: None },
        };
        self.homes.entry(place).or_insert(home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cert::Fingerprint;
    use crate::domain::homes::Contest;
    use crate::journal::event::State;

    const A: Fingerprint = Fingerprint([1; 32]);
    const B: Fingerprint = Fingerprint([2; 32]);

    fn holds(names: &[&str], fingerprint: Fingerprint) -> Lodging {
        Lodging { names: names.iter().map(|name| name.to_string()).collect(), fingerprint }
    }

    fn homes(rule: &str, place: &str, lodging: Lodging) -> (Option<CertName>, Event) {
        (None, Event::Place(Placed::Homes { rule: rule.into(), places: [(place.into(), lodging)].into() }))
    }

    fn agreed(place: &str, lodging: Lodging) -> (Option<CertName>, Event) {
        (Some(place.into()), Event::Place(Placed::Agreed { holds: lodging, by: "root".into() }))
    }

    /// Each event a second after the one before, read back as it was written.
    fn folded(events: Vec<(Option<CertName>, Event)>) -> State {
        let mut state = State::default();
        for (second, (certificate, event)) in (0..).zip(events) {
            let entry = Entry { at: Timestamp(second), certificate, event };
            let text = serde_json::to_string(&entry).unwrap();
            let read: Entry = serde_json::from_str(&text).unwrap();
            assert_eq!(read, entry);
            state.fold(read);
        }
        // And as a journal keeps it once it has folded.
        serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap()
    }

    #[test]
    fn a_home_keeps_its_age_and_its_rule_while_its_names_stay() {
        let first = homes("r", "web", holds(&["a", "b"], A));
        let view = folded(vec![first.clone(), homes("s", "web", holds(&["a", "b"], B))]).view();
        let expected = Home {
            names: vec!["a".into(), "b".into()],
            since: Timestamp(0),
            fingerprint: B,
            rule: "r".into(),
            agreed: None,
        };
        assert_eq!(view.homes, [("web".into(), expected)].into());
        assert_eq!(view.records, [].into(), "a home is no renewal");

        let view = folded(vec![first, agreed("web", holds(&["c"], B))]).view();
        let home = &view.homes[&"web".into()];
        assert_eq!((home.names.clone(), home.since, home.rule.as_str()), (vec!["c".to_string()], Timestamp(1), ""));
        assert_eq!(home.agreed, Some(Agreed { by: "root".into(), fingerprint: B }));
    }

    #[test]
    fn a_person_agrees_to_one_certificate_and_another_of_its_names_changes_nothing_of_that() {
        let view = folded(vec![agreed("web", holds(&["a"], A)), homes("r", "web", holds(&["a"], B))]).view();
        let home = &view.homes[&"web".into()];
        assert_eq!((home.fingerprint, home.agreed.as_ref().map(|agreed| agreed.fingerprint)), (B, Some(A)));
    }

    #[test]
    fn what_is_forgotten_is_no_home_and_a_rule_looks_first_once() {
        let looked = || (None, Event::Place(Placed::Looked { rule: "r".into() }));
        let forgotten = (Some("web".into()), Event::Place(Placed::Forgotten { by: "root".into() }));
        let view = folded(vec![looked(), homes("r", "web", holds(&["a"], A)), looked(), forgotten]).view();
        assert_eq!((view.homes, view.looked), ([].into(), [("r".to_string(), Timestamp(0))].into()));
    }

    #[test]
    fn a_contest_lasts_until_a_person_agrees_or_releases_what_it_is_about() {
        let contest = |by: &[&str]| Contest {
            names: vec!["a".into()],
            by: by.iter().map(|place| CertName::from(*place)).collect(),
        };
        let held = || {
            let places = [("one".into(), contest(&["web"])), ("two".into(), contest(&["web", "api"]))].into();
            (None, Event::Place(Placed::Contested { places }))
        };
        let looked = (None, Event::Place(Placed::Looked { rule: "renamed".into() }));
        let view = folded(vec![held(), looked]).view();
        assert_eq!(view.contests, [("one".into(), contest(&["web"])), ("two".into(), contest(&["web", "api"]))].into());

        let forgotten = (Some("web".into()), Event::Place(Placed::Forgotten { by: "root".into() }));
        let view = folded(vec![held(), forgotten]).view();
        assert_eq!(view.contests, [("two".into(), contest(&["api"]))].into());

        let view = folded(vec![held(), agreed("one", holds(&["a"], A)), homes("r", "two", holds(&["b"], A))]).view();
        assert_eq!(view.contests, [].into());
    }

    #[test]
    fn a_folded_journal_of_format_3_has_no_homes_and_knows_what_it_stored_last() {
        let record = r#"{"consecutive_failures":0,"retry_at":null,"last_error":null,"last_success":null,"in_flight":null,
            "paused_until":null,"wrote":"FF"}"#;
        let text = r#"{"records":{"web":RECORD},"in_flight":{},"paused_until":null,"issuers":{},"issued":{},
            "last_noted":null,"set_aside":null}"#;
        let text = text.replace("RECORD", record).replace("FF", &"01".repeat(32));
        let view = serde_json::from_str::<State>(&text).unwrap().view();
        assert_eq!((view.homes, view.looked), ([].into(), [].into()));
        assert!(view.records[&"web".into()].has_stored(A) && !view.records[&"web".into()].has_stored(B));
    }
}
