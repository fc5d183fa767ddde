//! The settings of a mesh, and its errors.

use std::{net::SocketAddr, time::Duration};

use uuid::Uuid;

use super::listen::reason;

/// The largest payload that [`Mesh::send_datagram`](super::Mesh::send_datagram) accepts, in bytes.
///
/// With label, encryption and headers it still fits a 1,500 byte link without fragmentation.
pub const MAX_DATAGRAM: usize = 1300;

/// Maximum length of a cluster name, in bytes. A longer name would push a full datagram past one packet.
const MAX_CLUSTER: usize = 64;
const MAX_NAME: usize = 255;

/// The settings with which one process takes part in a cluster.
#[derive(Clone)]
pub struct MeshConfig {
    /// The name of the cluster, 1 to 64 bytes. Members of another cluster are refused.
    pub cluster: String,
    /// The stable name of this member. Empty means the advertised address.
    pub name: String,
    /// The address to listen on. Port 0 selects one port that is free for both TCP and UDP.
    pub bind: SocketAddr,
    /// The address at which other members reach this one. `None` means the bound address.
    pub advertise: Option<SocketAddr>,
    /// The members to join, as `host:port`, resolved again at every attempt.
    pub seeds: Vec<String>,
    /// AES-256-GCM keys: the first encrypts, all decrypt. Without keys traffic is plaintext.
    pub keys: Vec<[u8; 32]>,
    /// The id of this process. A restarted process has another id.
    pub incarnation: Uuid,
    /// The largest stream message accepted or sent, in bytes.
    pub max_frame: usize,
    /// Maximum number of inbound stream connections. Above it, connections that have shown no frame header are shed
    /// first.
    pub max_inbound: usize,
    /// Maximum number of members, this one not counted. Further members are refused, so that forged ones cannot fill
    /// the table.
    pub max_members: usize,
    /// Maximum number of received messages that wait for the consumer. Further messages are dropped and counted.
    pub inbox: usize,
    /// The timing of failure detection and repair.
    pub failure: FailureTiming,
}

impl std::fmt::Debug for MeshConfig {
    // Written by hand, so that no key can reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshConfig")
            .field("cluster", &self.cluster)
            .field("name", &self.name)
            .field("bind", &self.bind)
            .field("advertise", &self.advertise)
            .field("seeds", &self.seeds)
            .field("keys", &format_args!("{} keys", self.keys.len()))
            .field("incarnation", &self.incarnation)
            .field("max_frame", &self.max_frame)
            .field("max_inbound", &self.max_inbound)
            .field("max_members", &self.max_members)
            .field("inbox", &self.inbox)
            .field("failure", &self.failure)
            .finish()
    }
}

impl MeshConfig {
    /// Returns the settings of a plaintext member of `cluster` without seeds, listening on `bind`, with the default
    /// limits.
    pub fn new(cluster: impl Into<String>, bind: SocketAddr) -> Self {
        Self {
            cluster: cluster.into(),
            name: String::new(),
            bind,
            advertise: None,
            seeds: Vec::new(),
            keys: Vec::new(),
            incarnation: Uuid::new_v4(),
            max_frame: 1 << 20,
            max_inbound: 256,
            max_members: 1_024,
            inbox: 4096,
            failure: FailureTiming::lan(),
        }
    }

    pub(super) fn validate(&self) -> Result<(), MeshError> {
        self.validate_names()?;
        self.validate_limits()?;
        if self.bind.ip().is_unspecified() && self.advertise.is_none() {
            return Err(MeshError::NoAdvertise(self.bind));
        }
        if let Some(advertise) = self.advertise.filter(|a| !self.can_be_reached_at(*a)) {
            return Err(MeshError::Invalid(format!(
                "`advertise` is {advertise}, and must be an address and port of one host that other members can \
                 reach, of the same family as `bind`"
            )));
        }
        match self.seeds.iter().find(|seed| port_of(seed).is_none_or(|port| port == 0)) {
            Some(seed) => Err(MeshError::BadSeed(seed.clone())),
            None => Ok(()),
        }
    }

    /// Returns true if other members can reach this address. It must be of the family of `bind`: all members of a
    /// cluster use one family, because a seed with addresses of both is contacted only at those of the member's own
    /// family.
    fn can_be_reached_at(&self, advertised: SocketAddr) -> bool {
        let ip = advertised.ip();
        let of_many = ip.is_unspecified() || ip.is_multicast() || ip == std::net::Ipv4Addr::BROADCAST;
        !of_many && advertised.port() != 0 && advertised.is_ipv4() == self.bind.is_ipv4()
    }

