//! The table of all settings: the one place that names them. Flags, variables, the keys of the file, the commented
//! default file and the check for unknown names are made of it.

/// The form of a setting's value. It decides how the text of a flag or variable is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text, also an address or a path.
    Text,
    /// A time with its unit, such as `500ms`.
    Time,
    /// A time with its unit. A bare number means seconds: the flag of the first releases had no unit.
    Seconds,
    /// A whole number.
    Number,
    /// A decimal number.
    Fraction,
    /// `true` or `false`.
    Bool,
    /// Several texts: a flag that may be repeated, a variable with commas, an array in the file.
    List,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The path in the file: section, dot, name.
    pub key: &'static str,
    /// The flag without its dashes. In capitals, after `DRIFTLESS_`, it is the variable.
    pub flag: &'static str,
    pub kind: Kind,
    /// The name of the value in the help.
    pub value: &'static str,
    /// A value for the default file, in TOML, if the setting has no default.
    pub example: &'static str,
    /// The help: effect, unit and range.
    pub help: &'static str,
}

impl Setting {
    /// Returns the name of the environment variable.
    pub fn variable(&self) -> String {
        format!("DRIFTLESS_{}", self.flag.replace('-', "_").to_uppercase())
    }

    /// Returns section and name.
    pub fn path(&self) -> (&'static str, &'static str) {
        self.key.rsplit_once('.').expect("each key has a section")
    }
}

/// Returns the setting with this path.
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

macro_rules! settings {
    ($($key:literal $(/ $flag:literal)? $kind:ident $value:literal $(= $example:literal)?: $help:literal;)*) => {
        /// All settings, in the order of the default file.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            key: $key,
            flag: settings!(@first $($flag)?),
            kind: Kind::$kind,
            value: $value,
            example: settings!(@first $($example)?),
            help: $help,
        }),*];
    };
    (@first $text:literal) => { $text };
    (@first) => { "" };
}

