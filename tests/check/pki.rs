//! A PKI mount of a configuration, in every format.

use serde_json::{Value, json};

use crate::certd::{Place, lines};
use crate::made::RUNTIME;
use crate::support::vault::{Pki, Vault, server};

fn furnished() -> (Vault, Pki, [String; 2]) {
    RUNTIME.block_on(async {
        let vault = server().await;
        let pki = vault.pki().await;
        let issue = async |name: &str| {
            let asked = json!({ "alt_names": name, "ttl": "24h", "key_type": "ec", "key_bits": 256 });
            let issued = vault.admin("POST", &format!("{}/issue/servers", pki.mount), asked).await;
            issued["data"]["serial_number"].as_str().unwrap().to_string()
        };
        let (web, revoked) = (issue("web.example.org").await, issue("revoked.example.org").await);
        vault.admin("POST", &format!("{}/revoke", pki.mount), json!({ "serial_number": revoked })).await;
        vault.admin("POST", &format!("{}/issuer/default", pki.mount), json!({ "issuer_name": "root" })).await;
        (vault, pki, [web, revoked])
    })
}

fn place(vault: &Vault, token: &str, mounts: &[&str]) -> Place {
    let place = Place::new();
    place.write("token", token);
    let vault = format!("[vault.main]\naddress = \"{}\"\ntoken_file = \"token\"\n", vault.address);
    let mounts = json!(mounts);
    place.write("certd.toml", format!("{vault}[source.cas.vault_pki]\nvault = \"main\"\nmounts = {mounts}\n"));
    place
}

#[test]
fn what_a_mount_shows_is_reported_in_every_format() {
    let (vault, pki, [web, revoked]) = furnished();
    let place = place(&vault, &vault.root_token, &[&pki.mount]);
    let (code, told) = place.report(&["--config", "certd.toml"]);
    let at = |object: &str| format!("vault:main:{}/{object}", pki.mount);
    let mut wanted = vec![format!("{} ok", at("issuer/root")), format!("{} ok", at("issuer/root/crl"))];
    let mut certificates =
        [format!("{} ok", at(&format!("cert/{web}"))), format!("{} ok", at(&format!("cert/{revoked}")))];
    certificates.sort();
    wanted.extend(certificates);
    assert_eq!((code, lines(&told)), (0, wanted));
    let shown =
        |place: &str| told["certificates"].as_array().unwrap().iter().find(|it| it["location"] == place).unwrap();
    assert_eq!(shown(&at("issuer/root"))["leaf"]["subject"], "CN=certd test root");
    assert_eq!(
        (&shown(&at("issuer/root/crl"))["leaf"], &shown(&at("issuer/root/crl"))["crl"]["revoked"]),
        (&Value::Null, &json!(1))
    );
    assert!(shown(&at(&format!("cert/{revoked}")))["revoked_at"].is_string());

    let table = place.check(&["--config", "certd.toml"]);
    assert!(
        table.stdout.contains("was revoked on 2") && table.stdout.ends_with("4 ok, 0 warning, 0 critical, 0 unknown\n"),
        "{table:?}"
    );
    let nagios = place.check(&["--config", "certd.toml", "--format", "nagios"]).stdout;
    assert!(nagios.starts_with("OK: 4 certificates, the first ends on "), "{nagios}");
    let page = place.check(&["--config", "certd.toml", "--format", "prometheus"]).stdout;
    let list =
        page.lines().filter(|line| line.starts_with("certd_crl_next_update_timestamp_seconds{")).collect::<Vec<_>>();
    assert_eq!(list.len(), 1, "{page}");
    assert!(list[0].contains(&format!("location=\"{}\"", at("issuer/root/crl"))), "{list:?}");
}

#[test]
fn a_list_that_is_denied_is_unknown_and_says_which_right_it_takes() {
    let (vault, pki, _) = furnished();
    let token = RUNTIME.block_on(vault.token("path \"none\" { capabilities = [\"read\"] }"));
    let (code, told) = place(&vault, &token, &[&pki.mount]).report(&["--config", "certd.toml"]);
    let told_lines = lines(&told);
    assert_eq!((code, told_lines.len()), (3, 3), "{told}");
    assert_eq!(told_lines[2], "listing of cas unknown denied");
    let message = told["certificates"][2]["obstacle"]["message"].as_str().unwrap();
    assert!(message.contains(&format!("give certd `list` on {}/certs", pki.mount)), "{message}");
}
