//! Fair shares of bounded resources: of the queue of messages and of the table of connections.
//!
//! Dynamic thresholds (Choudhury and Hahne 1998): an address may hold a few times what is free. A single address gets
//! most of the resource. Several addresses that want all of it get equal parts. Something is always left for an address
//! that holds little. No address is configured or remembered. An address is in the table only while it holds something,
//! so the table is as bounded as the resource.
//!
//! There are two levels, because members may share an address (one machine, one NAT) and because ports cost nothing. A
//! host may hold a few times what is free, and each of its ports a few times what its host may still take.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use crate::sync::Mutex;

/// The multiple of what is free that an address may hold. One address alone gets nine thirteenths, and four thirteenths
/// stay free.
const EAGERNESS: usize = 3;
/// The mask of an IPv6 host: the owner of one address owns the 64 bits below its prefix.
const PREFIX: u128 = !0 << 64;

/// A number of things and of their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) count: usize,
    pub(super) bytes: usize,
}

impl Amount {
    pub(super) fn one(bytes: usize) -> Self {
        Self { count: 1, bytes }
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
    }

    fn sub(&mut self, other: Self) {
        self.count = self.count.saturating_sub(other.count);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }

    fn minus(mut self, other: Self) -> Self {
        self.sub(other);
        self
    }

    fn times(self, factor: usize) -> Self {
        Self { count: self.count.saturating_mul(factor), bytes: self.bytes.saturating_mul(factor) }
    }

    /// Returns true if this amount plus `more` is at most `most`. If `more` has no things or no bytes, that limit does
    /// not count.
    fn may_grow(self, more: Self, most: Self) -> bool {
        let fits = |held: usize, more: usize, most: usize| more == 0 || held.saturating_add(more) <= most;
        fits(self.count, more.count, most.count) && fits(self.bytes, more.bytes, most.bytes)
    }
}

/// The reason for a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Nothing is left for any address.
    Full,
    /// There is room, but this address has its share.
    Share,
}

#[derive(Default)]
struct Host {
    held: Amount,
    ports: HashMap<SocketAddr, Amount>,
}

#[derive(Default)]
struct Taken {
    held: Amount,
    hosts: HashMap<IpAddr, Host>,
}

/// A bounded resource that many addresses share.
pub(super) struct Shares {
    limit: Amount,
    state: Mutex<Taken>,
}

/// A part of the resource, given back when dropped.
pub(super) struct Place {
    shares: Arc<Shares>,
    from: SocketAddr,
    amount: Amount,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shares.give_back(self.from, self.amount);
    }
}

/// A place that can be given back while other references to it exist.
pub(super) struct Seat(Mutex<Option<Place>>);

impl Seat {
    pub(super) fn new(place: Place) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(place))))
    }

    pub(super) fn release(&self) {
        self.0.lock().take();
    }
}

/// Returns the host of an address, which counts as one source: an IPv4 address, or the prefix of an IPv6 address.
pub(super) fn host(from: SocketAddr) -> IpAddr {
    match from.ip().to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => Ipv6Addr::from(u128::from(ip) & PREFIX).into(),
        ip => ip,
    }
}

/// Returns the address with port 0. It stands for all ports of an address, for traffic whose source ports mean nothing.
pub(super) fn any_port(from: SocketAddr) -> SocketAddr {
    SocketAddr::new(from.ip(), 0)
}

impl Shares {
    pub(super) fn new(limit: Amount) -> Arc<Self> {
        Arc::new(Self { limit, state: Mutex::default() })
    }

    /// Takes a part for this address, or returns the reason for the refusal.
    pub(super) fn take(self: &Arc<Self>, from: SocketAddr, amount: Amount) -> Result<Place, Refused> {
        let mut state = self.state.lock();
        self.judge(&state, from, amount)?;
        state.take(from, amount);
        Ok(Place { shares: self.clone(), from, amount })
    }

    /// Returns true if one more address could get something.
    pub(super) fn has_room(&self) -> bool {
        self.limit.count > self.state.lock().held.count
    }

    fn judge(&self, state: &Taken, from: SocketAddr, amount: Amount) -> Result<(), Refused> {
        let free = self.limit.minus(state.held);
        if !Amount::default().may_grow(amount, free) {
            return Err(Refused::Full);
        }
        let host = state.hosts.get(&host(from));
        let held = host.map_or_else(Amount::default, |host| host.held);
        let port = host.and_then(|host| host.ports.get(&from)).copied().unwrap_or_default();
        let most = free.times(EAGERNESS);
        let fair = held.may_grow(amount, most) && port.may_grow(amount, most.minus(held).times(EAGERNESS));
        if fair { Ok(()) } else { Err(Refused::Share) }
    }

    fn give_back(&self, from: SocketAddr, amount: Amount) {
        let mut state = self.state.lock();
        state.held.sub(amount);
        let Some(of) = state.hosts.get_mut(&host(from)) else { return };
        of.held.sub(amount);
        if let Some(port) = of.ports.get_mut(&from) {
            port.sub(amount);
            if *port == Amount::default() {
                of.ports.remove(&from);
            }
        }
        if of.ports.is_empty() {
            state.hosts.remove(&host(from));
        }
    }
}

