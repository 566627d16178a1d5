//! What other people read certificates with: `openssl`, Java's `keytool`, Python with hvac and cryptography.

use std::io::Write;
use std::process::{Command, Stdio};

const GET_OPENSSL: &str = "this test needs the openssl command: apt-get install openssl";
const GET_KEYTOOL: &str = "this test needs keytool: apt-get install openjdk-17-jre-headless, or run tests/run";
const GET_PYTHON: &str = "this test needs Python with hvac and cryptography: run tests/run instead of cargo test, \
    or name a python that has them in CERTD_TEST_PYTHON";

pub fn openssl(arguments: &[&str], input: &str) -> String {
    String::from_utf8(openssl_bytes(arguments, input.as_bytes())).unwrap()
}

pub fn openssl_bytes(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    run("openssl", GET_OPENSSL, arguments, input, true)
}

/// What it says besides its output.
pub fn openssl_says(arguments: &[&str], input: &[u8]) -> String {
    let mut command = Command::new("openssl");
    let output = finish(command.args(arguments), GET_OPENSSL, input);
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stderr).unwrap()
}

pub fn keytool(arguments: &[&str]) -> String {
    // In English, whatever the host speaks.
    let arguments = [&["-J-Duser.language=en"], arguments].concat();
    String::from_utf8(run("keytool", GET_KEYTOOL, &arguments, b"", false)).unwrap()
}

pub fn python(script: &str, input: &str) -> String {
    let python = std::env::var("CERTD_TEST_PYTHON").unwrap_or_else(|_| "python3".to_string());
    let has = Command::new(&python).args(["-c", "import hvac, cryptography"]).output();
    assert!(has.is_ok_and(|output| output.status.success()), "{GET_PYTHON}");
    String::from_utf8(run(&python, GET_PYTHON, &["-c", script], input.as_bytes(), true)).unwrap()
}

fn run(program: &str, how_to_get_it: &str, arguments: &[&str], input: &[u8], quiet: bool) -> Vec<u8> {
    let output = finish(Command::new(program).args(arguments), how_to_get_it, input);
    let said = String::from_utf8_lossy(if quiet { &output.stderr } else { &output.stdout });
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    output.stdout
}

fn finish(command: &mut Command, how_to_get_it: &str, input: &[u8]) -> std::process::Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect(how_to_get_it);
    let mut pipe = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A command that reads no input may be gone already.
        scope.spawn(move || drop(pipe.write_all(input)));
        child.wait_with_output().unwrap()
    })
}
