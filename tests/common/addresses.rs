//! Addresses that a test may bind later, release, and bind again. Test binaries include this file by path.
//!
//! A port from the kernel (`127.0.0.1:0`) is safe only while its socket is open. Afterwards the kernel may give it to any
//! socket of the machine, for instance to an outgoing connection of a parallel test. The addresses here differ in two
//! ways. Their ports are outside the range from which the kernel chooses, so that only a process that names the port can
//! take it. And this process claims each address until it ends, so that no other test process gets the same one.
#![allow(dead_code)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The ports that may be chosen. Below are those of well-known services.
const CANDIDATES: RangeInclusive<u16> = 10_000..=u16::MAX;

/// Returns an address on loopback that no other caller gets, of this or of another process, and on which no process
/// listens.
pub fn unused() -> SocketAddr {
    unused_on(unused_host())
}

/// Returns an IP address on loopback that no other caller gets, of this or of another process.
pub fn unused_host() -> Ipv4Addr {
    // 127.64.0.0/10 without the last numbers 0 and 255. The address of the machine's name, 127.0.1.1, is not in it.
    let hosts = 64 * 256 * 254;
    let first = std::process::id() as usize * 61 % hosts;
    let host = |number: usize| {
        let (network, last) = (number / 254, number % 254 + 1);
        Ipv4Addr::new(127, 64 + (network / 256) as u8, (network % 256) as u8, last as u8)
    };
    let mut candidates = (0..hosts).map(|offset| host((first + offset) % hosts));
    candidates.find(|host| claim(&host.to_string())).expect("a loopback address that no test uses")
}

/// Returns an address with this IP address, which comes from [`unused_host`], and another port for each call.
pub fn unused_on(host: Ipv4Addr) -> SocketAddr {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let ports = from(ports_of(Purpose::OneAddress), CALLS.fetch_add(1, Ordering::Relaxed));
    // The host belongs to this process, but another process may listen at a port of every address.
    let port = ports.into_iter().find(|port| is_free(host.into(), *port));
    (host, port.expect("a port that is free")).into()
}

/// Returns a port that no other caller gets, of this or of another process, and at which no process listens on any
/// address.
pub fn unused_port() -> u16 {
    let ports = from(ports_of(Purpose::EveryAddress), std::process::id() as usize * 61);
    let is_ours = |port: &u16| is_free(Ipv4Addr::UNSPECIFIED.into(), *port) && claim(&port.to_string());
    ports.into_iter().find(is_ours).expect("a port that no process uses")
}

/// Returns the ports in a circle, from a place on.
fn from(mut ports: Vec<u16>, place: usize) -> Vec<u16> {
    let first = place % ports.len();
    ports.rotate_left(first);
    ports
}

/// Two kinds of ports with no port in common: a listener on every address takes the port from each single address.
#[derive(Clone, Copy)]
pub enum Purpose {
    OneAddress,
    EveryAddress,
}

/// Returns the candidates that the kernel gives to no socket by itself. If there are none, returns all candidates.
pub fn ports_of(purpose: Purpose) -> Vec<u16> {
    let from_kernel = from_kernel();
    let mut ports: Vec<_> = CANDIDATES.filter(|port| !from_kernel.contains(port)).collect();
    if ports.len() < 1_000 {
        ports = CANDIDATES.collect();
    }
    let upper = ports.split_off(ports.len() / 2);
    match purpose {
        Purpose::OneAddress => upper,
        Purpose::EveryAddress => ports,
    }
}

/// Returns the range from which the kernel takes a port if a socket asks for port 0, or connects.
pub fn from_kernel() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = text.split_whitespace().map_while(|bound| bound.parse().ok());
    match (bounds.next(), bounds.next()) {
        (Some(first), Some(last)) => first..=last,
        _ => 32_768..=u16::MAX,
    }
}

/// Returns true if no process listens at this port, by TCP or UDP.
pub fn is_free(host: IpAddr, port: u16) -> bool {
    TcpListener::bind((host, port)).is_ok() && UdpSocket::bind((host, port)).is_ok()
}

/// Takes a name for the rest of this process. Returns false if a caller has it, in this or in another process.
///
/// The claim is a socket with an abstract name. Like ports, such names belong to the network namespace. The kernel
/// releases it when the process ends, in whatever way. Children that are started do not inherit it.
#[cfg(target_os = "linux")]
pub fn claim(name: &str) -> bool {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let name = SocketAddr::from_abstract_name(format!("driftless-test {name}")).expect("a short name");
    UnixDatagram::bind_addr(&name).map(std::mem::forget).is_ok()
}

/// Takes a name for the rest of this process. Other processes do not see it.
#[cfg(not(target_os = "linux"))]
pub fn claim(name: &str) -> bool {
    static CLAIMED: std::sync::Mutex<std::collections::BTreeSet<String>> = Default::default();
    CLAIMED.lock().unwrap().insert(name.to_owned())
}
