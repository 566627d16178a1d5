//! Whether the token's rights suffice.

use std::collections::BTreeSet;

use super::finding::{About, Findings};
use super::grants::Grants;
use crate::rights::pattern::Pattern;
use crate::rights::policy::{self, Rule};
use crate::rights::{self, Need, Weight};
use crate::vault::inspect::Capability;

pub(super) fn judge(needs: &[Need], grants: &Grants, findings: &mut Findings) {
    if let Some(error) = &grants.refused {
        let advice = r#"let it ask: path "sys/capabilities-self" { capabilities = ["update"] }"#;
        return findings.unknown(About::Rights, format!("could not ask what the token may do: {error}"), advice);
    }
    let mut is_short = false;
    for (rule, example) in &grants.rules {
        let missing = grants.missing(example, &rule.capabilities);
        if !missing.is_empty() {
            is_short = true;
            tell(needs, rule, example, &missing, findings);
        }
    }
    for Short { rule, missing, paths } in short_of(needs, grants) {
        is_short = true;
        let more = if paths.len() > 1 { format!(" (and on {} more)", paths.len() - 1) } else { String::new() };
        let exact = Rule { pattern: Pattern::new(paths[0]), ..rule.clone() };
        let what = format!("missing on {}{more}: {}", paths[0], named(&missing));
        let advice = format!("another rule of its policies goes before {}: mend it, or add {exact}", rule.pattern);
        say(weight(needs, paths[0], &missing), what, advice, findings);
    }
    if !is_short {
        let (rules, secrets) = (grants.rules.len(), grants.secrets.len());
        let what =
            format!("the token may do all that is needed; rules: {rules}, paths of secrets that are there: {secrets}");
        findings.ok(About::Rights, what);
    }
}

fn tell(needs: &[Need], rule: &Rule, example: &str, missing: &BTreeSet<Capability>, findings: &mut Findings) {
    let what = format!("missing on {}: {} ({})", rule.pattern, named(missing), rule.why.join("; "));
    say(weight(needs, example, missing), what, format!("add to its policy: {rule}"), findings);
}

/// Secrets for which the token has a rule that grants less than the one that should stand for them.
struct Short<'g> {
    rule: &'g Rule,
    missing: BTreeSet<Capability>,
    paths: Vec<&'g str>,
}

/// The rule that should stand for them is sound itself.
fn short_of<'g>(needs: &[Need], grants: &'g Grants) -> Vec<Short<'g>> {
    let mut all: Vec<Short> = Vec::new();
    for path in &grants.secrets {
        let missing = grants.missing(path, &rights::needed(needs, path));
        if missing.is_empty() {
            continue;
        }
        let Some((rule, example)) = policy::rule_for(&grants.rules, path) else { continue };
        if !grants.missing(example, &missing).is_empty() {
            continue;
        }
        match all.iter_mut().find(|short| short.rule == rule && short.missing == missing) {
            Some(short) => short.paths.push(path),
            None => all.push(Short { rule, missing, paths: vec![path] }),
        }
    }
    all
}

fn weight(needs: &[Need], path: &str, missing: &BTreeSet<Capability>) -> Weight {
    let lacking = rights::at(needs, path).filter(|need| !need.capabilities.is_disjoint(missing));
    lacking.map(|need| need.weight).max().unwrap_or(Weight::Useful)
}

fn say(weight: Weight, what: String, advice: String, findings: &mut Findings) {
    match weight {
        Weight::Required => findings.critical(About::Rights, what, advice),
        Weight::Useful => findings.warning(About::Rights, what, advice),
    }
}

pub(super) fn named(capabilities: &BTreeSet<Capability>) -> String {
    capabilities.iter().map(|capability| capability.as_str()).collect::<Vec<_>>().join(", ")
}
