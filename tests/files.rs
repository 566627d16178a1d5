//! Certificates in files: seen by a source, kept by a store, on a real file system.

mod authority;
#[path = "files/kept.rs"]
mod kept;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use authority::{Authority, NOW};
use certd::domain::cert::Trust;
use certd::domain::inventory::{Found, Location, ObstacleKind, Sighting};
use certd::domain::key::{KeySpec, PrivateKey};
use certd::domain::plan::Basis;
use certd::domain::renewal::CertifiedKey;
use certd::pki;
use certd::pki::roots::Roots;
use certd::source::Observed;
use certd::source::file::FileSource;
use certd::store::file::{FileLayout, FileStore};
use certd::store::{StoreError, Written};
use tempfile::TempDir;

/// Somebody who is not root; nothing need be called by this number.
const SOMEBODY: u32 = 1234;

const WRITTEN: Written = Written { version: None, unchanged: false };
const UNCHANGED: Written = Written { version: None, unchanged: true };

async fn observe(roots: Arc<Roots>, patterns: &[&str]) -> Observed {
    let patterns = patterns.iter().map(ToString::to_string).collect();
    FileSource { name: "files".into(), environment: None, patterns, roots }.observe(NOW).await
}

/// Each location with what was seen there, in a word.
fn shown(observed: &Observed, below: &Path) -> Vec<(String, String)> {
    let prefix = format!("{}/", below.display());
    let word = |sighting: &Sighting| match sighting {
        Sighting::Absent => "absent".to_string(),
        Sighting::Deleted(_) | Sighting::Crl(_) => "nothing that files have".to_string(),
        Sighting::Found(found) => found.leaf().names[0].to_string(),
        Sighting::Unknown(obstacle) => obstacle.obstacle.as_str().to_string(),
    };
    let line = |location: &Location| location.to_string().replacen(&prefix, "", 1);
    observed.observations.iter().map(|seen| (line(&seen.location), word(&seen.sighting))).collect()
}

async fn look(path: &Path) -> Sighting {
    let mut observed = observe(Arc::new(Roots::none()), &[path.to_str().unwrap()]).await;
    assert_eq!((observed.observations.len(), observed.failures.len()), (1, 0));
    observed.observations.remove(0).sighting
}

async fn obstacle(path: &Path) -> (ObstacleKind, String) {
    match look(path).await {
        Sighting::Unknown(obstacle) => (obstacle.obstacle, obstacle.message),
        other => panic!("no obstacle at {}: {other:?}", path.display()),
    }
}

fn found(sighting: &Sighting) -> &Found {
    match sighting {
        Sighting::Found(found) => found,
        other => panic!("not found: {other:?}"),
    }
}

fn key() -> PrivateKey {
    pki::key::generate(KeySpec::EcdsaP256).unwrap()
}

// What a source sees.

#[tokio::test]
async fn reads_a_bundle_in_any_order_and_der() {
    let dir = TempDir::new().unwrap();
    let (authority, key) = (Authority::new(), key());
    let ders = authority.sign("a.example.org", &key);
    let pem = |ders: &[&Vec<u8>]| pki::pem::certificates(ders);
    let path = dir.path().join("web.pem");
    fs::write(&path, pem(&[&ders[1]]) + &pki::key::to_pem(&key) + "a remark\n" + &pem(&[&ders[0]])).unwrap();
    let observed = observe(authority.roots(), &[path.to_str().unwrap()]).await;
    let seen = found(&observed.observations[0].sighting);
    assert_eq!(seen.leaf().fingerprint.0, pki::sha256(&ders[0]));
    assert_eq!(seen.chain.intermediates[0].fingerprint.0, pki::sha256(&ders[1]));
    assert_eq!((seen.stored_key, &seen.trust), (Some(key.public), &Trust::Verified));
    assert_eq!(observed.observations[0].location, Location::File { path, part: None });

    let path = dir.path().join("web.der");
    fs::write(&path, &ders[0]).unwrap();
    let seen = look(&path).await;
    assert_eq!((found(&seen).stored_key, &found(&seen).trust), (None, &Trust::NotJudged));
}

#[tokio::test]
async fn a_path_that_is_written_out_is_always_told_of() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    assert_eq!(look(&at("nothing.pem")).await, Sighting::Absent);
    symlink("nothing.pem", at("dangling.pem")).unwrap();
    assert_eq!(look(&at("dangling.pem")).await, Sighting::Absent);

    fs::write(at("README"), "no certificate").unwrap();
    let (kind, message) = obstacle(&at("README")).await;
    let why = format!("could not understand {}: there is no certificate in it", at("README").display());
    assert_eq!((kind, message), (ObstacleKind::NotUnderstood, why));

    fs::create_dir(at("folder")).unwrap();
    let (kind, message) = obstacle(&at("folder")).await;
    assert_eq!(kind, ObstacleKind::NotUnderstood);
    assert!(message.ends_with("/folder/*.pem"), "{message}");

    symlink("loop.pem", at("loop.pem")).unwrap();
    assert_eq!(obstacle(&at("loop.pem")).await.0, ObstacleKind::Io);
    assert_eq!(obstacle(&at("README/below.pem")).await.0, ObstacleKind::Io);
}

#[tokio::test]
async fn reads_up_to_a_mebibyte_and_not_a_byte_more() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("large.pem");
    let mut text = pki::pem::certificates(&Authority::new().sign("a.example.org", &key()));
    text.push_str(&"\n".repeat(1024 * 1024 - text.len()));
    fs::write(&path, &text).unwrap();
    found(&look(&path).await);
    fs::write(&path, text + "\n").unwrap();
    assert_eq!(obstacle(&path).await.0, ObstacleKind::TooLarge);
}

