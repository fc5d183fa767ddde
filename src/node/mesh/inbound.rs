//! Inbound datagrams and connections. Both are screened before their content is used.
//!
//! A message of the mesh's user, for instance of a cache, goes from here to the inbox in `delegate`. It never reaches
//! memberlist. Any other message that passes the screen goes to the current memberlist instance.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use memberlist::{
    proto::{DataRef, Message, MessageRef},
    transport::Packet,
};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use super::{
    delegate::{DelegateState, Kind},
    frame::Refusal,
    idle::LINGER,
    runtime::MeshRuntime,
    shares::{Amount, Refused, Seat, any_port, host},
    stream::{Conn, Recycle, Returned},
    wire::{SOCKET_ERROR_PAUSE, Wire},
};

/// Moves datagrams from the socket to the inbox or to the current memberlist instance.
pub(super) async fn pump_datagrams(wire: Arc<Wire>, delegate_state: Arc<DelegateState>) {
    let Ok(sockets) = wire.sockets() else { return };
    let mut buf = vec![0; 1 << 16];
    loop {
        match sockets.udp.recv_from(&mut buf).await {
            Ok((n, from)) => {
                let bytes = &buf[..n];
                if !admits(&wire, bytes, from) || taken(&wire, &delegate_state, bytes, from).await {
                    continue;
                }
                let packet = Packet::new(from, Instant::now(), Bytes::copy_from_slice(bytes));
                // Never waits: an instance whose tasks died takes nothing, and the next instance must receive its
                // datagrams.
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

/// Returns true if a datagram passes the screen. Counts the datagram or its refusal.
fn admits(wire: &Wire, bytes: &[u8], from: SocketAddr) -> bool {
    if wire.loses(from) {
        return false;
    }
    if let Err(refusal) = wire.policy.check_datagram(bytes) {
        refusal.count(&wire.counters);
        wire.note_refusal(from, refusal);
        return false;
    }
    wire.counters.datagrams_in.one();
    wire.counters.datagram_bytes_in.add(bytes.len() as u64);
    true
}

/// Returns true if a datagram needs no more handling: it was delivered, or no current key decrypts it. memberlist would
/// log each datagram that it cannot decrypt.
async fn taken(wire: &Wire, delegate_state: &DelegateState, bytes: &[u8], from: SocketAddr) -> bool {
    match wire.decoder().decode::<MeshRuntime>(BytesMut::from(bytes)).await {
        Ok(plain) => short_cut(delegate_state, plain, Kind::Datagram, from),
        Err(_) if wire.policy.is_encrypted() => {
            wire.counters.undecipherable.one();
            wire.note_refusal(from, Refusal::Undecipherable);
            true
        }
        Err(_) => false,
    }
}

/// Delivers a user message directly, and returns true if it did. The way through memberlist's listener, queue and
/// handler costs two more wake-ups, loses bursts, and hides the sender's address. All other messages take that way, the
/// canaries of this member included.
fn short_cut(delegate_state: &DelegateState, plain: Bytes, kind: Kind, from: SocketAddr) -> bool {
    match <UserMessage<'_> as DataRef<'_, Message<Arc<str>, SocketAddr>>>::decode(&plain) {
        Ok((read, MessageRef::UserData(body))) if read == plain.len() && Kind::of_sealed(body) == Some(kind) => {
            delegate_state.deliver(from, plain.slice_ref(&body[..body.len() - 1]), kind);
            true
        }
        _ => false,
    }
}

type UserMessage<'a> = MessageRef<'a, &'a str, SocketAddr>;

/// Accepts connections, waits for their frames and passes them on. Takes connections back between two frames.
pub(super) async fn accept_streams(wire: Arc<Wire>, delegate_state: Arc<DelegateState>) {
    let Ok(sockets) = wire.sockets() else { return };
    let (back, mut returned) = mpsc::unbounded_channel();
    let mut screens = Screens { wire, delegate_state, back, running: JoinSet::new(), oldest: VecDeque::new() };
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

/// The connections that are being read, oldest first.
struct Screens {
    wire: Arc<Wire>,
    delegate_state: Arc<DelegateState>,
    back: mpsc::UnboundedSender<Returned>,
    running: JoinSet<()>,
    oldest: VecDeque<Screening>,
}

/// One connection that is being read.
struct Screening {
    host: IpAddr,
    task: AbortHandle,
    /// The connection's place; gone when the connection is.
    seat: Weak<Seat>,
    /// True once the connection has shown the header of a frame. Until that frame has been read, the connection yields
    /// to no other.
    proven: Arc<AtomicBool>,
}

impl Screens {
    fn admit(&mut self, socket: TcpStream, from: SocketAddr) {
        let Some(seat) = self.seat(from) else {
            self.wire.counters.refused_connections.one();
            return;
        };
        self.wire.counters.streams_in.one();
        let _ = socket.set_nodelay(true);
        self.spawn(Returned { socket, rest: BytesMut::new(), seat, used: false }, from);
    }

    fn readmit(&mut self, conn: Returned) {
        let Ok(from) = conn.socket.peer_addr() else { return };
        self.spawn(conn, from);
    }

    fn spawn(&mut self, conn: Returned, from: SocketAddr) {
        let (proven, seat) = (Arc::new(AtomicBool::new(false)), Arc::downgrade(&conn.seat));
        let visit = Visit {
            wire: self.wire.clone(),
            delegate_state: self.delegate_state.clone(),
            back: self.back.clone(),
            proven: proven.clone(),
            from,
        };
        self.oldest.retain(|screen| !screen.task.is_finished());
        let task = self.running.spawn(visit.screen(conn));
        self.oldest.push_back(Screening { host: host(from), task, seat, proven });
    }

    /// Returns a place in the table. If none is free, the oldest connection that has shown no header yields to the new
    /// one, so that silent connections cannot shut out members. If the address has used up its share, only a connection
    /// of its own host yields.
    fn seat(&mut self, from: SocketAddr) -> Option<Arc<Seat>> {
        let (inbound, one) = (&self.wire.inbound, Amount::one(0));
        let refused = match inbound.take(any_port(from), one) {
            Ok(place) => return Some(Seat::new(place)),
            Err(refused) => refused,
        };
        if refused == Refused::Share {
            self.wire.counters.crowded_connections.one();
            self.wire.note_crowd(from, "connections");
        }
        self.oldest.retain(|screen| !screen.task.is_finished());
        let yields = |screen: &Screening| {
            !screen.proven.load(Ordering::Relaxed) && (refused == Refused::Full || screen.host == host(from))
        };
        let victim = self.oldest.iter().position(yields).and_then(|at| self.oldest.remove(at))?;
        victim.task.abort();
        self.wire.counters.shed_connections.one();
        // An aborted task is dropped only when this task pauses. Until then its place would stay taken. A burst of one
        // address would fill the table with dead connections, and if the table is full, connections of every host
        // yield.
        if let Some(seat) = victim.seat.upgrade() {
            seat.release();
        }
        inbound.take(any_port(from), one).ok().map(Seat::new)
    }
}

/// The state of the task of one connection.
struct Visit {
    wire: Arc<Wire>,
    delegate_state: Arc<DelegateState>,
    back: mpsc::UnboundedSender<Returned>,
    proven: Arc<AtomicBool>,
    from: SocketAddr,
}

impl Visit {
    /// Waits for the header of the next frame and checks it, then reads the frame.
    async fn screen(self, mut conn: Returned) {
        let Self { wire, from, .. } = &self;
        if conn.used && !matches!(timeout(LINGER, conn.awake(&wire.counters)).await, Ok(Ok(true))) {
            return;
        }
        let recycle = Recycle::Accepted(self.back.clone(), conn.seat);
        let lifetime = wire.timing.stream_timeout;
        let mut conn = Conn::new(conn.socket, conn.rest, lifetime, wire.counters.clone(), recycle);
        match timeout(wire.timing.header_timeout, conn.screen(&wire.policy)).await {
            Ok(Ok(())) => self.pass_on(conn).await,
            Ok(Err(e)) => {
                tracing::debug!(%from, error = %e, "connection refused");
                match e.get_ref().and_then(|e| e.downcast_ref::<Refusal>()) {
                    Some(refusal) => {
                        wire.note_refusal(*from, *refusal);
                        conn.refuse(*refusal).await;
                    }
                    None if e.kind() == std::io::ErrorKind::InvalidData => {
                        wire.refusals.note(from.ip(), "a connection with an unknown protocol");
                    }
                    None => {}
                }
            }
            Err(_) => {
                wire.counters.header_timeouts.one();
                tracing::debug!(%from, "connection showed no header in time");
            }
        }
    }

    /// Reads the frame. Delivers a user's message; hands the connection of any other frame to memberlist.
    async fn pass_on(&self, mut conn: Conn) {
        self.proven.store(true, Ordering::Relaxed);
        let Self { wire, delegate_state, from, .. } = self;
        let announced = Amount { count: 0, bytes: conn.frame_len() };
        let Ok(place) = wire.inbound.take(any_port(*from), announced) else {
            wire.counters.crowded_frames.one();
            wire.note_crowd(*from, "bytes of frames being received");
            return;
        };
        conn.hold(place);
        let frame = match conn.frame().await {
            Ok(frame) => BytesMut::from(frame),
            Err(e) => return tracing::debug!(%from, error = %e, "a connection ended within its frame"),
        };
        let delivered = match wire.decoder_of_frames().decode::<MeshRuntime>(frame).await {
            Ok(plain) => short_cut(delegate_state, plain, Kind::Stream, *from),
            Err(_) if wire.policy.is_encrypted() => {
                wire.counters.undecipherable.one();
                wire.note_refusal(*from, Refusal::Undecipherable);
                return conn.refuse(Refusal::Undecipherable).await;
            }
            Err(_) => false,
        };
        if delivered { conn.skip_frame() } else { hand_over(wire, *from, conn).await }
    }
}

async fn hand_over(wire: &Wire, from: SocketAddr, conn: Conn) {
    // memberlist takes one connection at a time and its channel is not fair. Without this queue, a connection could
    // wait behind busy ones until it times out, and its message would be lost.
    let _turn = wire.turn.lock().await;
    let Some((_, streams)) = wire.ears_of.read().clone() else { return };
    // An instance whose tasks died takes nothing, so the wait is bounded.
    if !matches!(timeout(wire.timing.header_timeout, streams.send(from, conn)).await, Ok(Ok(()))) {
        wire.counters.membership_dropped.one();
    }
}