impl Taken {
    fn take(&mut self, from: SocketAddr, amount: Amount) {
        self.held.add(amount);
        let of = self.hosts.entry(host(from)).or_default();
        of.held.add(amount);
        of.ports.entry(from).or_default().add(amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(count: usize) -> Arc<Shares> {
        Shares::new(Amount { count, bytes: 1 << 30 })
    }

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    /// Takes places until one is refused.
    fn gorge(shares: &Arc<Shares>, from: SocketAddr) -> (Vec<Place>, Refused) {
        let mut places = Vec::new();
        loop {
            match shares.take(from, Amount::one(1)) {
                Ok(place) => places.push(place),
                Err(refused) => return (places, refused),
            }
        }
    }

    #[test]
    fn one_alone_gets_most_and_leaves_some() {
        let shares = shares(1_300);
        let (hog, refused) = gorge(&shares, at("10.0.0.1:1"));
        assert_eq!((hog.len(), refused), (900, Refused::Share));
        let (other, _) = gorge(&shares, at("10.0.0.2:1"));
        assert!(other.len() >= 200, "{} left for another", other.len());
        assert!(shares.take(at("10.0.0.3:1"), Amount::one(1)).is_ok());
    }

    #[test]
    fn those_who_want_everything_get_the_same() {
        let shares = shares(10_000);
        let addresses = ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"];
        let mut held: Vec<Vec<Place>> = addresses.iter().map(|_| Vec::new()).collect();
        // The first address takes its share long before the rest do. It must ask again for each place that it gives
        // back.
        held[0] = gorge(&shares, at(addresses[0])).0;
        assert!(held[0].len() > 6_000);
        for _ in 0..2_000 {
            // A queue serves each address in proportion to what waits in it, and all addresses ask for more than that.
            for places in &mut held {
                places.drain(..places.len() / 100);
            }
            for _ in 0..100 {
                for (address, places) in addresses.iter().zip(&mut held) {
                    places.extend(shares.take(at(address), Amount::one(1)));
                }
            }
        }
        let counts: Vec<usize> = held.iter().map(Vec::len).collect();
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*least > 1_500 && *most <= least + least / 4, "{counts:?}");
    }

    #[test]
    fn many_ports_are_one_address() {
        let shares = shares(1_000);
        let mut hog = Vec::new();
        for port in 1..=u16::MAX {
            hog.extend(shares.take(SocketAddr::new([10, 0, 0, 1].into(), port), Amount::one(1)));
        }
        assert!(hog.len() <= 750, "{}", hog.len());
        let (member, _) = gorge(&shares, at("10.0.0.2:7946"));
        assert!(member.len() >= 150, "{}", member.len());
    }

    #[test]
    fn ports_of_one_address_are_fair_among_themselves() {
        let shares = shares(16_384);
        let (_hog, _) = gorge(&shares, at("127.0.0.1:1"));
        let places: Vec<Place> = (2..=61)
            .map(|port| shares.take(SocketAddr::new([127, 0, 0, 1].into(), port), Amount::one(1)))
            .map(|place| place.unwrap_or_else(|refused| panic!("{refused:?}")))
            .collect();
        assert_eq!(places.len(), 60);
    }

    #[test]
    fn bytes_count_as_well_as_things() {
        let shares = Shares::new(Amount { count: 1_000, bytes: 1_300 });
        let held: Vec<Place> = std::iter::from_fn(|| shares.take(at("10.0.0.1:1"), Amount::one(100)).ok()).collect();
        assert_eq!(held.len(), 9);
        assert_eq!(shares.take(at("10.0.0.1:1"), Amount::one(100)).err(), Some(Refused::Share));
        assert_eq!(shares.take(at("10.0.0.2:1"), Amount::one(1_000)).err(), Some(Refused::Full));
        assert!(shares.take(at("10.0.0.1:1"), Amount::one(0)).is_ok(), "what has no bytes needs none");
        assert!(shares.take(at("10.0.0.2:1"), Amount::one(100)).is_ok());
    }

    #[test]
    fn addresses_without_places_are_not_remembered() {
        let shares = shares(1_000);
        for n in 0..100_000u32 {
            drop(shares.take(SocketAddr::new(n.to_be_bytes().into(), 1), Amount::one(1)));
        }
        assert!(shares.state.lock().hosts.is_empty());
        assert_eq!(shares.state.lock().held, Amount::default());
    }

    #[test]
    fn a_prefix_of_ipv6_is_one_host() {
        assert_eq!(host(at("[2001:db8::1]:1")), host(at("[2001:db8::ffff]:2")));
        assert_ne!(host(at("[2001:db8::1]:1")), host(at("[2001:db8:0:1::1]:1")));
        assert_eq!(host(at("[::ffff:10.0.0.1]:1")), host(at("10.0.0.1:2")));
    }

    #[test]
    fn a_vacated_seat_is_free_at_once_even_if_it_is_still_held() {
        let shares = shares(1);
        let seat = Seat::new(shares.take(at("10.0.0.1:1"), Amount::one(0)).ok().unwrap());
        let held_elsewhere = seat.clone();
        assert!(!shares.has_room());
        seat.release();
        assert!(shares.has_room());
        held_elsewhere.release();
        assert_eq!(shares.state.lock().held, Amount::default(), "it is given back once");
    }
}