#[tokio::test]
async fn never_opens_a_pipe_or_a_device() {
    let dir = TempDir::new().unwrap();
    let pipe = dir.path().join("pipe.pem");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(obstacle(&pipe).await.0, ObstacleKind::NotUnderstood);
    assert_eq!(obstacle(Path::new("/dev/zero")).await.0, ObstacleKind::NotUnderstood);
    let observed = observe(Arc::new(Roots::none()), &[&format!("{}/*.pem", dir.path().display())]).await;
    assert_eq!((observed.observations, observed.failures), (vec![], vec![]));
    let told: Vec<_> = observed.passed_over.iter().map(|it| (it.location.to_string(), it.what)).collect();
    assert_eq!(told, [(pipe.display().to_string(), "no regular file")]);
}

/// A certificate for each name, in a file called after it.
fn fill(dir: &Path, authority: &Authority, paths: &[&str]) {
    for path in paths {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap().trim_start_matches('.').to_string();
        fs::write(&path, pki::pem::certificates(&authority.sign(&name, &key()))).unwrap();
    }
}

#[tokio::test]
async fn a_glob_accounts_for_whatever_it_matches() {
    let dir = TempDir::new().unwrap();
    fill(dir.path(), &Authority::new(), &["a.pem", "b.crt", ".hidden.pem", "deep/er/c.pem"]);
    fs::write(dir.path().join("README"), "no certificate").unwrap();
    fs::write(dir.path().join("a.key"), pki::key::to_pem(&key()).as_bytes()).unwrap();
    fs::write(dir.path().join("broken.pem"), "-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap();
    fs::write(dir.path().join("broken.crt"), "").unwrap();
    symlink("nothing", dir.path().join("dangling.pem")).unwrap();
    symlink("..", dir.path().join("deep/up")).unwrap();
    let seen = async |glob: &str| {
        let observed = observe(Arc::new(Roots::none()), &[&format!("{}/{glob}", dir.path().display())]).await;
        assert_eq!(observed.failures, []);
        shown(&observed, dir.path())
    };
    let line = |place: &str, word: &str| (place.to_string(), word.to_string());
    let (a, b, c) = (line("a.pem", "a"), line("b.crt", "b"), line("deep/er/c.pem", "c"));
    let broken = ["broken.crt", "broken.pem", "dangling.pem"].map(|name| line(name, "not_understood"));
    assert_eq!(seen("*").await, [&[a.clone(), b.clone()][..], &broken].concat());
    let observed = observe(Arc::new(Roots::none()), &[&format!("{}/*", dir.path().display())]).await;
    let name = |location: &Location| location.to_string().rsplit('/').next().unwrap().to_string();
    let told: Vec<_> = observed.passed_over.iter().map(|it| (name(&it.location), it.what)).collect();
    let passed = [("README", "no certificate and no key"), ("a.key", "a private key without a certificate")];
    assert_eq!(told, passed.map(|(name, what)| (name.to_string(), what)));
    assert_eq!(seen("[ab].*").await, [a.clone(), b.clone()]);
    assert_eq!(seen("?.pem").await, std::slice::from_ref(&a));
    assert_eq!(seen("**/[ac].pem").await, [a.clone(), c.clone()]);
    assert_eq!(seen("deep/**").await, std::slice::from_ref(&c));
    assert_eq!(seen("*/*/c.pem").await, std::slice::from_ref(&c));
    assert_eq!(seen(".*.pem").await, [line(".hidden.pem", "hidden")]);
    assert_eq!(seen("nothing/*.pem").await, []);
    assert_eq!(seen("a.pem/*").await, []);
}

#[tokio::test]
async fn a_wrong_glob_is_a_failure_and_a_path_with_glob_characters_is_a_path() {
    let dir = TempDir::new().unwrap();
    fill(dir.path(), &Authority::new(), &["a[1.pem"]);
    let at = |name: &str| format!("{}/{name}", dir.path().display());
    let observed = observe(Arc::new(Roots::none()), &[&at("[b.pem"), &at("a[1.pem"), &at("a?1.pem")]).await;
    assert_eq!(observed.failures.len(), 1);
    assert_eq!(observed.failures[0].obstacle, ObstacleKind::NotUnderstood);
    assert_eq!(shown(&observed, dir.path()), [("a[1.pem".to_string(), "a[1".to_string())]);
}

#[tokio::test]
async fn several_chains_in_a_file_are_parts_of_it() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let text: String =
        ["a", "b"].iter().map(|name| pki::pem::certificates(&authority.sign(name, &key())[..1])).collect();
    fs::write(dir.path().join("all.pem"), text + &pki::pem::certificates(&[&authority.intermediate])).unwrap();
    let observed = observe(authority.roots(), &[dir.path().join("all.pem").to_str().unwrap()]).await;
    let line = |place: &str, word: &str| (place.to_string(), word.to_string());
    assert_eq!(shown(&observed, dir.path()), [line("all.pem#1", "a"), line("all.pem#2", "b")]);
    assert!(observed.observations.iter().all(|seen| found(&seen.sighting).trust == Trust::Verified));
}

/// Runs one test of this file as somebody who is not root, for whom rights mean something.
fn as_somebody(test: &str) -> bool {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return true;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", test]).uid(SOMEBODY).gid(SOMEBODY).current_dir("/").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    false
}

