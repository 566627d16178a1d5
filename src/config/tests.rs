//! Whole configurations: what is said about each mistake, and where.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::domain::policy::{Share, Threshold};

/// What stands declared around a mistake, on lines above it.
const AROUND: &str = r#"
vault.main = { address = "https://v:8200", token_file = "t" }
vault.prod = { address = "https://p:8200", token_file = "t", environment = "prod" }
issuer.local.local_ca = { directory = "ca" }
issuer.prod.local_ca = { directory = "ca", environment = "prod" }
source.prod.tls = { targets = ["p:443"], environment = "prod" }
"#;

fn load_files(files: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("conf.d")).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let shown = format!("{}/", folder.path().display());
    load(&folder.path().join("certd.toml")).map_err(|errors| errors.to_string().replace(&shown, ""))
}

/// Each mistake as `line:column: message`, or nothing.
fn check(text: &str, expected: &[&str]) {
    let said = load_files(&[("certd.toml", text)]).map_or_else(|said| said, |_| String::new());
    let said: Vec<_> = said.lines().map(|line| line.trim_start_matches("certd.toml:")).collect();
    assert_eq!(said, expected, "{text}");
}

/// The same below what `AROUND` declares, with lines counted from its end.
fn check_below(text: &str, expected: &[&str]) {
    let padding = AROUND.matches('\n').count();
    let expected: Vec<_> = expected
        .iter()
        .map(|said| {
            let (line, rest) = said.split_once(':').unwrap();
            format!("{}:{rest}", line.parse::<usize>().unwrap() + padding)
        })
        .collect();
    check(&format!("{AROUND}{text}"), &expected.iter().map(String::as_str).collect::<Vec<_>>());
}

fn certificate(lines: &str) -> String {
    let mut text = "[[certificate]]\n".to_string();
    let defaults = [
        ("name", "name = 'web'"),
        ("names", "names = ['a.b']"),
        ("issuer", "issuer = 'local'"),
        ("store", "store.vault_kv = { vault = 'main', path = 'secret/web' }"),
    ];
    text.push_str(lines);
    for (key, line) in defaults {
        if !lines.lines().any(|own| own.starts_with(&format!("{key} ")) || own.starts_with(&format!("{key}."))) {
            text.push_str(&format!("\n{line}"));
        }
    }
    text + "\n"
}

#[test]
fn a_store_may_name_one_object_of_a_secret() {
    let at = |path: &str| certificate(&format!("store.vault_kv = {{ vault = 'main', path = '{path}' }}"));
    check_below(&at("secret/tls/all#web"), &[]);
    check_below(&at("secret/tls/all#deep/a%2Fb"), &[]);
    for path in ["secret/tls/all#", "secret/tls/all#a//b"] {
        let hint = "write the names of its objects with one / between them, such as secret/tls/all#web";
        check_below(&at(path), &[&format!("2:43: no object of a secret behind the #: {path:?} — {hint}")]);
    }
}

#[test]
fn the_head_of_the_audit_log_is_noted_in_a_vault_that_is_declared() {
    check_below("audit.head.vault_kv = { vault = 'prod', path = 'secret/certd/audit' }", &[]);
    check_below(
        "audit.head.vault_kv = { vault = 'mian', path = 'secret/certd/audit' }",
        &["1:33: no such vault: \"mian\" — did you mean \"main\"?"],
    );
    let sizes = "the size of a file of the audit log is out of bounds — from 1 to 1048576";
    check_below("audit.rotate_at_mib = 0", &[&format!("1:23: {sizes}")]);
    check_below("audit.rotate_at_mib = 1048577", &[&format!("1:23: {sizes}")]);
    let config = load_files(&[("certd.toml", "")]).unwrap();
    assert_eq!(config.audit.rotate_at(), crate::audit::ROTATE_AT);
}

#[test]
fn an_empty_file_is_valid_and_acts_on_nothing() {
    let config = load_files(&[("certd.toml", "")]).unwrap();
    assert!(config.act && config.certificates.is_empty());
    assert_eq!(config.listen.socket_address(), Some("127.0.0.1:9843".parse().unwrap()));
    assert_eq!(config.turn.interval.get_ref().0, Duration::from_secs(3600));
    assert_eq!(config.hash, "e3b0c44298fc");
}

