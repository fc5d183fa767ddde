//! A warning: its subject, its meaning, and what to do.

use serde::{Deserialize, Serialize};

use super::PeerReport;

/// A condition that an operator should look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Warning {
    /// The name of the warning. It is stable, so alerts can refer to it.
    pub name: String,
    /// The subject: a node, a replica or an address.
    pub about: String,
    /// The meaning, and what to do.
    pub text: String,
}

pub(super) fn warning(name: &str, about: impl Into<String>, text: impl Into<String>) -> Warning {
    Warning { name: name.into(), about: about.into(), text: text.into() }
}

pub(super) fn name_of(peer: &PeerReport) -> String {
    peer.node.clone().unwrap_or_else(|| peer.replica.clone())
}