#[tokio::test]
async fn what_may_not_be_read_is_unknown() {
    if !as_somebody("what_may_not_be_read_is_unknown") {
        return;
    }
    let dir = TempDir::new().unwrap();
    fill(dir.path(), &Authority::new(), &["a.pem", "open/b.pem", "closed/c.pem", "closed/tls/d.pem"]);
    let rights = |path: &str, mode: u32| {
        fs::set_permissions(dir.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    rights("a.pem", 0);
    rights("closed", 0);
    let at = |name: &str| format!("{}/{name}", dir.path().display());
    let observed = observe(
        Arc::new(Roots::none()),
        &[&at("*.pem"), &at("closed/c.pem"), &at("**/b.pem"), &at("*/tls/d.pem"), &at("closed/*.pem")],
    )
    .await;
    let line = |place: &str, word: &str| (place.to_string(), word.to_string());
    let seen = [line("a.pem", "denied"), line("closed/c.pem", "denied"), line("open/b.pem", "b")];
    assert_eq!(shown(&observed, dir.path()), seen);
    assert_eq!(observed.failures.iter().map(|f| f.obstacle).collect::<Vec<_>>(), [ObstacleKind::Denied; 3]);
    assert!(observed.failures[0].message.ends_with("let certd's user or group in"), "{}", observed.failures[0].message);
    rights("closed", 0o700);
}

// What a store keeps.

fn store(layout: FileLayout, authority: &Authority) -> FileStore {
    FileStore { layout, roots: authority.roots() }
}

fn layouts(dir: &Path) -> [FileLayout; 3] {
    [
        FileLayout::Bundle(dir.join("new/bundle.pem")),
        FileLayout::Directory(dir.join("new/web")),
        FileLayout::Loose { certificate: dir.join("new/loose.pem"), private_key: dir.join("new/loose.key") },
    ]
}

fn based_on(certified: &CertifiedKey) -> Basis {
    Basis { version: None, fingerprint: Some(certified.chain().leaf.fingerprint) }
}

async fn held(store: &FileStore, certified: &CertifiedKey, basis: &Basis) -> String {
    match store.write(certified, basis).await {
        Err(StoreError::Held(why)) => why,
        other => panic!("not held: {other:?}"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn every_layout_reads_back_what_was_written_and_writes_nothing_twice() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let (first, second) = (authority.certified("a.example.org"), authority.certified("a.example.org"));
    for layout in layouts(dir.path()) {
        let store = store(layout, &authority);
        assert_eq!(store.read().await, Sighting::Absent);
        assert_eq!(store.write(&first, &Basis::default()).await.unwrap(), WRITTEN);
        let seen = store.read().await;
        assert_eq!(&found(&seen).chain, first.chain());
        assert_eq!((found(&seen).stored_key, &found(&seen).trust), (Some(first.key().public), &Trust::Verified));
        assert_eq!(store.write(&first, &based_on(&first)).await.unwrap(), UNCHANGED);
        assert_eq!(store.write(&first, &Basis::default()).await.unwrap(), UNCHANGED);

        let conflict = store.write(&second, &Basis::default()).await.unwrap_err();
        let said = format!("{} held nothing, now {}", store.layout.location(), first.chain().leaf.fingerprint);
        assert!(matches!(&conflict, StoreError::Conflict(why) if *why == said), "{conflict}");
        assert_eq!(&found(&store.read().await).chain, first.chain());
        assert_eq!(store.write(&second, &based_on(&first)).await.unwrap(), WRITTEN);
        assert_eq!(&found(&store.read().await).chain, second.chain());
    }
}

#[tokio::test]
async fn a_source_sees_what_each_layout_keeps() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let certified = authority.certified("a.example.org");
    for layout in layouts(dir.path()) {
        store(layout, &authority).write(&certified, &Basis::default()).await.unwrap();
    }
    let observed = observe(authority.roots(), &[&format!("{}/new/*", dir.path().display())]).await;
    let places = shown(&observed, &dir.path().join("new")).into_iter().map(|(place, _)| place).collect::<Vec<_>>();
    assert_eq!(places, ["bundle.pem", "loose.pem", "web"]);
    let keys: Vec<_> = observed.observations.iter().map(|seen| found(&seen.sighting).stored_key).collect();
    assert_eq!(keys, [Some(certified.key().public), None, Some(certified.key().public)]);
    assert_eq!(look(&dir.path().join("new/web")).await, {
        let mut seen = observed.observations[2].sighting.clone();
        if let Sighting::Found(found) = &mut seen {
            found.trust = Trust::NotJudged;
            found.paths = Arc::default();
        }
        seen
    });
}

#[tokio::test]
async fn new_files_are_private_whatever_a_crash_left() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let certified = authority.certified("a.example.org");
    let at = |name: &str| dir.path().join(name);
    for draft in ["bundle.pem", "loose.pem", "loose.key"] {
        fs::create_dir_all(at("new")).unwrap();
        let draft = at(&format!("new/.{draft}.certd-draft"));
        fs::write(&draft, "half a k").unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o666)).unwrap();
    }
    fs::create_dir_all(at("new/.web.certd/7")).unwrap();
    fs::write(at("new/.web.certd/7/privkey.pem"), "half a k").unwrap();
    symlink("nowhere", at("new/.web.certd-link")).unwrap();
    for layout in layouts(dir.path()) {
        let store = store(layout, &authority);
        store.write(&certified, &Basis::default()).await.unwrap();
        assert_eq!(&found(&store.read().await).chain, certified.chain());
    }
    assert_eq!(names(&at("new")), [".web.certd", "bundle.pem", "loose.key", "loose.pem", "web"]);
    assert_eq!(names(&at("new/.web.certd")), ["8"]);
    for file in ["bundle.pem", "loose.key", "loose.pem", "web/cert.pem", "web/privkey.pem", "web/fullchain.pem"] {
        assert_eq!(mode(&at("new").join(file)), 0o600, "{file}");
    }
    assert_eq!((mode(&at("new/web")), mode(&at("new/.web.certd"))), (0o750, 0o755));
}

