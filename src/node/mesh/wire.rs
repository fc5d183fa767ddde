//! The sockets. They outlive every memberlist instance, so that a rebuild loses neither the port nor a queued datagram.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use memberlist::{
    agnostic::net::UdpSocket as _,
    proto::{ChecksumAlgorithm, EncryptionAlgorithm, Label, Message, Payload, ProtoDecoder, ProtoEncoder, SecretKey},
    transport::{PacketProducer, StreamProducer},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    time::{Instant, timeout},
};

use super::{
    config::{FailureTiming, MeshConfig, MeshError},
    counters::Counters,
    frame::{Policy, Refusal},
    idle::Idle,
    incidents::{Culprit, IncidentKind, Incidents},
    refusals::Refusals,
    shares::{Amount, Shares},
    stream::{Conn, Recycle},
};
use crate::sync::{Mutex, RwLock};

/// Size of the kernel's receive buffer, in bytes. A burst of datagrams waits there while the mesh thread is busy.
const RECEIVE_BUFFER: usize = 2 << 20;
/// Maximum size of a datagram that memberlist packs, in bytes. Once encrypted it is below every common MTU.
pub(super) const PACKET_SIZE: usize = 1400;
const BACKLOG: u32 = 1024;
/// Size in bytes above which a frame is decrypted on another thread, so that pings do not wait for it.
const INLINE_DECRYPTION: usize = 64 << 10;
/// Maximum size of all frames that are being read, in bytes (or four frames, if that is more).
const READING_BYTES: usize = 256 << 20;
/// Attempts to bind port 0: the port that the kernel chose for TCP may be taken for UDP.
const PORT_ATTEMPTS: usize = 32;

/// The channel of datagrams into a memberlist instance.
pub(super) type Packets = PacketProducer<SocketAddr, Instant>;
/// The channel of connections into a memberlist instance.
pub(super) type Streams = StreamProducer<SocketAddr, Conn>;

/// Sockets, limits and the fault switch.
pub(super) struct Wire {
    sockets: RwLock<Option<Sockets>>,
    pub(super) local: SocketAddr,
    pub(super) policy: Policy,
    pub(super) timing: FailureTiming,
    /// Places for inbound connections, and for the frames that are being read from them.
    pub(super) inbound: Arc<Shares>,
    /// The channels into the instance that receives inbound traffic.
    pub(super) ears_of: RwLock<Option<(Packets, Streams)>>,
    /// The lock that hands connections to memberlist one at a time, in the order of their arrival.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// The keys, the primary first. The keyring of every instance is built from them.
    pub(super) keys: Mutex<Vec<[u8; 32]>>,
    pub(super) counters: Arc<Counters>,
    label: Label,
    pub(super) refusals: Refusals,
    /// The log of addresses that want more than their share of connections.
    pub(super) crowds: Refusals,
    idle: Idle,
    cut: Severed,
    pub(super) incidents: Arc<Incidents>,
    /// The addresses at which a member refused this one since it last tried to join there.
    refused_by: Mutex<HashMap<SocketAddr, Refusal>>,
}

#[derive(Clone)]
pub(super) struct Sockets {
    pub(super) udp: Arc<UdpSocket>,
    pub(super) tcp: Arc<TcpListener>,
}

impl Wire {
    pub(super) fn bind(
        config: &MeshConfig,
        policy: Policy,
        counters: Arc<Counters>,
        incidents: Arc<Incidents>,
    ) -> Result<Self, MeshError> {
        let bind = config.bind;
        let sockets = bind_pair(bind)?;
        let local =
            sockets.tcp.local_addr().map_err(|source| MeshError::Bind { addr: bind, transport: "tcp", source })?;
        Ok(Self {
            sockets: RwLock::new(Some(sockets)),
            local,
            policy,
            timing: config.failure.clone(),
            inbound: Shares::new(Amount { count: config.max_inbound, bytes: READING_BYTES.max(config.max_frame * 4) }),
            keys: Mutex::new(config.keys.clone()),
            ears_of: RwLock::new(None),
            turn: tokio::sync::Mutex::default(),
            counters,
            label: Label::try_from(config.cluster.as_str()).unwrap_or_default(),
            idle: Idle::default(),
            refusals: Refusals::default(),
            crowds: Refusals::default(),
            cut: Severed::default(),
            incidents,
            refused_by: Mutex::default(),
        })
    }

    pub(super) fn sockets(&self) -> io::Result<Sockets> {
        self.sockets.read().clone().ok_or_else(stopped)
    }

    /// Stops sending datagrams and opening connections. The port is free once the pumps have ended as well.
    pub(super) fn close(&self) {
        self.sockets.write().take();
        self.idle.clear();
    }

