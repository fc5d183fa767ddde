//! The reply to `INFO`: the lines that clients parse, and a section specific to driftless.

use crate::serve::session::Shared;
use driftless::Node;
use std::{fmt::Write, net::SocketAddr};

/// The reported version, by which clients choose their commands: the oldest Redis release with every command of this
/// server.
pub const REDIS_VERSION: &str = "7.0.0";

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
    let connected = shared.max_clients - shared.places.available_permits();
    vec![line("connected_clients", connected), line("maxclients", shared.max_clients)]
}

/// Reads the resident memory from the kernel; 0 on systems without `/proc/self/statm`.
fn memory(shared: &Shared) -> Vec<(String, String)> {
    let resident = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|pages| pages.split(' ').nth(1)?.parse::<u64>().ok())
        .map_or(0, |pages| pages * 4096);
    vec![
        line("used_memory", resident),
        line("used_memory_rss", resident),
        line("maxmemory", 0),
        line("weighted_size", shared.cache().weighted_size()),
    ]
}

fn persistence(_: &Shared) -> Vec<(String, String)> {
    vec![line("loading", 0), line("rdb_bgsave_in_progress", 0), line("aof_enabled", 0)]
}

fn stats(shared: &Shared) -> Vec<(String, String)> {
    let stats = &shared.stats;
    vec![
        line("total_connections_received", stats.connections.get()),
        line("total_commands_processed", stats.commands.get()),
        line("rejected_connections", stats.rejected.get()),
        line("malformed_requests", stats.malformed.get()),
        line("keyspace_hits", stats.hits.get()),
        line("keyspace_misses", stats.misses.get()),
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
        line("entries", shared.cache().entry_count()),
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

fn keyspace(shared: &Shared) -> Vec<(String, String)> {
    match shared.cache().entry_count() {
        0 => Vec::new(),
        entries => vec![line("db0", format!("keys={entries},expires=0,avg_ttl=0"))],
    }
}