    fn validate_names(&self) -> Result<(), MeshError> {
        if self.cluster.is_empty() || self.cluster.len() > MAX_CLUSTER {
            return Err(MeshError::Invalid(format!(
                "`cluster` has {} bytes, and must have 1 to {MAX_CLUSTER}",
                self.cluster.len()
            )));
        }
        if self.name.len() > MAX_NAME {
            return Err(MeshError::Invalid(format!(
                "`name` has {} bytes, and must have at most {MAX_NAME}",
                self.name.len()
            )));
        }
        if self.name.contains(char::is_control) {
            return Err(MeshError::Invalid(format!("`name` is {:?}, and must have no control characters", self.name)));
        }
        Ok(())
    }

    fn validate_limits(&self) -> Result<(), MeshError> {
        if self.max_frame == 0 || self.max_frame > (1 << 30) {
            return Err(MeshError::Invalid(format!(
                "`max_frame` is {} bytes, and must be between 1 byte and 1 GiB",
                self.max_frame
            )));
        }
        if self.max_inbound == 0 || self.inbox == 0 {
            return Err(MeshError::Invalid(format!(
                "`max_inbound` is {} and `inbox` is {}, and both must be at least 1",
                self.max_inbound, self.inbox
            )));
        }
        self.failure.validate()
    }
}

/// Returns the port of an address that is written as `host:port`; `None` if it is not written like that.
pub(crate) fn port_of(address: &str) -> Option<u16> {
    let plain = |host: &str| {
        !host.is_empty() && !host.contains([':', ',', '/', '[', ']']) && !host.contains(char::is_whitespace)
    };
    let six =
        |host: &str| host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).is_some_and(|ip| ip.contains(':'));
    let (host, port) = address.rsplit_once(':')?;
    port.parse().ok().filter(|_| plain(host) || six(host))
}

/// The timing of failure detection and repair. [`lan`](Self::lan) returns the defaults.
#[derive(Clone, Debug)]
pub struct FailureTiming {
    /// The interval at which one random member is probed.
    pub probe_interval: Duration,
    /// The time without an answer after which other members are asked to probe. Shorter than the interval.
    pub probe_timeout: Duration,
    /// The factor of the time that a suspected member has to refute the suspicion: `suspicion_mult * probe_interval`,
    /// times log10 of the cluster's size.
    pub suspicion_mult: usize,
    /// The longest suspicion, as a multiple of the shortest.
    pub suspicion_max_mult: usize,
    /// The interval at which membership changes are gossiped.
    pub gossip_interval: Duration,
    /// The interval at which full member tables are exchanged with one member.
    pub push_pull_interval: Duration,
    /// The time in which a TCP connection must be established.
    pub connect_timeout: Duration,
    /// The time in which an inbound connection must show a complete frame header. It begins at the accept for the first
    /// frame, and at the first byte for each later frame.
    pub header_timeout: Duration,
    /// The longest time that one message on a connection may take.
    pub stream_timeout: Duration,
    /// The first delay before an unreachable seed or lost member is tried again. It doubles up to the maximum.
    pub rejoin_min: Duration,
    /// The longest delay between two attempts. Attempts never stop.
    pub rejoin_max: Duration,
    /// The interval at which this member sends a canary, a message through memberlist to itself.
    pub canary_interval: Duration,
    /// The time without a canary after which membership is rebuilt in place.
    pub canary_silence: Duration,
    /// The number of departed members in the table above which membership is rebuilt in place.
    pub departed_limit: usize,
}

impl FailureTiming {
    /// Returns the timing for one data centre: a dead member is detected in about five to ten seconds.
    pub fn lan() -> Self {
        Self {
            probe_interval: Duration::from_secs(1),
            probe_timeout: Duration::from_millis(500),
            suspicion_mult: 4,
            suspicion_max_mult: 6,
            gossip_interval: Duration::from_millis(200),
            push_pull_interval: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(2),
            header_timeout: Duration::from_secs(2),
            stream_timeout: Duration::from_secs(10),
            rejoin_min: Duration::from_secs(1),
            rejoin_max: Duration::from_secs(30),
            canary_interval: Duration::from_secs(1),
            canary_silence: Duration::from_secs(10),
            departed_limit: 64,
        }
    }

