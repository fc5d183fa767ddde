//! Tests of the Redis server from outside: both versions of the protocol, transactions, deadlines, cursors, client
//! tracking and the bounds of a connection. Real processes on loopback, with requests written by hand.
#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;

mod bounds;
mod clients;
mod commands;
mod protocol;
mod tracking;

use common::client::{Client, Reply};
use std::time::Duration;

/// The time limit for anything that travels between processes. Only a failing test waits that long.
const SOON: Duration = Duration::from_secs(10);

/// Switches a client to version 3 and returns its id.
fn hello_three(client: &mut Client) -> String {
    let reply = client.call(&["HELLO", "3"]);
    assert_eq!(reply.field("proto"), Some(Reply::Integer(3)), "{reply:?}");
    match reply.field("id") {
        Some(Reply::Integer(id)) => id.to_string(),
        other => panic!("want an id, got {other:?}"),
    }
}

/// Returns the number of a line of `INFO`.
#[track_caller]
fn info(client: &mut Client, name: &str) -> u64 {
    let text = client.call(&["INFO"]).text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("want {name} in {text}"))
}
