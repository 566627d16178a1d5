//! The least policy that grants every need, as HCL.
//!
//! Of all rules that stand for a path, Vault goes by the one of the highest rank, and by that one alone. So a rule
//! holds, beside its own, the capabilities of every lower rule that it takes paths from; and a rule that a wider
//! one makes needless is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Need;
use super::pattern::Pattern;
use crate::domain::text::one_line;
use crate::vault::inspect::Capability;

/// One `path` of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub pattern: Pattern,
    pub capabilities: BTreeSet<Capability>,
    /// For whom.
    pub why: Vec<String>,
    /// Lower rules whose capabilities it must repeat.
    pub repeats: Vec<Pattern>,
}

/// In the order of their patterns.
pub fn least(needs: &[Need]) -> Vec<Rule> {
    let own = by_pattern(needs);
    // Two exact paths share none, but for the folder that is named as a secret is.
    let shares = |rule: &&Rule| !rule.pattern.is_exact() || rule.pattern.is_folder();
    let sharing: Vec<&Rule> = own.values().filter(shares).collect();
    let all: Vec<Rule> = own.values().map(|rule| complete(rule, &sharing)).collect();
    let mut wide: BTreeMap<&Pattern, &Rule> =
        all.iter().filter(|rule| !rule.pattern.is_exact()).map(|rule| (&rule.pattern, rule)).collect();
    let (mut kept, mut needless) = (Vec::new(), Vec::new());
    for rule in &all {
        match is_needless(rule, &wide) {
            true => {
                wide.remove(&rule.pattern);
                needless.push(rule);
            }
            false => kept.push(rule.clone()),
        }
    }
    for rule in needless {
        let wider = kept.iter_mut().find(|wider| wider.pattern.covers(&rule.pattern));
        wider.expect("a needless rule is covered").why.extend(rule.why.iter().cloned());
    }
    for rule in &mut kept {
        let mut said = BTreeSet::new();
        rule.why.retain(|why| said.insert(why.clone()));
    }
    kept
}

/// The one that Vault goes by, with what is kept beside it.
pub fn rule_for<'r, T>(rules: &'r [(Rule, T)], path: &str) -> Option<&'r (Rule, T)> {
    let matching = rules.iter().filter(|(rule, _)| rule.pattern.matches(path));
    matching.max_by(|(one, _), (other, _)| one.pattern.rank().cmp(&other.pattern.rank()))
}

fn by_pattern(needs: &[Need]) -> BTreeMap<Pattern, Rule> {
    let mut rules: BTreeMap<Pattern, Rule> = BTreeMap::new();
    for Need { pattern, capabilities, why, .. } in needs {
        let rule = rules.entry(pattern.clone()).or_insert_with(|| Rule {
            pattern: pattern.clone(),
            capabilities: BTreeSet::new(),
            why: Vec::new(),
            repeats: Vec::new(),
        });
        rule.capabilities.extend(capabilities);
        rule.why.push(why.clone());
    }
    rules
}

fn complete(rule: &Rule, lower: &[&Rule]) -> Rule {
    let mut complete = rule.clone();
    for lower in lower.iter().filter(|lower| lower.pattern.rank() < rule.pattern.rank()) {
        let taken = taken(rule, lower);
        if !taken.is_subset(&complete.capabilities) {
            complete.repeats.push(lower.pattern.clone());
            complete.capabilities.extend(taken);
        }
    }
    complete
}

/// What is needed at paths for which Vault goes by the higher rule instead of the lower one.
fn taken(higher: &Rule, lower: &Rule) -> BTreeSet<Capability> {
    let meets = higher.pattern.meets(&lower.pattern);
    let mut taken = lower.capabilities.clone();
    // The path of a folder is listed, and nothing else is done with it.
    let is_only_listed = higher.pattern.is_folder() || (!meets && higher.pattern.meets_as_folder(&lower.pattern));
    taken.retain(|capability| if is_only_listed { *capability == Capability::List } else { meets });
    taken
}

/// Without it, every one of its paths falls to a rule that holds as much: to one that covers it, or to one that
/// goes before that.
fn is_needless(rule: &Rule, wide: &BTreeMap<&Pattern, &Rule>) -> bool {
    let lower = || wide.values().filter(|other| other.pattern.rank() < rule.pattern.rank());
    let suffices = |heir: &Rule| {
        let mut heirs = lower().filter(|other| other.pattern.rank() >= heir.pattern.rank());
        heirs.all(|heir| !rule.pattern.meets(&heir.pattern) || rule.capabilities.is_subset(&heir.capabilities))
    };
    lower().any(|heir| heir.pattern.covers(&rule.pattern) && suffices(heir))
}

