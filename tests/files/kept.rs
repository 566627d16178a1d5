//! What others keep in the files of a store: every byte of it stays, and where that is not well defined nothing is written.

use std::fs;

use certd::domain::inventory::Sighting;
use certd::domain::renewal::CertifiedKey;
use certd::pki;
use certd::pki::key_form::KeyForm;
use certd::store::file::FileLayout;
use tempfile::TempDir;

use crate::authority::Authority;
use crate::{WRITTEN, based_on, found, held, store};

const DH: &str = "-----BEGIN DH PARAMETERS-----\nMAYCAQ8CAQI=\n-----END DH PARAMETERS-----\n";
const PGP: &str =
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\nlQIGBF\n=aBcD\n-----END PGP PRIVATE KEY BLOCK-----\n";
const CRL: &str = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
const CSR: &str = "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n";

fn leaf(of: &CertifiedKey) -> String {
    pki::pem::certificates(&of.ders()[..1])
}

fn above(of: &CertifiedKey) -> String {
    pki::pem::certificates(&of.ders()[1..])
}

fn sec1(of: &CertifiedKey) -> String {
    KeyForm::Sec1.to_pem(of.key()).to_string()
}

struct Scene {
    dir: TempDir,
    authority: Authority,
    old: CertifiedKey,
    new: CertifiedKey,
    root: String,
    stranger: String,
}

impl Scene {
    fn new() -> Self {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let (old, new) = (authority.certified("a.example.org"), authority.certified("a.example.org"));
        let root = pki::pem::certificates(&[&authority.root]);
        let stranger = pki::pem::certificates(&[&stranger.root]);
        Self { dir: TempDir::new().unwrap(), authority, old, new, root, stranger }
    }

    /// As HAProxy, a client CA and people leave a file.
    fn everything(&self, of: &CertifiedKey) -> String {
        [
            "\u{feff}# the certificate of a, kept by team a\r\n",
            &leaf(of),
            DH,
            &above(of),
            "\nthe root:\n",
            &self.root,
            &self.stranger,
            PGP,
            CSR,
            &sec1(of),
            CRL,
            "# the end, without a line end",
        ]
        .concat()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Files as they are put there, and as they are after the renewal.
    async fn renews(&self, layout: FileLayout, files: &[(&str, Vec<u8>, Vec<u8>)]) {
        for (name, before, _) in files {
            fs::write(self.path(name), before).unwrap();
        }
        let store = store(layout, &self.authority);
        let seen = store.read().await;
        assert_eq!(found(&seen).unwritable, None);
        store.rehearse().await.unwrap();
        assert_eq!(store.write(&self.new, &based_on(&self.old)).await.unwrap(), WRITTEN);
        for (name, _, after) in files {
            let read = fs::read(self.path(name)).unwrap();
            assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(after), "{name}");
            assert_eq!(read, *after, "{name}");
        }
        let seen = store.read().await;
        assert_eq!(found(&seen).leaf().fingerprint, self.new.chain().leaf.fingerprint);
        assert_eq!(found(&seen).stored_key, Some(self.new.key().public));
    }
}

#[tokio::test]
async fn a_bundle_keeps_every_other_block_its_order_its_text_and_its_line_ends() {
    let scene = Scene::new();
    for shape in [
        (|text: String| text.into_bytes()) as fn(String) -> Vec<u8>,
        |text| text.replace("\r\n", "\n").replace('\n', "\r\n").into_bytes(),
        // Latin-1, as it was written before everybody wrote UTF-8.
        |text| [b"# Schl\xfcssel\n", text.as_bytes()].concat(),
    ] {
        let path = scene.path("web.pem");
        let [before, after] = [&scene.old, &scene.new].map(|of| shape(scene.everything(of)));
        scene.renews(FileLayout::Bundle(path), &[("web.pem", before, after)]).await;
    }
}

#[tokio::test]
async fn two_loose_files_keep_what_stands_beside_certificate_and_key() {
    let scene = Scene::new();
    let layout = FileLayout::Loose { certificate: scene.path("web.crt"), private_key: scene.path("web.key") };
    let certificate = |of: &CertifiedKey| {
        let text = ["# web\n", &scene.stranger, &leaf(of), &above(of), &scene.root, DH].concat();
        text.into_bytes()
    };
    let key = |of: &CertifiedKey| ["the key of web\n", DH, &sec1(of), CSR].concat().replace('\n', "\r\n").into_bytes();
    let files =
        [("web.crt", certificate(&scene.old), certificate(&scene.new)), ("web.key", key(&scene.old), key(&scene.new))];
    scene.renews(layout, &files).await;
}

#[tokio::test]
async fn a_directory_keeps_what_stands_in_each_of_its_files() {
    let scene = Scene::new();
    let layout = FileLayout::Directory(scene.path("web"));
    store(layout.clone(), &scene.authority).write(&scene.old, &Default::default()).await.unwrap();
    let file = |name: &'static str, text: &dyn Fn(&CertifiedKey) -> String| {
        (name, text(&scene.old).into_bytes(), text(&scene.new).into_bytes())
    };
    let files = [
        file("web/cert.pem", &|of| "# leaf\n".to_string() + &leaf(of)),
        file("web/chain.pem", &|of| above(of) + &scene.root + CRL),
        file("web/fullchain.pem", &|of| leaf(of) + "# chain\n" + &above(of) + &scene.root),
        file("web/privkey.pem", &|of| DH.to_string() + &sec1(of)),
    ];
    scene.renews(layout, &files).await;
}

#[tokio::test]
async fn what_is_not_well_defined_is_told_as_soon_as_it_is_seen_and_never_written() {
    let scene = Scene::new();
    let other = scene.authority.certified("b.example.org");
    let path = scene.path("web.pem");
    let store = store(FileLayout::Bundle(path.clone()), &scene.authority);
    let pair = sec1(&scene.old) + &leaf(&scene.old) + &above(&scene.old);
    let several = "it holds several private keys: remove all but that of its certificate";
    let marks = "a PEM block does not begin and end on lines of its own: put each mark on a line of its own";
    for (text, why) in [
        (pair.clone() + &sec1(&other), several),
        (sec1(&other) + &pair, several),
        (
            leaf(&scene.old) + &above(&scene.old),
            "there is no private key beside the certificate: put it into this file",
        ),
        (sec1(&scene.old).trim_end().to_string() + &leaf(&scene.old), marks),
        (
            pair.clone() + &leaf(&scene.old).replace("CERTIFICATE", "TRUSTED CERTIFICATE"),
            "it holds this certificate or its key a second time, in a form that certd cannot replace: remove that copy",
        ),
        (
            pair.clone() + "-----BEGIN OPENSSH PRIVATE KEY-----\nMAA=\n-----END OPENSSH PRIVATE KEY-----\n",
            "it holds a key in a form not read: OPENSSH PRIVATE KEY: move it away first, or it would be lost",
        ),
        (
            pair + &leaf(&other),
            "it holds 2 certificates that are no CA's: give each a place of its own: move it away first, or it would be \
             lost",
        ),
    ] {
        fs::write(&path, &text).unwrap();
        let seen = store.read().await;
        let Sighting::Found(seen) = &seen else { panic!("{why}: {seen:?}") };
        assert_eq!(seen.unwritable.as_deref(), Some(why));
        let said = format!("{}: {why}", store.layout.location());
        assert_eq!(store.rehearse().await.unwrap_err().to_string(), format!("not written: {said}"));
        assert_eq!(held(&store, &scene.new, &based_on(&scene.old)).await, said);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}
