//! The log: each event is one line that certd made, whatever certificates and servers put into it.

use std::fmt::{self, Debug};
use std::io::{self, IsTerminal, Write};

use tracing::Subscriber;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Level, LogFormat};
use crate::domain::text::one_line;
use crate::report::json::plain_ascii;

pub fn to_stderr(format: LogFormat, level: Level) {
    made(format, level, io::stderr().is_terminal(), io::stderr).init();
}

/// Other crates speak only of errors, because some of them put what they send into their logs.
fn made(
    format: LogFormat,
    level: Level,
    color: bool,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) -> Box<dyn Subscriber + Send + Sync> {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let filter = EnvFilter::new(format!("error,certd={level}"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    match format {
        LogFormat::Json => Box::new(builder.json().flatten_event(true).with_writer(Ascii(writer)).finish()),
        LogFormat::Human => {
            let fields = debug_fn(field).delimited(" ");
            Box::new(builder.fmt_fields(fields).with_ansi(color).with_writer(writer).finish())
        }
    }
}

fn field(out: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    let text = one_line(&format!("{value:?}"));
    match field.name() {
        "message" => write!(out, "{text}"),
        // Where an event of another crate comes from, which its line says already.
        name if name.starts_with("log.") => Ok(()),
        name => write!(out, "{name}={text}"),
    }
}

/// Escapes within the JSON what its reader may do without, and a terminal had better not see.
struct Ascii<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Ascii<W> {
    type Writer = Ascii<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Ascii(self.0.make_writer())
    }
}

impl<W: Write> Write for Ascii<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.write_all(plain_ascii(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;

    const FORGED: &str = "a\nINFO all is well\r\u{1b}[2J\u{9b}31m\u{202e}\u{7}\"\\\0";

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, color: bool) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        tracing::subscriber::with_default(made(format, Level::Info, color, move || writer.clone()), || {
            tracing::info!(cert = %FORGED, reason = FORGED, "{FORGED}");
        });
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_is_one_line_for_people_and_only_certd_colours_it() {
        let plain = logged(LogFormat::Human, false);
        let escaped = "a\\u{a}INFO all is well\\u{d}\\u{1b}[2J\\u{9b}31m\\u{202e}\\u{7}\"\\\\u{0}";
        let (before, after) = plain.split_once(escaped).unwrap_or_else(|| panic!("{plain:?}"));
        assert!(before.ends_with(" INFO ") && !plain.trim_end_matches('\n').contains(char::is_control), "{plain:?}");
        assert!(after.starts_with(&format!(" cert={escaped} reason=\"a\\n")) && after.ends_with('\n'), "{after:?}");
        let coloured = logged(LogFormat::Human, true);
        let rest = ["\u{1b}[2m", "\u{1b}[0m", "\u{1b}[32m"].iter().fold(coloured, |text, code| text.replace(code, ""));
        assert!(rest.contains(escaped) && !rest.trim_end_matches('\n').contains(char::is_control), "{rest:?}");
    }

    #[test]
    fn an_event_is_one_line_of_json_with_the_same_text_in_it() {
        let line = logged(LogFormat::Json, false);
        assert!(
            line.ends_with('\n') && line.trim_end_matches('\n').bytes().all(|b| matches!(b, b' '..=b'~')),
            "{line:?}"
        );
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&event["message"], &event["cert"], &event["reason"]),
            (&FORGED.into(), &FORGED.into(), &FORGED.into())
        );
    }
}
