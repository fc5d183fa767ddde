//! The comparison of situations: every product fits into each node, and a tenth of them does.

use crate::{
    Arguments,
    gain::{Gain, bar},
    measure,
    report::{Report, number},
    shop::Mode,
    trace::Trace,
};
use std::error::Error;

/// The length of the longest bar, in characters.
const WIDTH: usize = 40;

/// The room of a node, and the treatment of cached copies when their rows change.
struct Situation {
    name: &'static str,
    capacity: usize,
    mode: Mode,
}

/// Measures each situation, and prints one table. Returns true if the caches and the database agree in all of them.
pub fn run(arguments: &Arguments, trace: &Trace) -> Result<bool, Box<dyn Error>> {
    println!(
        "{} nodes of a shop; {}: {} accesses to {} products, {} % of them updates\n",
        arguments.nodes,
        arguments.accesses(),
        number(trace.accesses.len() as f64),
        number(trace.ids.len() as f64),
        arguments.updates,
    );
    println!("{:<36}reads of the database", "");
    let mut reports = Vec::new();
    for situation in situations(trace.ids.len(), arguments.mode) {
        let report = measure(arguments, trace, situation.capacity, situation.mode)?;
        print(&situation, &report);
        reports.push((situation.name, report));
    }
    println!(
        "private caches     simulated: LRU of the same size; an update removes the copies of other nodes at once and \
         for free\n\
         write-through      safe only if one node makes all writes of a row; invalidate is safe with any writers\n\
         stale reads        an update was still on its way; this replay is as fast as it can be, --rate slows it down"
    );
    Ok(judge(&reports))
}

/// Returns the situations to compare: in both modes, unless one was requested.
fn situations(products: usize, mode: Option<Mode>) -> Vec<Situation> {
    let safe = mode.unwrap_or(Mode::Invalidate);
    let mut situations = vec![Situation { name: "everything fits", capacity: products, mode: safe }];
    if mode.is_none() {
        situations.push(Situation { name: "everything fits", capacity: products, mode: Mode::WriteThrough });
    }
    situations.push(Situation { name: "a tenth fits", capacity: (products / 10).max(1), mode: safe });
    situations
}

fn print(situation: &Situation, report: &Report) {
    let all = report.without.database_reads;
    let (private, shared) = (report.private.outcome.database_reads, report.replay.outcome.database_reads);
    let room = format!("{} per node", number(situation.capacity as f64));
    let mode = situation.mode.to_string();
    let rows = [(situation.name, "no cache", all), (&room, "private caches", private), (&mode, "driftless", shared)];
    for (label, caches, reads) in rows {
        println!("{label:<18} {caches:<15} {:>10}  {}", number(reads as f64), bar(reads, all, WIDTH));
    }
    println!("{:<18} {}", "", Gain::of(private, shared));
    println!(
        "{:<18} different products in memory: {}, private caches {}; stale reads: {}; sent: {:.0} MB\n",
        "",
        number(report.verdict.different as f64),
        number(report.private.different as f64),
        number(report.replay.outcome.stale_reads as f64),
        report.bytes_sent() as f64 / 1e6,
    );
}

/// Prints the verdict on the contents of the caches. Returns true if it holds in every situation.
fn judge(reports: &[(&str, Report)]) -> bool {
    let failed: Vec<_> = reports.iter().filter(|(_, report)| !report.verdict.holds()).collect();
    let compared: usize = reports.iter().map(|(_, report)| report.verdict.compared).sum();
    if failed.is_empty() {
        let compared = number(compared as f64);
        println!("correct            HOLDS: each of {compared} cached values equals its row, and the nodes agree");
    }
    for (name, Report { verdict, .. }) in &failed {
        println!("correct            {name}: {verdict}");
        for fault in verdict.faults.iter().take(5) {
            println!("{:<18} {fault}", "");
        }
    }
    failed.is_empty()
}
