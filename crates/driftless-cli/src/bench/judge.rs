//! The comparison of all nodes after the load.

use super::{Arguments, PREFIX};
use redis::Connection;
use std::{
    thread,
    time::{Duration, Instant},
};

/// The time for the nodes to agree.
const AGREEMENT: Duration = Duration::from_secs(10);
/// The keys of one request.
const CHUNK: usize = 1_000;

type Values = Vec<Option<Vec<u8>>>;

fn values(connection: &mut Connection, at: &str, keys: &[String]) -> Result<Values, String> {
    redis::cmd("MGET").arg(keys).query(connection).map_err(|error| format!("{at}: {error}"))
}

fn chunks(arguments: &Arguments) -> Vec<Vec<String>> {
    let keys: Vec<String> = (0..arguments.keys).map(|key| format!("{PREFIX}{key}")).collect();
    keys.chunks(CHUNK).map(<[String]>::to_vec).collect()
}

/// Returns the number of keys on which the nodes differ, once it is zero or the time is up.
pub fn differing(arguments: &Arguments, nodes: &mut [Connection]) -> Result<usize, String> {
    let chunks = chunks(arguments);
    let deadline = Instant::now() + AGREEMENT;
    loop {
        let mut differing = 0;
        for chunk in &chunks {
            let held = nodes.iter_mut().zip(&arguments.redis).map(|(node, at)| values(node, at, chunk));
            let held = held.collect::<Result<Vec<_>, _>>()?;
            differing += (0..chunk.len()).filter(|&key| held.iter().any(|node| node[key] != held[0][key])).count();
        }
        if differing == 0 || Instant::now() > deadline {
            return Ok(differing);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Deletes the keys of the bench.
pub fn clean(arguments: &Arguments, node: &mut Connection) -> Result<(), String> {
    for chunk in chunks(arguments) {
        redis::cmd("DEL").arg(chunk).exec(node).map_err(|error| error.to_string())?;
    }
    Ok(())
}
