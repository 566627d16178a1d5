//! certd keeps certificates fresh: it looks at every certificate it is told about, knows when each is
//! due, gets a new one, writes it back to where it came from, proves it, and tells the truth about it.
//!
//! # Bird's eye
//!
//! ```text
//!             ┌──────────────────────────── cycle ────────────────────────────┐
//!  certd.toml │  Source::observe ┐              domain (pure)                 │
//!      │      │    tls           ├─► Inventory ─┬─► check ─► Problems ────────┼─► report  ─► table · JSON · Nagios · exit code
//!   config ──►│    vault_kv/_pki │  Location →  │                             │
//!      │      │    file          │  Sighting    └─► adopt, plan ─► Decisions ─┼─► metrics ─► /metrics
//!      ▼      │  Store::read ────┘                    │ Renew(reason)         │
//!    Setup    │          renew: journal ► Issuer::sign ─► accept ─► Store::write ► read back ► closed
//!             └──────────── journal: failures, pauses, renewals in flight ◄───┘
//! ```
//!
//! Everything moves rightwards; one thing comes back, the journal, and it comes back as data.
//! `certd check` and `certd plan` are this picture without the lower half, so a dry run cannot differ
//! from the real one.
//!
//! # Reading order
//!
//! 1. [`cycle`]: one turn. [`cycle::observe`] looks; [`cycle::look_back`], [`cycle::registers`], [`cycle::persist`] and
//!    [`cycle::advise`] ask older versions, issuers and the DNS, in which [`cycle::waits`] are kept; [`cycle::assess`]
//!    decides, [`cycle::execute`] acts.
//! 2. [`domain`]: the rules. `inventory` (what was seen), `check` (what is wrong), `adopt` (what is ours), `drift` (what
//!    is served against what is stored), `shared_key` (one key in two places),
//!    `homes` (which place has which names), `plan` (what to do; `breaker`, `cap` and `orders` what stops it, `fallback` whom it may ask, `advice` what a CA
//!    wishes; `admit` how much of it one turn may do), `renewal` (what may be stored), `snapshot` (the outcome).
//! 3. [`renew`]: one renewal, a step at a time over its entry in the [`journal`].
//! 4. [`daemon`]: when turns happen. [`control`]: what people ask of a daemon that runs.
//!
//! # The house
//!
//! Folders are families; a file in one is a member. A new member touches its folder, the enum in its
//! `mod.rs` and its variant in `config` (`file`, `validate`, `build`); a store also `cycle::setup::Place`.
//! A way to prove names to an ACME CA is a file in `issuer/acme`, a kind in its `challenges` and a table in `config::acme`.
//!
//! | place | what |
//! |---|---|
//! | `main.rs` | arguments, the clock, the exit code |
//! | [`cli`] | one file per command |
//! | [`config`] | the file as the user writes it, merged and validated; `build` makes things of names |
//! | [`cycle`] | observe, take advice, check, plan, execute, report |
//! | [`daemon`], [`control`], [`pulse`] | schedule, signals, systemd; the 0600 socket; signs of life |
//! | [`domain`] | pure rules: no clock, no randomness, no async, no I/O (held by `tests/tidy.rs`) |
//! | [`source`] | where certificates are seen: `tls`, `vault_kv`, `vault_pki`, `file` |
//! | [`issuer`] | who signs: `local_ca`, `vault_pki`, `acme` (account, challenges, orders in steps) |
//! | [`store`] | where a certified key is kept: `vault_kv`, `file` |
//! | [`journal`] | what was intended and attempted; survives kill -9 |
//! | [`staging`] | where the key of a renewal in flight is kept, and which instance may go on with it |
//! | [`renew`] | one renewal over its journal entry |
//! | [`revoke`] | one revocation that a person asks for |
//! | [`vault`] | the one Vault client, and the layouts of secrets |
//! | [`rights`] | what a configuration needs to be allowed in a Vault, and the least policy |
//! | [`hardening`] | no core dumps, no new privileges, panics without the words of what was read |
//! | [`http`] | what every HTTP client of certd has in common |
//! | [`files`] | files of this host: bounded reads, the way to a file, and who may change it |
//! | [`audit`] | who did what: append-only, chained by hashes, never folded; its head noted elsewhere |
//! | [`seats`] | who may be connected to a listener at a time |
//! | [`failpoint`] | where tests end the process; nothing in a release |
//! | [`doctor`] | whether a Vault grants it, and whatever else would hinder certd there |
//! | [`pki`] | bytes to domain types: certificates, bundles, keys, keystores, CSRs, revocation lists, trust |
//! | [`report`] | the outcome for people and programs |
//! | [`metrics`] | the outcome for Prometheus, and the listener |
//!
//! # Invariants
//!
//! - Success is an effect read back: a renewal is closed only when the store showed the new leaf with its key.
//! - What could not be observed is `Sighting::Unknown`: nothing is written on it, and a source that could
//!   not be listed leaves `Unknown` behind, never absence.
//! - `domain::renewal::Request::accept` is the only maker of a `CertifiedKey`, and `Store::write` takes nothing else.
//! - Going back to an older version of a secret is [`store::restore`], an intent of its own with its own checks;
//!   what it went back to is paused until a person resumes it.
//! - A key is durable before an issuer hears of it; a chain is journalled before it is written. No private
//!   key enters an issuer, an event of the journal, a log or an error. A pending one is in the Vault that keeps the
//!   certificate, else a 0600 file.
//! - An issuer that may have signed is asked again only when it is known that it has not (`renew::ask`).
//! - An order that takes several steps is journalled after each, before the next is taken (`domain::progress`).
//! - Who asked to be left alone is not asked by any later process, nor for a person: what acts
//!   notes each wait before it goes on, and what only looks at its end (`cycle::waits`).
//! - Of several instances one renews: each step that cannot be undone is fenced by the version of the staging record.
//! - Nothing is said to be missing, and nothing renewed, on a read that a standby may have answered from behind:
//!   what is looked at is at least as new as the look (`vault::Vault::catch_up`).
//! - A token goes to the addresses of the configuration and to no other host. A write whose answer was lost is not
//!   made again: it is looked for.
//! - A write names what it is based on, and is refused when that is no longer there.
//! - An act of a person is in the audit log before it is carried out, with who asked; where it cannot be, the act is
//!   refused. Renewals go on without a record, told and counted: an outage by expiry is worse.
//! - One process writes the journal and the audit log. While a daemon runs, everybody else asks it by the socket.
//! - The spread of renewals comes from the leaf's fingerprint: no dice, the same plan after every restart.
//! - A claim is not a right: a rule renews what lives, proves its key and has no other home, or what certd stored there
//!   itself (`domain::adopt`, `domain::homes`). What may have been revoked is no claim while nobody can say.
//! - What looks like a key, a token or a password is refused at two doors, `config::door` and `cli::door`, and not repeated;
//!   what servers and commands say is quoted by `domain::hidden::words`.
//! - Readers of what others wrote return no text of it: [`pki::NotUnderstood`] is a closed set. What costs more than one
//!   place may is `ObstacleKind::TooCostly`.
//!
//! # Decisions that are not obvious
//!
//! - `pki` is a family of its own, because sources, stores, issuers and the listener all need it, and
//!   `domain` must not know DER.
//! - Trust is judged where the bytes are, and kept as a word in the sighting: the inventory then needs no
//!   DER, and stays small with 100,000 certificates. It is judged *time aside*, so that an expired
//!   certificate is `expired` and not also `chain`.
//! - A source has its certificates from [`pki::interned`]: the CAs of an estate, and what two sweeps see, are in memory
//!   once.
//! - A local CA is opened inside a turn, after the stores were read: a stored certificate may
//!   name a CA whose key was lost, and a new CA would hide that.
//! - The cron scheduler only ticks; `daemon` compares the wall clock, so a suspend loses no turn. A monotonic tick beside
//!   it is there for a clock that is set back, when the scheduler falls silent.
//! - No clock is trusted that a Vault's `Date`, the journal or the program itself contradicts (`domain::clock`).
//! - The pages of the listener are rendered once a turn and shared, so a scrape never waits for a probe;
//!   only the daemon's own counters are read at the scrape.
//! - A journal that cannot be understood whole is set aside, and said to be lost until a person acknowledges it: what is
//!   due by what the stores show is still renewed, since an outage by expiry is worse than a pause forgotten and told.

pub mod audit;
pub mod cli;
pub mod config;
pub mod control;
pub mod cycle;
pub mod daemon;
pub mod doctor;
pub mod domain;
pub mod failpoint;
pub mod files;
pub mod hardening;
pub mod http;
pub mod issuer;
pub mod journal;
pub mod metrics;
pub mod pki;
pub mod pulse;
pub mod renew;
pub mod report;
pub mod revoke;
pub mod rights;
pub mod seats;
pub mod source;
pub mod staging;
pub mod store;
pub mod vault;