#[test]
fn tomls_own_errors_keep_line_and_column() {
    check("act = tru\n", &["1:7: invalid boolean, expected `true`"]);
    check("\n[turn]\ninterwal = '1h'\n", &["3:1: unknown field `interwal`, expected `interval` or `max_renewals`"]);
    check(
        "[log]\nlevel = 'loud'\n",
        &["2:9: unknown variant `loud`, expected one of `error`, `warn`, `info`, `debug`, `trace`"],
    );
    check(
        "[vault.a]\naddress = 'https://v'\ntoken = 's.secret'\n",
        &[
            "3:1: unknown field `token`, expected one of `address`, `server_name`, `ca_file`, `namespace`, `token_file`, `auth`, `client_certificate_file`, `client_key_file`, `deadline`, `lease_term`, `staging_group`, `staging_key_file`, `requests_per_second`, `environment`",
        ],
    );
    check("[source.a.ftp]\n", &["1:11: unknown variant `ftp`, expected one of `tls`, `vault_kv`, `vault_pki`, `file`"]);
    check(
        "[source.a.tls]\ntargets = ['a:1']\n[source.a.file]\npaths = ['x']\n",
        &["1:9: exactly one kind belongs here, as in [source.NAME.tls] or store.vault_kv = {…}"],
    );
    check(
        "[turn]\ninterval = 10\n",
        &["2:12: invalid type: integer `10`, expected a length of time such as \"14d\", \"1h30m\" or \"10s\""],
    );
    check(
        "[turn]\ninterval = '1 moon'\n",
        &["2:12: not a length of time such as \"14d\", \"1h30m\" or \"10s\": \"1 moon\""],
    );
    check("[check]\nwarning = '120%'\n", &["2:11: a share of the lifetime must be under 100%: \"120%\""]);
    check(
        "[source.a.tls]\ntargets = ['a:1']\nroots = 'sytem'\n",
        &["3:9: roots are \"system\", \"none\" or a list of PEM files, not \"sytem\""],
    );
    check(
        "[source.a.tls]\ntargets = ['a:1']\nroots = []\n",
        &["3:9: no root is listed: name a PEM file, or write \"system\" or \"none\""],
    );
    check("# ü\nstate_dir = ''\n", &["2:13: a path cannot be empty"]);
}

#[test]
fn every_mistake_is_told_not_only_the_first() {
    check(
        "[turn]\ninterval = '2d'\nmax_renewals = 0\n[check]\nwarning = '1%'\n",
        &[
            "2:12: the interval is out of bounds — from 1s to 1d",
            "3:16: no renewal is ever allowed — at least 1; to stop all acting write act = false",
            "5:11: the warning threshold is below the critical one — the warning comes first: give it the larger value",
        ],
    );
}

#[test]
fn the_interval_is_from_a_second_to_a_day() {
    check("turn.interval = '1s'", &[]);
    check("turn.interval = '1d'", &[]);
    check("turn.interval = '999ms'", &["1:17: the interval is out of bounds — from 1s to 1d"]);
    check("turn.interval = '24h1s'", &["1:17: the interval is out of bounds — from 1s to 1d"]);
}

#[test]
fn a_warning_never_comes_after_critical() {
    check("check = { warning = '5%', critical = '5%' }", &[]);
    check("check = { warning = '3d', critical = '20%' }", &[]);
    let said = "the warning threshold is below the critical one — the warning comes first: give it the larger value";
    check("check = { warning = '1d', critical = '2d' }", &[&format!("1:21: {said}")]);
    check("check = { critical = '50%' }", &[&format!("1:22: {said}")]);
}

#[test]
fn a_key_may_live_through_one_renewal_at_least() {
    check("[check]\nsame_key_renewals = 1", &[]);
    let said = "2:21: every key would be too old — at least 1; leave it out to let every key live for ever";
    check("[check]\nsame_key_renewals = 0", &[said]);
}

#[test]
fn listening_off_loopback_needs_tls_and_a_token() {
    let hint = "add certificate_directory (or certificate_file and private_key_file) and bearer_token_file";
    let said = format!("1:22: listening off loopback needs TLS and a bearer token: 0.0.0.0:1 — {hint}");
    check("listen = { address = '127.0.0.1:1' }", &[]);
    check("listen = { address = '[::1]:1' }", &[]);
    check("listen = { address = '0.0.0.0:1' }", &[&said]);
    check("listen = { address = '0.0.0.0:1', bearer_token_file = 't' }", &[&said]);
    check("listen = { address = '0.0.0.0:1', certificate_directory = 'd' }", &[&said]);
    check("listen = { address = '0.0.0.0:1', certificate_directory = 'd', bearer_token_file = 't' }", &[]);
    check(
        "listen = { address = 'localhost:1' }",
        &["1:22: not an IP address with a port: \"localhost:1\" — \
           write one such as 127.0.0.1:9843 or [::1]:9843, or \"none\""],
    );
    check(
        "listen = { address = '127.0.0.1:1', certificate_file = 'c' }",
        &["1:10: certificate_file needs private_key_file beside it"],
    );
}

