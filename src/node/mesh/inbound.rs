//! What comes in: datagrams and connections, screened before memberlist sees them.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use bytes::{Bytes, BytesMut};
use memberlist::{
    proto::{DataRef, Message, MessageRef},
    tokio::TokioRuntime,
    transport::{Packet, PacketProducer, StreamProducer},
};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, mpsc},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use super::{
    delegate::{Ears, Kind},
    idle::LINGER,
    stream::{Conn, Recycle, Returned},
    wire::{SOCKET_ERROR_PAUSE, Wire},
};

pub(super) type Packets = PacketProducer<SocketAddr, Instant>;
pub(super) type Streams = StreamProducer<SocketAddr, Conn>;

/// Moves datagrams from the socket to the present memberlist instance.
pub(super) async fn pump_datagrams(wire: Arc<Wire>, ears: Arc<Ears>) {
    let Ok(sockets) = wire.sockets() else { return };
    let mut buf = vec![0; 1 << 16];
    loop {
        match sockets.udp.recv_from(&mut buf).await {
            Ok((n, from)) => {
                let bytes = &buf[..n];
                if !admits(&wire, bytes, from) || taken(&wire, &ears, bytes, from).await {
                    continue;
                }
                let packet = Packet::new(from, Instant::now(), Bytes::copy_from_slice(bytes));
                // Never wait: an instance whose tasks died takes nothing, and the next one must be heard.
                let taken = wire.ears_of.read().as_ref().is_some_and(|(packets, _)| packets.try_send(packet).is_ok());
                if !taken {
                    wire.counters.membership_dropped.one();
                }
            }
            Err(e) => {
                wire.counters.socket_errors.one();
                tracing::debug!(error = %e, "datagram receive failed");
                sleep(SOCKET_ERROR_PAUSE).await;
            }
        }
    }
}

fn admits(wire: &Wire, bytes: &[u8], from: SocketAddr) -> bool {
    if wire.loses(from) {
        return false;
    }
    if let Err(refusal) = wire.policy.check_datagram(bytes) {
        refusal.count(&wire.counters);
        wire.refusals.note(from.ip(), refusal.why());
        return false;
    }
    wire.counters.datagrams_in.one();
    wire.counters.datagram_bytes_in.add(bytes.len());
    true
}

/// Whether a datagram needs no more: it was delivered, or cannot be read with any of our keys, which memberlist would log each
/// time.
async fn taken(wire: &Wire, ears: &Ears, bytes: &[u8], from: SocketAddr) -> bool {
    match wire.decoder().decode::<TokioRuntime>(BytesMut::from(bytes)).await {
        Ok(plain) => short_cut(ears, plain),
        Err(_) if wire.policy.is_encrypted() => {
            wire.counters.undecipherable.one();
            wire.refusals.note(from.ip(), "encrypted with another key, or damaged");
            true
        }
        Err(_) => false,
    }
}

/// Delivers a user datagram without the way through memberlist's listener, queue and handler, which costs two more
/// wake-ups and loses bursts. Everything else, our canaries among it, takes that way. `true` if delivered.
fn short_cut(ears: &Ears, plain: Bytes) -> bool {
    match <UserMessage<'_> as DataRef<'_, Message<Arc<str>, SocketAddr>>>::decode(&plain) {
        Ok((read, MessageRef::UserData(body)))
            if read == plain.len() && Kind::of_sealed(body) == Some(Kind::Datagram) =>
        {
            ears.inbox.push(plain.slice_ref(&body[..body.len() - 1]), false, &ears.counters);
            true
        }
        _ => false,
    }
}

type UserMessage<'a> = MessageRef<'a, &'a str, SocketAddr>;

