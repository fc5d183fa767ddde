//! Dialled connections that are idle between two messages.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use crate::sync::Mutex;

/// The time for which an idle connection may be used again. The accepting side waits longer ([`LINGER`]), so that it
/// does not close the connection while a message is on its way.
const KEEP: Duration = Duration::from_secs(5);
/// The time that the accepting side waits for the next frame.
pub(super) const LINGER: Duration = Duration::from_secs(15);
/// Maximum number of idle connections to one address.
const PER_PEER: usize = 2;

/// The idle connections by address, each with the time since when it is idle. The most recent is the last of its list.
#[derive(Default)]
pub(super) struct Idle(Mutex<HashMap<SocketAddr, Vec<(TcpStream, Instant)>>>);

impl Idle {
    /// Returns the most recently used good connection to `to`.
    pub(super) fn take(&self, to: SocketAddr) -> Option<TcpStream> {
        let mut kept = self.0.lock();
        let stack = kept.get_mut(&to)?;
        while let Some((socket, since)) = stack.pop() {
            if since.elapsed() < KEEP && is_quiet(&socket) {
                return Some(socket);
            }
        }
        kept.remove(&to);
        None
    }

    /// Stores a connection for the next message. Closes all connections that have been idle for too long.
    pub(super) fn keep(&self, to: SocketAddr, socket: TcpStream) {
        let mut kept = self.0.lock();
        kept.retain(|_, stack| {
            stack.retain(|(_, since)| since.elapsed() < KEEP);
            !stack.is_empty()
        });
        let stack = kept.entry(to).or_default();
        if stack.len() < PER_PEER {
            stack.push((socket, Instant::now()));
        }
    }

    pub(super) fn forget(&self, to: SocketAddr) {
        self.0.lock().remove(&to);
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }
}

/// Returns true if the peer has neither closed the connection nor sent unexpected bytes.
fn is_quiet(socket: &TcpStream) -> bool {
    matches!(socket.try_read(&mut [0]), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
}
