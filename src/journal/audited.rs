//! What the audit log tells of the journal's events. Of acts it has records of its own, with who asked.

use super::event::{Entry, Event, Issued};
use super::places::Placed;
use crate::audit::record::{CERTIFICATES, Draft, Kind};
use crate::domain::cert::Certificate;
use crate::domain::homes::name_texts;
use crate::domain::name::CertName;
use crate::pki::read;

/// Returns the record of an event; `None` for steps that change nothing and for acts.
pub(super) fn draft(entry: &Entry) -> Option<Draft> {
    let name = entry.certificate.as_ref();
    let of = |kind| Draft::of(kind, name);
    Some(match &entry.event {
        Event::Begun { reason, names, replaces, .. } => {
            let begun = of(Kind::RenewalBegun).with("reason", reason.as_str()).with("names", names);
            replaces.map_or(begun.clone(), |replaces| begun.with("replaces", replaces))
        }
        Event::TakenUp(open) => {
            of(Kind::RenewalTakenUp).with("reason", open.reason.as_str()).with("names", &open.names)
        }
        Event::Asked { issuer, .. } => of(Kind::IssuerAsked).with("issuer", issuer),
        Event::Issued(issued) => signed(issued, name),
        Event::Accepted { serial } => of(Kind::Accepted).with("serial", serial),
        Event::Rejected { serial, why } => of(Kind::Rejected).with("serial", serial).with("why", why),
        Event::Written { version } => {
            let written = of(Kind::Written);
            version.map_or(written.clone(), |version| written.with("version", version))
        }
        Event::OverTheCap { stored, unused } => {
            of(Kind::OverTheCap).with("stored_within_7_days", stored).with("not_stored_within_7_days", unused)
        }
        Event::Closed { fingerprint, not_after } => {
            of(Kind::Closed).with("fingerprint", fingerprint).with("not_after", not_after)
        }
        Event::Superseded { why } => of(Kind::Superseded).with("why", why),
        Event::Failed { message, retry_at, .. } => {
            of(Kind::AttemptFailed).with("message", message).with("retry_at", retry_at)
        }
        Event::Revoking { issuer, serial, reason, forced } => {
            let asked = of(Kind::RevocationAsked).with("issuer", issuer).with("serial", serial);
            asked.with("reason", reason.as_str()).with("forced", forced)
        }
        Event::Revoked { issuer, serial, fingerprint } => {
            let revoked = of(Kind::Revoked).with("issuer", issuer).with("serial", serial);
            fingerprint.map_or(revoked.clone(), |fingerprint| revoked.with("fingerprint", fingerprint))
        }
        Event::Place(Placed::Homes { rule, places }) => {
            // The first line of a rule's identity is its name.
            let rule = rule.lines().next().unwrap_or_default();
            let names: Vec<&str> = places.keys().map(|place| place.0.as_str()).collect();
            let adopted = of(Kind::PlacesAdopted).with("rule", rule).with("places", places.len());
            adopted.with(CERTIFICATES, names.join(", "))
        }
        Event::Place(Placed::Contested { places }) => {
            let names: Vec<&str> = places.keys().map(|place| place.0.as_str()).collect();
            of(Kind::PlacesContested).with("places", places.len()).with(CERTIFICATES, names.join(", "))
        }
        Event::SetAside { file, .. } => of(Kind::JournalSetAside).with("file", file),
        Event::Place(Placed::Looked { .. } | Placed::Agreed { .. } | Placed::Forgotten { .. }) => return None,
        Event::Paused { .. } | Event::Resumed | Event::Acknowledged => return None,
        Event::Staged(_) | Event::KeyKept(_) | Event::KeyDestroyed(_) => return None,
        Event::Ordered { .. } | Event::NotIssued { .. } | Event::IssuerFailed { .. } | Event::LeftAlone { .. } => {
            return None;
        }
        Event::Served { .. } | Event::Advised(_) => return None,
    })
}

fn signed(issued: &Issued, name: Option<&CertName>) -> Draft {
    let draft = Draft::of(Kind::Issued, name).with("issuer", &issued.issuer);
    match issued.ders.first().and_then(|der| read::certificate(der).ok()) {
        Some(leaf) => described(draft, &leaf),
        None => draft.with("serial", "not understood"),
    }
}

fn described(draft: Draft, leaf: &Certificate) -> Draft {
    let draft = draft.with("serial", &leaf.serial).with("fingerprint", leaf.fingerprint);
    draft.with("names", name_texts(&leaf.names).join(", ")).with("not_after", leaf.not_after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;

    #[test]
    fn steps_are_told_and_acts_are_left_to_their_own_records() {
        let told = |event| {
            let draft = draft(&Entry { at: Timestamp(0), certificate: Some("web".into()), event })?;
            Some((
                draft.event,
                draft.detail.into_iter().map(|(name, text)| format!("{name}={text}")).collect::<Vec<_>>(),
            ))
        };
        let rejected = Event::Rejected { serial: "01".into(), why: "too short".into() };
        assert_eq!(told(rejected), Some((Kind::Rejected, vec!["serial=01".into(), "why=too short".into()])));
        assert_eq!(told(Event::Written { version: Some(3) }), Some((Kind::Written, vec!["version=3".into()])));
        let issued = Event::Issued(Issued { issuer: "ca".into(), ders: vec![vec![0x30, 0]] });
        assert_eq!(told(issued), Some((Kind::Issued, vec!["issuer=ca".into(), "serial=not understood".into()])));
        assert_eq!(told(Event::Resumed), None);
        assert_eq!(told(Event::Place(Placed::Forgotten { by: "uid 0".into() })), None);
    }
}
