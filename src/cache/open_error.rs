//! The reasons why a cache cannot be opened, and the limits of entries.

use serde::{Deserialize, Serialize};

use crate::replica::ConfigError;

/// The limits of an entry that is written here. They should be the same on every node. An entry that another node was
/// allowed to write is accepted, up to the size that a message can hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Limits {
    /// The most bytes of an encoded key. Default 4 KiB. Range 1 B to 64 KiB.
    pub max_key_bytes: usize,
    /// The most bytes of an encoded value. Default 1 MiB. Range 1 B to 14 MiB.
    pub max_value_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_key_bytes: 4 << 10, max_value_bytes: 1 << 20 }
    }
}

/// The largest limits that can be set. They exist because an entry is sent in one message.
pub(crate) const LARGEST: Limits = Limits { max_key_bytes: 64 << 10, max_value_bytes: 14 << 20 };

/// The reason why a cache could not be opened. [`CacheSettings::validate`](super::CacheSettings::validate) returns it as
/// well, for settings that no cache has yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The name is empty or longer than 255 bytes.
    #[error("the cache name has {0} bytes, and must have 1 to 255")]
    Name(usize),
    /// The name is open on this node with other types, or was a moment ago and has writes that no other member has yet.
    #[error(
        "the cache `{0}` is open on this node with other key or value types, or was until less than 5 s ago: choose \
         another name"
    )]
    OtherTypes(String),
    /// A setting of the cache is not valid.
    #[error("cache `{cache}`: {error}")]
    Settings {
        /// The name of the cache.
        cache: String,
        /// The setting, its value, and what it must be.
        error: Box<OpenError>,
    },
    /// A setting is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A limit is out of range.
    #[error("{setting} is {value} bytes, and must be between 1 and {limit}")]
    Limit {
        /// The name of the setting.
        setting: &'static str,
        /// Its value.
        value: usize,
        /// The largest value that is allowed.
        limit: usize,
    },
    /// The time to live is zero.
    #[error("time_to_live is 0s, and must be more than zero: leave it out if entries do not expire")]
    ZeroTimeToLive,
    /// A setting that is not valid, alone or together with other settings.
    #[error("{setting} is {value}, and {why}")]
    Setting {
        /// The name of the setting.
        setting: &'static str,
        /// Its value.
        value: String,
        /// The limit, the reason for it, and the remedy.
        why: &'static str,
    },
    /// The node was shut down, or it runs in the process from which this one was forked.
    #[error("the node was shut down: open the cache on a running node")]
    NodeIsDown,
}
