//! The rules. Pure: no clock, no randomness, no async, no I/O.

pub mod actor;
pub mod admit;
pub mod adopt;
pub mod advice;
pub mod breaker;
pub mod cap;
pub mod cert;
pub mod check;
pub mod clock;
pub mod crl;
pub mod drift;
pub mod fallback;
pub mod hidden;
pub mod homes;
pub mod inventory;
pub mod issued;
pub mod key;
pub mod name;
pub mod orders;
pub mod persist;
pub mod plan;
pub mod policy;
pub mod progress;
pub mod rate;
pub mod record;
pub mod renewal;
pub mod retry_after;
pub mod revocation;
#[cfg(test)]
pub mod sample;
pub mod shared_key;
pub mod snapshot;
pub mod text;
pub mod time;
pub mod waiting;
pub mod waits;

#[cfg(test)]
mod tests {
    use super::check::{ProblemKind, State};
    use super::inventory::{ObstacleKind, Part};
    use super::plan::Reason;
    use super::revocation::RevocationReason;
    use super::snapshot::{Phase, Standing};

    fn written<T: serde::Serialize>(words: impl IntoIterator<Item = (T, &'static str)>) {
        for (value, word) in words {
            assert_eq!(serde_json::to_value(&value).unwrap(), word);
        }
    }

    #[test]
    fn what_metrics_call_a_thing_is_what_json_calls_it() {
        written(ProblemKind::ALL.map(|kind| (kind, kind.as_str())));
        written(ObstacleKind::ALL.map(|kind| (kind, kind.as_str())));
        written(RevocationReason::ALL.map(|reason| (reason, reason.as_str())));
        written(Reason::ALL.map(|reason| (reason, reason.as_str())));
        written([State::Ok, State::Warning, State::Unknown, State::Critical].map(|state| (state, state.as_str())));
    }

    #[test]
    fn what_metrics_alone_name_has_these_names() {
        assert_eq!(Phase::ALL.map(Phase::as_str), ["observe", "plan", "execute"]);
        let standings = [Standing::Ok, Standing::Due, Standing::Failing, Standing::Drifted, Standing::Unknown];
        assert_eq!(standings.map(Standing::as_str), ["ok", "due", "failing", "drifted", "unknown"]);
    }

    #[test]
    fn an_object_is_a_part_and_a_number_within_is_none() {
        assert_eq!(Part::from("web").object(), Some("web"));
        assert_eq!(Part::nth(2).object(), None);
    }
}