#[test]
fn without_an_address_certd_listens_on_loopback_and_with_none_it_does_not_listen() {
    let address = |text: &str| load_files(&[("certd.toml", text)]).unwrap().listen.socket_address();
    assert_eq!(address("[listen]\ncertificate_directory = 'd'"), Some("127.0.0.1:9843".parse().unwrap()));
    assert_eq!(address("listen = { address = '[::1]:1' }"), Some("[::1]:1".parse().unwrap()));
    assert_eq!(address("listen = { address = 'none' }"), None);
}

#[test]
fn an_unknown_name_is_told_with_what_was_probably_meant() {
    check_below(
        &certificate("issuer = ['local', 'lcoal']"),
        &["2:20: no such issuer: \"lcoal\" — did you mean \"local\"?"],
    );
    check_below(&certificate("issuer = 'acme'"), &["2:10: no such issuer: \"acme\" — declared are: local, prod"]);
    check_below(&certificate("issuer = []"), &["1:1: no issuer — name at least one: issuer = [\"NAME\"]"]);
    check_below(
        "[source.s.vault_kv]\nvault = 'mian'\npaths = ['secret/**']",
        &["2:9: no such vault: \"mian\" — did you mean \"main\"?"],
    );
    check(
        "[issuer.i.vault_pki]\nvault = 'v'\nmount = 'pki/'\nrole = 'a/b'",
        &[
            "2:9: no such vault: \"v\" — declare it: [vault.v…]",
            "3:9: an empty segment in a Vault path: \"pki/\" — write segments with one / between them, such as secret/tls/web",
            "4:8: not a name: \"a/b\" — use 1 to 100 of A-Z a-z 0-9 . _ -",
        ],
    );
}

#[test]
fn what_is_of_an_environment_serves_only_that_one() {
    let hint = "or set environment = \"prod\"";
    check_below(
        &certificate("issuer = 'prod'"),
        &[&format!(
            "2:10: issuer \"prod\" is of environment \"prod\", and this is of none — use issuers of one environment, {hint}"
        )],
    );
    check_below(
        &certificate("environment = 'test'\nstore.vault_kv = { vault = 'prod', path = 'secret/web' }"),
        &[&format!(
            "3:28: vault \"prod\" is of environment \"prod\", and this is of \"test\" — use vaults of one environment, {hint}"
        )],
    );
    check_below(
        &certificate("serves = ['p:443']"),
        &[&format!(
            "2:11: endpoint \"p:443\" is of environment \"prod\", and this is of none — use endpoints of one environment, {hint}"
        )],
    );
    check_below(
        &certificate("serves = ['https://P/']"),
        &[&format!(
            "2:11: endpoint \"https://P/\" is of environment \"prod\", and this is of none — use endpoints of one environment, {hint}"
        )],
    );
    check_below(&certificate("issuer = ['prod', 'local']\nserves = ['p:443']\nenvironment = 'prod'"), &[]);
    check_below(
        "[issuer.i.vault_pki]\nvault = 'prod'\nmount = 'pki'\nrole = 'r'",
        &[&format!(
            "2:9: vault \"prod\" is of environment \"prod\", and this is of none — use vaults of one environment, {hint}"
        )],
    );
}

#[test]
fn a_certificate_says_what_can_be_signed_and_kept() {
    check_below(&certificate("name = 'a/b'"), &["2:8: not a name: \"a/b\" — use 1 to 100 of A-Z a-z 0-9 . _ -"]);
    check_below(&certificate("names = []"), &["2:9: no names — list at least one, or remove the table"]);
    check_below(
        &certificate("names = ['a.*.b', '']"),
        &[
            "2:10: a wildcard in a nonsensical place: \"a.*.b\" — only as the whole first label: *.NAME",
            "2:19: not a name for a certificate: \"\" — write a DNS name or an IP address",
        ],
    );
    check_below(
        &certificate("store.vault_kv = { vault = 'main', path = 'secret/../sys' }"),
        &[
            "2:43: a . or .. in a Vault path: \"secret/../sys\" — write segments with one / between them, such as secret/tls/web",
        ],
    );
    check_below(
        &certificate("serves = ['a.b']"),
        &["2:11: not a target, the port is missing: write host:port: \"a.b\" — such as www.example.org:443"],
    );
    check_below(
        &certificate("key = 'rsa-1024'"),
        &[
            "2:7: unknown variant `rsa-1024`, expected one of `ecdsa-p256`, `ecdsa-p384`, `rsa-2048`, `rsa-3072`, `rsa-4096`, `ed25519`",
        ],
    );
}