/// Gives everything certd wrote another owner and mode, and tells which.
fn hand_over(path: &Path, wanted: u32) -> (u32, u32, u32) {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if is_root {
        chown(path, Some(SOMEBODY), Some(SOMEBODY + 1)).unwrap();
    }
    fs::set_permissions(path, fs::Permissions::from_mode(wanted)).unwrap();
    rights(path)
}

fn rights(path: &Path) -> (u32, u32, u32) {
    let found = fs::metadata(path).unwrap();
    (found.uid(), found.gid(), found.mode() & 0o7777)
}

#[tokio::test]
async fn owner_group_and_mode_of_what_is_replaced_are_kept() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let (first, second) = (authority.certified("a.example.org"), authority.certified("a.example.org"));
    let files: [&[&str]; 3] = [&["bundle.pem"], &["web/privkey.pem", "web/cert.pem"], &["loose.pem", "loose.key"]];
    for (layout, files) in layouts(dir.path()).into_iter().zip(files) {
        let store = store(layout, &authority);
        store.write(&first, &Basis::default()).await.unwrap();
        let paths: Vec<PathBuf> = files.iter().map(|file| dir.path().join("new").join(file)).collect();
        let before: Vec<_> = paths.iter().zip([0o640, 0o440]).map(|(path, mode)| hand_over(path, mode)).collect();
        store.write(&second, &based_on(&first)).await.unwrap();
        assert_eq!(&found(&store.read().await).chain, second.chain());
        assert_eq!(paths.iter().map(|path| rights(path)).collect::<Vec<_>>(), before);
    }
    let web = dir.path().join("new/web");
    let before = hand_over(&web, 0o2710);
    let third = authority.certified("a.example.org");
    let store = store(FileLayout::Directory(web.clone()), &authority);
    store.write(&third, &based_on(&second)).await.unwrap();
    assert_eq!(rights(&web), before);
}

#[tokio::test]
async fn holds_where_the_owner_cannot_be_kept() {
    let test = "holds_where_the_owner_cannot_be_kept";
    let place = std::env::temp_dir().join(format!("certd-{test}"));
    let path = place.join("bundle.pem");
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        // Root's file in a directory of somebody else, who then may replace it but not make it root's.
        let _ = fs::remove_dir_all(&place);
        fs::create_dir(&place).unwrap();
        let key = key();
        let ders = Authority::new().sign("a.example.org", &key);
        fs::write(&path, pki::key::to_pem(&key).to_string() + &pki::pem::certificates(&ders)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        chown(&place, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
        as_somebody(test);
        return fs::remove_dir_all(&place).unwrap();
    }
    let Ok(before) = fs::read(&path) else {
        // Without root there is nobody to make the file.
        return;
    };
    let authority = Authority::new();
    let store = store(FileLayout::Bundle(path.clone()), &authority);
    let seen = store.read().await;
    let basis = Basis { version: None, fingerprint: Some(found(&seen).leaf().fingerprint) };
    let why = held(&store, &authority.certified("a.example.org"), &basis).await;
    assert!(why.starts_with("owner 0, group 0 and mode 644 cannot be kept at "), "{why}");
    assert_eq!((fs::read(&path).unwrap(), names(&place)), (before, vec!["bundle.pem".to_string()]));
}

#[tokio::test]
async fn a_bundle_behind_a_link_is_replaced_and_the_link_stays() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let (first, second) = (authority.certified("a.example.org"), authority.certified("a.example.org"));
    let (real, link) = (dir.path().join("real.pem"), dir.path().join("link.pem"));
    store(FileLayout::Bundle(real.clone()), &authority).write(&first, &Basis::default()).await.unwrap();
    symlink("real.pem", &link).unwrap();
    let linked = store(FileLayout::Bundle(link.clone()), &authority);
    linked.write(&second, &based_on(&first)).await.unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(&found(&look(&real).await).chain, second.chain());

    fs::hard_link(&real, dir.path().join("other.pem")).unwrap();
    assert!(held(&linked, &first, &based_on(&second)).await.contains("has 2 names (hard links)"));
    fs::remove_file(dir.path().join("other.pem")).unwrap();
    fs::remove_file(&real).unwrap();
    assert!(held(&linked, &first, &Basis::default()).await.contains("is a link that leads nowhere"));
    assert_eq!(names(dir.path()), ["link.pem"]);
}

#[tokio::test]
async fn the_generation_before_stays_and_older_ones_go() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let slash_at_its_end = dir.path().join("web/");
    let store = store(FileLayout::Directory(slash_at_its_end), &authority);
    let mut basis = Basis::default();
    for generations in [vec!["1"], vec!["1", "2"], vec!["2", "3"], vec!["3", "4"]] {
        let certified = authority.certified("a.example.org");
        store.write(&certified, &basis).await.unwrap();
        basis = based_on(&certified);
        assert_eq!(names(&dir.path().join(".web.certd")), generations);
        assert_eq!(names(dir.path()), [".web.certd", "web"]);
        let current = Path::new(".web.certd").join(generations.last().unwrap());
        assert_eq!(fs::read_link(dir.path().join("web")).unwrap(), current);
    }
}

