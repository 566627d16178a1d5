//! Keeps tokens and keys in memory out of core dumps, debuggers and panics, for every command and whoever starts it.

use std::io;
use std::panic::PanicHookInfo;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::set_no_new_privs;
use tokio::task::JoinError;

/// Denies core dumps (`RLIMIT_CORE`, soft and hard, and `PR_SET_DUMPABLE`) and new privileges (`PR_SET_NO_NEW_PRIVS`) to this
/// process and the commands that it starts. See prctl(2) and getrlimit(2).
///
/// # Errors
/// The kernel or a seccomp filter refuses one of them.
pub fn harden() -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // A unit may have set it, and deny to set it.
    if getrlimit(Resource::Core) != none {
        setrlimit(Resource::Core, none)?;
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_no_new_privs(true)?;
    Ok(())
}

/// Returns where a panic began, and its words only where they stand in the program: others may quote a key.
pub fn place_of(panic: &PanicHookInfo) -> String {
    let place = panic.location().map_or("an unknown place".to_string(), ToString::to_string);
    match panic.payload().downcast_ref::<&'static str>() {
        Some(words) => format!("it panicked at {place}: {words}"),
        None => format!("it panicked at {place}"),
    }
}

/// Why a task of certd gave no result. The words of its panic are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokenOff {
    #[error("a bug in certd: see its log for the place, and report it")]
    Panicked,
    #[error("certd is ending")]
    Ending,
}

impl From<JoinError> for BrokenOff {
    fn from(error: JoinError) -> Self {
        if error.is_panic() { Self::Panicked } else { Self::Ending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_says_nothing_of_what_it_read() {
        let read = "MC4CAQAwBQYDK2VwBCIE".to_string();
        let broken = tokio::spawn(async move { assert_eq!(read, "") }).await.unwrap_err();
        assert!(broken.to_string().contains("MC4CAQ"), "tokio repeats the words of a panic");
        assert_eq!(BrokenOff::from(broken), BrokenOff::Panicked);
    }
}
