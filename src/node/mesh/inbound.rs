//! What comes in: datagrams and connections, screened before memberlist sees them.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use memberlist::transport::{Packet, PacketProducer, StreamProducer};
use tokio::{
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use super::{
    stream::Conn,
    wire::{SOCKET_ERROR_PAUSE, Sockets, Wire},
};

pub(super) type Packets = PacketProducer<SocketAddr, Instant>;
pub(super) type Streams = StreamProducer<SocketAddr, Conn>;

/// Moves datagrams from the socket to one memberlist instance.
pub(super) async fn pump_datagrams(wire: Arc<Wire>, sockets: Sockets, packets: Packets) {
    let mut buf = vec![0; 1 << 16];
    loop {
        match sockets.udp.recv_from(&mut buf).await {
            Ok((n, from)) => {
                if let Some(packet) = screen_datagram(&wire, &buf[..n], from)
                    && packets.send(packet).await.is_err()
                {
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

fn screen_datagram(wire: &Wire, bytes: &[u8], from: SocketAddr) -> Option<Packet<SocketAddr, Instant>> {
    if wire.loses(from) {
        return None;
    }
    if let Err(refusal) = wire.policy.check_datagram(bytes) {
        refusal.count(&wire.counters);
        return None;
    }
    wire.counters.datagrams_in.one();
    wire.counters.datagram_bytes_in.add(bytes.len());
    Some(Packet::new(from, Instant::now(), Bytes::copy_from_slice(bytes)))
}

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