settings! {
    "node.cluster" / "cluster" Text "NAME":
        "Name of the cluster, 1 to 64 bytes. Nodes of other clusters are refused";
    "node.name" / "name" Text "NAME":
        "Name of this node among its peers, the same after a restart. Empty means the advertised address";
    "node.bind" / "bind" Text "HOST:PORT":
        "Address for gossip with other nodes, TCP and UDP. Port 0 takes a free one";
    "node.advertise" / "advertise" Text "HOST:PORT" = "\"node-1.example:7946\"":
        "Address at which other nodes reach this one. Required if `bind` is unspecified, as 0.0.0.0 is";
    "node.seeds" / "seed" List "HOST:PORT":
        "Addresses of other nodes to join. Names are resolved again at every attempt";
    "node.key" / "key" Text "HEX" = "\"64 hexadecimal digits\"":
        "Key of AES-256-GCM for gossip, the same on every node, 64 hexadecimal digits. Prefer `key_files`: other users of this machine see flags in the process list";
    "node.key_files" / "key-file" List "PATH":
        "Files with one key each. The first encrypts, all decrypt. SIGHUP reads them again, for a rotation without a restart";
    "node.timing" / "timing" Text "lan|local":
        "Failure detection for a network, or faster for nodes on one machine";
    "redis.bind" / "redis" Text "HOST:PORT":
        "Address for Redis clients. Port 0 takes a free one";
    "redis.password" / "password" Text "TEXT" = "\"a long password\"":
        "Password that clients must send with AUTH. Prefer `password_file`";
    "redis.password_file" / "password-file" Text "PATH" = "\"/run/secrets/driftless-password\"":
        "File with the password of clients. White space at its end does not count";
    "redis.max_clients" / "max-clients" Number "N":
        "Most connections of clients at a time. Further ones get an error";
    "redis.max_request_bytes" / "max-request-bytes" Number "BYTES":
        "Most bytes of one request, and of all commands that one transaction queues. More than the largest value that clients write";
    "redis.max_input_bytes" / "max-input-bytes" Number "BYTES":
        "Most bytes of requests that one client may send ahead while it does not read its replies";
    "redis.max_output_bytes" / "max-output-bytes" Number "BYTES":
        "Most bytes of replies that wait for one client. A client that needs more is disconnected";
    "redis.max_buffer_bytes" / "max-buffer-bytes" Number "BYTES":
        "Most bytes of requests and replies that all clients together may have waiting. Beyond it a client may have one request and 64 KiB of replies";
    "redis.write_timeout" / "write-timeout" Time "TIME":
        "Time after which a client is disconnected that reads none of the replies sent to it";
    "redis.tracking_keys" / "tracking-keys" Number "N":
        "Most keys whose readers are remembered for CLIENT TRACKING. At the limit the readers of another key must drop it";
    "redis.wait" / "wait" Seconds "TIME":
        "Longest time to fetch the state of the cluster before clients are served. 0s serves at once";
    "redis.threads" / "threads" Number "N":
        "Threads that serve clients. 0 means one for each processor";
    "http.bind" / "http" Text "HOST:PORT" = "\"127.0.0.1:7980\"":
        "Address of the debug page, its JSON, the metrics and the health checks. Beyond loopback a token is required";
    "http.token" / "http-token" Text "TEXT" = "\"at least 16 bytes\"":
        "Token that requests must carry, at least 16 bytes. Prefer `token_file`";
    "http.token_file" / "http-token-file" Text "PATH" = "\"/run/secrets/driftless-token\"":
        "File with the token. White space at its end does not count";
    "http.hosts" / "http-host" List "NAME":
        "Host names that requests may use, besides IP addresses and localhost";
    "http.show_values" / "http-show-values" Bool "true|false":
        "Show values on the debug page, one key at a time";
    "log.level" / "log-level" Text "FILTER":
        "Level of the log, or a filter such as `warn,driftless=debug`. The variable RUST_LOG is the default. SIGHUP reads it again";
    "log.format" / "log-format" Text "text|json":
        "Lines for people, or one JSON object each. Colours only on a terminal, and not if NO_COLOR is set";
    "cache.max_capacity" / "max-capacity" Number "WEIGHT" = "1_000_000":
        "Most weight that this node holds: entries, or bytes with `weigh_by`. Beyond it values are evicted, on this node only";
    "cache.weigh_by" / "weigh-by" Text "entries|bytes":
        "Weight of an entry: 1, or the bytes of its key and value";
    "cache.eviction" / "eviction" Text "lru|segmented_lru|sieve":
        "Order of eviction. The segmented order hits more often if few keys are used again and again; sieve costs least";
    "cache.time_to_live" / "time-to-live" Time "TIME" = "\"1h\"":
        "Time to live of values that are written without one. More than 0s";
    "cache.ttl_jitter" / "ttl-jitter" Fraction "PART":
        "Part by which `time_to_live` is shortened at most, 0 to 0.9: spreads the expiry of what was written together";
    "cache.max_key_bytes" / "max-key-bytes" Number "BYTES":
        "Most bytes of a key, 1 to 65536. The same on every node";
    "cache.max_value_bytes" / "max-value-bytes" Number "BYTES":
        "Most bytes of a value, 1 to 14680064. The same on every node";
    "cache.fill_timeout" / "fill-timeout" Time "TIME" = "\"10s\"":
        "Longest time of a fill. Redis clients start none";
    "cache.cluster_single_flight" / "cluster-single-flight" Time "TIME" = "\"2s\"":
        "Wait for one node in a fill of the whole cluster, 1ms to 1m. Redis clients start none";
    "cache.change_buffer" / "change-buffer" Number "EVENTS":
        "Events that a reader of the change stream may be behind before it loses the oldest, 1 to 1048576";
    "cache.replication.max_drift" / "max-drift" Time "TIME":
        "Most that a stamp may be ahead of this node's clock before it waits, 1ms to 1h";
    "cache.replication.digest_interval" / "digest-interval" Time "TIME":
        "Mean time between two digests, 1ms to 1m. A smaller value repairs loss sooner";
    "cache.replication.gc_grace" / "gc-grace" Time "TIME":
        "Age below which tombstones are never collected, at most 1h and at most `forget_after`";
    "cache.replication.forget_after" / "forget-after" Time "TIME":
        "Time for which a dead member holds back the collection of tombstones, 1ms to 30d";
    "cache.replication.max_tombstones" / "max-tombstones" Number "N":
        "Tombstones above which the oldest are dropped by force, at least 1; about 150 bytes and the key each";
    "cache.replication.max_frame_bytes" / "max-frame-bytes" Number "BYTES":
        "Bytes of keys and values in one frame, 1024 to 8388608";
    "cache.replication.max_deferred" / "max-deferred" Number "N":
        "Most registers from the future that wait until they are due, at least 1";
    "cache.replication.max_retained_bytes" / "max-retained-bytes" Number "BYTES":
        "Bytes of evicted own writes that are kept until all live members have them";
    "cache.replication.max_retired" / "max-retired" Number "N":
        "Most retired origins that are remembered, at least 1; 24 bytes each";
    "cache.replication.repair_delay" / "repair-delay" Time "TIME":
        "Time for which a gap must last before it is repaired, 1ms to 10s: about the round trip between nodes";
    "cache.replication.session_idle" / "session-idle" Time "TIME":
        "Time without a frame after which a session is abandoned, 1ms to 10m";
    "cache.replication.session_deadline" / "session-deadline" Time "TIME":
        "Longest time of a session, at least `session_idle`: the whole state over the slowest link";
    "cache.replication.fill_hold" / "fill-hold" Time "TIME":
        "Longest time for which a running fill holds back the collection of tombstones, at most 1h";
    "cache.replication.broadcast_up_to" / "broadcast-up-to" Number "N":
        "Highest number of peers to which a write is sent directly. With more, some peers relay it";
    "cache.replication.fanout" / "fanout" Number "N":
        "Members to which a write is sent or relayed in a large cluster, at least 1";
    "cache.replication.audit_interval" / "audit-interval" Time "TIME":
        "Mean time between two audits with a random member. 0s turns audits off";
    "cache.replication.audit_slice" / "audit-slice" Number "N":
        "Registers in one audit, 1 to 4096";
}

/// The flag and the array of tables for several caches. Each has a `name`, and any setting of `[cache]` for itself.
pub const DATABASE: Setting = Setting {
    key: "database.name",
    flag: "database",
    kind: Kind::List,
    value: "NAME",
    example: "",
    help: "Names of the caches, in the order of SELECT 0, 1, 2 and so on. The same on every node",
};

/// Returns all settings that are a flag.
pub fn flags() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().chain(std::iter::once(&DATABASE))
}
