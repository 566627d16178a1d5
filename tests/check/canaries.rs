//! Keys, tokens and passwords in place of every value, name, argument and variable: each is refused where it comes in, and
//! no twelve characters of it are printed.

use std::collections::BTreeSet;
use std::ops::Range;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use certd::cli::Arguments;
use clap::CommandFactory;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::certd::{BINARY, Place};

const COMPLETE: &str = include_str!("../../config/certd.toml");

/// Each with its secret part.
const CANARIES: [(&str, &str); 7] = [
    (
        "hvs.CAESIGq7Jt2mWzR0bXv5LkPd8eYc1NfAoU4hTs6GiMx9QwZjGh4KHGh2cy5kTnBVb3RKc2Vv",
        "hvs.CAESIGq7Jt2mWzR0bXv5LkPd8eYc1NfAoU4hTs6GiMx9QwZjGh4KHGh2cy5kTnBVb3RKc2Vv",
    ),
    ("s.Jt2mWzR0bXv5LkPd8eYc1NfA", "s.Jt2mWzR0bXv5LkPd8eYc1NfA"),
    (
        "-----BEGIN PRIVATE KEY----- MC4CAQAwBQYDK2VwBCIEIGq7Jt2mWzR0bXv5LkPd8eYc1NfAoU4hTs6GiMx9QwZj -----END PRIVATE KEY-----",
        "MC4CAQAwBQYDK2VwBCIEIGq7Jt2mWzR0bXv5LkPd8eYc1NfAoU4hTs6GiMx9QwZj",
    ),
    ("arsm3aZbNHRtu/kuQ93x5hzU18ChTiFOzoaIzH1DBmM=", "arsm3aZbNHRtu/kuQ93x5hzU18ChTiFOzoaIzH1DBmM="),
    (
        "6abb26dda65b34746dbbf92e43ddf1e61cd4d7c0a14e214ece8688cc7d430663",
        "6abb26dda65b34746dbbf92e43ddf1e61cd4d7c0a14e214ece8688cc7d430663",
    ),
    ("https://certd:hunter2-canary@vault.example.org:8200", "certd:hunter2-canary@"),
    ("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjZXJ0ZCJ9.c2lnbmF0dXJlLWNhbmFyeQ", "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJjZXJ0ZCJ9"),
];

const WINDOW: usize = 12;

const COMMANDS: [&[&str]; 12] = [
    &["config", "check"],
    &["check"],
    &["check", "--format", "nagios"],
    &["check", "--format", "json"],
    &["plan"],
    &["run"],
    &["renew"],
    &["explain", "payments-api"],
    &["journal"],
    &["pause", "--until", "2h"],
    &["vault", "doctor"],
    &["vault", "policy"],
];

/// Setting of an identifier that the CA makes up, which may look like a key.
const IDENTIFIER: &str = "key_id";

/// The complete configuration, with every setting in a remark that can stand beside the others.
fn complete() -> String {
    let mut lines: Vec<String> = COMPLETE.lines().map(str::to_string).collect();
    for nth in 0..lines.len() {
        let Some(setting) = lines[nth].strip_prefix("# ").map(str::to_string) else { continue };
        let is_setting = setting.split_once(" = ").is_some_and(|(name, _)| !name.contains(' '));
        if is_setting && DeTable::parse(&setting).is_ok() {
            let remark = std::mem::replace(&mut lines[nth], setting);
            if DeTable::parse(&lines.join("\n")).is_err() {
                lines[nth] = remark;
            }
        }
    }
    lines.join("\n") + "\n"
}

#[derive(Default)]
struct Spots {
    /// Each with the name of its setting.
    values: Vec<(String, Range<usize>)>,
    names: BTreeSet<(usize, usize)>,
}

impl Spots {
    fn table(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            self.names.insert((key.span().start, key.span().end));
            self.value(key.get_ref(), value);
        }
    }

    fn value(&mut self, name: &str, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(table),
            DeValue::Array(values) => values.iter().for_each(|value| self.value(name, value)),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {
                self.values.push((name.to_string(), value.span()));
            }
        }
    }
}

/// Exit code, and all that it says. The search of `support::certd` would find the canary in the arguments.
fn said(command: &mut Command) -> (Option<i32>, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout) + &text(output.stderr))
}

/// Panics where any piece of a canary is printed.
fn is_not_repeated(said: &str, secret: &str, about: &str) {
    let piece = secret.as_bytes().windows(WINDOW).find(|piece| said.contains(std::str::from_utf8(piece).unwrap()));
    assert_eq!(piece.map(String::from_utf8_lossy), None, "{about}: {said}");
}

fn searched<T: Sync>(inputs: &[T], search: impl Fn(&Place, &T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let place = Place::new();
                while let Some(input) = inputs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    search(&place, input);
                }
            });
        }
    });
}

/// A configuration, the command that reads it, its canary, and whether it must be refused by the door.
struct Configured {
    text: String,
    command: &'static [&'static str],
    canary: usize,
    is_refused: bool,
}