#[test]
fn a_certificate_is_never_due_as_soon_as_it_is_issued() {
    check_below(&certificate("lifetime = '6d'\nrenew_when_left = '5d'"), &[]);
    check_below(
        &certificate("lifetime = '6d'\nrenew_when_left = '6d'"),
        &["3:19: it would be due again as soon as it is issued — make renew_when_left shorter than lifetime"],
    );
    let late = "it would be renewed only once it has expired — leave it out for a third of the lifetime, or give time to try again";
    check_below(&certificate("renew_when_left = '0%'"), &[&format!("2:19: {late}")]);
    check_below(&certificate("renew_when_left = '0s'"), &[&format!("2:19: {late}")]);
    check_below(&certificate("lifetime = '0d'"), &["2:12: a lifetime under a second — write one such as \"90d\""]);
}

#[test]
fn two_loose_files_need_a_word_that_says_so() {
    let loose = "store.file = { certificate = 'c', private_key = 'k'";
    check_below(&certificate(&format!("{loose}, torn_reads = true }}")), &[]);
    check_below(
        &certificate(&format!("{loose} }}")),
        &[
            "2:1: two loose files cannot be replaced as one: use directory or bundle, or accept it with torn_reads = true",
        ],
    );
    let one_of = "2:1: a file store is one of: bundle, directory, certificate with private_key";
    check_below(&certificate("store.file = { certificate = 'c' }"), &[one_of]);
    check_below(&certificate("store.file = { bundle = 'c', directory = 'd' }"), &[one_of]);
    check_below(&certificate("store.file = {}"), &[one_of]);
}

#[test]
fn no_two_certificates_share_a_name_or_a_place() {
    let other = certificate("store.file = { bundle = 'b' }");
    check_below(
        &format!("{}{}", certificate("name = 'a'"), certificate("name = 'b'")),
        &["10:1: kept where \"a\" is kept — give each its own store; the other: certd.toml:11:1"],
    );
    check_below(
        &format!("{}{other}", certificate("name = 'web'")),
        &["8:8: two certificates of one name: \"web\" — the other: certd.toml:8:8"],
    );
    let again = "vault.again = { address = ['https://w', 'https://V:8200/'], token_file = 't' }\n";
    let there = certificate("name = 'b'\nstore.vault_kv = { vault = 'again', path = 'secret/web' }");
    check_below(
        &format!("{again}{}{there}", certificate("name = 'a'")),
        &["9:1: kept where \"a\" is kept — give each its own store; the other: certd.toml:12:1"],
    );
}

#[test]
fn one_place_is_one_place_however_it_is_written() {
    let same = |vault: &str, first: &str, second: &str| {
        let kept = |name: &str, store: &str| certificate(&format!("name = '{name}'\nstore.{store}"));
        let said =
            load_files(&[("certd.toml", &format!("{AROUND}{vault}\n{}{}", kept("a", first), kept("b", second)))]);
        let said = said.map_or_else(|said| said, |_| String::new());
        assert!(
            said.is_empty() || said.contains("kept where \"a\" is kept") || said.contains("kept where \"b\" is kept"),
            "{said}"
        );
        !said.is_empty()
    };
    let secret = |vault: &str, path: &str| format!("vault_kv = {{ vault = '{vault}', path = '{path}' }}");
    let bundle = |path: &str| format!("file.bundle = '{path}'");
    let other = |address: &str| format!("vault.other = {{ address = '{address}', token_file = 't' }}");
    let web = secret("main", "secret/web");
    assert!(same(&other("https://V:8200/"), &web, &secret("other", "secret/web")));
    assert!(!same(&other("https://v:8201"), &web, &secret("other", "secret/web")));
    let default = "vault.one = { address = 'https://w', token_file = 't' }\nvault.two = { address = 'https://w:443', token_file = 't' }";
    assert!(same(default, &secret("one", "secret/web"), &secret("two", "secret/web")));
    let team = "vault.team = { address = 'https://v:8200', token_file = 't', namespace = 'team' }";
    assert!(same(team, &secret("main", "team/secret/web"), &secret("team", "secret/web")));
    assert!(!same(team, &web, &secret("team", "secret/web")));
    assert!(same("", &secret("main", "secret/all"), &secret("main", "secret/all#web")));
    assert!(same("", &secret("main", "secret/all#web"), &secret("main", "secret/all")));
    assert!(!same("", &secret("main", "secret/all#web"), &secret("main", "secret/all#api")));
    assert!(same("", &bundle("tls/../web.pem"), &bundle("./web.pem")));
    assert!(!same("", &bundle("web.pem"), &bundle("web.pem2")));
    let directory = "file.directory = 'web'".to_string();
    assert!(same("", &directory, &bundle("web/privkey.pem")));
    assert!(same("", &bundle("web/privkey.pem"), &directory));
    let loose = "file = { certificate = 'c.pem', private_key = 'k.pem', torn_reads = true }";
    assert!(same("", loose, &bundle("k.pem")));
}

