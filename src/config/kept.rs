//! Where certificates are kept: two entries may name one place, each in its own way.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use toml::Spanned;
use url::Url;

use super::validate::Mistakes;
use super::{Certificate, Config, Declared, FileStore, Store};
use crate::files::Trust;
use crate::files::way::{LastLink, Owners, Walk, WayError};

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Place {
    /// `path` begins with the namespace.
    Secret {
        address: String,
        path: String,
    },
    File(PathBuf),
    /// A name in a directory that is there, whichever path leads to the directory.
    Entry {
        directory: Inode,
        below: PathBuf,
    },
    /// A file or directory that is there, whichever name leads to it.
    Inode(Inode),
}

/// Device and number.
type Inode = (u64, u64);

/// What one entry has at a place: all of it, or one object of a secret.
struct Tenant<'a> {
    certificate: &'a Declared<Certificate>,
    object: Option<String>,
}

impl Mistakes<'_> {
    pub fn one_store_each(&mut self) {
        let config = self.config;
        let mut tenants: HashMap<Place, Vec<Tenant>> = HashMap::new();
        let mut told = HashSet::new();
        for certificate in &config.certificates {
            let object = object(certificate.store.get_ref());
            for place in places(config, certificate.store.get_ref()) {
                let there = tenants.entry(place.clone()).or_default();
                let overlaps = |one: &&Tenant| one.object == object || one.object.is_none() || object.is_none();
                if let Some(first) = there.iter().find(overlaps)
                    && told.insert([certificate, first.certificate].map(|one| (one.file, one.span.start)))
                {
                    self.kept_twice(certificate, first.certificate);
                }
                there.push(Tenant { certificate, object: object.clone() });
            }
        }
        // A directory is switched whole, and what else is kept in it goes with it.
        for certificate in &config.certificates {
            let around = surroundings(config, certificate.store.get_ref());
            if let Some(first) = around.iter().find_map(|place| tenants.get(place)?.first())
                && told.insert([certificate, first.certificate].map(|one| (one.file, one.span.start)))
            {
                self.kept_twice(certificate, first.certificate);
            }
        }
    }

    fn kept_twice(&mut self, certificate: &Declared<Certificate>, first: &Declared<Certificate>) {
        let what = format!("kept where {:?} is kept", first.name.get_ref());
        let hint = format!("give each its own store; the other: {}", self.place(first, first.store.span()));
        self.say(certificate.file, certificate.store.span(), what, hint);
    }
}

fn object(store: &Store) -> Option<String> {
    match store {
        Store::VaultKv(kv) => kv.place().1,
        Store::File(_) => None,
    }
}

/// Two names for one Vault are one place, and so are a namespace in its own setting and before the path.
fn places(config: &Config, store: &Store) -> Vec<Place> {
    match store {
        Store::VaultKv(kv) => {
            let Some(vault) = config.vaults.get(kv.vault.get_ref()) else { return Vec::new() };
            let namespace = vault.namespace.as_ref().map_or("", |it| it.get_ref());
            let (path, _) = kv.place();
            let segments = namespace.split('/').chain(path.split('/'));
            let path = segments.filter(|segment| !segment.is_empty()).collect::<Vec<_>>().join("/");
            let addresses: BTreeSet<String> = vault.address.iter().map(same_address).collect();
            addresses.into_iter().map(|address| Place::Secret { address, path: path.clone() }).collect()
        }
        Store::File(FileStore::Directory(path)) => {
            let path = config.path(path);
            if is_ours(config, &path) { directory(&settled(&path)) } else { vec![Place::File(as_written(&path))] }
        }
        Store::File(FileStore::Bundle(path)) => file(config, &config.path(path)).into_iter().collect(),
        Store::File(FileStore::Loose { certificate, private_key }) => {
            [certificate, private_key].into_iter().flat_map(|path| file(config, &config.path(path))).collect()
        }
    }
}

/// Whether nobody but root and certd's user may turn the way to it elsewhere. Where somebody else may, only the words of the
/// path count here: a link of theirs must not make the whole configuration wrong, and the store holds what it leads to.
fn is_ours(config: &Config, path: &Path) -> bool {
    let trust = Trust::own().and_owner_of(&config.state_dir);
    let walk = Walk { trust: trust.clone(), owners: Owners::Trusted, last_link: LastLink::Followed, make: None };
    !matches!(walk.to(path), Err(WayError::Owner { .. } | WayError::Writable { .. } | WayError::Link { .. }))
}

