//! The time from the reply of a write on one node until every other node returns the value.

use super::{Arguments, PREFIX, times::Times};
use redis::Connection;
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// The pause between two writes.
const PAUSE: Duration = Duration::from_millis(10);
/// The time after which a write counts as lost.
const LOST: Duration = Duration::from_secs(10);

/// Writes on each node in turn until `stop` is true, and returns the times.
pub fn run(arguments: &Arguments, stop: &AtomicBool) -> Result<Times, String> {
    let (nodes, mut times) = (&arguments.redis, Times::default());
    let mut connections = nodes.iter().map(|at| arguments.password.connect(at)).collect::<Result<Vec<_>, _>>()?;
    let mut round = 0_usize;
    while !stop.load(Relaxed) && nodes.len() > 1 {
        let (key, value) = (format!("{PREFIX}probe:{round}"), format!("{round}:{:x}", fastrand::u64(..)));
        let writer = round % nodes.len();
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(&value).arg("PX").arg(arguments.time_to_live().to_string());
        set.exec(&mut connections[writer]).map_err(|error| format!("{}: {error}", nodes[writer]))?;
        let written = Instant::now();
        for reader in (0..nodes.len()).filter(|reader| *reader != writer) {
            wait(&mut connections[reader], &key, &value, written)
                .map_err(|error| format!("{} after a write on {}: {error}", nodes[reader], nodes[writer]))?;
        }
        times.push(written.elapsed());
        redis::cmd("DEL").arg(&key).exec(&mut connections[writer]).map_err(|error| error.to_string())?;
        round += 1;
        thread::sleep(PAUSE);
    }
    Ok(times)
}

fn wait(connection: &mut Connection, key: &str, value: &str, since: Instant) -> Result<(), String> {
    loop {
        let seen: Option<String> = redis::cmd("GET").arg(key).query(connection).map_err(|error| error.to_string())?;
        if seen.as_deref() == Some(value) {
            return Ok(());
        }
        if since.elapsed() > LOST {
            return Err(format!("the value is not there {LOST:?} later: are these nodes of one cluster?"));
        }
    }
}
