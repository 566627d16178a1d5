//! Who may be connected to a listener at a time: a share for each address, seats kept for loopback, and the oldest
//! connection that asked for nothing yet leaves first.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::poll_fn;
use futures_util::task::AtomicWaker;
use rustix::process::{Resource, getrlimit};

/// A client that is on the other side of the world has said what it wants by then; a younger one is never sent away.
const YOUNG: Duration = Duration::from_millis(500);

/// How many connections a listener takes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub most: usize,
    /// For one address; of IPv6, for one /64.
    pub share: usize,
    /// Of `most`, those that only loopback may take. One address of loopback may take as many: all that runs on this host
    /// and asks comes from there.
    pub kept_for_loopback: usize,
}

/// A listener takes no more than one of so many of the files that the process may open.
const PART_OF_FILES: u64 = 4;

impl Bounds {
    /// Fewer for loopback where the process may open few files (`RLIMIT_NOFILE`).
    pub fn within_limits(self) -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / PART_OF_FILES;
        let files = usize::try_from(files).unwrap_or(usize::MAX);
        let for_all = self.most - self.kept_for_loopback;
        let kept_for_loopback = self.kept_for_loopback.min(files.saturating_sub(for_all)).max(self.share);
        Self { most: for_all + kept_for_loopback, kept_for_loopback, ..self }
    }

    fn share_of(&self, address: IpAddr) -> usize {
        if address.is_loopback() { self.share.max(self.kept_for_loopback) } else { self.share }
    }
}

/// The seats of one listener.
#[derive(Clone)]
pub struct Seats {
    bounds: Bounds,
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    next: u64,
    /// By number, so that the oldest is the first.
    seated: BTreeMap<u64, Guest>,
}

struct Guest {
    address: IpAddr,
    since: Instant,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// It is being answered, and is not sent away.
    is_served: AtomicBool,
    is_sent_away: AtomicBool,
    waker: AtomicWaker,
}

impl Seats {
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, table: Arc::default() }
    }

    /// Returns a seat, for which an idle connection of the same address or of the fullest one may have to leave; `None`
    /// where nobody can.
    pub fn take(&self, peer: IpAddr, now: Instant) -> Option<Seat> {
        let address = group(peer);
        let mut table = locked(&self.table);
        let of = |guest: &Guest| guest.address == address;
        if table.count(of) >= self.bounds.share_of(address) {
            table.send_away(now, of)?;
        }
        let is_remote = |guest: &Guest| !guest.address.is_loopback();
        let for_all = self.bounds.most.saturating_sub(self.bounds.kept_for_loopback);
        if !address.is_loopback() && table.count(is_remote) >= for_all {
            let fullest = table.fullest(is_remote);
            table.send_away(now, |guest| Some(guest.address) == fullest).or_else(|| table.send_away(now, is_remote))?;
        }
        if table.seated.len() >= self.bounds.most {
            let fullest = table.fullest(|_| true);
            table.send_away(now, |guest| Some(guest.address) == fullest).or_else(|| table.send_away(now, |_| true))?;
        }
        let (number, shared) = (table.next, Arc::<Shared>::default());
        table.next += 1;
        table.seated.insert(number, Guest { address, since: now, shared: shared.clone() });
        Some(Seat { number, shared, table: self.table.clone() })
    }
}

impl Table {
    fn count(&self, of: impl Fn(&Guest) -> bool) -> usize {
        self.seated.values().filter(|guest| of(guest)).count()
    }

    /// The address that has the most seats.
    fn fullest(&self, of: impl Fn(&Guest) -> bool) -> Option<IpAddr> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        self.seated.values().filter(|guest| of(guest)).for_each(|guest| *counts.entry(guest.address).or_default() += 1);
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(address, _)| address)
    }

    /// Frees the seat of the oldest that is idle.
    fn send_away(&mut self, now: Instant, of: impl Fn(&Guest) -> bool) -> Option<()> {
        let is_idle = |guest: &Guest| {
            let age = now.saturating_duration_since(guest.since);
            age >= YOUNG && !guest.shared.is_served.load(Ordering::Relaxed)
        };
        let oldest = self.seated.iter().find(|(_, guest)| of(guest) && is_idle(guest)).map(|(number, _)| *number)?;
        let guest = self.seated.remove(&oldest)?;
        guest.shared.is_sent_away.store(true, Ordering::Release);
        guest.shared.waker.wake();
        Some(())
    }
}

/// A household has a /64 of IPv6 for itself, and may come from any address in it.
fn group(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        other => other,
    }
}

fn locked(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().expect("counting seats does not panic")
}

/// Given back when it is dropped.
pub struct Seat {
    number: u64,
    shared: Arc<Shared>,
    table: Arc<Mutex<Table>>,
}

impl Seat {
    /// Sets whether the client is being answered; until that ends it keeps its seat.
    pub fn is_served(&self, is_served: bool) {
        self.shared.is_served.store(is_served, Ordering::Relaxed);
    }

