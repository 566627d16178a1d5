//! Sockets that systemd opened before certd began, and handed over by name (sd_listen_fds(3)).

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, OnceLock};

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use crate::domain::text::printable;

/// Nobody but the process as a whole was given them. They are taken at the first call, which takes them out of the
/// environment too, so that it belongs before the first thread. They stay open for as long as the process lives, since
/// none could be had again.
pub fn sockets() -> &'static Sockets {
    static SOCKETS: OnceLock<Sockets> = OnceLock::new();
    SOCKETS.get_or_init(Sockets::from_environment)
}

pub struct Sockets {
    named: Result<Mutex<BTreeMap<String, Named>>, Arc<io::Error>>,
}

/// Those of one name, or why one of them is of no use.
type Named = Result<Arc<Vec<TcpListener>>, Arc<io::Error>>;

/// Whoever has it is the only one to accept on these sockets. They do not block.
#[derive(Debug)]
pub struct Lease(Arc<Vec<TcpListener>>);

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("could not understand what systemd handed over: start certd from its unit")]
    Environment(#[source] Arc<io::Error>),
    #[error("systemd handed over no socket named {name}: set FileDescriptorName={name} in a .socket unit of certd")]
    Missing { name: String },
    #[error("could not use the socket that systemd named {name}: make it a ListenStream= at a port, with Accept=no")]
    Unfit {
        name: String,
        #[source]
        source: Arc<io::Error>,
    },
    #[error(
        "other challenges are answered at the socket named {name}: give http-01 and tls-alpn-01 each one of its own"
    )]
    Taken { name: String },
}

impl Sockets {
    fn from_environment() -> Self {
        Self { named: handed_over().map(Mutex::new).map_err(Arc::new) }
    }

    /// All sockets of that name: a unit may listen at several addresses.
    pub fn take(&self, name: &str) -> Result<Lease, SocketError> {
        let named = self.named.as_ref().map_err(|source| SocketError::Environment(source.clone()))?;
        let named = named.lock().expect("nothing panics with it");
        let shown = || printable(name);
        match named.get(name) {
            None => Err(SocketError::Missing { name: shown() }),
            Some(Err(source)) => Err(SocketError::Unfit { name: shown(), source: source.clone() }),
            // The lock is held, so nobody else takes it meanwhile.
            Some(Ok(listeners)) if Arc::strong_count(listeners) > 1 => Err(SocketError::Taken { name: shown() }),
            Some(Ok(listeners)) => Ok(Lease(listeners.clone())),
        }
    }
}

impl Lease {
    pub fn listeners(&self) -> &[TcpListener] {
        &self.0
    }
}

fn handed_over() -> io::Result<BTreeMap<String, Named>> {
    // For another process there may be names without sockets, which is no fault.
    if sd_notify::listen_fds()?.len() == 0 {
        return Ok(BTreeMap::new());
    }
    let names: Vec<String> = sd_notify::listen_fds_with_names()?.map(|(_, name)| name).collect();
    let mut handed = ListenFd::from_env();
    let mut found: BTreeMap<String, io::Result<Vec<TcpListener>>> = BTreeMap::new();
    for (index, name) in names.into_iter().enumerate() {
        let all = found.entry(name).or_insert_with(|| Ok(Vec::new()));
        match (listener(&mut handed, index), all) {
            (Ok(one), Ok(all)) => all.push(one),
            (Err(why), all) => *all = Err(why),
            (Ok(_), Err(_)) => {}
        }
    }
    Ok(found.into_iter().map(|(name, all)| (name, all.map(Arc::new).map_err(Arc::new))).collect())
}

fn listener(handed: &mut ListenFd, index: usize) -> io::Result<TcpListener> {
    let listener = handed.take_tcp_listener(index)?.ok_or_else(|| io::Error::other("it was taken before"))?;
    if !socket_acceptconn(&listener)? {
        return Err(io::Error::other("it is a connection, no socket that listens"));
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(named: Named) -> Sockets {
        Sockets { named: Ok(Mutex::new(BTreeMap::from([("http".to_string(), named)]))) }
    }

    fn listening() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn a_name_is_taken_by_one_at_a_time_and_its_sockets_outlive_each_lease() {
        let listener = listening();
        let address = listener.local_addr().unwrap();
        let sockets = some(Ok(Arc::new(vec![listener, listening()])));

        let lease = sockets.take("http").unwrap();
        assert_eq!(lease.listeners().len(), 2);
        assert_eq!(
            sockets.take("http").unwrap_err().to_string(),
            "other challenges are answered at the socket named http: give http-01 and tls-alpn-01 each one of its own"
        );
        drop(lease);

        std::net::TcpStream::connect(address).unwrap();
        assert_eq!(sockets.take("http").unwrap().listeners()[0].local_addr().unwrap(), address);
    }

    #[test]
    fn a_name_that_was_not_handed_over_is_told_with_the_setting_that_it_needs() {
        let sockets = some(Ok(Arc::new(Vec::new())));
        assert_eq!(
            sockets.take("a\nb").unwrap_err().to_string(),
            "systemd handed over no socket named a\\u{a}b: set FileDescriptorName=a\\u{a}b in a .socket unit of certd"
        );
    }

    #[test]
    fn a_socket_that_is_of_no_use_is_told_when_it_is_wanted() {
        let sockets = some(Err(Arc::new(io::Error::other("it is a connection"))));
        let error = sockets.take("http").unwrap_err();
        assert_eq!(
            crate::domain::text::with_causes(&error),
            "could not use the socket that systemd named http: make it a ListenStream= at a port, with Accept=no: \
             it is a connection"
        );
        let sockets = Sockets { named: Err(Arc::new(io::Error::other("invalid LISTEN_FDS"))) };
        assert_eq!(
            crate::domain::text::with_causes(&sockets.take("http").unwrap_err()),
            "could not understand what systemd handed over: start certd from its unit: invalid LISTEN_FDS"
        );
    }

    #[test]
    fn a_process_that_systemd_handed_nothing_has_none() {
        assert_eq!(handed_over().unwrap().len(), 0);
        assert!(matches!(sockets().take("http"), Err(SocketError::Missing { .. })));
    }
}
