//! SIGHUP: a good configuration is taken, a bad one is refused and the old one stays.

use super::process::{Home, LOCAL, Running, eventually};

fn hash_changes(certd: &Running, from: &str) -> String {
    eventually("another configuration in force", || {
        let hash = certd.config_hash();
        if hash == from { Err(hash) } else { Ok(hash) }
    })
}

#[test]
fn a_good_configuration_is_in_force_in_the_next_turn() {
    let home = Home::with(LOCAL);
    // An hour, so that only the reload itself can bring the next turn.
    let hourly = home.read("certd.toml").replace("\"1s\"", "\"1h\"");
    std::fs::write(home.config(), &hourly).unwrap();
    let certd = home.start();
    certd.turn_completed();
    let before = certd.config_hash();

    std::fs::write(home.config(), hourly.replace("\"web\"", "\"other\"").replace("s/web\"", "s/other\"")).unwrap();
    certd.signal(libc::SIGHUP);

    hash_changes(&certd, &before);
    certd.logs(&["renewed, stored and read back", "cert=other"]);
    assert_eq!(certd.metric("certd_certificate_state{cert=\"other\",state=\"ok\"}").as_deref(), Some("1"));
    assert_eq!(certd.metric("certd_certificate_state{cert=\"web\",state=\"ok\"}"), None);
    certd.stop();
}

#[test]
fn a_bad_configuration_is_refused_with_its_place_and_the_old_one_stays() {
    let home = Home::with(LOCAL);
    let certd = home.start();
    certd.turn_completed();
    let before = certd.config_hash();
    let bad = [
        ("[issuer.local.local_ca\n", "certd.toml:4:"),
        ("[turns]\n", "certd.toml:4:2: "),
        (
            "[[certificate]]\nname = \"x\"\nnames = [\"x\"]\nissuer = \"nobody\"\nstore.file.directory = \"x\"\n",
            "certd.toml:7:10: ",
        ),
        ("[source.a.file]\npaths = [\"*.pem\"]\nroots = [\"missing.pem\"]\n", "missing.pem"),
    ];
    for (nth, (tables, place)) in (1..).zip(bad) {
        home.configure(tables);
        refuses(&certd, nth, place);
    }
    std::fs::remove_file(home.config()).unwrap();
    refuses(&certd, bad.len() + 1, "certd.toml");
    assert_eq!(certd.config_hash(), before);
    assert_eq!(certd.metric("certd_certificate_state{cert=\"web\",state=\"ok\"}").as_deref(), Some("1"));

    home.configure(&format!("{LOCAL}owner = \"team\"\n"));
    certd.signal(libc::SIGHUP);
    hash_changes(&certd, &before);
    certd.stop();
}

fn refuses(certd: &Running, nth: usize, place: &str) {
    const REFUSED: &str = "the new configuration is refused and the old one stays";
    certd.signal(libc::SIGHUP);
    eventually("a refusal", || if certd.count(&[REFUSED]) == nth { Ok(()) } else { Err(certd.log().join("\n")) });
    eventually("the place of the mistake", || {
        let log = certd.log();
        let last = log.iter().rposition(|line| line.contains(REFUSED)).unwrap();
        let told = log[last..].iter().any(|line| line.contains(place));
        if told { Ok(()) } else { Err(format!("{place} is not in\n{}", log[last..].join("\n"))) }
    });
}
