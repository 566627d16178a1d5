//! Parses the arguments, reads the clock, sets the exit code.

use std::io::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use certd::cli::{self, Arguments, door};
use certd::domain::text;
use certd::domain::time::Timestamp;
use certd::hardening;
use certd::issuer::acme::sockets::sockets;
use clap::Parser;
use clap::error::ErrorKind;

/// Nagios takes 2 for CRITICAL, so a usage error is UNKNOWN like everything that could not be seen.
const UNKNOWN: u8 = 3;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        let _ = writeln!(std::io::stderr(), "certd: a bug in certd: {}", hardening::place_of(panic));
    }));
    if let Err(error) = hardening::harden() {
        let why = "could not deny core dumps and new privileges to certd: allow prctl and prlimit64 to it";
        let _ = writeln!(std::io::stderr(), "certd: {why}: {error}");
        return ExitCode::from(UNKNOWN);
    }
    // It changes the environment, which no other thread may read meanwhile: there is none yet.
    sockets();
    if let Some(why) = door::refused_argument(std::env::args_os().skip(1)) {
        return refused(&why);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // There is nobody to tell when the terminal is gone.
            let _ = match odd_argument().filter(|_| !asked) {
                Some(odd) => writeln!(std::io::stderr(), "certd: the arguments are not understood: {odd}"),
                None => error.print(),
            };
            return ExitCode::from(if asked { 0 } else { UNKNOWN });
        }
    };
    if let Some(why) = door::refused_variable(|name| std::env::var_os(name)) {
        return refused(&why);
    }
    match start(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => refused(&cli::words::one_line(&error)),
    }
}

/// The exit code says it all the same where nobody can be told.
fn refused(why: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "certd: {why}");
    ExitCode::from(UNKNOWN)
}

/// One that would steer the terminal where it is quoted: a shell may have put the name of a file where an option is
/// looked for.
fn odd_argument() -> Option<String> {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let mut odd = arguments.filter(|argument| text::one_line(argument) != *argument);
    odd.next().map(|argument| text::message(&argument))
}

fn start(arguments: Arguments) -> anyhow::Result<u8> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(cli::run(arguments, now));
    // A look at a file system that hangs must not keep the process.
    runtime.shutdown_background();
    code
}

/// The one place where the wall clock is read.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)))
}
