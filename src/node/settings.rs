//! The settings of a node, as a configuration file has them.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::mesh::port_of;

/// A host and a port, such as `10.0.3.17:7946`, `[::1]:7946` or `localhost:7946`. A name is resolved when the node is
/// started.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPort(String);

impl HostPort {
    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        port_of(&self.0).unwrap_or_default()
    }
}

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let is_valid = text.parse::<SocketAddr>().is_ok() || port_of(text).is_some();
        if is_valid { Ok(Self(text.to_owned())) } else { Err(HostPortError(text.to_owned())) }
    }
}

impl TryFrom<String> for HostPort {
    type Error = HostPortError;

    fn try_from(text: String) -> Result<Self, HostPortError> {
        text.parse()
    }
}

impl From<SocketAddr> for HostPort {
    fn from(addr: SocketAddr) -> Self {
        Self(addr.to_string())
    }
}

impl From<HostPort> for String {
    fn from(address: HostPort) -> Self {
        address.0
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The error of a text that is not a [`HostPort`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a socket address or `host:port`: write for example `10.0.3.17:7946` or `localhost:7946`")]
pub struct HostPortError(String);

/// The addresses, names and seeds of a node. They come from a configuration file, through `serde`, or from code:
/// [`NodeBuilder::settings`](crate::NodeBuilder::settings). The settings of a cache are
/// [`CacheSettings`](crate::CacheSettings).
///
/// They contain no keys: a secret does not belong in a file that is read, printed and compared. See
/// [`NodeBuilder::encryption_key`](crate::NodeBuilder::encryption_key).
///
/// ```
/// let text = r#"{ "cluster": "shop", "bind": "10.0.3.17:7946", "seeds": ["shop-gossip:7946"] }"#;
/// let settings: driftless::NodeSettings = serde_json::from_str(text)?;
/// let node = driftless::Node::builder().settings(settings); // and then .encryption_key(..).start()
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct NodeSettings {
    /// The name of the cluster, 1 to 64 bytes. Nodes of other clusters are refused. Default `driftless`.
    pub cluster: String,
    /// A name for this member that stays the same over restarts. Default: empty, which means the advertised address.
    pub name: String,
    /// The address to listen on, TCP and UDP, as `host:port`. A host name is resolved once, at the start. Port 0 takes a
    /// free port. Default `127.0.0.1:0`.
    pub bind: HostPort,
    /// The address at which other nodes reach this one, as `host:port`. A host name is resolved once, at the start.
    /// Default: none, which means the bound address.
    pub advertise: Option<HostPort>,
    /// The nodes to join, as `host:port`. Default: none.
    pub seeds: Vec<String>,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            cluster: "driftless".into(),
            name: String::new(),
            bind: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
            advertise: None,
            seeds: Vec::new(),
        }
    }
}
