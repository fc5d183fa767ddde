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
    sync::OwnedSemaphorePermit,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use super::{
    delegate::{Ears, Kind},
    stream::Conn,
    wire::{SOCKET_ERROR_PAUSE, Sockets, Wire},
};

pub(super) type Packets = PacketProducer<SocketAddr, Instant>;
pub(super) type Streams = StreamProducer<SocketAddr, Conn>;

/// Moves datagrams from the socket to one memberlist instance.
pub(super) async fn pump_datagrams(wire: Arc<Wire>, ears: Arc<Ears>, sockets: Sockets, packets: Packets) {
    let mut buf = vec![0; 1 << 16];
    loop {
        match sockets.udp.recv_from(&mut buf).await {
            Ok((n, from)) => {
                let bytes = &buf[..n];
                if !admits(&wire, bytes, from) || short_cut(&wire, &ears, bytes).await {
                    continue;
                }
                let packet = Packet::new(from, Instant::now(), Bytes::copy_from_slice(bytes));
                if packets.send(packet).await.is_err() {
                    return;
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
        return false;
    }
    wire.counters.datagrams_in.one();
    wire.counters.datagram_bytes_in.add(bytes.len());
    true
}

/// Delivers a user datagram without the way through memberlist's listener, queue and handler, which costs two more
/// wake-ups and loses bursts. Everything else, our canaries among it, takes that way. `true` if delivered.
async fn short_cut(wire: &Wire, ears: &Ears, bytes: &[u8]) -> bool {
    let Ok(plain) = wire.decoder().decode::<TokioRuntime>(BytesMut::from(bytes)).await else { return false };
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

/// Accepts connections, waits for their header and passes them on.
pub(super) async fn accept_streams(wire: Arc<Wire>, sockets: Sockets, streams: Streams) {
    let mut screens = Screens::default();
    loop {
        tokio::select! {
            accepted = sockets.tcp.accept() => match accepted {
                Ok((socket, from)) => screens.admit(&wire, socket, from, &streams),
                Err(e) => {
                    wire.counters.socket_errors.one();
                    tracing::debug!(error = %e, "accept failed");
                    sleep(SOCKET_ERROR_PAUSE).await;
                }
            },
            Some(_) = screens.running.join_next() => {}
        }
    }
}

/// Connections that have not shown a header yet, oldest first.
#[derive(Default)]
struct Screens {
    running: JoinSet<()>,
    oldest: VecDeque<AbortHandle>,
}

impl Screens {
    fn admit(&mut self, wire: &Arc<Wire>, socket: TcpStream, from: SocketAddr, streams: &Streams) {
        self.oldest.retain(|h| !h.is_finished());
        let Some(permit) = self.permit(wire) else {
            wire.counters.refused_connections.one();
            return;
        };
        wire.counters.streams_in.one();
        let screen = screen_stream(wire.clone(), socket, from, permit, streams.clone());
        self.oldest.push_back(self.running.spawn(screen));
    }

    /// A place in the table. When it is full, a connection that has proven nothing yields to the newcomer, so that
    /// silent connections cannot shut out members.
    fn permit(&mut self, wire: &Wire) -> Option<Option<OwnedSemaphorePermit>> {
        if let Ok(permit) = wire.inbound.clone().try_acquire_owned() {
            return Some(Some(permit));
        }
        // The victim's permit comes back when its task is dropped, a moment later; the newcomer starts without one.
        self.oldest.pop_front().map(|victim| {
            victim.abort();
            wire.counters.shed_connections.one();
            None
        })
    }
}

async fn screen_stream(
    wire: Arc<Wire>,
    socket: TcpStream,
    from: SocketAddr,
    permit: Option<OwnedSemaphorePermit>,
    streams: Streams,
) {
    let permit = match permit {
        Some(permit) => permit,
        None => match wire.inbound.clone().acquire_owned().await {
            Ok(permit) => permit,
            Err(_) => return,
        },
    };
    let mut conn = Conn::new(socket, wire.timing.stream_timeout, wire.counters.clone(), Some(permit));
    match timeout(wire.timing.header_timeout, conn.screen(&wire.policy)).await {
        Ok(Ok(())) => drop(streams.send(from, conn).await),
        Ok(Err(e)) => tracing::debug!(%from, error = %e, "connection refused"),
        Err(_) => {
            wire.counters.header_timeouts.one();
            tracing::debug!(%from, "connection showed no header in time");
        }
    }
}
