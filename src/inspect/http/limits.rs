//! The connections of the debug interface: limits on their number, on the time to send a request head, and on their
//! lifetime. Places in reserve answer health checks even if all other places are taken.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::{answer, guard};
use crate::sync::{AtomicBool, Ordering};

/// The time in which a connection must send the whole head of its next request. It includes the time between two
/// requests of one connection.
const HEAD: Duration = Duration::from_secs(2);
/// The maximum lifetime of a connection. A browser opens a new one.
const LIFETIME: Duration = Duration::from_secs(60);
/// The pause after an error of accept. Such errors are transient: a full descriptor table, a reset before accept.
const PAUSE: Duration = Duration::from_millis(50);
/// The maximum number of connections in reserve, which answer health checks only.
const RESERVE: usize = 16;

/// An open connection, as the acceptor sees it.
struct Place {
    task: AbortHandle,
    /// True once the connection has sent the head of a request. From then on it yields to no other connection.
    proven: Arc<AtomicBool>,
}

/// A bounded number of open connections, the oldest first.
struct Places {
    limit: usize,
    open: VecDeque<Place>,
}

impl Places {
    fn new(limit: usize) -> Self {
        Self { limit, open: VecDeque::with_capacity(limit) }
    }

    /// Makes room for one connection, and returns false if there is none. The oldest connection without a request head
    /// yields.
    fn make_room(&mut self) -> bool {
        self.open.retain(|place| !place.task.is_finished());
        if self.open.len() < self.limit {
            return true;
        }
        let victim = self.open.iter().position(|place| !place.proven.load(Ordering::Relaxed));
        let victim = victim.and_then(|at| self.open.remove(at));
        victim.map(|place| place.task.abort()).is_some()
    }
}

/// Accepts connections for ever. At most `limit` connections get any answer. While these are taken, further ones get
/// answers to health checks.
pub(super) async fn serve(listener: TcpListener, limit: usize, router: Router) {
    let (mut places, mut reserve) = (Places::new(limit), Places::new(RESERVE));
    // Dropping the set ends all connections together with this future.
    let mut running = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "the debug interface could not accept a connection");
                sleep(PAUSE).await;
                continue;
            }
        };
        while running.try_join_next().is_some() {}
        let is_full = !places.make_room();
        let room = if is_full { &mut reserve } else { &mut places };
        // Without room even in the reserve, the connection is closed here.
        if !is_full || room.make_room() {
            let proven = Arc::new(AtomicBool::new(false));
            let task = running.spawn(converse(stream, router.clone(), is_full, Arc::clone(&proven)));
            room.open.push_back(Place { task, proven });
        }
    }
}

/// Serves one connection until it ends, or until a limit ends it.
async fn converse(stream: TcpStream, router: Router, is_reserve: bool, proven: Arc<AtomicBool>) {
    let service = service_fn(|request: Request<Incoming>| {
        proven.store(true, Ordering::Relaxed);
        let router = router.clone();
        async move { Ok::<_, Infallible>(respond(router, request.map(Body::new), is_reserve).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        // An answered connection would otherwise keep its place in reserve until its next request.
        .keep_alive(!is_reserve)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(LIFETIME, connection).await {
        tracing::debug!(%error, "a connection of the debug interface ended");
    }
}

async fn respond(router: Router, request: Request<Body>, is_reserve: bool) -> Response {
    if is_reserve && !guard::is_health(request.uri().path()) {
        let why = "all connections of the debug interface are in use: retry when some have ended";
        return answer::refuse(StatusCode::SERVICE_UNAVAILABLE, why);
    }
    match tower_service::Service::call(&mut router.into_service(), request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
