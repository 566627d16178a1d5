//! Files as they lie about on real disks.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::certd::{BINARY, Place, lines, report, run};
use crate::made::{identity, root_pem};

#[test]
fn a_file_called_like_a_host_with_a_port_that_is_none_is_a_file() {
    let place = Place::new();
    for name in ["web:8443x", "web:99999", "web"] {
        place.write(name, identity("a.example", -10, 80).pem());
    }
    let (code, told) = place.report(&["web:8443x", "web:99999", "web"]);
    assert_eq!((code, lines(&told)), (0, ["web ok", "web:8443x ok", "web:99999 ok"].map(String::from).to_vec()));
}

#[test]
fn what_is_not_there_is_missing_with_neither_leaf_nor_obstacle() {
    let place = Place::new();
    place.write("notes.txt", "no certificate");
    let (code, told) = place.report(&["gone.pem", "*.pem", "no/such/folder/*.pem", "*.txt"]);
    let wanted = ["*.pem", "*.txt", "gone.pem", "no/such/folder/*.pem"].map(|name| format!("{name} critical missing"));
    assert_eq!((code, lines(&told)), (2, wanted.to_vec()));
    for certificate in told["certificates"].as_array().unwrap() {
        assert_eq!((&certificate["leaf"], &certificate["obstacle"]), (&Value::Null, &Value::Null));
    }
}

#[test]
fn what_cannot_be_read_as_a_certificate_is_unknown_and_stops_no_other() {
    let place = Place::new();
    let good = identity("a.example", -10, 80);
    place.write("a.pem", good.pem());
    place.write("empty", "");
    place.write("garbage", [0x30, 0x82, 0xff, 0xff, 0x00]);
    place.write("key.pem", &good.key_pem);
    place.write("cut.pem", &good.leaf_pem[..good.leaf_pem.len() / 2]);
    File::create(place.path().join("huge.pem")).unwrap().set_len(3 << 30).unwrap();
    std::fs::create_dir(place.path().join("folder")).unwrap();
    assert!(place.command("mkfifo").arg("pipe").status().unwrap().success());
    std::os::unix::fs::symlink("loop", place.path().join("loop")).unwrap();
    let odd = ["cut.pem", "empty", "folder", "garbage", "huge.pem", "key.pem", "loop", "pipe", "a.pem/b", "/dev/zero"];
    let (code, told) = place.report(&[&odd[..], &["a.pem"]].concat());
    let wanted = [
        "/dev/zero unknown not_understood",
        "a.pem ok",
        "a.pem/b unknown io",
        "cut.pem unknown not_understood",
        "empty unknown not_understood",
        "folder unknown not_understood",
        "garbage unknown not_understood",
        "huge.pem unknown too_large",
        "key.pem unknown not_understood",
        "loop unknown io",
        "pipe unknown not_understood",
    ];
    assert_eq!((code, lines(&told)), (3, wanted.map(String::from).to_vec()));
    for name in odd {
        let run = place.check(&[name]);
        assert_eq!((run.code, run.stderr.as_str()), (3, ""), "{name}");
        assert!(run.stdout.contains(name), "{name} is not named: {}", run.stdout);
    }
}

/// Runs a command of the operating system in the folder.
fn made_by(place: &Place, program: &str, arguments: &str) {
    let made = place.command(program).args(arguments.split(' ')).output().unwrap();
    assert!(made.status.success(), "{program} {arguments}: {made:?}");
}

