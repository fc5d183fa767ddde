//! The settings of a node, as a configuration file has them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

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
    /// The address to listen on, TCP and UDP. Port 0 takes a free port. Default `127.0.0.1:0`.
    pub bind: SocketAddr,
    /// The address at which other nodes reach this one. Default: none, which means the bound address.
    pub advertise: Option<SocketAddr>,
    /// The nodes to join, as `host:port`. Default: none.
    pub seeds: Vec<String>,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            cluster: "driftless".into(),
            name: String::new(),
            bind: ([127, 0, 0, 1], 0).into(),
            advertise: None,
            seeds: Vec::new(),
        }
    }
}
