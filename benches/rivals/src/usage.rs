//! Resource usage of processes, and the machine that they run on.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

const PAGE: u64 = 4_096;

/// Returns the resident bytes of a process.
pub fn resident(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * PAGE
}

/// Returns the processor time of this process so far in nanoseconds.
pub fn processor() -> u64 {
    cpu_time::ProcessTime::now().as_duration().as_nanos() as u64
}

/// Returns the wall time in nanoseconds since 1970: the only clock that the processes share.
pub fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
}

/// Describes the machine of the measurement.
pub fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    json!({
        "cpu": model.trim_start_matches([' ', '\t', ':']),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load": read("/proc/loadavg").trim(),
        "at": wall() / 1_000_000_000,
    })
}
