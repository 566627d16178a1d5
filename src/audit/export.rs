//! The audit log for other programs: JSON lines as they stand, or CSV that no spreadsheet takes for a formula.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use super::record::Record;
use super::verify::{ReadError, each_line};
use crate::domain::actor::Actor;
use crate::domain::name::CertName;
use crate::domain::text::one_line;
use crate::domain::time::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The bytes of each line as they are in the log, so that its hash can be verified.
    Json,
    Csv,
}

/// Which records are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// From this instant on.
    pub since: Option<Timestamp>,
    /// Before this instant.
    pub until: Option<Timestamp>,
    pub certificate: Option<CertName>,
}

const COLUMNS: [&str; 14] = [
    "sequence",
    "at",
    "event",
    "certificate",
    "uid",
    "account",
    "login",
    "sudo",
    "host",
    "command",
    "reason",
    "act",
    "detail",
    "previous",
];

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("could not write the export")]
    Write(#[from] io::Error),
}

/// What was exported.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Exported {
    pub records: u64,
    /// Lines that are no records.
    pub skipped: u64,
}

/// Writes the wanted records of the files, which are in order.
pub fn export(
    files: Vec<(PathBuf, File)>,
    filter: &Filter,
    format: Format,
    out: &mut impl Write,
) -> Result<Exported, ExportError> {
    if format == Format::Csv {
        writeln!(out, "{}", COLUMNS.join(","))?;
    }
    let (mut exported, mut acts) = (Exported::default(), BTreeSet::new());
    each_line(files, |_, _, line| {
        let Ok(record) = serde_json::from_slice::<Record>(line) else {
            exported.skipped += 1;
            return Ok(());
        };
        if !filter.wants(&record, &mut acts) {
            return Ok(());
        }
        exported.records += 1;
        match format {
            Format::Json => out.write_all(line).and_then(|()| out.write_all(b"\n")),
            Format::Csv => writeln!(out, "{}", row(&record)),
        }
    })??;
    Ok(exported)
}

impl Filter {
    /// `acts` are those that were wanted, whose outcomes are wanted as well.
    fn wants(&self, record: &Record, acts: &mut BTreeSet<u64>) -> bool {
        let is_of = |certificate: &CertName| record.concerns(certificate);
        let is_outcome = record.act.is_some_and(|act| acts.contains(&act));
        if !self.certificate.as_ref().is_none_or(is_of) && !is_outcome {
            return false;
        }
        acts.insert(record.sequence);
        self.since.is_none_or(|since| since <= record.at) && self.until.is_none_or(|until| record.at < until)
    }
}

fn row(record: &Record) -> String {
    let by = |field: fn(&Actor) -> Option<String>| record.by.as_ref().and_then(field).unwrap_or_default();
    let detail: Vec<String> = record.detail.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let login = |by: &Actor| {
        let login = by.login.as_ref()?;
        Some(login.name.clone().unwrap_or_else(|| login.uid.to_string()))
    };
    let columns: [String; COLUMNS.len()] = [
        record.sequence.to_string(),
        record.at.to_string(),
        record.event.as_str().to_string(),
        record.certificate.as_ref().map(|name| name.0.clone()).unwrap_or_default(),
        by(|by| Some(by.uid.to_string())),
        by(|by| by.name.clone()),
        by(login),
        by(|by| by.said.sudo.clone()),
        by(|by| Some(by.host.clone())),
        by(|by| Some(by.said.command.clone())),
        by(|by| by.said.reason.clone()),
        record.act.map(|act| act.to_string()).unwrap_or_default(),
        detail.join("; "),
        record.previous.to_string(),
    ];
    columns.map(|column| field(&column)).join(",")
}

/// How a formula begins, also in the full-width forms that some spreadsheets take for the same.
const FORMULA: [char; 10] = ['=', '+', '-', '@', '|', '%', '＝', '＋', '－', '＠'];

/// RFC 4180, in one line. What a spreadsheet would take for a formula has an apostrophe before it.
fn field(text: &str) -> String {
    let text = one_line(text);
    let begins_formula = text.trim_start().starts_with(FORMULA);
    let text = if begins_formula { format!("'{text}") } else { text };
    match text.contains(['"', ',', ';', '\'', ' ']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_is_a_formula_a_second_line_or_a_second_field() {
        for (text, written) in [
            ("web", "web"),
            ("=HYPERLINK(\"http://x\")", "\"'=HYPERLINK(\"\"http://x\"\")\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            (" =1", "\"' =1\""),
            ("＝1", "\"'＝1\""),
            ("a,b", "\"a,b\""),
            ("a\r\n=1", "a\\u{d}\\u{a}=1"),
            ("\t=1", "\\u{9}=1"),
            ("", ""),
        ] {
            assert_eq!(field(text), written, "{text:?}");
        }
    }
}