#[tokio::test]
async fn takes_the_place_of_an_empty_directory_and_of_nothing_else() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let certified = authority.certified("a.example.org");
    let web = dir.path().join("web");
    let store = store(FileLayout::Directory(web.clone()), &authority);
    let why = async || held(&store, &certified, &Basis::default()).await;

    fs::create_dir(&web).unwrap();
    fs::write(web.join("notes.txt"), "mine").unwrap();
    assert!(why().await.ends_with("move it away once, and certd makes a link there"));
    fs::rename(&web, dir.path().join("elsewhere")).unwrap();
    symlink("elsewhere", &web).unwrap();
    assert!(why().await.contains("is a link that certd did not make"));
    fs::remove_file(&web).unwrap();
    fs::write(&web, "").unwrap();
    assert!(why().await.contains("is not a directory"));
    fs::remove_file(&web).unwrap();
    fs::create_dir(&web).unwrap();
    let before = hand_over(&web, 0o2750);
    assert_eq!(store.read().await, Sighting::Absent);
    store.write(&certified, &Basis::default()).await.unwrap();
    assert_eq!(rights(&web), before);
    assert_eq!(fs::read_to_string(dir.path().join("elsewhere/notes.txt")).unwrap(), "mine");

    fs::write(web.join("dhparam.pem"), "mine").unwrap();
    let next = authority.certified("a.example.org");
    assert!(held(&store, &next, &based_on(&certified)).await.ends_with("dhparam.pem would be lost: move it away"));
}

#[tokio::test]
async fn a_directory_that_is_incomplete_or_disagrees_is_not_understood() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let (certified, other) = (authority.certified("a.example.org"), authority.certified("b.example.org"));
    let web = dir.path().join("web");
    let store = store(FileLayout::Directory(web.clone()), &authority);
    store.write(&certified, &Basis::default()).await.unwrap();
    let understood = async || match store.read().await {
        Sighting::Unknown(obstacle) => {
            assert_eq!(obstacle.obstacle, ObstacleKind::NotUnderstood);
            obstacle.message.replace(&web.display().to_string(), "web")
        }
        other => format!("{other:?}"),
    };
    let whole = fs::read(web.join("fullchain.pem")).unwrap();
    fs::write(web.join("fullchain.pem"), pki::pem::certificates(other.ders())).unwrap();
    assert_eq!(understood().await, "could not understand web: fullchain.pem is not cert.pem and chain.pem");
    assert!(held(&store, &other, &based_on(&certified)).await.ends_with("fullchain.pem is not cert.pem and chain.pem"));
    fs::write(web.join("fullchain.pem"), &whole).unwrap();
    let key = fs::read(web.join("privkey.pem")).unwrap();
    fs::write(web.join("privkey.pem"), "").unwrap();
    assert_eq!(understood().await, "could not understand web: privkey.pem holds no private key");
    fs::write(web.join("privkey.pem"), pki::key::to_pem(other.key()).as_bytes()).unwrap();
    assert!(found(&store.read().await).key_differs());
    fs::write(web.join("privkey.pem"), key).unwrap();
    fs::write(web.join("cert.pem"), &whole).unwrap();
    assert_eq!(understood().await, "could not understand web: cert.pem must hold one certificate, and it holds 2");
    fs::remove_file(web.join("cert.pem")).unwrap();
    fs::remove_file(web.join("privkey.pem")).unwrap();
    let lacks = "could not understand web: it lacks cert.pem, privkey.pem: complete it or empty it";
    assert_eq!(understood().await, lacks);
}

#[tokio::test]
async fn a_chain_without_intermediates_is_kept_too() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let store = store(FileLayout::Directory(dir.path().join("web")), &authority);
    store.write(&authority.certified("a.example.org"), &Basis::default()).await.unwrap();
    let web = dir.path().join("web");
    fs::write(web.join("chain.pem"), "").unwrap();
    fs::copy(web.join("cert.pem"), web.join("fullchain.pem")).unwrap();
    assert_eq!(found(&store.read().await).chain.intermediates, []);
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_never_replaced() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let (first, second) = (authority.certified("a.example.org"), authority.certified("a.example.org"));
    let path = dir.path().join("bundle.pem");
    let sealed = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(&path, pki::pem::certificates(first.ders()) + sealed).unwrap();
    let store = store(FileLayout::Bundle(path), &authority);
    assert_eq!(found(&store.read().await).stored_key, None);
    let why = held(&store, &second, &based_on(&first)).await;
    assert!(why.ends_with("a key in a form not read: ENCRYPTED PRIVATE KEY: move it away first, or it would be lost"));
}

#[tokio::test]
async fn two_loose_files_are_completed_after_a_crash_between_them() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let (first, second) = (authority.certified("a.example.org"), authority.certified("a.example.org"));
    let (certificate, private_key) = (dir.path().join("web.pem"), dir.path().join("web.key"));
    let layout = FileLayout::Loose { certificate: certificate.clone(), private_key: private_key.clone() };
    let store = store(layout, &authority);

    fs::write(&private_key, pki::key::to_pem(second.key()).as_bytes()).unwrap();
    assert_eq!(store.read().await, Sighting::Absent);
    let why = held(&store, &first, &Basis::default()).await;
    assert!(why.ends_with("holds a private key without a certificate, which would be lost: move it away"), "{why}");
    assert_eq!(store.write(&second, &Basis::default()).await.unwrap(), WRITTEN);

    fs::write(&private_key, pki::key::to_pem(first.key()).as_bytes()).unwrap();
    assert!(found(&store.read().await).key_differs());
    assert_eq!(store.write(&first, &based_on(&second)).await.unwrap(), WRITTEN);
    assert!(!found(&store.read().await).key_differs());
    fs::remove_file(&private_key).unwrap();
    assert_eq!(store.write(&first, &based_on(&second)).await.unwrap(), WRITTEN);
    assert_eq!(store.write(&first, &based_on(&first)).await.unwrap(), UNCHANGED);
}