fn configurations() -> (Vec<Configured>, usize) {
    let complete = complete();
    let mut spots = Spots::default();
    spots.table(DeTable::parse(&complete).unwrap().get_ref());
    let mut inputs = Vec::new();
    let mut add = |span: Range<usize>, quoted: bool, nth: usize, canary: usize, is_refused: bool| {
        let text = CANARIES[canary].0;
        let written = if quoted { format!("{text:?}") } else { text.to_string() };
        let text = [&complete[..span.start], &written, &complete[span.end..]].concat();
        inputs.push(Configured { text, command: COMMANDS[nth % COMMANDS.len()], canary, is_refused });
    };
    for (nth, (name, span)) in spots.values.iter().enumerate() {
        for canary in 0..CANARIES.len() {
            add(span.clone(), true, nth + canary, canary, name != IDENTIFIER);
        }
        // Without quotes it is no TOML, or a value of another form.
        add(span.clone(), false, nth, nth % CANARIES.len(), false);
    }
    for (nth, (start, end)) in spots.names.iter().enumerate() {
        add(*start..*end, true, nth, nth % CANARIES.len(), true);
        add(*start..*end, false, nth, (nth + 3) % CANARIES.len(), false);
    }
    (inputs, spots.values.len())
}

#[test]
fn a_secret_in_place_of_a_value_or_a_name_of_the_configuration_is_refused_and_not_repeated() {
    let (inputs, values) = configurations();
    let refused = Mutex::new(0);
    searched(&inputs, |place, input| {
        std::fs::write(place.path().join("certd.toml"), &input.text).unwrap();
        let (code, said) = said(place.command(BINARY).args(input.command).args(["--config", "certd.toml"]));
        let (canary, secret) = CANARIES[input.canary];
        is_not_repeated(&said, secret, &format!("{:?} {canary}", input.command));
        if input.is_refused {
            assert!(
                code == Some(3) && said.contains("certd.toml:") && said.contains("characters, not shown)"),
                "{said}"
            );
            *refused.lock().unwrap() += 1;
        }
    });
    let refused = refused.into_inner().unwrap();
    println!("{} configurations, {values} values, {refused} refused at the door", inputs.len());
    assert!(values >= 120 && inputs.len() >= 1_200 && refused >= 900, "{values} {} {refused}", inputs.len());
}

/// Every place of an argument: of each command each option with a value, each name, an unknown option and one too many.
fn arguments(command: &clap::Command, above: &[String], all: &mut Vec<Vec<String>>) {
    let with = |more: &[String]| [above, more].concat();
    for argument in command.get_arguments().filter(|argument| argument.get_action().takes_values()) {
        match argument.get_long() {
            Some(long) => {
                all.push(with(&[format!("--{long}"), "CANARY".to_string()]));
                all.push(with(&[format!("--{long}=CANARY")]));
            }
            None => all.push(with(&["CANARY".to_string()])),
        }
        all.extend(argument.get_short().map(|short| with(&[format!("-{short}CANARY")])));
    }
    all.push(with(&["--CANARY".to_string()]));
    all.push(with(&["web".to_string(), "CANARY".to_string()]));
    for sub in command.get_subcommands() {
        arguments(sub, &with(&[sub.get_name().to_string()]), all);
    }
}

#[test]
fn a_secret_in_place_of_an_argument_is_refused_and_not_repeated() {
    let mut all = Vec::new();
    arguments(&Arguments::command(), &[], &mut all);
    let places = all.len();
    let inputs: Vec<_> = all.iter().flat_map(|all| CANARIES.map(|(canary, secret)| (all, canary, secret))).collect();
    searched(&inputs, |place, (arguments, canary, secret)| {
        let written: Vec<String> = arguments.iter().map(|argument| argument.replace("CANARY", canary)).collect();
        let (code, said) = said(place.command(BINARY).args(&written));
        is_not_repeated(&said, secret, &format!("{arguments:?}"));
        assert!(code == Some(3) && said.starts_with("certd: argument "), "{arguments:?}: {said}");
    });
    println!("{} command lines, {places} places", inputs.len());
    assert!(places >= 80 && inputs.len() == places * CANARIES.len(), "{places}");
}

#[test]
fn a_secret_in_place_of_a_variable_or_of_a_target_is_refused_and_not_repeated() {
    let variables =
        ["VAULT_ADDR", "VAULT_CACERT", "VAULT_NAMESPACE", "HOME", "STATE_DIRECTORY", "SSL_CERT_FILE", "TMPDIR"];
    let commands: [&[&str]; 4] =
        [&["check", "vault:secret/web"], &["history", "secret/web"], &["diff", "secret/web@1..2"], &["check", "a:1"]];
    let mut runs = 0;
    for (canary, secret) in CANARIES {
        for variable in variables {
            for command in commands {
                let place = Place::new();
                let (code, said) = said(place.command(BINARY).args(command).env(variable, canary));
                is_not_repeated(&said, secret, variable);
                assert!(
                    code == Some(3) && said.starts_with(&format!("certd: the variable {variable} looks like ")),
                    "{said}"
                );
                runs += 1;
            }
        }
        let place = Place::new();
        let run = place.check_with_stdin(&["--targets-file", "-"], format!("a.example:1\n{canary}\n").as_bytes());
        is_not_repeated(run.refusal(), secret, "a list of targets");
        assert!(run.refusal().starts_with("could not read the targets: -: line 2 looks like "), "{run:?}");
        runs += 1;
    }
    println!("{runs} runs");
    assert_eq!(runs, CANARIES.len() * (variables.len() * commands.len() + 1));
}
