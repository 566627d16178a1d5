//! The binary, run once in a folder and an environment of its own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

pub use crate::support::certd::BINARY;
use crate::support::certd::output;
use crate::support::secrets::{self, Kind};

/// Empty but for what a test puts there; the home of the certd that runs in it.
pub struct Place {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// How one run ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn set(mut self, name: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        if name == "VAULT_TOKEN" && !value.is_empty() {
            secrets::told(Kind::GivenToken, &value);
        }
        self.environment.push((name.to_string(), value));
        self
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        secrets::told_keys(Kind::KeyOnDisk, &String::from_utf8_lossy(bytes.as_ref()));
        std::fs::write(&path, &bytes).unwrap();
        if String::from_utf8_lossy(bytes.as_ref()).contains("PRIVATE KEY") {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        path
    }

    /// `program` with this place as its folder and home, and nothing of the tester's environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env_clear().env("HOME", self.path()).envs(self.environment.iter().cloned());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    pub fn check(&self, arguments: &[&str]) -> Run {
        self.check_with_stdin(arguments, b"")
    }

    pub fn check_with_stdin(&self, arguments: &[&str], stdin: &[u8]) -> Run {
        run(self.command(BINARY).arg("check").args(arguments), stdin)
    }

    /// The report as a program reads it, which must keep its contract, and the exit code.
    pub fn report(&self, arguments: &[&str]) -> (i32, Value) {
        let run = self.check(&[arguments, &["--format", "json"]].concat());
        assert_eq!(run.stderr, "", "{arguments:?}");
        (run.code, report(&run.stdout))
    }
}

pub fn run(command: &mut Command, stdin: &[u8]) -> Run {
    let output = output(command, stdin);
    Run {
        code: output.status.code().unwrap_or_else(|| panic!("{command:?} ended with {}", output.status)),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Run {
    /// What was refused, on one line and nowhere else.
    pub fn refusal(&self) -> &str {
        assert_eq!((self.code, self.stdout.as_str()), (3, ""), "{}", self.stderr);
        let told = self.stderr.strip_suffix('\n').unwrap();
        assert!(!told.contains('\n'), "{told}");
        told.strip_prefix("certd: ").unwrap()
    }
}

/// Parsed, and held to the schema of the repository.
pub fn report(json: &str) -> Value {
    let report: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    let schema = serde_json::from_str(include_str!("../../src/report/check.schema.json")).unwrap();
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.enable_format_assertions();
    compiler.add_resource("check.schema.json", schema).unwrap();
    let index = compiler.compile("check.schema.json", &mut schemas).unwrap();
    schemas.validate(&report, index).unwrap_or_else(|refused| panic!("{refused}: {json}"));
    report
}

/// Place, state, and what is wrong in a word, a line each.
pub fn lines(report: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let line = |certificate: &Value| {
        let problems = certificate["problems"].as_array().unwrap().iter().map(|problem| text(&problem["problem"]));
        let obstacle = certificate["obstacle"]["obstacle"].as_str().map(str::to_string);
        let words = [text(&certificate["location"]), text(&certificate["state"])].into_iter();
        words.chain(problems).chain(obstacle).collect::<Vec<_>>().join(" ")
    };
    report["certificates"].as_array().unwrap().iter().map(line).collect()
}

/// What the only certificate of a report is hidden by.
pub fn obstacle(report: &Value) -> String {
    assert_eq!(report["certificates"].as_array().unwrap().len(), 1, "{report}");
    report["certificates"][0]["obstacle"]["message"].as_str().unwrap().to_string()
}
