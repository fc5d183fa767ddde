//! memberlist's `Transport`, on the sockets of the mesh.

use std::{borrow::Cow, io, net::SocketAddr, sync::Arc};

use memberlist::{
    proto::Payload,
    transport::{
        Connection, PacketSubscriber, StreamSubscriber, Transport, TransportError, packet_stream, promised_stream,
        resolver::socket_addr::SocketAddrResolver,
    },
};
use tokio::time::{Instant, timeout_at};

use super::{
    frame::RefusedThere,
    runtime::MeshRuntime,
    stream::Conn,
    wire::{PACKET_SIZE, Wire},
};

/// Maximum number of packets on their way from the pump to memberlist's listener.
const PACKET_QUEUE: usize = 1024;

/// The parameters of the transport of one instance.
pub(super) struct TransportOptions {
    pub(super) wire: Arc<Wire>,
    pub(super) name: Arc<str>,
    pub(super) advertise: SocketAddr,
}

/// The access of one instance to the sockets.
pub(super) struct MeshTransport {
    options: TransportOptions,
    packets: PacketSubscriber<SocketAddr, Instant>,
    streams: StreamSubscriber<SocketAddr, Conn>,
}

/// An error of the network, as memberlist sees it.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Custom(Cow<'static, str>),
}

impl TransportError for WireError {
    /// Returns true for every failure to send. It counts as a failure of the remote, so that it leads to suspicion and
    /// not to silence.
    fn is_remote_failure(&self) -> bool {
        matches!(self, Self::Io(_))
    }

    fn custom(err: Cow<'static, str>) -> Self {
        Self::Custom(err)
    }
}

impl Transport for MeshTransport {
    type Error = WireError;
    type Id = Arc<str>;
    type Address = SocketAddr;
    type ResolvedAddress = SocketAddr;
    type Resolver = SocketAddrResolver<MeshRuntime>;
    type Connection = Conn;
    type Runtime = MeshRuntime;
    type Options = TransportOptions;

    async fn new(options: TransportOptions) -> Result<Self, WireError> {
        let (packet_tx, packets) = packet_stream::<Self>(PACKET_QUEUE);
        let (stream_tx, streams) = promised_stream::<Self>();
        // From here on the new instance receives from the network and the old one no longer does.
        *options.wire.ears_of.write() = Some((packet_tx, stream_tx));
        Ok(Self { options, packets, streams })
    }

    async fn resolve(&self, addr: &SocketAddr) -> Result<SocketAddr, WireError> {
        Ok(*addr)
    }

    fn local_id(&self) -> &Arc<str> {
        &self.options.name
    }

    fn local_address(&self) -> &SocketAddr {
        &self.options.wire.local
    }

    fn advertise_address(&self) -> &SocketAddr {
        &self.options.advertise
    }

    fn max_packet_size(&self) -> usize {
        PACKET_SIZE
    }

    fn header_overhead(&self) -> usize {
        0
    }

    fn blocked_address(&self, _: &SocketAddr) -> Result<(), WireError> {
        Ok(())
    }

    /// Screens the frame. Answers on dialled connections arrive here unscreened; on inbound connections the frame is
    /// already measured.
    async fn read(&self, addr: &SocketAddr, reader: &mut <Conn as Connection>::Reader) -> Result<usize, WireError> {
        let screened = reader.screen(&self.options.wire.policy).await;
        let refused = screened.as_ref().err().and_then(|error| error.get_ref()?.downcast_ref::<RefusedThere>());
        if let Some(RefusedThere(refusal)) = refused {
            self.options.wire.note_refused_by(*addr, *refusal);
        }
        screened?;
        Ok(0)
    }

    async fn send_to(&self, addr: &SocketAddr, packet: Payload) -> Result<(usize, Instant), WireError> {
        let now = Instant::now();
        Ok((self.options.wire.send_to(*addr, packet.as_slice()).await?, now))
    }

    async fn open(&self, addr: &SocketAddr, deadline: Instant) -> Result<Conn, WireError> {
        let dial = timeout_at(deadline, self.options.wire.connect(*addr)).await;
        Ok(dial.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
    }

    fn packet(&self) -> PacketSubscriber<SocketAddr, Instant> {
        self.packets.clone()
    }

    fn stream(&self) -> StreamSubscriber<SocketAddr, Conn> {
        self.streams.clone()
    }

    fn packet_reliable(&self) -> bool {
        false
    }

    fn packet_secure(&self) -> bool {
        false
    }

    fn stream_secure(&self) -> bool {
        false
    }

    /// Does nothing: sockets and pumps belong to the mesh, not to an instance.
    async fn shutdown(&self) -> Result<(), WireError> {
        Ok(())
    }
}