#[test]
fn one_file_is_one_place_under_each_of_its_names_before_and_after_the_first_write() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let same = |first: &str, second: &str| {
        let kept = |name: &str, store: &str| {
            let (kind, path) = store.split_once(':').unwrap();
            certificate(&format!("name = '{name}'\nstore.file.{kind} = '{}'", at(path).display()))
        };
        let said = load_files(&[("certd.toml", &format!("{AROUND}{}{}", kept("a", first), kept("b", second)))]);
        said.map_or_else(|said| said, |_| String::new()).lines().count()
    };
    std::fs::create_dir(at("real")).unwrap();
    std::os::unix::fs::symlink("real", at("alias")).unwrap();
    for once in [same("bundle:real/a.pem", "bundle:alias/a.pem"), same("directory:real/web", "directory:alias/web")] {
        assert_eq!(once, 1, "a directory under two paths");
    }
    for written in [false, true] {
        if written {
            std::fs::create_dir_all(at("real/.web.certd/1")).unwrap();
            std::os::unix::fs::symlink(".web.certd/1", at("real/web")).unwrap();
            std::fs::write(at("real/.web.certd/1/extra.pem"), "").unwrap();
        }
        for inside in ["real/web/extra.pem", "alias/web/extra.pem", "real/.web.certd/1/extra.pem", "real/.web.certd/x"]
        {
            for (first, second) in [
                ("directory:real/web", format!("bundle:{inside}")),
                ("directory:alias/web", format!("bundle:{inside}")),
            ] {
                assert_eq!((same(first, &second), same(&second, first)), (1, 1), "{inside}, written: {written}");
            }
        }
        assert_eq!(same("directory:real/web", "bundle:real/web.pem"), 0);
        assert_eq!(same("directory:real/web", "directory:real/api"), 0);
    }
    std::fs::write(at("one.pem"), "").unwrap();
    assert_eq!(same("bundle:one.pem", "bundle:two.pem"), 0);
    std::fs::hard_link(at("one.pem"), at("two.pem")).unwrap();
    assert_eq!(same("bundle:one.pem", "bundle:two.pem"), 1, "one file with two names");
}

#[test]
fn a_rule_adopts_only_what_it_can_judge() {
    let rule = |names: &str, roots: &str, paths: &str| {
        format!(
            "[[adopt]]\nnames = {names}\nroots = {roots}\nissuer = 'local'\nfound.vault_kv = {{ vault = 'main', paths = {paths} }}\n"
        )
    };
    check_below(&rule("['*.a.b']", "'system'", "['secret/**']"), &[]);
    check_below(
        &rule("['*']", "'none'", "['secret/**', '*/x']"),
        &[
            "2:10: a pattern that could match every name, or none: \"*\" — write one such as *.example.org",
            "3:9: adopting without roots would let anything stored reach a CA — write \"system\" or a list of PEM files: only what verifies to them is adopted",
            "5:58: a glob for the mount: \"*/x\" — begin with the name of the mount, such as secret/**",
        ],
    );
    check_below(
        &rule("[]", "['ca.pem']", "[]"),
        &[
            "2:9: no names — list at least one, or remove the table",
            "5:44: no paths — list at least one, or remove the table",
        ],
    );
    check_below(&rule("['*.{1}.a.b', '{2}.a.b']", "'system'", "['secret/*/web', 'secret/tls/**']"), &[]);
    check_below(
        &rule("['*.{2}.a.b', '{0}.a.b']", "'system'", "['secret/**', 'secret/tls/*']"),
        &[
            "2:10: {2} is no segment of every secret below \"secret/**\" — {1} is the first segment below the mount; use {1} to {1} here",
            "2:23: a pattern that could match every name, or none: \"{0}.a.b\" — write one such as *.example.org",
        ],
    );
    let other = rule("['*.a.b']", "'system'", "['secret/**']") + "adopt = 'never'\n";
    check_below(&other, &["6:9: unknown variant `never`, expected `live` or `ask`"]);
    check_below(
        "[[adopt]]\nfound.vault_kv = { vault = 'main', paths = ['secret/**'] }\nissuer = 'local'\nnames = ['*.a.b']\n",
        &["1:1: missing field `roots`"],
    );
}

