//! Prometheus' text format, version 0.0.4: families, labels, and what makes foreign text harmless in one.

use std::fmt::{Display, Write};

use crate::domain::text::{LONGEST_TEXT, printable};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gauge,
    Counter,
}

/// One family that is being written. Its header is written before its first series, so that a family
/// without any leaves no trace.
pub struct Family<'a> {
    out: &'a mut String,
    name: &'static str,
    kind: Kind,
    help: &'static str,
    begun: bool,
}

impl<'a> Family<'a> {
    pub fn gauge(out: &'a mut String, name: &'static str, help: &'static str) -> Self {
        Self { out, name, kind: Kind::Gauge, help, begun: false }
    }

    pub fn counter(out: &'a mut String, name: &'static str, help: &'static str) -> Self {
        Self { out, name, kind: Kind::Counter, help, begun: false }
    }

    /// `ready` is what [`label`] wrote earlier, or empty.
    pub fn series(&mut self, ready: &str, labels: &[(&str, &str)], value: impl Display) {
        if !std::mem::replace(&mut self.begun, true) {
            self.header();
        }
        self.out.push_str(self.name);
        if ready.is_empty() && labels.is_empty() {
            writeln!(self.out, " {value}").expect("a String takes all that is written to it");
            return;
        }
        self.out.push('{');
        self.out.push_str(ready);
        for (i, (name, text)) in labels.iter().enumerate() {
            if i > 0 || !ready.is_empty() {
                self.out.push(',');
            }
            label(self.out, name, text);
        }
        self.out.push_str("} ");
        write!(self.out, "{value}").expect("a String takes all that is written to it");
        self.out.push('\n');
    }

    fn header(&mut self) {
        let kind = match self.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        for part in ["# HELP ", self.name, " ", self.help, "\n# TYPE ", self.name, " ", kind, "\n"] {
            self.out.push_str(part);
        }
    }
}

/// Writes `name="text"`, the text cut at [`LONGEST_TEXT`] bytes and unable to end its label or its line.
pub fn label(out: &mut String, name: &str, text: &str) {
    out.push_str(name);
    out.push_str("=\"");
    if is_plain(text) {
        out.push_str(text);
    } else {
        push_escaped(out, &printable(text));
    }
    out.push('"');
}

/// Most labels are: this keeps a page of a million of them fast.
pub fn is_plain(text: &str) -> bool {
    text.len() <= LONGEST_TEXT && text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\')
}

fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_says_what_it_is_once_and_only_when_it_has_a_series() {
        let mut out = String::new();
        Family::gauge(&mut out, "certd_none", "Never written.");
        let mut family = Family::counter(&mut out, "certd_things_total", "Things.");
        family.series("", &[("a", "1"), ("b", "2")], 3);
        family.series("cert=\"x\"", &[("b", "2")], 0.5);
        family.series("cert=\"x\"", &[], -1);
        let wanted = "# HELP certd_things_total Things.\n# TYPE certd_things_total counter\n\
                      certd_things_total{a=\"1\",b=\"2\"} 3\ncertd_things_total{cert=\"x\",b=\"2\"} 0.5\n\
                      certd_things_total{cert=\"x\"} -1\n";
        assert_eq!(out, wanted);
    }

    #[test]
    fn foreign_text_can_end_neither_its_label_nor_its_line_nor_grow_without_end() {
        let written = |text: &str| {
            let mut out = String::new();
            label(&mut out, "l", text);
            out
        };
        assert_eq!(written("plain"), "l=\"plain\"");
        assert_eq!(written("\"} 1\n# TYPE"), "l=\"\\\"} 1\\\\u{a}# TYPE\"");
        assert_eq!(written("a\\"), "l=\"a\\\\\"");
        assert_eq!(written("ü"), "l=\"ü\"");
        assert_eq!(written(&"x".repeat(10_000)), format!("l=\"{}\"", "x".repeat(LONGEST_TEXT)));
        assert_eq!(written(&"ü".repeat(10_000)), format!("l=\"{}\"", "ü".repeat(LONGEST_TEXT / 2)));
    }
}
