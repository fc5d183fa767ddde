//! The settings of a node, as a file has them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Where a node listens and whom it looks for. Part of a configuration file, through `serde`, or of code:
/// [`NodeBuilder::settings`](crate::NodeBuilder::settings). Those of a cache are [`CacheSettings`](crate::CacheSettings).
///
/// There are no keys in it: a secret does not belong into a file that is read, printed and compared. See
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
    /// The name of the cluster, 1 to 64 bytes: nodes of others are refused. Default `driftless`.
    pub cluster: String,
    /// A name for this member that stays the same over restarts. Default: empty, the advertised address.
    pub name: String,
    /// Where to listen, TCP and UDP. Port 0 takes a free one. Default `127.0.0.1:0`.
    pub bind: SocketAddr,
    /// Where others reach this node. Default: none, the bound address.
    pub advertise: Option<SocketAddr>,
    /// `host:port` of nodes to join. Default: none.
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
