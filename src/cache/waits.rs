//! The waits of running fillers for other fills. Turns a deadlock into an error.
//!
//! A filler is known by the thread that polls it. Work that it hands to a task or thread of its own is not tracked;
//! `fill_timeout` bounds a deadlock that comes about that way.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::sync::{AtomicU64, Mutex, Ordering};

/// The number of the next fill. All caches of the process share it, because a cycle may go through several of them.
static NEXT: AtomicU64 = AtomicU64::new(1);
/// The fills that each waiting fill waits for. Holds an entry only while a filler waits for another fill.
static EDGES: Mutex<BTreeMap<u64, Vec<u64>>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// The fill whose filler runs on this thread; zero if there is none.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// Returns a number for a new fill.
pub(crate) fn number() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A guard. Until it is dropped, code on this thread counts as the filler of a fill.
pub(crate) struct FillerScope {
    before: u64,
}

impl FillerScope {
    pub(crate) fn of(fill: u64) -> Self {
        Self { before: CURRENT.replace(fill) }
    }
}

impl Drop for FillerScope {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// The reason why a filler may not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadlock {
    OwnKey,
    Cycle,
}

/// A guard. Until it is dropped, the filler in which it was made counts as waiting.
#[derive(Debug)]
pub(crate) struct Waiting {
    edge: Option<(u64, u64)>,
}

/// Records that the filler on this thread, if there is one, begins to wait for `fill`. Refuses a wait that would never
/// end.
pub(crate) fn wait_for(fill: u64) -> Result<Waiting, Deadlock> {
    let waiter = CURRENT.get();
    if waiter == 0 {
        return Ok(Waiting { edge: None });
    }
    if waiter == fill {
        return Err(Deadlock::OwnKey);
    }
    let mut edges = EDGES.lock();
    // Checked and recorded under one lock: of two waits that together close a cycle, the second is refused.
    if reaches(&edges, fill, waiter) {
        return Err(Deadlock::Cycle);
    }
    edges.entry(waiter).or_default().push(fill);
    Ok(Waiting { edge: Some((waiter, fill)) })
}

/// Returns true if `from` is `to`, or waits for it, directly or through other fills.
fn reaches(edges: &BTreeMap<u64, Vec<u64>>, from: u64, to: u64) -> bool {
    let mut seen = vec![from];
    let mut next = 0;
    while let Some(fill) = seen.get(next).copied() {
        next += 1;
        if fill == to {
            return true;
        }
        for further in edges.get(&fill).into_iter().flatten() {
            if !seen.contains(further) {
                seen.push(*further);
            }
        }
    }
    false
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some((waiter, fill)) = self.edge else { return };
        let mut edges = EDGES.lock();
        if let Some(targets) = edges.get_mut(&waiter) {
            if let Some(index) = targets.iter().position(|target| *target == fill) {
                targets.swap_remove(index);
            }
            if targets.is_empty() {
                edges.remove(&waiter);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_found_however_long_and_gone_once_a_wait_ends() {
        let fills: Vec<_> = (0..5).map(|_| number()).collect();
        let mut waits = Vec::new();
        for pair in fills.windows(2) {
            let _inside = FillerScope::of(pair[0]);
            assert_eq!(wait_for(pair[0]).unwrap_err(), Deadlock::OwnKey);
            waits.push(wait_for(pair[1]).unwrap());
        }
        let _inside = FillerScope::of(fills[4]);
        assert_eq!(wait_for(fills[0]).unwrap_err(), Deadlock::Cycle);
        assert_eq!(wait_for(fills[3]).unwrap_err(), Deadlock::Cycle);
        waits.remove(1);
        assert!(wait_for(fills[0]).is_ok());
    }

    #[test]
    fn outside_of_fillers_no_caller_is_refused_or_remembered() {
        let fill = number();
        assert!(wait_for(fill).is_ok_and(|waiting| waiting.edge.is_none()));
    }
}
