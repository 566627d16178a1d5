//! Reads the main file, then `conf.d/*.toml` beside it, and merges them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use super::audit::Audit;
use super::door;
use super::error::{ConfigError, ConfigErrors, line_and_column};
use super::file::{Check, File, HostAddresses, Listen, Log, Turn};
use super::strict;
use super::validate::validate;
use super::value::FilePath;
use super::{Config, Declared, ReadFile};
use crate::files::regular;

/// Where drop-ins are looked for, beside the main file.
const DROP_INS: &str = "conf.d";

/// Ten thousand certificates take about 4 MiB; more is not a configuration.
const LARGEST_FILE: u64 = 16 * 1024 * 1024;

const STATE_DIR: &str = "/var/lib/certd";

pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let files = read_all(path)?;
    let parsed = parse_all(&files)?;
    let directory = fs::canonicalize(folder_of(path)).map_err(|source| could_not_read(folder_of(path), &source))?;
    let mut config = Config { directory, hash: hash(&files), files, ..minimal() };
    let Merge { mut mistakes, is_strict } = merge(&mut config, parsed);
    mistakes.extend(validate(&config));
    let loose = strict::judge(&config, &folder_of(path).join(DROP_INS));
    match is_strict {
        true => mistakes.extend(loose),
        false => config.tolerated = loose,
    }
    mistakes.sort();
    match mistakes.is_empty() {
        true => Ok(config),
        false => Err(ConfigErrors(mistakes)),
    }
}

/// Nothing is declared: for `certd check` without a file.
pub fn minimal() -> Config {
    Config {
        directory: PathBuf::from("/"),
        hash: String::new(),
        state_dir: default_state_dir(&env::var("STATE_DIRECTORY").unwrap_or_default()),
        act: true,
        turn: unwritten(Turn::default()),
        log: Log::default(),
        listen: unwritten(Listen::default()),
        check: unwritten(Check::default()),
        audit: unwritten(Audit::default()),
        addresses: BTreeMap::new(),
        vaults: BTreeMap::new(),
        sources: BTreeMap::new(),
        issuers: BTreeMap::new(),
        certificates: Vec::new(),
        adopt: Vec::new(),
        tolerated: Vec::new(),
        files: Vec::new(),
    }
}

fn unwritten<T>(table: T) -> Declared<T> {
    Declared { file: 0, span: 0..0, table }
}

