//! The README's example of an ACME issuer, against a CA.

use std::fs;

use crate::home::scripted;
use crate::support::acme_server::Script;

#[tokio::test]
async fn the_example_of_the_readme_has_its_certificate_issued() {
    let (server, home) = scripted(Script::default());
    let readme = include_str!("../../README.md");
    let example = readme.split("```toml\n").find(|block| block.starts_with("[issuer.public.acme]")).unwrap();
    let example = example.split("```").next().unwrap();
    let directory = server.directory_url();
    let own = [
        ("https://acme.example.org/directory", directory.as_str()),
        ("terms_agreed = true\n", "terms_agreed = true\nca_file = \"ca.pem\"\nroots = [\"roots.pem\"]\n"),
        ("0.0.0.0:80", "127.0.0.1:0"),
        ("/var/lib/certd/certificates/web", "web"),
    ];
    let text = own.iter().fold(example.to_string(), |text, (theirs, ours)| {
        assert!(text.contains(theirs), "{theirs}");
        text.replace(theirs, ours)
    });
    fs::write(home.path("certd.toml"), format!("state_dir = \"state\"\nlisten.address = \"none\"\n{text}")).unwrap();
    assert_eq!(home.renewed().await.names[0].to_string(), "www.example.org");
}
