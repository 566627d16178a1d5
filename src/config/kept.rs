//! Where certificates are kept: two entries may name one place, each in its own way.

use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use toml::Spanned;
use url::Url;

use super::validate::Mistakes;
use super::{Certificate, Config, Declared, FileStore, Store};

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Place {
    /// `path` begins with the namespace.
    Secret {
        address: String,
        path: String,
    },
    File(PathBuf),
}

/// What one entry has at a place: all of it, or one object of a secret.
struct Tenant<'a> {
    certificate: &'a Declared<Certificate>,
    object: Option<&'a str>,
}

impl Mistakes<'_> {
    pub fn one_store_each(&mut self) {
        let config = self.config;
        let mut tenants: HashMap<Place, Vec<Tenant>> = HashMap::new();
        let mut files = Vec::new();
        for certificate in &config.certificates {
            let object = object(certificate.store.get_ref());
            for place in places(config, certificate.store.get_ref()) {
                let there = tenants.entry(place.clone()).or_default();
                let overlaps = |one: &&Tenant| one.object == object || one.object.is_none() || object.is_none();
                if let Some(first) = there.iter().find(overlaps) {
                    self.kept_twice(certificate, first.certificate);
                }
                there.push(Tenant { certificate, object });
                if let Place::File(path) = place {
                    files.push((certificate, path));
                }
            }
        }
        // A directory is switched whole, and what else is kept in it goes with it.
        for (certificate, path) in files {
            let around = path.ancestors().skip(1).find_map(|above| tenants.get(&Place::File(above.to_path_buf())));
            if let Some(first) = around.and_then(|there| there.first()) {
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

fn object(store: &Store) -> Option<&str> {
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
            let segments = namespace.split('/').chain(kv.place().0.split('/'));
            let path = segments.filter(|segment| !segment.is_empty()).collect::<Vec<_>>().join("/");
            let addresses: BTreeSet<String> = vault.address.iter().map(same_address).collect();
            addresses.into_iter().map(|address| Place::Secret { address, path: path.clone() }).collect()
        }
        Store::File(FileStore::Directory(path)) => vec![Place::File(settled(&config.path(path)))],
        Store::File(FileStore::Bundle(path)) => file(&config.path(path)).into_iter().collect(),
        Store::File(FileStore::Loose { certificate, private_key }) => {
            [certificate, private_key].into_iter().flat_map(|path| file(&config.path(path))).collect()
        }
    }
}

/// By its own name, and where that is a link, by what it leads to.
fn file(path: &Path) -> BTreeSet<Place> {
    [Some(settled(path)), path.canonicalize().ok()].into_iter().flatten().map(Place::File).collect()
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