#[test]
fn the_addresses_of_a_host_are_addresses() {
    let config = load_files(&[("certd.toml", "addresses.'WWW.a.b' = ['10.0.0.2', 'fd00::1', '10.0.0.2']")]).unwrap();
    let known = [("www.a.b".to_string(), vec!["10.0.0.2".parse().unwrap(), "fd00::1".parse().unwrap()])];
    assert_eq!(config.addresses(), known.into());
    check(
        "addresses.'a.b' = ['10.0.0.256']",
        &["1:20: not an IP address: \"10.0.0.256\" — write one such as 10.0.0.7 or fd00::7"],
    );
    check("addresses.'a.b' = []", &["1:19: no addresses — list at least one, or remove the table"]);
    for host in ["a.b:443", "https://a.b", "a b"] {
        let said = format!("1:11: not a host: {host:?} — write the name of a host as targets have it, without a port");
        check(&format!("addresses.'{host}' = ['10.0.0.1']"), &[&said]);
    }
}

#[test]
fn a_source_has_something_to_look_at_within_bounds() {
    check(
        "[source.s.tls]\ntargets = []\ntimeout = '6m'\nconcurrency = 0",
        &[
            "2:11: no targets — list at least one, or remove the table",
            "3:11: the time to wait is out of bounds — over 0s and up to 5m",
            "4:15: the concurrency is out of bounds — from 1 to 512",
        ],
    );
    check(
        "[source.'a b'.file]\npaths = ['[']",
        &[
            "1:9: not a name: \"a b\" — use 1 to 100 of A-Z a-z 0-9 . _ -",
            "2:10: not a glob: \"[\": invalid range pattern — mend it, such as *.pem",
        ],
    );
}

#[test]
fn a_pki_source_names_mounts_of_a_vault_each_once() {
    check_below(
        "[source.s.vault_pki]\nvault = 'main'\nmounts = ['pki', 'pki/../x', 'pki']\nconcurrency = 0",
        &[
            "3:18: a . or .. in a Vault path: \"pki/../x\" — write segments with one / between them, such as secret/tls/web",
            "3:30: a mount named twice: \"pki\" — remove one",
            "4:15: the concurrency is out of bounds — from 1 to 512",
        ],
    );
    check_below(
        "[source.s.vault_pki]\nvault = 'mian'\nmounts = []",
        &[
            "2:9: no such vault: \"mian\" — did you mean \"main\"?",
            "3:10: no mounts — list at least one, or remove the table",
        ],
    );
    check_below(
        "[source.s.vault_pki]\nvault = 'prod'\nmounts = ['pki']",
        &[
            "2:9: vault \"prod\" is of environment \"prod\", and this is of none — use vaults of one environment, or set environment = \"prod\"",
        ],
    );
}

#[test]
fn a_vault_is_asked_at_least_once_a_second() {
    let vault =
        |rate: &str| format!("[vault.a]\naddress = 'https://v'\ntoken_file = 't'\nrequests_per_second = {rate}");
    let said = "4:23: the rate is out of bounds — from 1 to 100000; leave it out for no bound";
    check(&vault("0"), &[said]);
    check(&vault("1"), &[]);
    check(&vault("100000"), &[]);
    check(&vault("100001"), &[said]);
}

#[test]
fn a_vault_that_would_send_its_token_in_the_clear_is_refused() {
    check(
        "[vault.a]\naddress = 'http://v:8200'\ntoken_file = 't'",
        &["2:11: a Vault by plain http off loopback: v — use https://, since tokens and private keys pass through it"],
    );
    check(
        "[vault.a]\naddress = 'https://u:pw@v'\ntoken_file = 't'",
        &["2:11: vault.a.address looks like an address with a user or a password (14 characters, not shown) — \
           remove what stands before the @: certd takes passwords from files only"],
    );
}

