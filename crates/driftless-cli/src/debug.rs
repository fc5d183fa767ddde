//! The debug interface, if it was requested and is part of this build.

use driftless::Node;
use std::{error::Error, net::SocketAddr};

/// Starts the debug interface and prints its address. It serves until the returned value is dropped.
#[cfg(feature = "inspect-http")]
pub async fn serve(node: &Node, at: Option<SocketAddr>) -> Result<Option<impl Sized + use<>>, Box<dyn Error>> {
    use driftless::inspect::{
        Inspector,
        http::{HttpConfig, HttpServer},
    };
    let Some(at) = at else { return Ok(None) };
    let mut config = HttpConfig::new(at);
    if let Ok(token) = std::env::var("DRIFTLESS_HTTP_TOKEN") {
        config = config.token(token);
    }
    let server = HttpServer::start(Inspector::new(node), config).await.map_err(|error| format!("--http: {error}"))?;
    // Standard output is reserved for the `ready` line, which the parent process reads.
    eprintln!("debug: http://{}/", server.local_addr());
    Ok(Some(server))
}

/// Reports an error if the debug interface was requested: this build has none.
#[cfg(not(feature = "inspect-http"))]
#[allow(clippy::unused_async)]
pub async fn serve(_: &Node, at: Option<SocketAddr>) -> Result<Option<()>, Box<dyn Error>> {
    match at {
        Some(_) => Err("--http: this was built without the debug page: build with `--features inspect-http`".into()),
        None => Ok(None),
    }
}