#[test]
fn whatever_a_pattern_matches_is_a_certificate_or_unknown_or_told_to_be_none() {
    let place = Place::new();
    let made = identity("a.example", -10, 80);
    place.write("a.pem", made.pem());
    place.write("a.key", &made.key_pem);
    place.write("leaf.crt", &made.leaf_pem);
    place.write("utf16.pem", made.leaf_pem.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>());
    place.write("empty.pem", "");
    place.write("empty", "");
    place.write("noise", [7_u8; 100]);
    place.write("noise.pem", [7_u8; 100]);
    std::os::unix::fs::symlink("nowhere", place.path().join("link")).unwrap();
    for arguments in [
        "x509 -in leaf.crt -trustout -addtrust serverAuth -out trusted.pem",
        "x509 -in leaf.crt -outform DER -out leaf.der",
        "pkcs12 -export -in a.pem -inkey a.key -passout pass:changeit -out usual.p12",
        "pkcs12 -export -in a.pem -inkey a.key -passout pass:other -out other.pfx",
        "pkcs12 -export -in a.pem -inkey a.key -passout pass: -out none.p12",
        "crl2pkcs7 -nocrl -certfile leaf.crt -out seven.p7b",
        "crl2pkcs7 -nocrl -certfile leaf.crt -outform DER -out seven.p7c",
        "req -new -key a.key -subj /CN=a.example -out a.csr",
        "req -new -key a.key -subj /CN=a.example -outform DER -out csr.der",
        "pkcs8 -topk8 -in a.key -passout pass:x -out locked.key",
    ] {
        made_by(&place, "openssl", arguments);
    }
    place.write("cut.der", &std::fs::read(place.path().join("leaf.der")).unwrap()[..100]);
    place.write("more.der", [std::fs::read(place.path().join("leaf.der")).unwrap(), vec![1; 4]].concat());
    place.write("id.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA a@b\n");
    let keytool = "-importkeystore -srckeystore usual.p12 -srcstoretype PKCS12 -srcstorepass changeit -destkeystore \
                   java.jks -deststoretype JKS -deststorepass changeit -noprompt";
    made_by(&place, "keytool", keytool);

    let (code, told) = place.report(&["*"]);
    let ok = |name: &str| format!("{name} ok");
    let unknown = |name: &str| format!("{name} unknown not_understood");
    let wanted = [
        ok("a.pem"),
        unknown("cut.der"),
        unknown("empty.pem"),
        "java.jks warning key_exposed".to_string(),
        ok("leaf.crt"),
        ok("leaf.der"),
        unknown("link"),
        unknown("more.der"),
        unknown("noise.pem"),
        ok("none.p12"),
        unknown("other.pfx"),
        ok("seven.p7b"),
        ok("seven.p7c"),
        ok("trusted.pem"),
        ok("usual.p12"),
        unknown("utf16.pem"),
    ];
    assert_eq!((code, &lines(&told)[..]), (3, &wanted[..]));
    let others: Vec<_> = told["not_certificates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["location"].as_str().unwrap(), it["what"].as_str().unwrap()))
        .collect();
    let expected = [
        ("a.csr", "a certificate request"),
        ("a.key", "a private key without a certificate"),
        ("csr.der", "a certificate request"),
        ("empty", "nothing: the file is empty"),
        ("id.pub", "a public key of SSH"),
        ("locked.key", "an encrypted private key without a certificate"),
        ("noise", "no certificate and no key"),
    ];
    assert_eq!(others, expected);
    let table = place.check(&["*"]).stdout;
    let footer =
        "7 matches are no certificates: a.csr (a certificate request), a.key (a private key without a certificate)";
    assert!(table.contains(footer) && table.contains(" and 2 more\n"), "{table}");
    for said in ["the file is empty", "it is a link to nothing", "4 bytes follow the certificate", "UTF-16"] {
        assert!(table.contains(said), "{said}: {table}");
    }
    assert_eq!(place.report(&["*.pem"]).0, 3, "one good and one empty file");
}

#[test]
fn what_may_not_be_read_is_unknown_and_not_missing() {
    let place = Place::new();
    let closed = place.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    place.write("a.pem", identity("a.example", -10, 80).pem());
    for name in ["secret.pem", "closed/b.pem"] {
        place.write(name, identity("b.example", -10, 80).pem());
    }
    let forbid = |name: &str, mode| {
        std::fs::set_permissions(place.path().join(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    forbid("secret.pem", 0);
    forbid("closed", 0);
    // Root reads everything, unless the capabilities for that are taken from it.
    let is_root = std::fs::read(place.path().join("secret.pem")).is_ok();
    let mut command = place.command(if is_root { "setpriv" } else { BINARY });
    if is_root {
        command.args(["--bounding-set", "-dac_override,-dac_read_search", BINARY]);
    }
    command.args(["check", "a.pem", "secret.pem", "closed/b.pem", "closed/*.pem", "--format", "json"]);
    let run = run(&mut command, b"");
    forbid("closed", 0o700);
    assert_eq!((run.code, run.stderr.as_str()), (3, ""));
    let wanted = [
        "a.pem ok",
        "closed/b.pem unknown denied",
        "secret.pem unknown denied",
        "listing of closed/*.pem unknown denied",
    ];
    assert_eq!(lines(&report(&run.stdout)), wanted);
    assert!(run.stdout.contains("let certd's user or group in"), "{}", run.stdout);
}

#[test]
fn a_key_of_another_certificate_and_a_root_kept_as_leaf_are_told() {
    let place = Place::new();
    let (one, other) = (identity("a.example", -10, 80), identity("a.example", -10, 80));
    place.write("mixed.pem", format!("{}{}", one.key_pem, other.leaf_pem));
    place.write("root.pem", root_pem());
    let (code, told) = place.report(&["mixed.pem", "root.pem"]);
    assert_eq!((code, lines(&told)), (2, vec!["mixed.pem critical key_mismatch".into(), "root.pem ok".into()]));
}

#[test]
fn a_private_key_that_others_may_read_is_a_warning_in_bundles_and_directories() {
    let place = Place::new();
    let made = identity("a.example", -10, 80);
    place.write("web.pem", made.pem());
    place.write("cert.only.pem", &made.leaf_pem);
    std::fs::create_dir(place.path().join("web")).unwrap();
    place.write("web/cert.pem", &made.leaf_pem);
    place.write("web/chain.pem", "");
    place.write("web/fullchain.pem", &made.leaf_pem);
    place.write("web/privkey.pem", &made.key_pem);
    let all = ["cert.only.pem", "web", "web.pem"];
    let fine = all.map(|name| format!("{name} ok"));
    let exposed = ["cert.only.pem ok", "web warning key_exposed", "web.pem warning key_exposed"].map(String::from);
    for (mode, code, wanted) in [(0o640, 0, &fine), (0o644, 1, &exposed), (0o662, 1, &exposed), (0o600, 0, &fine)] {
        for key in ["web.pem", "web/privkey.pem"] {
            std::fs::set_permissions(place.path().join(key), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let (ended, told) = place.report(&all);
        assert_eq!((ended, &lines(&told)[..]), (code, &wanted[..]), "{mode:o}");
    }
    std::fs::set_permissions(place.path().join("web.pem"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let (_, told) = place.report(&["web.pem"]);
    assert_eq!(
        told["certificates"][0]["problems"][0]["message"],
        "others may read or write the private key (mode 644): run chmod o= web.pem, and replace the key if somebody may \
         have read it"
    );
}