#[test]
fn a_secret_in_place_of_a_value_or_a_name_is_refused_with_its_place_and_not_repeated() {
    let token = "hvs.CAESIJ1zQeU5Yb0x3pLkq2v8";
    let looks = "looks like a token (28 characters, not shown)";
    let elsewhere = "secrets are never written here: put it into a file of its own, and replace it if others may read \
                     this file";
    let path = "write the path of the file that holds it; a path of one long word begins with ./";
    check(
        &format!("[vault.a]\naddress = ['https://v', '{token}']\ntoken_file = '{token}'\nno_setting = 3"),
        &[
            &format!("2:25: vault.a.address {looks} — {elsewhere}"),
            &format!("3:14: vault.a.token_file {looks} — {path}"),
        ],
    );
    check(
        &format!("[source.\"{token}\".tls]\ntargets = ['{token}']"),
        &[
            &format!("1:9: a name in source {looks} — {elsewhere}"),
            &format!("2:12: source.….tls.targets {looks} — {elsewhere}"),
        ],
    );
    check(&format!("\"{token}\" = 1"), &[&format!("1:1: a name in the file {looks} — {elsewhere}")]);
    let eab = |id: &str| {
        let challenge = "challenge.http_01 = { listen = ['127.0.0.1:1'] }";
        format!(
            "[issuer.a.acme]\ndirectory = 'https://acme.example.org/d'\neab = {{ key_id = '{id}', hmac_file = 'h' }}\n{challenge}"
        )
    };
    check(&eab("9f86d081884c7d659a2feaa0c55ad015"), &[]);
    check(&eab(token), &[&format!("3:18: issuer.a.acme.eab.key_id {looks} — {elsewhere}")]);
}

#[test]
fn a_vault_has_one_address_or_several_of_which_each_is_judged() {
    let vault = |address: &str| format!("[vault.a]\naddress = {address}\ntoken_file = 't'");
    for address in ["'https://v'", "['https://v']", "['https://v:8200', 'https://v:8300/', 'https://w:8200']"] {
        check(&vault(address), &[]);
    }
    check(
        &vault("[]"),
        &[
            "1:8: no address for this Vault — write one such as https://vault.example.org:8200, or several of the same Vault",
        ],
    );
    check(
        &vault("['https://v', 'http://w', 'https://V/']"),
        &[
            "2:25: a Vault by plain http off loopback: w — use https://, since tokens and private keys pass through it",
            "2:37: an address that is listed twice — remove one of them",
        ],
    );
    check(&vault("7"), &["2:11: invalid type: integer `7`, expected a text or a list of texts"]);
}

#[test]
fn the_name_of_a_server_is_one_of_the_dns_and_needs_a_certificate() {
    let vault = |address: &str, name: &str| {
        format!("[vault.a]\naddress = '{address}'\ntoken_file = 't'\nserver_name = '{name}'")
    };
    check(&vault("https://10.0.0.7", "vault.internal.example"), &[]);
    for name in ["10.0.0.7", "a b", ""] {
        check(
            &vault("https://v", name),
            &[&format!("4:15: not a DNS name: {name:?} — write the one in the server's certificate")],
        );
    }
    check(
        &vault("http://127.0.0.1:8200", "v"),
        &[
            "4:15: plain http shows no certificate, so there is no name to check — write https:// addresses, or remove server_name",
        ],
    );
}

#[test]
fn there_is_exactly_one_way_into_a_vault() {
    let vault = |rest: &str| format!("[vault.a]\naddress = 'https://v'\n{rest}\n");
    for way in [
        "token_file = 't'",
        "auth.approle = { role_id_file = 'r', secret_id_file = 's', secret_id_is_wrapped = true, mount = 'a/b' }",
        "auth.userpass = { username = 'certd', password_file = 'p' }",
        "auth.jwt = { jwt_file = 'j' }",
        "auth.kubernetes = { role = 'certd' }",
        "auth.cert = {}\nclient_certificate_file = 'c'\nclient_key_file = 'k'",
    ] {
        check(&vault(way), &[]);
    }
    let hint = "add token_file, or one of auth.approle, auth.userpass, auth.jwt, auth.kubernetes, auth.cert";
    check(&vault(""), &[&format!("1:8: no way into this Vault — {hint}")]);
    check(
        &vault("token_file = 't'\nauth.jwt = { jwt_file = 'j' }"),
        &["4:1: two ways into one Vault — remove either token_file or auth"],
    );
    check(
        &vault("auth.jwt = { jwt_file = 'j' }\nauth.cert = {}"),
        &["3:1: exactly one kind belongs here, as in [source.NAME.tls] or store.vault_kv = {…}"],
    );
    check(
        &vault("client_key_file = 'k'\nauth.cert = { mount = 'a//b' }"),
        &[
            "3:19: a client certificate needs its key, and a key its certificate — write client_certificate_file and client_key_file, or neither",
            "4:1: nothing to log in with — add client_certificate_file and client_key_file",
            "4:23: an empty segment in a Vault path: \"a//b\" — write segments with one / between them, such as secret/tls/web",
        ],
    );
    check(
        &vault("auth.userpass = { username = '../x', password = 'hunter2' }"),
        &["3:38: unknown field `password`, expected one of `username`, `password_file`, `mount`"],
    );
}

