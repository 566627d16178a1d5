//! One thing that was found: how it stands, what it is, and what to do.

use serde::Serialize;

use crate::domain::check::State;
use crate::domain::name::VaultName;
use crate::domain::text::one_line;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub vault: VaultName,
    pub about: About,
    pub state: State,
    pub what: String,
    /// `None` where there is nothing to do.
    pub advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    Server,
    Clock,
    Token,
    Rights,
    Mount,
    Role,
    Names,
}

impl About {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Clock => "clock",
            Self::Token => "token",
            Self::Rights => "rights",
            Self::Mount => "mount",
            Self::Role => "role",
            Self::Names => "names",
        }
    }
}

pub(super) struct Findings {
    vault: VaultName,
    pub all: Vec<Finding>,
}

impl Findings {
    pub fn new(vault: &VaultName) -> Self {
        Self { vault: vault.clone(), all: Vec::new() }
    }

    pub fn ok(&mut self, about: About, what: impl Into<String>) {
        self.add(about, State::Ok, what.into(), None);
    }

    pub fn warning(&mut self, about: About, what: impl Into<String>, advice: impl Into<String>) {
        self.add(about, State::Warning, what.into(), Some(advice.into()));
    }

    pub fn critical(&mut self, about: About, what: impl Into<String>, advice: impl Into<String>) {
        self.add(about, State::Critical, what.into(), Some(advice.into()));
    }

    /// Something could not be seen.
    pub fn unknown(&mut self, about: About, what: impl Into<String>, advice: impl Into<String>) {
        self.add(about, State::Unknown, what.into(), Some(advice.into()));
    }

    fn add(&mut self, about: About, state: State, what: String, advice: Option<String>) {
        let (what, advice) = (one_line(&what), advice.map(|advice| one_line(&advice)));
        self.all.push(Finding { vault: self.vault.clone(), about, state, what, advice });
    }
}
