//! The report of the whole run.

use crate::{
    baseline::{Outcome, Private},
    probe::Latencies,
    replay::Replay,
    verdict::Verdict,
};
use driftless::Traffic;
use std::time::Duration;

/// All measurements.
pub struct Report {
    pub without: Outcome,
    pub private: Private,
    pub private_without_invalidation: Private,
    pub replay: Replay,
    pub under_load: Latencies,
    pub idle: Latencies,
    /// Traffic of each node, from the start of the replay until the caches have settled.
    pub traffic: Vec<Traffic>,
    /// Fills that ended after a newer write or delete, and so were not cached.
    pub lost_fills: u64,
    pub verdict: Verdict,
}

impl Report {
    pub fn print(&self) {
        self.print_reads();
        self.print_speed();
        self.print_verdict();
    }

    /// Returns the bytes that all nodes sent during the replay.
    pub fn bytes_sent(&self) -> u64 {
        self.traffic.iter().map(|traffic| traffic.bytes_out).sum()
    }

    fn print_reads(&self) {
        println!("\n                                       database reads   hit ratio   stale reads");
        row("no cache", &self.without);
        row("one private cache per node *", &self.private.outcome);
        row("the same, without invalidation *", &self.private_without_invalidation.outcome);
        row("driftless **", &self.replay.outcome);
        println!(
            "   * simulated: LRU, the same capacity per node; an update removes the copies on other nodes at once \
             and for free"
        );
        println!(
            "  ** stale: an update committed elsewhere was still in transit; a slower replay (--rate) has fewer\n"
        );
    }

    fn print_speed(&self) {
        let nodes = self.traffic.len() as f64;
        let seconds = self.replay.took.as_secs_f64();
        let outcome = &self.replay.outcome;
        let writes = outcome.database_reads + self.replay.updates;
        let copies = writes as f64 * (nodes - 1.0);
        let sent = self.bytes_sent();
        println!(
            "  duration               {seconds:.1} s: {} accesses/s",
            number((outcome.reads + self.replay.updates) as f64 / seconds)
        );
        println!("  updates                {}", number(self.replay.updates as f64));
        println!(
            "  fills                  {} by the cluster, {} by private caches; {} of the cluster's lost against an update and were not cached",
            number(outcome.database_reads as f64),
            number(self.private.outcome.database_reads as f64),
            number(self.lost_fills as f64)
        );
        println!("  replicated             {} entries/s, fills and updates together", number(copies / seconds));
        println!(
            "  sent by all nodes      {:.1} MB, {:.0} bytes per entry and receiver",
            sent as f64 / 1e6,
            sent as f64 / copies.max(1.0)
        );
        println!("  write to visible       {}", latency(&self.idle, "idle"));
        println!("                         {}\n", latency(&self.under_load, "during the replay"));
    }

    fn print_verdict(&self) {
        let verdict = &self.verdict;
        let held: Vec<String> = verdict.held.iter().map(|&held| number(held as f64)).collect();
        println!(
            "  cached at the end      {} on the nodes, {} not on all of them",
            held.join(", "),
            number(verdict.partly_held as f64)
        );
        println!("  verdict                {verdict}");
        for fault in verdict.faults.iter().take(5) {
            println!("                         {fault}");
        }
    }
}

fn row(name: &str, outcome: &Outcome) {
    let hits = 100.0 * (1.0 - outcome.database_reads as f64 / outcome.reads.max(1) as f64);
    println!(
        "  {name:<36} {:>14} {hits:>9.1} % {:>13}",
        number(outcome.database_reads as f64),
        number(outcome.stale_reads as f64)
    );
}

fn latency(latencies: &Latencies, when: &str) -> String {
    let millis = |percent| latencies.percentile(percent).map_or("?".to_owned(), millis);
    let lost = if latencies.lost == 0 { String::new() } else { format!(", {} LOST", latencies.lost) };
    format!("p50 {}, p99 {} ({when}, {} probes{lost})", millis(50), millis(99), number(latencies.count() as f64))
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// Formats a rounded number, with a comma every three digits.
pub fn number(value: f64) -> String {
    let digits = format!("{value:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or("?")).collect();
    groups.join(",")
}