/// In one line, without its reasons.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "path {} {{ capabilities = [{}] }}", quoted(self.pattern.as_str()), listed(&self.capabilities))
    }
}

/// Blocks with their reasons.
pub fn hcl(rules: &[Rule]) -> String {
    let mut out = String::new();
    for Rule { pattern, capabilities, why, repeats } in rules {
        out.push('\n');
        for why in why {
            out.push_str(&format!("# {}\n", one_line(why)));
        }
        for lower in repeats {
            out.push_str(&format!("# (of two rules for one path Vault goes by this, so it repeats {lower})\n"));
        }
        let (path, capabilities) = (quoted(pattern.as_str()), listed(capabilities));
        out.push_str(&format!("path {path} {{\n  capabilities = [{capabilities}]\n}}\n"));
    }
    out
}

fn listed(capabilities: &BTreeSet<Capability>) -> String {
    capabilities.iter().map(|capability| format!("\"{capability}\"")).collect::<Vec<_>>().join(", ")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights::Weight;
    use crate::vault::inspect::Capability::*;

    fn need<const N: usize>(pattern: &str, capabilities: [Capability; N]) -> Need {
        let (capabilities, weight) = (BTreeSet::from(capabilities), Weight::Required);
        Need { pattern: Pattern::new(pattern), capabilities, weight, why: format!("for {pattern}") }
    }

    fn rules(needs: &[Need]) -> Vec<String> {
        let line = |rule: &Rule| format!("{} {}", rule.pattern, listed(&rule.capabilities).replace(['"', ','], ""));
        least(needs).iter().map(line).collect()
    }

    #[test]
    fn one_rule_for_each_path_holds_all_that_is_asked_there() {
        let needs = [need("kv/data/web", [Read]), need("kv/data/web", [Create, Update]), need("kv/data/api", [Read])];
        assert_eq!(rules(&needs), ["kv/data/api read", "kv/data/web create read update"]);
    }

    #[test]
    fn the_rule_that_vault_goes_by_repeats_what_the_lower_one_holds() {
        let needs = [need("kv/data/*", [Read]), need("kv/data/web", [Update])];
        assert_eq!(rules(&needs), ["kv/data/* read", "kv/data/web read update"]);
        let crossing = [need("kv/data/+/web", [Read]), need("kv/data/a/+", [Update])];
        assert_eq!(rules(&crossing), ["kv/data/+/web read", "kv/data/a/+ read update"]);
        let apart = [need("kv/data/+/web", [Read]), need("kv/data/+/api", [Update])];
        assert_eq!(rules(&apart), ["kv/data/+/api update", "kv/data/+/web read"]);
    }

    #[test]
    fn a_secret_that_is_a_folder_too_is_still_listed() {
        let needs = [need("kv/metadata/web/*", [List]), need("kv/metadata/web", [Read])];
        assert_eq!(rules(&needs), ["kv/metadata/web read list", "kv/metadata/web/* list"]);
        let data = [need("kv/data/web/*", [Update]), need("kv/data/web", [Read])];
        assert_eq!(rules(&data), ["kv/data/web read", "kv/data/web/* update"]);
    }

    #[test]
    fn the_path_of_a_folder_takes_over_nothing_but_listing() {
        let needs = [need("kv/tls/+", [Read, Update]), need("kv/tls/", [List])];
        assert_eq!(rules(&needs), ["kv/tls/ list", "kv/tls/+ read update"]);
        let needs = [need("kv/*", [Read, List]), need("kv/tls/", [List])];
        assert_eq!(rules(&needs), ["kv/* read list"]);
    }

    #[test]
    fn what_a_wider_rule_grants_is_not_said_twice() {
        let needs = [need("kv/data/*", [Read]), need("kv/data/tls/*", [Read]), need("kv/data/tls/web", [Read])];
        assert_eq!(rules(&needs), ["kv/data/* read"]);
        assert_eq!(least(&needs)[0].why, ["for kv/data/*", "for kv/data/tls/*", "for kv/data/tls/web"]);
        // The rule between them would take its place and grant less.
        let needs = [need("kv/*", [Read, Update]), need("kv/data/+", [Create]), need("kv/data/web", [Update])];
        assert_eq!(rules(&needs), ["kv/* read update", "kv/data/+ create read update"]);
    }

    #[test]
    fn a_quote_in_a_path_stays_within_the_path() {
        let rule = &least(&[need("kv/data/a\"b\\c", [Read])])[0];
        assert_eq!(rule.to_string(), r#"path "kv/data/a\"b\\c" { capabilities = ["read"] }"#);
    }
}
