//! A warning: what it is about, what it means and what to do.

use serde::{Deserialize, Serialize};

use super::PeerReport;

/// Something that should be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Warning {
    /// Its name: stable, for alerts.
    pub name: String,
    /// What it is about: a node, a replica, an address.
    pub about: String,
    /// What it means and what to do.
    pub text: String,
}

pub(super) fn warning(name: &str, about: impl Into<String>, text: impl Into<String>) -> Warning {
    Warning { name: name.into(), about: about.into(), text: text.into() }
}

pub(super) fn name_of(peer: &PeerReport) -> String {
    peer.node.clone().unwrap_or_else(|| peer.replica.clone())
}