#[tokio::test]
async fn a_place_that_holds_several_certificates_is_no_place_for_a_store() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    fill(dir.path(), &authority, &["a.pem", "b.pem"]);
    let both = [fs::read(dir.path().join("a.pem")).unwrap(), fs::read(dir.path().join("b.pem")).unwrap()].concat();
    fs::write(dir.path().join("a.pem"), &both).unwrap();
    let store = store(FileLayout::Bundle(dir.path().join("a.pem")), &authority);
    let why = held(&store, &authority.certified("a"), &Basis::default()).await;
    assert!(why.ends_with("it holds several certificates, and a store keeps one: move the others away"), "{why}");
    assert_eq!(fs::read(dir.path().join("a.pem")).unwrap(), both);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_a_mismatched_pair_during_two_hundred_switches() {
    const SWITCHES: usize = 200;
    let dir = TempDir::new().unwrap();
    let authority = Authority::new();
    let pair = [authority.certified("a.example.org"), authority.certified("a.example.org")];
    let [bundle, directory, _] = layouts(dir.path());
    for layout in [bundle, directory] {
        let store = store(layout, &authority);
        store.write(&pair[1], &Basis::default()).await.unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let reader = tokio::spawn({
            let (store, done) = (store.clone(), done.clone());
            async move {
                let mut looks = 0;
                while !done.load(Ordering::SeqCst) {
                    let seen = store.read().await;
                    assert_eq!(found(&seen).stored_key, Some(found(&seen).leaf().public_key));
                    looks += 1;
                }
                looks
            }
        });
        for i in 0..SWITCHES {
            let (new, old) = (&pair[i % 2], &pair[(i + 1) % 2]);
            assert_eq!(store.write(new, &based_on(old)).await.unwrap(), WRITTEN);
        }
        done.store(true, Ordering::SeqCst);
        assert!(reader.await.unwrap() > 10);
    }
}

// What others may not do.

/// A folder of root's for each case, of which others can do nothing.
struct Ground {
    dir: TempDir,
    authority: Authority,
    first: CertifiedKey,
    second: CertifiedKey,
}

