//! The debug interface over HTTP: JSON under `/v1`, health, Prometheus text, and a page for people.
//!
//! Off unless it is started. Read-only: there is no request that changes anything. It listens on loopback; anything
//! beyond takes a token. `Host` and `Origin` are checked, so that a web page elsewhere cannot use a browser on this
//! machine to look in. Values are hidden unless they are asked for when it is started.
//!
//! ```no_run
//! # async fn example(node: driftless::Node) -> Result<(), Box<dyn std::error::Error>> {
//! use driftless::inspect::{Inspector, http::{HttpConfig, HttpServer}};
//! let server = HttpServer::start(Inspector::new(&node), HttpConfig::new("127.0.0.1:7980".parse()?)).await?;
//! println!("http://{}/", server.local_addr());
//! # Ok(())
//! # }
//! ```

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::Inspector;

mod answer;
mod guard;
mod limits;
mod metrics;
mod routes;

/// Connections at one time; those beyond wait in the kernel's line.
const CONNECTIONS: usize = 64;
/// Comparisons of whole key spaces at one time.
const HEAVY: usize = 2;
/// A token is at least this long, bytes.
const MIN_TOKEN: usize = 16;

/// How the debug interface is served.
#[derive(Clone)]
pub struct HttpConfig {
    bind: SocketAddr,
    token: Option<String>,
    show_values: bool,
    hosts: Vec<String>,
}

impl HttpConfig {
    /// Listens on `bind`, shows no values. Port 0 takes a free one.
    #[must_use]
    pub fn new(bind: SocketAddr) -> Self {
        Self { bind, token: None, show_values: false, hosts: Vec::new() }
    }

    /// Answers only requests with `Authorization: Bearer` and this token, of at least 16 bytes. Needed for any address
    /// beyond loopback. The page itself and the health checks say nothing that needs one. There is no TLS: on a
    /// network that is not trusted, put a proxy in front.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Whether values may be shown, one at a time. Default: no.
    #[must_use]
    pub fn show_values(mut self, show: bool) -> Self {
        self.show_values = show;
        self
    }

    /// A name by which this interface may be asked for, besides addresses and `localhost`.
    #[must_use]
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.hosts.push(name.into());
        self
    }
}

impl std::fmt::Debug for HttpConfig {
    // By hand, so that no token can reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpConfig")
            .field("bind", &self.bind)
            .field("token", &self.token.as_ref().map(|_| "set"))
            .field("show_values", &self.show_values)
            .field("hosts", &self.hosts)
            .finish()
    }
}

/// Why the debug interface did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// An address beyond loopback without a token.
    #[error("{0} can be reached from other machines: set a token, or listen on 127.0.0.1")]
    TokenRequired(SocketAddr),
    /// A token that could be guessed.
    #[error("a token has at least {MIN_TOKEN} bytes")]
    ShortToken,
    /// The address cannot be used.
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, #[source] std::io::Error),
}

/// What the handlers share.
struct Shared {
    inspector: Inspector,
    config: HttpConfig,
    heavy: Semaphore,
}

type App = Arc<Shared>;

/// The debug interface, while this is there.
#[derive(Debug)]
pub struct HttpServer {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Binds and serves in the current runtime, until this is dropped.
    ///
    /// # Errors
    /// The address needs a token, the token is shorter than 16 bytes, or the address cannot be bound.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(inspector: Inspector, config: HttpConfig) -> Result<Self, HttpError> {
        check(&config)?;
        let bind = config.bind;
        let failed = |error| HttpError::Bind(bind, error);
        let listener = TcpListener::bind(bind).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let app = Arc::new(Shared { inspector, config, heavy: Semaphore::new(HEAVY) });
        let router = guarded(routes(), &app).with_state(app);
        let listener = limits::Limited::new(listener, CONNECTIONS);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the debug interface has stopped");
            }
        });
        Ok(Self { addr, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn check(config: &HttpConfig) -> Result<(), HttpError> {
    match &config.token {
        Some(token) if token.len() < MIN_TOKEN => Err(HttpError::ShortToken),
        None if !config.bind.ip().is_loopback() => Err(HttpError::TokenRequired(config.bind)),
        _ => Ok(()),
    }
}

fn routes() -> Router<App> {
    Router::new()
        .route("/", get(routes::page))
        .route("/health/live", get(routes::live))
        .route("/health/ready", get(routes::ready))
        .route("/metrics", get(routes::metrics))
        .route("/v1/openapi.json", get(routes::openapi))
        .route("/v1/node", get(routes::node))
        .route("/v1/cluster", get(routes::cluster))
        .route("/v1/caches", get(routes::caches))
        .route("/v1/caches/{cache}", get(routes::cache))
        .route("/v1/caches/{cache}/keys", get(routes::keys))
        .route("/v1/caches/{cache}/recent", get(routes::recent))
        .route("/v1/caches/{cache}/explain", get(routes::explain))
        .route("/v1/caches/{cache}/diff", get(routes::diff))
        .route("/v1/caches/{cache}/audit", get(routes::audit))
        .route("/v1/caches/{cache}/staleness", get(routes::staleness))
        .fallback(routes::nothing)
}

fn guarded(router: Router<App>, app: &App) -> Router<App> {
    router.layer(from_fn_with_state(Arc::clone(app), guard::guard))
}

#[cfg(test)]
mod tests;