#[test]
fn a_local_ca_outlives_what_it_signs() {
    check(
        "[issuer.a.local_ca]\ndirectory = 'd'\nlifetime = '30d'\npermitted_names = ['*.x']\ncommon_name = ''",
        &[
            "1:1: leaf_lifetime is longer than the CA's lifetime — no certificate outlives its CA: shorten it",
            "4:20: not a domain or a network that can be permitted: \"*.x\" — write example.org, which permits every name below it too, or 10.0.0.0/8",
            "5:15: not a common name: \"\" — 1 to 64 characters",
        ],
    );
}

#[test]
fn drop_ins_add_in_the_order_of_their_names_and_never_override() {
    let config = load_files(&[
        ("certd.toml", "issuer.local.local_ca = { directory = 'ca' }"),
        (
            "conf.d/20-b.toml",
            "certificate = [{ name = 'b', names = ['b'], issuer = 'local', store.file = { bundle = 'b' } }]",
        ),
        (
            "conf.d/10-a.toml",
            "certificate = [{ name = 'a', names = ['a'], issuer = 'local', store.file = { bundle = 'a' } }]",
        ),
        ("conf.d/.hidden.toml", "nonsense"),
        ("conf.d/README", "nonsense"),
    ])
    .unwrap();
    assert_eq!(config.certificates.iter().map(|it| it.name.get_ref().as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let said = load_files(&[
        ("certd.toml", "act = true\n[issuer.local.local_ca]\ndirectory = 'ca'"),
        ("conf.d/a.toml", "act = false\n\n[issuer.local.local_ca]\ndirectory = 'x'"),
    ])
    .unwrap_err();
    assert_eq!(
        said,
        "conf.d/a.toml:1:7: declared twice: act, first at certd.toml:1:7 — remove one of the two\n\
         conf.d/a.toml:3:9: declared twice: [issuer.local], first at certd.toml:2:9 — remove one of the two"
    );
}

#[test]
fn a_mistake_in_a_drop_in_names_the_drop_in() {
    let said = load_files(&[("certd.toml", "x = 1"), ("conf.d/a.toml", "\n[turn]\ninterval = 5")]).unwrap_err();
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("certd.toml:1:1: unknown field `x`"), "{said}");
    assert!(lines[1].starts_with("conf.d/a.toml:3:12: invalid type: integer `5`"), "{said}");
}

#[test]
fn an_unreadable_file_is_named() {
    let said = load(Path::new("/nonexistent/certd.toml")).unwrap_err().to_string();
    assert_eq!(said, "/nonexistent/certd.toml: could not read: No such file or directory (os error 2)");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("certd.toml");
    fs::write(&path, b"act = true\n# \xff\n").unwrap();
    assert_eq!(
        load(&path).unwrap_err().to_string(),
        format!("{}:2:3: not UTF-8 — save the file as UTF-8", path.display())
    );
}

#[test]
fn the_shipped_configurations_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let complete = load(&folder.join("certd.toml")).unwrap();
    assert_eq!(complete.sources.len(), 4);
    assert_eq!(complete.audit.head.syslog, Some("/dev/log".into()));
    assert_eq!(complete.vaults["main"].requests_per_second.as_ref().map(|rate| *rate.get_ref()), Some(1000));
    assert_eq!(complete.check.thresholds().warning, Threshold::Share(Share::percent(20)));
    let quickstart = load(&folder.join("quickstart.toml")).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap();
    assert_eq!(quickstart.state_dir, root.join("quickstart/state"));
    let Store::File(FileStore::Directory(kept)) = quickstart.certificates[0].store.get_ref() else {
        panic!("the quickstart keeps its certificate in a directory");
    };
    let Some(ListenTls::Directory(served)) = &quickstart.listen.tls else {
        panic!("the quickstart serves TLS from a directory");
    };
    assert_eq!(quickstart.path(kept), root.join("quickstart/certificates/localhost"));
    assert_eq!(quickstart.path(served), quickstart.path(kept));
}

#[test]
fn a_late_mistake_still_has_its_place() {
    let config = load_files(&[("certd.toml", "\n[source.s.tls]\ntargets = ['a:1']\n")]).unwrap();
    let Source::Tls(tls) = &*config.sources["s"] else { panic!("declared as tls") };
    let error = config.mistake(&config.sources["s"], tls.targets.get_ref()[0].span(), "no".into(), None);
    assert_eq!((error.line, error.column, error.what.as_str()), (3, 12, "no"));
}