    /// Ready once the client has to leave.
    pub fn poll_sent_away(&self, context: &Context<'_>) -> Poll<()> {
        self.shared.waker.register(context.waker());
        match self.shared.is_sent_away.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// Ends once the client has to leave.
    pub async fn sent_away(&self) {
        poll_fn(|context| self.poll_sent_away(context)).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        locked(&self.table).seated.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { most: 6, share: 3, kept_for_loopback: 2 };

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_away(seat: &Seat) -> bool {
        seat.shared.is_sent_away.load(Ordering::Acquire)
    }

    #[test]
    fn one_address_takes_its_share_and_then_loses_its_own_oldest() {
        let (seats, now) = (Seats::new(BOUNDS), Instant::now());
        let other = seats.take(at("192.0.2.9"), now).unwrap();
        let mine: Vec<Seat> = (0..3).map(|_| seats.take(at("192.0.2.1"), now).unwrap()).collect();
        assert!(seats.take(at("192.0.2.1"), now).is_none(), "none of them had time to ask");
        let later = now + YOUNG;
        let fourth = seats.take(at("192.0.2.1"), later).unwrap();
        let away: Vec<bool> = mine.iter().chain([&fourth, &other]).map(is_away).collect();
        assert_eq!(away, [true, false, false, false, false]);
    }

    #[test]
    fn who_is_being_answered_stays() {
        let (seats, now) = (Seats::new(BOUNDS), Instant::now());
        let mine: Vec<Seat> = (0..3).map(|_| seats.take(at("192.0.2.1"), now).unwrap()).collect();
        mine.iter().for_each(|seat| seat.is_served(true));
        assert!(seats.take(at("192.0.2.1"), now + YOUNG).is_none());
        mine[1].is_served(false);
        assert!(seats.take(at("192.0.2.1"), now + YOUNG).is_some());
        assert_eq!(mine.iter().map(is_away).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn seats_are_kept_for_loopback() {
        let (seats, now) = (Seats::new(BOUNDS), Instant::now());
        let remote = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
        let remote: Vec<Seat> = remote.iter().map(|address| seats.take(at(address), now).unwrap()).collect();
        assert!(seats.take(at("192.0.2.5"), now).is_none());
        let own = seats.take(at("127.0.0.1"), now).unwrap();
        let also = seats.take(at("::1"), now).unwrap();
        assert!(!remote.iter().chain([&own, &also]).any(is_away));
        assert!(seats.take(at("127.0.0.1"), now).is_none(), "all are taken, and all are young");
    }

    #[test]
    fn when_all_are_taken_the_fullest_address_gives_one_up() {
        let (seats, now) = (Seats::new(Bounds { kept_for_loopback: 0, ..BOUNDS }), Instant::now());
        let few = seats.take(at("192.0.2.9"), now).unwrap();
        let two: Vec<Seat> = (0..2).map(|_| seats.take(at("192.0.2.2"), now).unwrap()).collect();
        let three: Vec<Seat> = (0..3).map(|_| seats.take(at("192.0.2.1"), now).unwrap()).collect();
        let new = seats.take(at("192.0.2.7"), now + YOUNG).unwrap();
        let away: Vec<bool> = [&few, &new].into_iter().chain(&two).chain(&three).map(is_away).collect();
        assert_eq!(away, [false, false, false, false, true, false, false]);
    }

    #[test]
    fn a_household_of_ipv6_is_one_address_and_a_seat_is_free_again_once_it_is_dropped() {
        let (seats, now) = (Seats::new(BOUNDS), Instant::now());
        let addresses = ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::3"];
        let taken: Vec<Seat> = addresses.iter().map(|address| seats.take(at(address), now).unwrap()).collect();
        assert!(seats.take(at("2001:db8::4"), now).is_none());
        assert!(seats.take(at("2001:db8:0:1::4"), now).is_some());
        drop(taken);
        assert!(seats.take(at("2001:db8::4"), now).is_some());
        assert_eq!(group(at("::ffff:192.0.2.1")), at("192.0.2.1"));
    }

    #[test]
    fn the_clients_of_this_host_share_all_that_is_kept_for_it() {
        let (seats, now) = (Seats::new(Bounds { most: 10, share: 2, kept_for_loopback: 6 }), Instant::now());
        let taken: Vec<Seat> = (0..6).map(|_| seats.take(at("127.0.0.1"), now).unwrap()).collect();
        assert!(seats.take(at("127.0.0.1"), now).is_none());
        assert!(seats.take(at("127.0.0.2"), now).is_some(), "it is another address");
        assert!(!taken.iter().any(is_away));
        let files = usize::try_from(getrlimit(Resource::Nofile).current.unwrap() / PART_OF_FILES).unwrap();
        let bounds = Bounds { most: usize::MAX, share: 2, kept_for_loopback: usize::MAX - 4 }.within_limits();
        assert_eq!((bounds.most, bounds.kept_for_loopback), (files, files - 4));
    }

    #[tokio::test]
    async fn who_has_to_leave_is_woken() {
        let (seats, now) = (Seats::new(Bounds { share: 1, ..BOUNDS }), Instant::now());
        let first = seats.take(at("192.0.2.1"), now).unwrap();
        let left = tokio::spawn(async move { first.sent_away().await });
        tokio::task::yield_now().await;
        let _second = seats.take(at("192.0.2.1"), now + YOUNG).unwrap();
        tokio::time::timeout(Duration::from_secs(5), left).await.unwrap().unwrap();
    }
}
