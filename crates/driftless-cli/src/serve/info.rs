//! The reply to `INFO`: the lines that clients parse, and a section specific to driftless.

use super::session::{Counter, Shared};
use driftless::Node;
use std::{
    fmt::Write,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// The reported version, by which clients choose their commands. The client-side cache of redis-py refuses to work with
/// servers before this one.
pub const REDIS_VERSION: &str = "7.4.0";

type Section = (&'static str, fn(&Shared) -> Vec<(String, String)>);

const SECTIONS: &[Section] = &[
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("Driftless", driftless),
    ("Keyspace", keyspace),
];

/// Returns all sections, or those requested by name.
pub fn report(shared: &Shared, wanted: &[&[u8]]) -> String {
    let every = wanted.is_empty()
        || wanted
            .iter()
            .any(|name| [&b"all"[..], b"default", b"everything"].iter().any(|all| name.eq_ignore_ascii_case(all)));
    let mut text = String::new();
    for (title, lines) in SECTIONS {
        if every || wanted.iter().any(|name| name.eq_ignore_ascii_case(title.as_bytes())) {
            let separator = if text.is_empty() { "" } else { "\r\n" };
            let _ = write!(text, "{separator}# {title}\r\n");
            for (name, value) in lines(shared) {
                let _ = write!(text, "{name}:{value}\r\n");
            }
        }
    }
    text
}

fn line(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

fn counter(name: &str, counter: &Counter) -> (String, String) {
    line(name, counter.get())
}

fn server(shared: &Shared) -> Vec<(String, String)> {
    let uptime = shared.started.elapsed().as_secs();
    vec![
        line("redis_version", REDIS_VERSION),
        line("redis_mode", "standalone"),
        line("driftless_version", env!("CARGO_PKG_VERSION")),
        line("os", std::env::consts::OS),
        line("arch_bits", usize::BITS),
        line("process_id", std::process::id()),
        line("tcp_port", shared.redis.port()),
        line("uptime_in_seconds", uptime),
        line("uptime_in_days", uptime / 86_400),
    ]
}

fn clients(shared: &Shared) -> Vec<(String, String)> {
    let connected = shared.clients.all().len();
    let tracking = shared.databases.iter().map(|database| database.tracker.sizes().0).max().unwrap_or(0);
    vec![
        line("connected_clients", connected),
        line("maxclients", shared.settings.max_clients),
        line("blocked_clients", shared.stats.waiting.load(Relaxed).max(0)),
        line("tracking_clients", tracking),
        line("client_buffer_bytes", shared.stats.buffered.load(Relaxed).max(0)),
    ]
}

/// Reads the resident memory from the kernel; 0 on systems without `/proc/self/statm`.
fn memory(shared: &Shared) -> Vec<(String, String)> {
    let resident = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|pages| pages.split(' ').nth(1)?.parse::<u64>().ok())
        .map_or(0, |pages| pages * 4096);
    let weight: u64 = shared.databases.iter().map(|database| database.cache.weighted_size()).sum();
    vec![
        line("used_memory", resident),
        line("used_memory_rss", resident),
        line("maxmemory", 0),
        line("weighted_size", weight),
    ]
}

fn persistence(_: &Shared) -> Vec<(String, String)> {
    let names = ["loading", "async_loading", "rdb_bgsave_in_progress", "aof_enabled", "aof_rewrite_in_progress"];
    names.map(|name| line(name, 0)).into()
}

fn stats(shared: &Shared) -> Vec<(String, String)> {
    let stats = &shared.stats;
    let caches = || shared.databases.iter().map(|database| &database.cache);
    let (hits, misses) =
        caches().map(driftless::Cache::hits_and_misses).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    let removals = caches().map(|cache| cache.stats().removals);
    let (expired, evicted) =
        removals.fold((0, 0), |(expired, evicted), one| (expired + one.expired, evicted + one.size));
    let mut lines = vec![
        counter("total_connections_received", &stats.connections),
        counter("total_commands_processed", &stats.commands),
        counter("total_net_input_bytes", &stats.input),
        counter("total_net_output_bytes", &stats.output),
        counter("rejected_connections", &stats.rejected),
        counter("malformed_requests", &stats.malformed),
        counter("total_error_replies", &stats.errors),
        counter("client_output_buffer_limit_disconnections", &stats.slow_clients),
        line("expired_keys", expired),
        line("evicted_keys", evicted),
        line("keyspace_hits", hits),
        line("keyspace_misses", misses),
    ];
    lines.extend(tracking(shared));
    lines
}

fn tracking(shared: &Shared) -> Vec<(String, String)> {
    let trackers = || shared.databases.iter().map(|database| &database.tracker);
    let sum = |each: fn(&super::tracking::TrackingCounters) -> &AtomicU64| {
        trackers().map(|tracker| each(&tracker.counters).load(Relaxed)).sum::<u64>()
    };
    vec![
        line("tracking_total_keys", trackers().map(|tracker| tracker.sizes().1).sum::<usize>()),
        line("tracking_total_prefixes", trackers().map(|tracker| tracker.sizes().2).sum::<usize>()),
        line("tracking_messages", sum(|counters| &counters.messages)),
        line("tracking_flushes", sum(|counters| &counters.flushes)),
        line("tracking_overflows", sum(|counters| &counters.overflows)),
        line("tracking_lagged", sum(|counters| &counters.lagged)),
        line("tracking_evicted_keys", sum(|counters| &counters.evicted_keys)),
    ]
}

/// Reports a master without replicas: every node accepts writes, so each is a master to its clients.
fn replication(_: &Shared) -> Vec<(String, String)> {
    vec![line("role", "master"), line("connected_slaves", 0)]
}

fn driftless(shared: &Shared) -> Vec<(String, String)> {
    let node = &shared.node;
    let traffic = node.traffic();
    let mut lines = vec![
        line("cluster", &shared.cluster),
        line("node", node.name()),
        line("gossip_address", node.local_addr()),
        line("replica_id", shared.cache().replica_id()),
        line("entries", shared.databases.iter().map(|database| database.cache.entry_count()).sum::<u64>()),
        line("gossip_bytes_out", traffic.bytes_out),
        line("gossip_bytes_in", traffic.bytes_in),
        line("gossip_datagrams_out", traffic.datagrams_out),
    ];
    lines.extend(members(node));
    lines
}

/// Lists this node and the members that it believes alive.
fn members(node: &Node) -> Vec<(String, String)> {
    let others = node.members().into_iter().map(|member| (member.name, member.addr));
    let all: Vec<_> = std::iter::once((node.name().to_owned(), node.local_addr())).chain(others).collect();
    let member = |(index, (name, addr)): (usize, &(String, SocketAddr))| {
        line(&format!("member{index}"), format!("name={name},addr={addr}"))
    };
    let mut lines = vec![line("members", all.len())];
    lines.extend(all.iter().enumerate().map(member));
    lines
}

/// Lists the databases that hold keys, with the number of keys that expire. There is no estimate of the mean time to
/// live.
fn keyspace(shared: &Shared) -> Vec<(String, String)> {
    let stats = shared.databases.iter().map(|database| database.cache.stats()).enumerate();
    let held = stats.filter(|(_, stats)| stats.entries > 0);
    held.map(|(number, stats)| {
        line(&format!("db{number}"), format!("keys={},expires={},avg_ttl=0", stats.entries, stats.expiring))
    })
    .collect()
}
