//! One connection under load: pipelines of reads and writes of random keys.

use super::{Arguments, PREFIX, times::Times};
use redis::Pipeline;
use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// The work of one or several connections.
#[derive(Clone, Default)]
pub struct Load {
    reads: u64,
    hits: u64,
    writes: u64,
    pipelines: Times,
}

impl Load {
    pub fn add(&mut self, other: &Self) {
        self.reads += other.reads;
        self.hits += other.hits;
        self.writes += other.writes;
        self.pipelines.add(&other.pipelines);
    }

    /// Prints the rates of one node.
    pub fn print(&self, at: &str, elapsed: Duration, pipeline: u16) {
        let rate = |count: u64| count as f64 / elapsed.as_secs_f64();
        let hits = 100.0 * self.hits as f64 / self.reads.max(1) as f64;
        println!("{at}: {:.0} reads/s ({hits:.0} % hits), {:.0} writes/s", rate(self.reads), rate(self.writes));
        println!("{at}: a pipeline of {pipeline}: {}", self.pipelines);
    }
}

/// Runs until `stop` is true.
pub fn run(arguments: &Arguments, at: &str, client: u64, stop: &AtomicBool) -> Result<Load, String> {
    let mut connection = arguments.password.connect(at)?;
    let mut random = fastrand::Rng::new();
    let (mut load, mut round) = (Load::default(), 0_u64);
    let mut value = vec![b'x'; arguments.value_bytes];
    while !stop.load(Relaxed) {
        round += 1;
        // Values differ between writes, as far as they have the space: equal ones would hide a write that was lost.
        let mark = format!("{client}:{round}:{:x}", random.u64(..));
        let shown = mark.len().min(value.len());
        value[..shown].copy_from_slice(&mark.as_bytes()[..shown]);
        let mut pipeline = Pipeline::with_capacity(arguments.pipeline.into());
        let mut is_read = Vec::with_capacity(arguments.pipeline.into());
        for _ in 0..arguments.pipeline {
            let key = format!("{PREFIX}{}", random.u32(..arguments.keys));
            is_read.push(random.u8(..100) < arguments.reads);
            match is_read.last() {
                Some(true) => pipeline.cmd("GET").arg(key),
                _ => pipeline.cmd("SET").arg(key).arg(&value[..]).arg("PX").arg(arguments.time_to_live().to_string()),
            };
        }
        let began = Instant::now();
        let answers: Vec<redis::Value> = pipeline.query(&mut connection).map_err(|error| format!("{at}: {error}"))?;
        load.pipelines.push(began.elapsed());
        for (is_read, answer) in is_read.into_iter().zip(answers) {
            load.reads += u64::from(is_read);
            load.writes += u64::from(!is_read);
            load.hits += u64::from(is_read && answer != redis::Value::Nil);
        }
    }
    Ok(load)
}
