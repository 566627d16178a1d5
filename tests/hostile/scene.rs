//! A host with certd on it, whose certificates and peers are hostile.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

use crate::forged;
use crate::support::certd::{Certd, certd, output_meanwhile};
use crate::support::certificates::params;

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Scene {
    folder: tempfile::TempDir,
}

/// What one command printed.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Scene {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(&name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn configure(&self, tables: &str) {
        let head = "state_dir = \"state\"\nturn = { interval = \"1s\" }\nlisten = { address = \"127.0.0.1:0\" }\n";
        self.write("certd.toml", format!("{head}{tables}"));
    }

    /// Safe, both streams of it; of its JSON whoever calls makes sure.
    pub async fn certd(&self, arguments: &[&str]) -> Ran {
        let mut command = certd();
        command.args(arguments).args(["--config", "certd.toml"]).current_dir(self.folder.path());
        let output = output_meanwhile(command).await;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let ran = Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
        let what = format!("{arguments:?}");
        match arguments.contains(&"json") {
            true => drop(forged::json(&what, &ran.out)),
            false => forged::is_safe(&what, &ran.out),
        }
        forged::is_safe(&what, &ran.err);
        ran
    }

    pub async fn start(&self) -> Daemon {
        let mut command = certd();
        Daemon(Certd::start(command.args(["run", "--config"]).arg(self.path("certd.toml"))))
    }

    /// All there is, without what is in `places`.
    pub fn files(&self, places: &[&str]) -> BTreeSet<PathBuf> {
        let (mut folders, mut files) = (vec![self.folder.path().to_path_buf()], BTreeSet::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let below = entry.path().strip_prefix(self.folder.path()).unwrap().to_path_buf();
                if places.iter().any(|place| below.starts_with(place)) {
                    continue;
                }
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                }
                files.insert(below);
            }
        }
        files
    }
}

pub struct Daemon(Certd);

impl Daemon {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn log(&self) -> Vec<String> {
        self.0.log().into_iter().map(|(_, line)| line).collect()
    }

    pub async fn says(&self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let Some(line) = log.iter().find(|line| line.contains(words)) {
                return line.clone();
            }
            assert!(Instant::now() < deadline, "it does not say `{words}` but:\n{}", log.join("\n"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn page(&self) -> String {
        let line = self.says("metrics: ").await;
        let url: String = line.split("metrics: ").nth(1).unwrap().chars().take_while(|c| *c != '"').collect();
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        http.get(url).send().await.unwrap().text().await.unwrap()
    }

    pub fn stop(mut self) -> Vec<String> {
        self.0.signal("TERM");
        assert!(self.0.wait().success());
        self.log()
    }
}

/// A certificate and its key in PEM.
pub struct Made {
    pub leaf: String,
    /// Of the CA that signed it.
    pub root: String,
    pub key: String,
    pub der: Vec<u8>,
    pub key_der: Vec<u8>,
}

/// What makes a certificate hostile.
pub struct Hostile {
    pub subject: String,
    pub issuer: String,
    pub names: Vec<SanType>,
    pub days: (i64, i64),
}

impl Hostile {
    pub fn everywhere() -> Self {
        let ascii = || forged::ascii().try_into().unwrap();
        let names = vec![SanType::DnsName(ascii()), SanType::Rfc822Name(ascii()), SanType::URI(ascii())];
        Self { subject: forged::EVIL.to_string(), issuer: forged::EVIL.to_string(), names, days: (-80, 5) }
    }

    pub fn made(self) -> Made {
        let (mut ca, ca_key) = (params(&[], -900, 900), KeyPair::generate().unwrap());
        ca.distinguished_name.push(DnType::CommonName, self.issuer.as_str());
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let mut leaf: CertificateParams = params(&["good.example.org"], self.days.0, self.days.1);
        leaf.distinguished_name.push(DnType::CommonName, self.subject.as_str());
        leaf.distinguished_name.push(DnType::OrganizationName, self.subject.as_str());
        leaf.subject_alt_names.extend(self.names);
        let key = KeyPair::generate().unwrap();
        let der = leaf.signed_by(&key, &issuer).unwrap().der().to_vec();
        Made { leaf: pem(&der), root, key: key.serialize_pem(), der, key_der: key.serialize_der() }
    }
}

pub fn pem(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der))
}

/// A subject of this type of string (X.680) with these bytes, valid or not: nobody verifies the signature of what lies in a
/// file before its names are read.
pub fn with_raw_subject(tag: u8, bytes: &[u8]) -> String {
    let subject = "S".repeat(bytes.len());
    let made =
        Hostile { subject: subject.clone(), issuer: "Plain CA".into(), names: Vec::new(), days: (-80, 5) }.made();
    let mut der = made.der;
    let length = u8::try_from(bytes.len()).unwrap();
    let wanted = [&[0x0c, length], subject.as_bytes()].concat();
    let places: Vec<usize> = (0..der.len() - wanted.len()).filter(|at| der[*at..].starts_with(&wanted)).collect();
    assert_eq!(places.len(), 2, "common name and organization");
    for at in places {
        der[at] = tag;
        der[at + 2..at + wanted.len()].copy_from_slice(bytes);
    }
    pem(&der)
}

pub fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}