    pub(super) async fn send_to(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<usize> {
        let udp = self.sockets.read().as_ref().map(|s| s.udp.clone()).ok_or_else(stopped)?;
        if self.cut.severs(to) {
            return Ok(bytes.len());
        }
        let n = match udp.try_send_to(bytes, to) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                timeout(self.timing.probe_timeout, udp.send_to(bytes, to))
                    .await
                    .map_err(|_| io::ErrorKind::TimedOut)??
            }
            result => result?,
        };
        self.counters.datagrams_out.one();
        self.counters.datagram_bytes_out.add(n as u64);
        Ok(n)
    }

    /// Hands a datagram to the kernel without waiting. Any thread may call this. Returns an error if the kernel cannot
    /// take it now.
    pub(super) fn try_send_to(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let udp = self.sockets.read().as_ref().map(|s| s.udp.clone()).ok_or_else(stopped)?;
        if self.cut.severs(to) {
            return Ok(());
        }
        let n = udp.try_send_to(bytes, to)?;
        self.counters.datagrams_out.one();
        self.counters.datagram_bytes_out.add(n as u64);
        Ok(())
    }

    /// Returns the datagram with a message of the mesh's user, as memberlist makes it with the options of `instance`.
    pub(super) fn encode(&self, message: Bytes) -> Option<Payload> {
        let messages = [Message::<Arc<str>, SocketAddr>::UserData(message)];
        let mut encoder = ProtoEncoder::<Arc<str>, SocketAddr, _>::new(PACKET_SIZE)
            .with_messages(messages)
            .with_label(self.label.clone());
        match self.keys.lock().first() {
            Some(primary) => encoder.set_encryption(EncryptionAlgorithm::NoPadding, SecretKey::Aes256(*primary)),
            None => encoder.maybe_checksum(Some(ChecksumAlgorithm::Crc32)),
        };
        encoder.encode().next()?.ok()
    }

    /// Returns a connection to `to`: an idle one if it is still good, otherwise a new one.
    pub(super) async fn connect(self: &Arc<Self>, to: SocketAddr) -> io::Result<Conn> {
        if self.sockets.read().is_none() {
            return Err(stopped());
        }
        let kept = if self.cut.severs(to) { None } else { self.idle.take(to) };
        let socket = match kept {
            Some(socket) => socket,
            None => self.dial(to).await?,
        };
        // Weak, so that a connection that outlives the mesh does not keep the sockets open.
        let wire = Arc::downgrade(self);
        let keep = Recycle::Dialled(Box::new(move |socket| {
            if let Some(wire) = wire.upgrade().filter(|w| w.sockets.read().is_some()) {
                wire.idle.keep(to, socket);
            }
        }));
        Ok(Conn::new(socket, BytesMut::new(), self.timing.stream_timeout, self.counters.clone(), keep))
    }

    /// Counts and reports bytes that are refused.
    pub(super) fn note_refusal(&self, from: SocketAddr, refusal: Refusal) {
        self.refusals.note(from.ip(), refusal.why());
        if let Some(kind) = refusal.incident() {
            self.incidents.note(kind, Culprit::Host(from.ip()));
        }
    }

    /// Records that an address exceeded its share of a resource.
    pub(super) fn note_crowd(&self, from: SocketAddr, what: &str) {
        self.crowds.crowd(from.ip(), what);
        self.incidents.note(IncidentKind::OverShare, Culprit::Host(from.ip()));
    }

    pub(super) fn note_refused_by(&self, addr: SocketAddr, refusal: Refusal) {
        self.refused_by.lock().insert(addr, refusal);
    }

    /// Returns the reason for which a member refused this one at an address, once.
    pub(super) fn take_refused_by(&self, addr: SocketAddr) -> Option<Refusal> {
        self.refused_by.lock().remove(&addr)
    }

    /// Drops the idle connections to `to`, so that the next connection is dialled anew.
    pub(super) fn forget(&self, to: SocketAddr) {
        self.idle.forget(to);
    }

    async fn dial(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let dial = async {
            if self.cut.severs(to) {
                std::future::pending::<()>().await;
            }
            TcpStream::connect(to).await
        };
        let socket = timeout(self.timing.connect_timeout, dial).await.map_err(|_| io::ErrorKind::TimedOut)??;
        self.counters.streams_out.one();
        // Small frames must not wait for an acknowledgement of the previous frame. An error only costs latency.
        let _ = socket.set_nodelay(true);
        Ok(socket)
    }

    /// Returns a decoder of datagrams that a member of this cluster encrypted with a current key.
    pub(super) fn decoder(&self) -> ProtoDecoder {
        let mut decoder = ProtoDecoder::new();
        // A datagram is small, so it is never handed to another thread to decrypt.
        decoder.with_label(self.label.clone()).with_offload_size(usize::MAX);
        if self.policy.encrypted {
            let keys: Vec<SecretKey> = self.keys.lock().iter().map(|k| SecretKey::Aes256(*k)).collect();
            decoder.with_encryption(keys).with_verify_incoming(true);
        }
        decoder
    }

    /// Returns the same decoder for frames of connections, which may be large.
    pub(super) fn decoder_of_frames(&self) -> ProtoDecoder {
        let mut decoder = self.decoder();
        decoder.with_offload_size(INLINE_DECRYPTION);
        decoder
    }

    /// Returns true if the fault switch drops datagrams from this address.
    pub(super) fn loses(&self, from: SocketAddr) -> bool {
        self.cut.severs(from) && !self.cut.one_way.load(Ordering::Relaxed)
    }

    #[cfg(any(test, feature = "sim"))]
    pub(super) fn set_cut(&self, cut: Cut) {
        self.cut.set(cut);
    }

    /// Returns the address at which this member reaches itself without leaving the machine.
    pub(super) fn loopback(&self) -> SocketAddr {
        let mut addr = self.local;
        if addr.ip().is_unspecified() {
            addr.set_ip(match addr {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        addr
    }
}

pub(super) fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the mesh has been shut down")
}

fn bind_pair(bind: SocketAddr) -> Result<Sockets, MeshError> {
    let mut attempts = if bind.port() == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let tcp = bind_tcp(bind).map_err(|source| MeshError::Bind { addr: bind, transport: "tcp", source })?;
        let bound = tcp.local_addr().unwrap_or(bind);
        match bind_udp(bound) {
            Ok(udp) => return Ok(Sockets { udp: Arc::new(udp), tcp: Arc::new(tcp) }),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
            Err(source) => return Err(MeshError::Bind { addr: bound, transport: "udp", source }),
        }
    }
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait until the connections of the previous process leave TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

fn bind_udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let std = std::net::UdpSocket::bind(addr)?;
    std.set_nonblocking(true)?;
    let duplicate = memberlist::agnostic::tokio::net::UdpSocket::try_from(std.try_clone()?)?;
    // A smaller buffer only loses more of a burst, so a refusal must not prevent the start.
    if let Err(e) = duplicate.set_recv_buffer_size(RECEIVE_BUFFER) {
        tracing::debug!(error = %e, "receive buffer stays at the system's default");
    }
    UdpSocket::from_std(std)
}

