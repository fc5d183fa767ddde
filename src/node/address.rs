//! The addresses that a node binds and advertises: numbers, or host names that are resolved once, at the start.

use std::net::{SocketAddr, ToSocketAddrs};

use tokio::sync::oneshot;

use super::settings::HostPort;

/// An address that cannot be used: the setting, its value and the fix, and the error of the operating system.
pub(crate) type Unusable = (String, Option<std::io::Error>);

/// The two addresses of a node, as they were set.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub(super) bind: String,
    pub(super) advertise: Option<String>,
}

impl Default for Addresses {
    fn default() -> Self {
        Self { bind: "127.0.0.1:0".into(), advertise: None }
    }
}

impl Addresses {
    /// Resolves both. A name with addresses of both families stands for its first IPv4 address as `bind`, and for its
    /// first address of the family of `bind` as `advertise`.
    pub(super) async fn resolve(self) -> Result<(SocketAddr, Option<SocketAddr>), Unusable> {
        let bind = resolve("bind", self.bind, |_| true).await?;
        let advertise = match self.advertise {
            Some(text) => Some(resolve("advertise", text, |addr| addr.is_ipv4() == bind.is_ipv4()).await?),
            None => None,
        };
        Ok((bind, advertise))
    }
}

/// Resolves the address of a setting. A name with addresses of both families stands for its first IPv4 address that fits.
pub(crate) async fn resolve(
    setting: &str,
    text: String,
    fits: impl Fn(&SocketAddr) -> bool,
) -> Result<SocketAddr, Unusable> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    if let Err(error) = text.parse::<HostPort>() {
        return Err((format!("`{setting}`: {error}"), None));
    }
    let why = "that name does not resolve to an address that can be used: check the name, or write an address";
    let not_found = |source| (format!("`{setting}` is {text:?}, and {why}"), source);
    let found = look_up(text.clone()).await.map_err(|error| not_found(Some(error)))?;
    let mut found: Vec<_> = found.into_iter().filter(fits).collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| not_found(None))
}

/// Asks the system's resolver on a thread of its own: it blocks, and the caller may have no runtime.
async fn look_up(text: String) -> std::io::Result<Vec<SocketAddr>> {
    let (answer, found) = oneshot::channel();
    let ask = move || {
        let _ = answer.send(text.to_socket_addrs().map(Iterator::collect));
    };
    std::thread::Builder::new().name("driftless resolve".into()).spawn(ask)?;
    found.await.unwrap_or_else(|_| Ok(Vec::new()))
}