/// systemd names several directories with colons between them; ours is the first.
fn default_state_dir(given: &str) -> PathBuf {
    match given.split(':').next() {
        Some(first) if !first.is_empty() => PathBuf::from(first),
        Some(_) | None => PathBuf::from(STATE_DIR),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn read_all(main: &Path) -> Result<Vec<ReadFile>, ConfigErrors> {
    let drop_ins = drop_ins(main).map_err(|error| ConfigErrors(vec![error]))?;
    all(std::iter::once(main.to_path_buf()).chain(drop_ins).map(read))
}

fn drop_ins(main: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let folder = match main.parent() {
        Some(parent) => parent.join(DROP_INS),
        None => PathBuf::from(DROP_INS),
    };
    let listed = fs::read_dir(&folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut paths: Vec<PathBuf> = match listed {
        Ok(paths) => paths,
        Err(source) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(could_not_read(&folder, &source)),
    };
    paths.retain(|path| path.extension().is_some_and(|end| end == "toml") && !is_hidden(path));
    paths.sort();
    Ok(paths)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn read(path: PathBuf) -> Result<ReadFile, ConfigError> {
    let bytes = regular::read(&path, LARGEST_FILE).map_err(|source| could_not_read(&path, &source))?;
    String::from_utf8(bytes.to_vec()).map(|text| ReadFile { path: path.clone(), text }).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
        ConfigError::at(&path, &text, valid..valid, "not UTF-8".into(), Some("save the file as UTF-8".into()))
    })
}

fn could_not_read(path: &Path, source: &io::Error) -> ConfigError {
    ConfigError::whole(path, format!("could not read: {source}"), None)
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

fn parse_all(files: &[ReadFile]) -> Result<Vec<File>, ConfigErrors> {
    let mut mistakes = Vec::new();
    let parsed = all(files.iter().map(|file| {
        let table = DeTable::parse(&file.text).map_err(|error| not_parsed(file, &error, without_secrets))?;
        mistakes.extend(door::judge(file, table.get_ref()));
        Ok(table)
    }));
    if !mistakes.is_empty() {
        return Err(ConfigErrors(mistakes));
    }
    let tables = parsed?.into_iter().zip(files);
    all(tables.map(|(table, file)| {
        // What it quotes has passed the door.
        File::deserialize(Deserializer::from(table)).map_err(|error| not_parsed(file, &error, str::to_string))
    }))
}

fn not_parsed(file: &ReadFile, error: &toml::de::Error, told: fn(&str) -> String) -> ConfigError {
    let what = told(&plainer(error.message()));
    match error.span() {
        Some(span) => ConfigError::at(&file.path, &file.text, span, what, None),
        None => ConfigError::whole(&file.path, what, None),
    }
}

/// toml's words for a table that must name one kind say nothing to an operator; some messages have two lines.
fn plainer(message: &str) -> String {
    match message.strip_prefix("wanted exactly 1 element, ") {
        Some(_) => "exactly one kind belongs here, as in [source.NAME.tls] or store.vault_kv = {…}".to_string(),
        None => message.replace('\n', ", "),
    }
}

/// What toml quotes of a file that it cannot parse stands between backquotes; its own signs are short.
fn without_secrets(message: &str) -> String {
    let quoted = |(nth, part): (usize, &str)| match nth % 2 == 1 && part.len() > LONGEST_SIGN {
        true => "…".to_string(),
        false => part.to_string(),
    };
    message.split('`').enumerate().map(quoted).collect::<Vec<_>>().join("`")
}

/// In bytes: `false` is the longest that toml expects.
const LONGEST_SIGN: usize = 5;

/// Every value, or every error.
fn all<T>(results: impl Iterator<Item = Result<T, ConfigError>>) -> Result<Vec<T>, ConfigErrors> {
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(values) } else { Err(ConfigErrors(errors)) }
}

fn hash(files: &[ReadFile]) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    files.iter().for_each(|file| context.update(file.text.as_bytes()));
    context.finish().as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Merge {
    mistakes: Vec<ConfigError>,
    /// Whether others must not be able to change what certd relies on.
    is_strict: bool,
}

/// Puts every file's tables into `config`, and says what two files both declare.
fn merge(config: &mut Config, parsed: Vec<File>) -> Merge {
    let mut merged = Merged::default();
    for (nth, file) in parsed.into_iter().enumerate() {
        merged.add(nth, file, &config.files);
    }
    if let Some(written) = merged.state_dir {
        config.state_dir = config.path(&written);
    }
    config.act = merged.act.map_or(config.act, |act| act.table);
    config.log = merged.log.map_or(config.log, |log| log.table);
    if let Some(turn) = merged.turn {
        config.turn = turn;
    }
    if let Some(check) = merged.check {
        config.check = check;
    }
    if let Some(audit) = merged.audit {
        config.audit = audit;
    }
    if let Some(listen) = merged.listen {
        config.listen = listen;
    }
    config.addresses = merged.addresses;
    (config.vaults, config.sources, config.issuers) = (merged.vaults, merged.sources, merged.issuers);
    (config.certificates, config.adopt) = (merged.certificates, merged.adopt);
    let is_strict = merged.strict_modes.as_ref().is_none_or(|strict| strict.table || strict.file != 0);
    // Whoever may write a drop-in could switch off what refuses that drop-in.
    let elsewhere = merged.strict_modes.as_ref().filter(|strict| strict.file != 0).map(|strict| {
        let hint = Some("move it to the main file".to_string());
        config.mistake(strict, strict.span.clone(), "strict_modes in a drop-in".to_string(), hint)
    });
    merged.mistakes.extend(elsewhere);
    Merge { mistakes: merged.mistakes, is_strict }
}

#[derive(Default)]
struct Merged {
    state_dir: Option<Declared<FilePath>>,
    act: Option<Declared<bool>>,
    strict_modes: Option<Declared<bool>>,
    turn: Option<Declared<Turn>>,
    log: Option<Declared<Log>>,
    listen: Option<Declared<Listen>>,
    check: Option<Declared<Check>>,
    audit: Option<Declared<Audit>>,
    addresses: BTreeMap<String, Declared<HostAddresses>>,
    vaults: BTreeMap<String, Declared<super::Vault>>,
    sources: BTreeMap<String, Declared<super::Source>>,
    issuers: BTreeMap<String, Declared<super::Issuer>>,
    certificates: Vec<Declared<super::Certificate>>,
    adopt: Vec<Declared<super::Adopt>>,
    mistakes: Vec<ConfigError>,
}

impl Merged {
    fn add(&mut self, nth: usize, file: File, files: &[ReadFile]) {
        let twice = &mut Twice { files, mistakes: &mut self.mistakes };
        once(&mut self.state_dir, nth, file.state_dir, "state_dir", twice);
        once(&mut self.act, nth, file.act, "act", twice);
        once(&mut self.strict_modes, nth, file.strict_modes, "strict_modes", twice);
        once(&mut self.turn, nth, file.turn, "[turn]", twice);
        once(&mut self.log, nth, file.log, "[log]", twice);
        once(&mut self.listen, nth, file.listen, "[listen]", twice);
        once(&mut self.check, nth, file.check, "[check]", twice);
        once(&mut self.audit, nth, file.audit, "[audit]", twice);
        each_once(&mut self.addresses, nth, file.addresses, "addresses", twice);
        each_once(&mut self.vaults, nth, file.vault, "vault", twice);
        each_once(&mut self.sources, nth, file.source, "source", twice);
        each_once(&mut self.issuers, nth, file.issuer, "issuer", twice);
        self.certificates.extend(file.certificate.into_iter().map(|table| declared(nth, table)));
        self.adopt.extend(file.adopt.into_iter().map(|table| declared(nth, table)));
    }
}

fn declared<T>(file: usize, table: Spanned<T>) -> Declared<T> {
    Declared { file, span: table.span(), table: table.into_inner() }
}

struct Twice<'a> {
    files: &'a [ReadFile],
    mistakes: &'a mut Vec<ConfigError>,
}

impl Twice<'_> {
    fn say<T>(&mut self, what: &str, first: &Declared<T>, second: &Declared<T>) {
        let (there, here) = (&self.files[first.file], &self.files[second.file]);
        let (line, column) = line_and_column(&there.text, first.span.start);
        let what = format!("declared twice: {what}, first at {}:{line}:{column}", there.path.display());
        let hint = Some("remove one of the two".to_string());
        self.mistakes.push(ConfigError::at(&here.path, &here.text, second.span.clone(), what, hint));
    }
}

fn once<T>(slot: &mut Option<Declared<T>>, nth: usize, table: Option<Spanned<T>>, key: &str, twice: &mut Twice) {
    let Some(table) = table.map(|table| declared(nth, table)) else { return };
    match slot {
        None => *slot = Some(table),
        Some(first) => twice.say(key, first, &table),
    }
}

fn each_once<T>(
    merged: &mut BTreeMap<String, Declared<T>>,
    nth: usize,
    tables: BTreeMap<Spanned<String>, T>,
    kind: &str,
    twice: &mut Twice,
) {
    for (name, table) in tables {
        let (span, name) = (name.span(), name.into_inner());
        let table = Declared { file: nth, span, table };
        match merged.entry(name) {
            Entry::Vacant(free) => drop(free.insert(table)),
            Entry::Occupied(first) => twice.say(&format!("[{kind}.{}]", first.key()), first.get(), &table),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_kept_where_systemd_says_or_in_one_fixed_place() {
        assert_eq!(default_state_dir(""), Path::new("/var/lib/certd"));
        assert_eq!(default_state_dir("/var/lib/private/certd"), Path::new("/var/lib/private/certd"));
        assert_eq!(default_state_dir("/a:/b"), Path::new("/a"));
    }
}
