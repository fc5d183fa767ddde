//! Accepts connections, up to the limit, and ends them when the process ends.

use super::{clients::Client, connection, session::Shared};
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

/// The time limit for open connections when the process ends.
const GRACE: Duration = Duration::from_secs(2);

/// Serves until `stop` changes, then lets every connection finish its current requests, for at most `GRACE`.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => admit(stream, address, &shared, &mut connections).await,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    shared.is_stopping.store(true, Relaxed);
    shared.clients.wake_all();
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

async fn admit(mut stream: TcpStream, address: SocketAddr, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
        shared.stats.rejected.add(1);
        let _ = timeout(Duration::from_millis(100), stream.write_all(b"-ERR max number of clients reached\r\n")).await;
        return;
    };
    let shared = Arc::clone(shared);
    let local = stream.local_addr().unwrap_or(shared.redis);
    let client = Arc::new(Client::new(shared.stats.connections.add(1), address, local));
    shared.clients.add(&client);
    connections.spawn(async move {
        let _left = Leaving { shared: &shared, id: client.id };
        if let Err(error) = connection::serve(stream, &shared, client).await {
            tracing::debug!(%error, "connection lost");
        }
        drop(place);
    });
}

/// Takes a client off the list, however its connection ends.
struct Leaving<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.shared.clients.remove(self.id);
    }
}