    /// Returns the timing for tests on one machine: a dead member is detected in about one second.
    pub fn local() -> Self {
        Self {
            probe_interval: Duration::from_millis(150),
            probe_timeout: Duration::from_millis(75),
            suspicion_mult: 3,
            suspicion_max_mult: 2,
            gossip_interval: Duration::from_millis(30),
            push_pull_interval: Duration::from_secs(2),
            connect_timeout: Duration::from_millis(300),
            header_timeout: Duration::from_millis(500),
            stream_timeout: Duration::from_secs(2),
            rejoin_min: Duration::from_millis(100),
            rejoin_max: Duration::from_millis(500),
            canary_interval: Duration::from_millis(200),
            canary_silence: Duration::from_secs(5),
            departed_limit: 64,
        }
    }

    fn validate(&self) -> Result<(), MeshError> {
        if self.probe_timeout.is_zero() || self.probe_timeout >= self.probe_interval {
            return Err(MeshError::Invalid(format!(
                "`probe_timeout` is {:?}, and must be positive and shorter than `probe_interval`, which is {:?}",
                self.probe_timeout, self.probe_interval
            )));
        }
        let others = [
            ("gossip_interval", self.gossip_interval),
            ("push_pull_interval", self.push_pull_interval),
            ("connect_timeout", self.connect_timeout),
            ("header_timeout", self.header_timeout),
            ("stream_timeout", self.stream_timeout),
            ("rejoin_min", self.rejoin_min),
            ("canary_interval", self.canary_interval),
        ];
        if let Some((name, time)) = others.iter().find(|(_, time)| *time < Duration::from_millis(1)) {
            return Err(MeshError::Invalid(format!("`{name}` is {time:?}, and must be at least 1ms")));
        }
        for (name, time, least_name, least) in [
            ("rejoin_max", self.rejoin_max, "rejoin_min", self.rejoin_min),
            ("canary_silence", self.canary_silence, "canary_interval", self.canary_interval + Duration::from_millis(1)),
        ] {
            if time < least {
                let text = format!("`{name}` is {time:?}, and must be at least {least:?}, because of `{least_name}`");
                return Err(MeshError::Invalid(text));
            }
        }
        let counts = [
            ("suspicion_mult", self.suspicion_mult),
            ("suspicion_max_mult", self.suspicion_max_mult),
            ("departed_limit", self.departed_limit),
        ];
        match counts.iter().find(|(_, count)| *count == 0) {
            Some((name, _)) => Err(MeshError::Invalid(format!("`{name}` is 0, and must be at least 1"))),
            None => Ok(()),
        }
    }

    /// Returns the longest time until an unreachable member is declared dead in a small cluster.
    pub(super) fn longest_suspicion(&self) -> Duration {
        self.probe_interval * (self.suspicion_mult * self.suspicion_max_mult) as u32 + self.stream_timeout
    }
}

/// The error of a mesh that did not start. Nothing is left running, and no port is held.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// A setting is out of range. The text has the setting, its value and its range.
    #[error("{0}")]
    Invalid(String),
    /// The bound address is unspecified, so other members could not reach it, and none is advertised.
    #[error(
        "the bind address {0} cannot be reached by other members: set `advertise` to the address that they should use"
    )]
    NoAdvertise(SocketAddr),
    /// A seed is not `host:port`.
    #[error("seed {0:?} is not `host:port`: write for example `cache-1.internal:7946`, one seed in each string")]
    BadSeed(String),
    /// The sockets could not be bound.
    #[error("`bind` is {addr}, and cannot be listened on ({transport}): {}", reason(source))]
    Bind {
        /// The address to bind.
        addr: SocketAddr,
        /// `tcp` or `udp`.
        transport: &'static str,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The thread or its runtime could not be created.
    #[error("the network's thread could not be started: {}", reason(.0))]
    Thread(#[source] std::io::Error),
    /// The membership layer refused to start.
    #[error("membership did not start: {0}")]
    Membership(String),
}

/// The error of a message that was not handed to the network. The mesh itself keeps running.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// More bytes than one message may carry.
    #[error("message of {len} bytes exceeds the limit of {max}: split it")]
    TooLarge {
        /// Bytes offered.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The deadline passed; the peer may or may not have received it.
    #[error("the deadline passed before the network accepted the message, which may still have arrived")]
    Deadline,
    /// The peer could not be reached or closed the connection.
    #[error("peer not reachable: {0}")]
    Unreachable(String),
    /// The mesh has been shut down.
    #[error("the mesh has been shut down")]
    Stopped,
}

/// The error of a keyring that did not change.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// Encryption cannot be switched on in a running mesh.
    #[error("this mesh was started without keys: restart it with a key to encrypt")]
    Plaintext,
    /// The key to use was never added.
    #[error("key not in the keyring: add it on every member first, then use it")]
    Unknown,
    /// The key in use cannot be removed.
    #[error("the primary key cannot be removed: use another key first")]
    Primary,
}
