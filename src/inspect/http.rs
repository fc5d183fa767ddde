//! The debug interface over HTTP: JSON under `/v1`, health checks, Prometheus text, and an HTML page.
//!
//! It is off until it is started, and read-only: no request changes anything. An address beyond loopback requires a
//! token. `Host` and `Origin` are checked. So a page of another site, opened in a browser on this machine, cannot read
//! the answers. Values are hidden unless [`HttpConfig::show_values`] is set.
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
use crate::node::mesh::why_not_listening;
use crate::node::resolve;

mod answer;
mod guard;
mod limits;
mod metrics;
mod page;
mod process;
mod routes;

/// The maximum number of connections. While they are in use, a few further ones get answers to health checks only.
const CONNECTIONS: usize = 64;
/// The maximum number of concurrent comparisons of whole key spaces.
const HEAVY: usize = 2;
/// The minimum length of a token in bytes.
const MIN_TOKEN: usize = 16;

/// Settings of the debug interface.
#[derive(Clone)]
pub struct HttpConfig {
    /// The address to listen on, as `host:port`.
    bind: String,
    token: Option<String>,
    show_values: bool,
    hosts: Vec<String>,
}

impl HttpConfig {
    /// Creates settings that listen on `bind` and show no values. Port 0 selects a free port. For a host name use
    /// [`bind_host`](Self::bind_host).
    #[must_use]
    pub fn new(bind: SocketAddr) -> Self {
        Self::bind_host(bind.to_string())
    }

    /// Creates settings that listen on `host:port`, such as `localhost:7980`, and show no values. The name is resolved
    /// once, at the start; of several addresses the first IPv4 address is used. Requests may use the name as their host.
    #[must_use]
    pub fn bind_host(host_and_port: impl Into<String>) -> Self {
        let bind = host_and_port.into();
        let name = bind.rsplit_once(':').map(|(name, _)| name.to_owned());
        Self { bind, token: None, show_values: false, hosts: name.into_iter().collect() }
    }

    async fn resolve(&self) -> Result<SocketAddr, HttpError> {
        let unusable = |(what, source)| HttpError::Address { what, source };
        resolve("bind", self.bind.clone(), |_| true).await.map_err(unusable)
    }

    /// Requires `Authorization: Bearer` with this token, of at least 16 bytes. A token is required for any address that
    /// is not loopback. The page itself and the health checks reveal nothing and need no token. There is no TLS: on an
    /// untrusted network, put a proxy in front.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Shows values, one key at a time, if `show` is true. Default: false.
    #[must_use]
    pub fn show_values(mut self, show: bool) -> Self {
        self.show_values = show;
        self
    }

    /// Adds a host name that requests may use, besides IP addresses and `localhost`.
    #[must_use]
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.hosts.push(name.into());
        self
    }
}

impl std::fmt::Debug for HttpConfig {
    // Written by hand, so that the token cannot reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpConfig")
            .field("bind", &self.bind)
            .field("token", &self.token.as_ref().map(|_| "set"))
            .field("show_values", &self.show_values)
            .field("hosts", &self.hosts)
            .finish()
    }
}

/// An error of starting the debug interface.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The address is not loopback, and there is no token.
    #[error("{0} can be reached from other machines: set a token, or listen on 127.0.0.1")]
    TokenRequired(SocketAddr),
    /// The token is so short that it could be guessed.
    #[error("the token must have at least {MIN_TOKEN} bytes")]
    ShortToken,
    /// The address is not `host:port`, or its name does not resolve.
    #[error("the debug interface cannot listen: {what}")]
    Address {
        /// The value and its fix.
        what: String,
        /// The error of the operating system, if there is one.
        source: Option<std::io::Error>,
    },
    /// The address cannot be used.
    #[error("the debug interface cannot listen on {addr}: {why}", addr = .0, why = why_not_listening(.1))]
    Bind(SocketAddr, #[source] std::io::Error),
}

/// The state that the handlers share.
struct Shared {
    inspector: Inspector,
    config: HttpConfig,
    heavy: Semaphore,
}

type App = Arc<Shared>;

/// A running debug interface. Dropping it stops the interface.
#[derive(Debug)]
pub struct HttpServer {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Binds the address and serves in the current runtime, until the returned server is dropped.
    ///
    /// # Errors
    /// The address requires a token, the token is shorter than 16 bytes, the name of the address does not resolve, or the
    /// address cannot be bound.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(inspector: Inspector, config: HttpConfig) -> Result<Self, HttpError> {
        let bind = config.resolve().await?;
        check(&config, bind)?;
        let failed = |error| HttpError::Bind(bind, error);
        let listener = TcpListener::bind(bind).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        let app = Arc::new(Shared { inspector, config, heavy: Semaphore::new(HEAVY) });
        let router = guarded(routes(), &app).with_state(app);
        let task = tokio::spawn(limits::serve(listener, CONNECTIONS, router));
        Ok(Self { addr, task })
    }

    /// Returns the address on which the interface listens.
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

fn check(config: &HttpConfig, bind: SocketAddr) -> Result<(), HttpError> {
    match &config.token {
        Some(token) if token.len() < MIN_TOKEN => Err(HttpError::ShortToken),
        None if !bind.ip().is_loopback() => Err(HttpError::TokenRequired(bind)),
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
        .route("/v1/past", get(routes::past))
        .route("/v1/caches", get(routes::caches))
        .route("/v1/caches/{cache}", get(routes::cache))
        .route("/v1/caches/{cache}/past", get(routes::cache_past))
        .route("/v1/caches/{cache}/hot", get(routes::hot))
        .route("/v1/caches/{cache}/tombstones", get(routes::tombstones))
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
