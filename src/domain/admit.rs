//! How much of what is planned one turn may do.

use std::collections::BTreeMap;

use super::inventory::{Inventory, Location};
use super::name::CertName;
use super::plan::{Action, Decision, Deferral, Demand};
use super::time::Timestamp;

/// Bounds what one turn may do: at most `most` renewals, those that a person asked for before the others,
/// then those that end first.
pub fn admit(
    mut decisions: Vec<Decision>,
    inventory: &Inventory,
    requested: &BTreeMap<CertName, Demand>,
    most: usize,
    next_turn: Timestamp,
) -> Vec<Decision> {
    let mut renewals: Vec<usize> =
        (0..decisions.len()).filter(|i| matches!(decisions[*i].action, Action::Renew { .. })).collect();
    renewals.sort_by_key(|i| {
        let decision = &decisions[*i];
        (!requested.contains_key(&decision.certificate), ends_at(inventory, &decision.location))
    });
    for i in renewals.into_iter().skip(most) {
        if let Action::Renew { reason } = decisions[i].action {
            decisions[i].action = Action::Defer { until: next_turn, reason: Deferral::Cap, renew: reason };
        }
    }
    decisions
}

fn ends_at(inventory: &Inventory, location: &Location) -> Option<Timestamp> {
    inventory.at(location)?.sighting.leaf().map(|leaf| leaf.not_after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::inventory::Sighting;
    use crate::domain::plan::{JournalView, Managed, World, plan};
    use crate::domain::sample::*;

    /// Places that end in so many days (`None`: empty), all of them to be renewed.
    fn crowd(days: &[Option<u32>]) -> (Vec<Decision>, Inventory) {
        let mut inventory = Inventory::default();
        let managed: Vec<Managed> = (0..days.len()).map(|i| managed(&format!("{i}.example.org"))).collect();
        for (managed, days) in managed.iter().zip(days) {
            let name = managed.name.to_string();
            let ending = days.map(|days| found(ending_in(days * DAY, leaf(&[name.as_str()]))));
            let sighting = ending.map_or(Sighting::Absent, |found| Sighting::Found(Box::new(found)));
            inventory.insert(seen(managed.location.clone(), sighting));
        }
        let (journal, requested) = (JournalView::default(), BTreeMap::new());
        let world = World {
            clock_doubt: None,
            now: NOW,
            managed: &managed,
            inventory: &inventory,
            journal: &journal,
            act: true,
            requested: &requested,
        };
        (plan(&world), inventory)
    }

    fn admitted(days: &[Option<u32>], most: usize) -> Vec<usize> {
        let (decisions, inventory) = crowd(days);
        let admitted = admit(decisions.clone(), &inventory, &BTreeMap::new(), most, NOW.plus(DAY));
        for (before, after) in decisions.iter().zip(&admitted) {
            assert_eq!(
                (&before.certificate, before.based_on),
                (&after.certificate, after.based_on),
                "their order is kept"
            );
            match (&before.action, &after.action) {
                (Action::Renew { reason }, Action::Defer { until, reason: Deferral::Cap, renew }) => {
                    assert_eq!((*until, renew), (NOW.plus(DAY), reason));
                }
                (before, after) => assert_eq!(before, after),
            }
        }
        (0..admitted.len()).filter(|i| matches!(admitted[*i].action, Action::Renew { .. })).collect()
    }

    #[test]
    fn a_turn_renews_what_is_missing_first_and_then_what_ends_first() {
        let days = [Some(20), Some(3), None, Some(1), Some(60)];
        assert_eq!(admitted(&days, 0), [0; 0]);
        assert_eq!(admitted(&days, 1), [2]);
        assert_eq!(admitted(&days, 2), [2, 3]);
        assert_eq!(admitted(&days, 3), [1, 2, 3]);
        assert_eq!(admitted(&days, 4), [0, 1, 2, 3]);
        assert_eq!(admitted(&days, 9), [0, 1, 2, 3]);
    }

    #[test]
    fn what_a_person_asked_for_is_renewed_before_all_others() {
        let (decisions, inventory) = crowd(&[Some(20), None, Some(3)]);
        let requested = BTreeMap::from([("0.example.org".into(), Demand::IfDue)]);
        let admitted = admit(decisions, &inventory, &requested, 1, NOW.plus(DAY));
        let renewed: Vec<_> = admitted.iter().filter(|d| matches!(d.action, Action::Renew { .. })).collect();
        assert_eq!(renewed.iter().map(|d| d.certificate.0.as_str()).collect::<Vec<_>>(), ["0.example.org"]);
    }

    #[test]
    fn the_plan_is_the_same_on_every_call() {
        let (once, _) = crowd(&[Some(1), None, Some(80)]);
        let (again, _) = crowd(&[Some(1), None, Some(80)]);
        assert_eq!(once, again);
    }
}