impl Ground {
    fn new() -> Self {
        let authority = Authority::new();
        let (first, second) = (authority.certified("a.example.org"), authority.certified("a.example.org"));
        Self { dir: TempDir::new().unwrap(), authority, first, second }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A bundle with the first pair.
    async fn bundle(&self, name: &str) -> FileStore {
        let store = store(FileLayout::Bundle(self.at(name)), &self.authority);
        store.write(&self.first, &Basis::default()).await.unwrap();
        store
    }

    async fn directory(&self, name: &str) -> FileStore {
        let store = store(FileLayout::Directory(self.at(name)), &self.authority);
        store.write(&self.first, &Basis::default()).await.unwrap();
        store
    }

    async fn renew(&self, store: &FileStore) {
        store.write(&self.second, &based_on(&self.first)).await.unwrap();
    }

    async fn held(&self, store: &FileStore) -> String {
        held(store, &self.second, &based_on(&self.first)).await.replace(&format!("{}/", self.dir.path().display()), "")
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

#[tokio::test]
async fn a_planted_link_to_generations_has_nothing_changed_or_deleted_behind_it() {
    let ground = Ground::new();
    let store = store(FileLayout::Directory(ground.at("web")), &ground.authority);
    fs::create_dir_all(ground.at("victim/7")).unwrap();
    fs::write(ground.at("victim/7/mail"), "mine").unwrap();
    set_mode(&ground.at("victim"), 0o700);
    symlink("victim", ground.at(".web.certd")).unwrap();
    let why = held(&store, &ground.first, &Basis::default()).await;
    assert!(why.ends_with("/.web.certd is a link or a file where certd keeps a directory or file of its own: find out who made it, then remove it"), "{why}");
    assert_eq!((mode(&ground.at("victim")), names(&ground.at("victim/7"))), (0o700, vec!["mail".to_string()]));
}

#[tokio::test]
async fn a_link_among_generations_is_removed_and_what_it_leads_to_stays() {
    let ground = Ground::new();
    let store = ground.directory("web").await;
    fs::create_dir(ground.at("victim")).unwrap();
    fs::write(ground.at("victim/mail"), "mine").unwrap();
    symlink("../victim", ground.at(".web.certd/0")).unwrap();
    symlink("../../victim", ground.at(".web.certd/1/cert.pem.old")).unwrap();
    assert_eq!(ground.held(&store).await, "web/cert.pem.old would be lost: move it away");
    fs::remove_file(ground.at(".web.certd/1/cert.pem.old")).unwrap();
    ground.renew(&store).await;
    assert_eq!(names(&ground.at(".web.certd")), ["1", "2"]);
    assert_eq!(names(&ground.at("victim")), ["mail"]);
}

#[tokio::test]
async fn a_planted_draft_is_removed_and_never_written_through() {
    let ground = Ground::new();
    let store = ground.bundle("web.pem").await;
    fs::write(ground.at("victim"), "mine").unwrap();
    symlink("victim", ground.at(".web.pem.certd-draft")).unwrap();
    ground.renew(&store).await;
    assert_eq!(fs::read_to_string(ground.at("victim")).unwrap(), "mine");
    assert_eq!(names(ground.dir.path()), ["victim", "web.pem"]);
    assert!(!fs::symlink_metadata(ground.at("web.pem")).unwrap().is_symlink());
}

#[tokio::test]
async fn a_bundle_that_is_a_link_of_somebody_else_is_held() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    ground.bundle("real.pem").await;
    symlink("real.pem", ground.at("web.pem")).unwrap();
    std::os::unix::fs::lchown(ground.at("web.pem"), Some(SOMEBODY), None).unwrap();
    let linked = store(FileLayout::Bundle(ground.at("web.pem")), &ground.authority);
    let before = fs::read(ground.at("real.pem")).unwrap();
    let why = ground.held(&linked).await;
    assert_eq!(
        why,
        "no private key is written there: web.pem is a link that user 1234 made, who is neither root nor the user \
         that certd runs as: remove it"
    );
    assert_eq!(fs::read(ground.at("real.pem")).unwrap(), before);
    std::os::unix::fs::lchown(ground.at("web.pem"), Some(0), None).unwrap();
    ground.renew(&linked).await;
}

#[tokio::test]
async fn a_directory_that_others_may_write_to_is_refused_for_every_layout() {
    let ground = Ground::new();
    let place = ground.at("new");
    for layout in layouts(ground.dir.path()) {
        let store = store(layout, &ground.authority);
        fs::create_dir_all(&place).unwrap();
        let shown = place.display();
        let own = "use a directory of its own instead".to_string();
        for (mode, advice) in
            [(0o777, format!("run chmod go-w {shown}")), (0o1777, own), (0o757, format!("run chmod o-w {shown}"))]
        {
            set_mode(&place, mode);
            let why = held(&store, &ground.first, &Basis::default()).await;
            let gid = fs::metadata(&place).unwrap().gid();
            assert_eq!(
                why,
                format!(
                    "no private key is written there: others may write to {shown} (mode {mode:o}, group {gid}): {advice}"
                ),
            );
            assert_eq!(names(&place), Vec::<String>::new());
        }
        set_mode(&place, 0o755);
        store.write(&ground.first, &Basis::default()).await.unwrap();
        fs::remove_dir_all(&place).unwrap();
    }
}

#[tokio::test]
async fn a_group_that_may_write_to_the_directory_must_be_roots_or_certds() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    let store = ground.bundle("in/web.pem").await;
    set_mode(&ground.at("in"), 0o775);
    ground.renew(&store).await;
    chown(ground.at("in"), None, Some(SOMEBODY)).unwrap();
    set_mode(&ground.at("in"), 0o775);
    let why = held(&store, &ground.first, &based_on(&ground.second)).await;
    assert!(why.contains("(mode 775, group 1234): run chmod g-w "), "{why}");
}

#[tokio::test]
async fn a_way_that_somebody_else_can_turn_elsewhere_is_refused() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    // Somebody's own directories are a place like any other, as long as all on the way below is theirs.
    fs::create_dir_all(ground.at("theirs/certs")).unwrap();
    chown(ground.at("theirs"), Some(SOMEBODY), None).unwrap();
    chown(ground.at("theirs/certs"), Some(SOMEBODY), None).unwrap();
    let store = ground.bundle("theirs/certs/web.pem").await;
    chown(ground.at("theirs/certs"), Some(0), None).unwrap();
    let root_below = ground.held(&store).await;
    assert!(root_below.contains("theirs belongs to user 1234"), "{root_below}");
    fs::rename(ground.at("theirs/certs"), ground.at("certs")).unwrap();
    symlink("../certs", ground.at("theirs/certs")).unwrap();
    std::os::unix::fs::lchown(ground.at("theirs/certs"), Some(SOMEBODY), None).unwrap();
    let linked = ground.held(&store).await;
    assert!(linked.contains("theirs/certs is a link that user 1234 made"), "{linked}");
}

#[tokio::test]
async fn a_key_that_others_could_read_or_write_is_tightened_when_it_is_replaced() {
    for (before, after) in [
        (0o666, 0o640),
        (0o644, 0o640),
        (0o664, 0o640),
        (0o777, 0o640),
        (0o4640, 0o640),
        (0o600, 0o600),
        (0o440, 0o440),
    ] {
        let ground = Ground::new();
        let bundle = ground.bundle("web.pem").await;
        set_mode(&ground.at("web.pem"), before);
        ground.renew(&bundle).await;
        assert_eq!(mode(&ground.at("web.pem")), after, "{before:o}");
        let directory = ground.directory("web").await;
        set_mode(&ground.at("web/privkey.pem"), before);
        set_mode(&ground.at("web/cert.pem"), 0o644);
        ground.renew(&directory).await;
        assert_eq!((mode(&ground.at("web/privkey.pem")), mode(&ground.at("web/cert.pem"))), (after, 0o644));
        let (certificate, private_key) = (ground.at("loose.pem"), ground.at("loose.key"));
        let layout = FileLayout::Loose { certificate: certificate.clone(), private_key: private_key.clone() };
        let loose = store(layout, &ground.authority);
        loose.write(&ground.first, &Basis::default()).await.unwrap();
        set_mode(&private_key, before);
        set_mode(&certificate, 0o666);
        ground.renew(&loose).await;
        assert_eq!((mode(&private_key), mode(&certificate)), (after, 0o664));
    }
}

// ACLs and attributes.

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

/// An ACL as `setfacl` would leave it, from tags, rights and ids.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(rights.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// The owner, one named user, the group behind the mask, others.
fn shared_with(user: u32, rights: u16, group: u16, mask: u16, others: u16) -> Vec<u8> {
    const NONE: u32 = u32::MAX;
    acl(&[(1, 6, NONE), (2, rights, user), (4, group, NONE), (16, mask, NONE), (32, others, NONE)])
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 65536];
    match rustix::fs::getxattr(path, name, &mut value[..]) {
        Ok(length) => Some(value[..length].to_vec()),
        Err(rustix::io::Errno::NODATA) => None,
        Err(error) => panic!("{name} of {}: {error}", path.display()),
    }
}

