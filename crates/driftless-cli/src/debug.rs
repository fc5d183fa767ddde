//! The debug interface, if it was requested and is part of this build.

use driftless::Node;
use std::{error::Error, net::SocketAddr};

/// The settings of the debug interface.
#[cfg_attr(not(feature = "inspect-http"), allow(dead_code))]
pub struct DebugSettings {
    /// The address to listen on, as `host:port`.
    pub at: String,
    pub token: Option<String>,
    /// Host names that requests may use, besides IP addresses and `localhost`.
    pub hosts: Vec<String>,
    pub show_values: bool,
}

/// The running debug interface. It serves until it is dropped.
pub struct DebugPage {
    pub addr: SocketAddr,
    #[cfg(feature = "inspect-http")]
    _server: driftless::inspect::http::HttpServer,
}

/// Starts the debug interface.
#[cfg(feature = "inspect-http")]
pub async fn serve(node: &Node, settings: DebugSettings) -> Result<DebugPage, Box<dyn Error>> {
    use driftless::inspect::{
        Inspector,
        http::{HttpConfig, HttpServer},
    };
    let named = |error: &dyn std::fmt::Display| format!("--http {}: {error}", settings.at);
    let found: Vec<SocketAddr> = tokio::net::lookup_host(&settings.at).await.map_err(|error| named(&error))?.collect();
    // As for gossip: of several addresses, the first of IPv4.
    let at = found.iter().find(|addr| addr.is_ipv4()).or(found.first()).ok_or_else(|| named(&"no such host"))?;
    let mut config = HttpConfig::new(*at).show_values(settings.show_values);
    for host in &settings.hosts {
        config = config.host(host);
    }
    if let Some(token) = &settings.token {
        config = config.token(token);
    }
    let server = HttpServer::start(Inspector::new(node), config).await.map_err(|error| named(&error))?;
    Ok(DebugPage { addr: server.local_addr(), _server: server })
}

/// Returns an error: this build has no debug interface.
#[cfg(not(feature = "inspect-http"))]
#[allow(clippy::unused_async)]
pub async fn serve(_: &Node, settings: DebugSettings) -> Result<DebugPage, Box<dyn Error>> {
    let at = settings.at;
    Err(format!("--http {at}: this was built without the debug page: build with `--features inspect-http`").into())
}
