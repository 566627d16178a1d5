//! The findings of `certd vault doctor`: a table for people, and JSON for programs.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets::NOTHING};
use serde::Serialize;

use super::Summary;
use super::table::{Look, NARROWEST, painted};
use crate::doctor::Finding;

/// Raised when a field changes its meaning or goes.
const SCHEMA: u32 = 1;

const HEADER: [&str; 5] = ["STATE", "VAULT", "ABOUT", "WHAT", "WHAT TO DO"];

#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    findings: &'a [Finding],
    summary: Summary,
}

/// The worst first.
pub fn table(findings: &[Finding], look: Look) -> String {
    let mut worst_first: Vec<&Finding> = findings.iter().collect();
    worst_first.sort_by_key(|finding| std::cmp::Reverse(finding.state));
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(HEADER);
    if let Some(width) = look.width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(NARROWEST));
    }
    table.add_rows(worst_first.into_iter().map(row));
    if let Some(state) = table.column_mut(0) {
        state.set_constraint(ColumnConstraint::ContentWidth).set_padding((0, 1));
    }
    let mut out = String::new();
    for line in table.lines() {
        out.push_str(&painted(line.trim_end(), look.color));
        out.push('\n');
    }
    let Summary { ok, warning, critical, unknown } = summary(findings);
    out + &format!("\n{ok} ok, {warning} warning, {critical} critical, {unknown} unknown\n")
}

fn row(finding: &Finding) -> [String; 5] {
    let Finding { vault, about, state, what, advice } = finding;
    let advice = advice.clone().unwrap_or_default();
    [state.as_str().to_string(), vault.to_string(), about.as_str().to_string(), what.clone(), advice]
}

/// In the order of Vaults.
pub fn json(findings: &[Finding]) -> String {
    let report = Report { schema: SCHEMA, findings, summary: summary(findings) };
    super::json::text(&report)
}

fn summary(findings: &[Finding]) -> Summary {
    let mut summary = Summary::default();
    for finding in findings {
        *summary.slot(finding.state) += 1;
    }
    summary
}