#[tokio::test]
async fn the_acl_and_the_attributes_of_what_is_replaced_are_kept() {
    let ground = Ground::new();
    let bundle = ground.bundle("web.pem").await;
    // The mask keeps the owning group out, whatever its own entry says.
    let given = shared_with(SOMEBODY, 4, 6, 4, 0);
    set_attribute(&ground.at("web.pem"), ACCESS, &given);
    set_attribute(&ground.at("web.pem"), "user.backup", b"daily");
    ground.renew(&bundle).await;
    assert_eq!(attribute(&ground.at("web.pem"), ACCESS), Some(given.clone()));
    assert_eq!(attribute(&ground.at("web.pem"), "user.backup"), Some(b"daily".to_vec()));
    assert_eq!(mode(&ground.at("web.pem")), 0o640);

    let directory = ground.directory("web").await;
    for name in ["web", "web/privkey.pem", "web/fullchain.pem"] {
        let rights = if name == "web" { shared_with(SOMEBODY, 5, 5, 5, 0) } else { given.clone() };
        set_attribute(&ground.at(name), ACCESS, &rights);
        set_attribute(&ground.at(name), "user.backup", name.as_bytes());
    }
    ground.renew(&directory).await;
    assert_eq!(fs::read_link(ground.at("web")).unwrap(), Path::new(".web.certd/2"));
    assert_eq!(attribute(&ground.at("web"), ACCESS), Some(shared_with(SOMEBODY, 5, 5, 5, 0)));
    for name in ["web/privkey.pem", "web/fullchain.pem"] {
        assert_eq!(attribute(&ground.at(name), ACCESS), Some(given.clone()), "{name}");
    }
    for name in ["web", "web/privkey.pem", "web/fullchain.pem"] {
        assert_eq!(attribute(&ground.at(name), "user.backup"), Some(name.as_bytes().to_vec()));
    }
}

#[tokio::test]
async fn an_acl_of_a_key_lets_nobody_write_and_others_do_nothing_after_a_renewal() {
    let ground = Ground::new();
    let bundle = ground.bundle("web.pem").await;
    set_attribute(&ground.at("web.pem"), ACCESS, &shared_with(SOMEBODY, 6, 4, 6, 4));
    assert_eq!(mode(&ground.at("web.pem")), 0o664);
    ground.renew(&bundle).await;
    assert_eq!(attribute(&ground.at("web.pem"), ACCESS), Some(shared_with(SOMEBODY, 6, 4, 4, 0)));
    assert_eq!(mode(&ground.at("web.pem")), 0o640);
}

#[tokio::test]
async fn a_default_acl_opens_new_files_as_its_operator_said_and_to_no_others() {
    let ground = Ground::new();
    fs::create_dir(ground.at("new")).unwrap();
    set_attribute(&ground.at("new"), DEFAULT, &shared_with(SOMEBODY, 5, 5, 7, 5));
    for layout in layouts(ground.dir.path()) {
        store(layout, &ground.authority).write(&ground.first, &Basis::default()).await.unwrap();
    }
    for key in ["bundle.pem", "loose.key", "web/privkey.pem"] {
        let path = ground.at("new").join(key);
        assert_eq!(attribute(&path, ACCESS), Some(shared_with(SOMEBODY, 5, 5, 4, 0)), "{key}");
        assert_eq!(mode(&path), 0o640, "{key}");
    }
    assert_eq!(mode(&ground.at("new/web")), 0o750);
}

#[tokio::test]
async fn a_default_acl_opens_no_key_whose_file_had_no_acl() {
    let ground = Ground::new();
    fs::create_dir(ground.at("in")).unwrap();
    let bundle = ground.bundle("in/web.pem").await;
    set_mode(&ground.at("in/web.pem"), 0o640);
    set_attribute(&ground.at("in"), DEFAULT, &shared_with(SOMEBODY, 4, 4, 4, 0));
    ground.renew(&bundle).await;
    assert_eq!((attribute(&ground.at("in/web.pem"), ACCESS), mode(&ground.at("in/web.pem"))), (None, 0o640));
}

#[tokio::test]
async fn the_group_of_a_setgid_directory_reads_new_keys() {
    if !is_root() {
        return;
    }
    let ground = Ground::new();
    fs::create_dir(ground.at("new")).unwrap();
    chown(ground.at("new"), None, Some(SOMEBODY)).unwrap();
    set_mode(&ground.at("new"), 0o2750);
    for layout in layouts(ground.dir.path()) {
        store(layout, &ground.authority).write(&ground.first, &Basis::default()).await.unwrap();
    }
    for key in ["bundle.pem", "loose.key", "web/privkey.pem"] {
        assert_eq!(rights(&ground.at("new").join(key)), (0, SOMEBODY, 0o640), "{key}");
    }
    assert_eq!(rights(&ground.at("new/web")), (0, SOMEBODY, 0o2750));
}

#[tokio::test]
async fn a_named_user_whom_an_acl_lets_write_to_the_directory_counts_as_others() {
    let ground = Ground::new();
    let store = ground.bundle("in/web.pem").await;
    set_attribute(
        &ground.at("in"),
        ACCESS,
        &acl(&[(1, 7, u32::MAX), (2, 7, SOMEBODY), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]),
    );
    assert!(ground.held(&store).await.starts_with("no private key is written there: others may write to in "));
}