/// Accepts connections, waits for their header and passes them on; takes them back between two frames.
pub(super) async fn accept_streams(wire: Arc<Wire>) {
    let Ok(sockets) = wire.sockets() else { return };
    let (back, mut returned) = mpsc::unbounded_channel();
    let mut screens = Screens { wire, back, running: JoinSet::new(), oldest: VecDeque::new() };
    loop {
        tokio::select! {
            accepted = sockets.tcp.accept() => match accepted {
                Ok((socket, from)) => screens.admit(socket, from),
                Err(e) => {
                    screens.wire.counters.socket_errors.one();
                    tracing::debug!(error = %e, "accept failed");
                    sleep(SOCKET_ERROR_PAUSE).await;
                }
            },
            Some(conn) = returned.recv() => screens.readmit(conn),
            Some(_) = screens.running.join_next() => {}
        }
    }
}

/// Connections that have not shown a header yet, oldest first.
struct Screens {
    wire: Arc<Wire>,
    back: mpsc::UnboundedSender<Returned>,
    running: JoinSet<()>,
    oldest: VecDeque<AbortHandle>,
}

impl Screens {
    fn admit(&mut self, socket: TcpStream, from: SocketAddr) {
        let Some(permit) = self.permit() else {
            self.wire.counters.refused_connections.one();
            return;
        };
        self.wire.counters.streams_in.one();
        let _ = socket.set_nodelay(true);
        let (wire, back) = (self.wire.clone(), self.back.clone());
        self.spawn(async move {
            // A victim's permit comes back when its task is dropped, a moment later.
            let Ok(permit) = (match permit {
                Some(permit) => Ok(permit),
                None => wire.inbound.clone().acquire_owned().await,
            }) else {
                return;
            };
            screen(&wire, Returned { socket, rest: BytesMut::new(), permit, used: false }, from, back).await;
        });
    }

    fn readmit(&mut self, conn: Returned) {
        let Ok(from) = conn.socket.peer_addr() else { return };
        let (wire, back) = (self.wire.clone(), self.back.clone());
        self.spawn(async move { screen(&wire, conn, from, back).await });
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.oldest.retain(|h| !h.is_finished());
        self.oldest.push_back(self.running.spawn(task));
    }

    /// A place in the table. When it is full, a connection that has proven nothing yields to the newcomer, so that
    /// silent connections cannot shut out members.
    fn permit(&mut self) -> Option<Option<OwnedSemaphorePermit>> {
        if let Ok(permit) = self.wire.inbound.clone().try_acquire_owned() {
            return Some(Some(permit));
        }
        self.oldest.retain(|h| !h.is_finished());
        self.oldest.pop_front().map(|victim| {
            victim.abort();
            self.wire.counters.shed_connections.one();
            None
        })
    }
}

/// Waits for a frame and its header, then lets memberlist have the connection.
async fn screen(wire: &Wire, mut conn: Returned, from: SocketAddr, back: mpsc::UnboundedSender<Returned>) {
    if conn.used && !matches!(timeout(LINGER, conn.awake(&wire.counters)).await, Ok(Ok(true))) {
        return;
    }
    let recycle = Recycle::Accepted(back, conn.permit);
    let lifetime = wire.timing.stream_timeout;
    let mut conn = Conn::new(conn.socket, conn.rest, lifetime, wire.counters.clone(), recycle);
    match timeout(wire.timing.header_timeout, conn.screen(&wire.policy)).await {
        Ok(Ok(())) => hand_over(wire, from, conn).await,
        Ok(Err(e)) => {
            if e.kind() == std::io::ErrorKind::InvalidData {
                wire.refusals.note(from.ip(), "a connection that speaks something else");
            }
            tracing::debug!(%from, error = %e, "connection refused");
        }
        Err(_) => {
            wire.counters.header_timeouts.one();
            tracing::debug!(%from, "connection showed no header in time");
        }
    }
}

async fn hand_over(wire: &Wire, from: SocketAddr, conn: Conn) {
    // memberlist takes one at a time and its channel is not fair: without a queue of ours, busy connections starve one
    // until it times out with a message in it.
    let _turn = wire.turn.lock().await;
    let Some((_, streams)) = wire.ears_of.read().clone() else { return };
    // An instance whose tasks died takes nothing; do not wait for it for ever.
    if !matches!(timeout(wire.timing.header_timeout, streams.send(from, conn)).await, Ok(Ok(()))) {
        wire.counters.membership_dropped.one();
    }
}