/// A cut of the network, for tests. Datagrams vanish and dials hang, as behind a firewall that drops packets.
#[cfg(any(test, feature = "sim"))]
#[derive(Clone, Debug)]
pub enum Cut {
    /// No cut.
    None,
    /// Nothing passes between this member and these addresses.
    Both(Vec<SocketAddr>),
    /// Nothing that this member sends reaches these addresses.
    Outbound(Vec<SocketAddr>),
}

#[cfg(any(test, feature = "sim"))]
impl From<Option<Vec<SocketAddr>>> for Cut {
    fn from(peers: Option<Vec<SocketAddr>>) -> Self {
        peers.map_or(Self::None, Self::Both)
    }
}

/// The cut that is in force.
#[derive(Default)]
struct Severed {
    active: AtomicBool,
    one_way: AtomicBool,
    peers: RwLock<HashSet<SocketAddr>>,
}

impl Severed {
    fn severs(&self, peer: SocketAddr) -> bool {
        self.active.load(Ordering::Relaxed) && self.peers.read().contains(&peer)
    }

    #[cfg(any(test, feature = "sim"))]
    fn set(&self, cut: Cut) {
        self.one_way.store(matches!(cut, Cut::Outbound(_)), Ordering::Relaxed);
        self.active.store(!matches!(cut, Cut::None), Ordering::Relaxed);
        *self.peers.write() = match cut {
            Cut::None => HashSet::new(),
            Cut::Both(peers) | Cut::Outbound(peers) => peers.into_iter().collect(),
        };
    }
}

/// The pause after an error of accept or receive. Such errors are transient: a full descriptor table, a reset before
/// accept.
pub(super) const SOCKET_ERROR_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::node::mesh::{Kind, Mesh, runtime::MeshRuntime};

    /// Returns the datagrams of one message: the one that memberlist makes, and the one that `encode` makes.
    async fn both(mesh: &Mesh) -> [Vec<u8>; 2] {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (to, message) = (socket.local_addr().unwrap(), Kind::Datagram.seal(Bytes::from(vec![5; 700])));
        mesh.core.live().unwrap().send(&to, message.clone()).await.unwrap();
        assert_eq!(mesh.core.send_now(&[to], message), 1);
        [0, 1].map(|_| {
            let mut datagram = vec![0; 2_000];
            let len = socket.recv(&mut datagram).unwrap();
            datagram.truncate(len);
            datagram
        })
    }

    #[tokio::test]
    async fn datagrams_are_those_of_memberlist() {
        for keys in [vec![], vec![[7; 32], [8; 32]]] {
            let config = MeshConfig { keys: keys.clone(), ..MeshConfig::new("wire", ([127, 0, 0, 1], 0).into()) };
            let (mesh, _events) = Mesh::start(config).await.unwrap();
            let [theirs, ours] = both(&mesh).await;
            assert_eq!(theirs.len(), ours.len());
            // Encrypted datagrams differ in the nonce.
            assert_eq!(theirs == ours, keys.is_empty());
            for datagram in [&theirs, &ours] {
                let decoded = mesh.core.wire.decoder().decode::<MeshRuntime>(BytesMut::from(&datagram[..])).await;
                assert!(decoded.unwrap().windows(700).any(|part| part == [5; 700]));
            }
            mesh.shutdown(Duration::from_secs(1)).await;
        }
    }
}