/// The link, what it leads to, and the directory of its generations.
fn directory(path: &Path) -> Vec<Place> {
    let name = path.file_name().map(|name| format!(".{}.certd", name.to_string_lossy()));
    let generations = name.map(|name| path.with_file_name(name));
    let named = [Some(path.to_path_buf()), generations].into_iter().flatten();
    named.flat_map(|path| [Some(Place::File(path.clone())), entry(&path), inode(&path)]).flatten().collect()
}

/// By its own name, where that is a link, by what it leads to, and by its inode.
fn file(config: &Config, path: &Path) -> BTreeSet<Place> {
    if !is_ours(config, path) {
        return BTreeSet::from([Place::File(as_written(path))]);
    }
    let paths = [Some(settled(path)), path.canonicalize().ok()].into_iter().flatten();
    paths.flat_map(|path| [entry(&path), inode(&path), Some(Place::File(path))]).flatten().collect()
}

/// The directories on the way to each file of a store, by each of its paths.
fn surroundings(config: &Config, store: &Store) -> BTreeSet<Place> {
    let paths = match store {
        Store::VaultKv(_) => Vec::new(),
        Store::File(FileStore::Directory(path)) => vec![config.path(path)],
        Store::File(FileStore::Bundle(path)) => vec![config.path(path)],
        Store::File(FileStore::Loose { certificate, private_key }) => {
            [certificate, private_key].into_iter().map(|path| config.path(path)).collect()
        }
    };
    let mut around = BTreeSet::new();
    for path in paths {
        let is_directory = matches!(store, Store::File(FileStore::Directory(_)));
        around.extend(above(&as_written(&path)).map(|path| Place::File(path.to_path_buf())));
        if is_ours(config, &path) {
            let all = if is_directory { vec![settled(&path)] } else { every_path(&path) };
            let places = |path: &Path| [Some(Place::File(path.to_path_buf())), entry(path), inode(path)];
            around.extend(all.iter().flat_map(|path| above(path).flat_map(places)).flatten());
        }
    }
    around
}

fn above(path: &Path) -> impl Iterator<Item = &Path> {
    path.ancestors().skip(1)
}

/// Without `.` and `..`, and without a look at what is there.
fn as_written(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut written, part| {
        match part {
            Component::ParentDir => drop(written.pop()),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => written.push(part),
        }
        written
    })
}

fn every_path(path: &Path) -> Vec<PathBuf> {
    [Some(path.to_path_buf()), Some(settled(path)), path.canonicalize().ok()].into_iter().flatten().collect()
}

/// From the nearest directory above that is there.
fn entry(path: &Path) -> Option<Place> {
    path.ancestors().skip(1).find_map(|above| {
        let found = above.metadata().ok()?;
        let below = path.strip_prefix(above).ok()?.to_path_buf();
        Some(Place::Entry { directory: (found.dev(), found.ino()), below })
    })
}

fn inode(path: &Path) -> Option<Place> {
    path.metadata().ok().map(|found| Place::Inode((found.dev(), found.ino())))
}

/// Links are followed as far as there is something, the last name aside; the rest is taken by its words.
fn settled(path: &Path) -> PathBuf {
    let mut settled = PathBuf::new();
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        match part {
            Component::ParentDir => {
                settled.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => settled.push(part),
        }
        if parts.peek().is_some()
            && let Ok(followed) = settled.canonicalize()
        {
            settled = followed;
        }
    }
    settled
}

/// As it is compared: with its port, however it is written.
pub(super) fn same_address(address: &Spanned<String>) -> String {
    match Url::parse(address.get_ref()) {
        Ok(url) => {
            let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
            format!("{}://{host}:{port}{}", url.scheme(), url.path().trim_end_matches('/'))
        }
        Err(_) => address.get_ref().clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_settled_by_what_is_there_and_its_last_name_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("real/in")).unwrap();
        std::os::unix::fs::symlink("real", root.join("link")).unwrap();
        std::os::unix::fs::symlink("../real/in", root.join("real/deep")).unwrap();
        for (path, expected) in [
            ("link/a", "real/a"),
            ("./real/./a", "real/a"),
            ("real/in/../a", "real/a"),
            ("link/in/../a", "real/a"),
            ("none/of/../it", "none/it"),
            ("real/deep/a", "real/in/a"),
            ("link", "link"),
        ] {
            assert_eq!(settled(&root.join(path)), root.join(expected), "{path}");
        }
    }
}
