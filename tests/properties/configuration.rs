//! A configuration: any bytes are one, or mistakes of which each has its place; and nothing that is told moves a cursor.

use std::sync::LazyLock;

use certd::config::{ConfigErrors, load};

/// Where the file is, of which there is one for each thread.
static DIRECTORY: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

pub fn check(data: &[u8]) -> bool {
    let path = DIRECTORY.path().join("certd.toml");
    std::fs::write(&path, data).unwrap();
    match (load(&path), std::str::from_utf8(data)) {
        (Ok(config), Ok(text)) => {
            let hash: String = certd::pki::sha256(data)[..6].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(config.hash, hash, "{text}");
            true
        }
        (Ok(_), Err(_)) => panic!("what is no text was taken for a configuration"),
        (Err(mistakes), text) => {
            let lines = text.map_or(usize::MAX, |text| text.matches('\n').count() + 1);
            mistakes_have_places(&mistakes, lines);
            false
        }
    }
}

fn mistakes_have_places(ConfigErrors(mistakes): &ConfigErrors, lines: usize) {
    assert!(!mistakes.is_empty());
    for mistake in mistakes {
        assert_eq!(mistake.file, DIRECTORY.path().join("certd.toml"));
        assert_eq!(mistake.line == 0, mistake.column == 0, "{mistake:?}");
        assert!(mistake.line <= lines && !mistake.what.is_empty(), "{mistake:?}");
        let told = mistake.to_string();
        assert!(!told.chars().any(char::is_control), "{told:?}");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let whole = include_str!("../../config/certd.toml");
    // Its settings are comments: without their marks it is a configuration with all of them.
    let all: Vec<&str> = whole.lines().map(|line| line.strip_prefix('#').unwrap_or(line)).collect();
    let small = "state_dir = \"state\"\n[vault.main]\naddress = \"https://vault.example.org\"\ntoken_file = \"token\"\n\
                 [issuer.ca.local_ca]\ndirectory = \"ca\"\n[[certificate]]\nname = \"web\"\nnames = [\"a.example.org\"]\n\
                 issuer = \"ca\"\nstore.file = { bundle = \"web.pem\" }\n";
    [whole, include_str!("../../config/quickstart.toml"), &all.join("\n"), small]
        .map(|text| text.as_bytes().to_vec())
        .to_vec()
}
