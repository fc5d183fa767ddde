//! The machine checks itself: every count against what it counts.

use std::collections::BTreeSet;

use super::{CoreKey, Replica};
use crate::store::{Position, Snapshot};

impl<K: CoreKey, V> Replica<K, V> {
    /// Compares every index and count with the registers themselves. Walks over everything: for
    /// tests, the simulator and fuzzers.
    ///
    /// # Errors
    /// Says which invariant does not hold.
    pub fn validate(&mut self) -> Result<(), String> {
        let registers = self.all();
        let live = registers.iter().filter(|held| held.meta.kind.is_live());
        let weight: u64 = live.clone().map(|held| u64::from(held.meta.weight)).sum();
        check("live", self.held.live, live.count() as u64)?;
        check("weight", self.held.weight, weight)?;
        let tombstones: BTreeSet<_> = registers
            .iter()
            .filter(|held| !held.meta.kind.is_live())
            .map(|held| (held.meta.stamp_time, held.slot))
            .collect();
        if tombstones != self.tombstones {
            return Err(format!("tombstones: index {} registers {}", self.tombstones.len(), tombstones.len()));
        }
        check("tombstones by cause", self.by_cause.iter().sum(), tombstones.len() as u64)?;
        let retained: usize =
            registers.iter().filter(|held| held.meta.retained).map(|held| held.meta.size as usize).sum();
        check("retained bytes", self.retained_bytes as u64, retained as u64)?;
        check("live log entries", self.logs.values().map(|log| log.live() as u64).sum(), registers.len() as u64)?;
        for held in &registers {
            self.validate_register(held)?;
        }
        Ok(())
    }

    fn all(&self) -> Vec<Snapshot<K, V>> {
        let mut all = Vec::new();
        let mut next = Some(Position::default());
        while let Some(from) = next {
            let (page, after) = self.store.page(from, 1_024);
            all.extend(page);
            next = after;
        }
        all
    }

    fn validate_register(&mut self, held: &Snapshot<K, V>) -> Result<(), String> {
        let marker = self.marker_of(&held.meta);
        let dot = marker.dot;
        let logged = self.logs.get_mut(&dot.actor).is_some_and(|log| {
            // A liar may have given one dot to two keys.
            log.after(dot.counter - 1).take_while(|(time, _)| *time == dot.counter).any(|(_, slot)| slot == held.slot)
        });
        if !logged {
            return Err(format!("{marker:?} is not in its origin's log"));
        }
        let uncovered = !self.vector.covers(&dot);
        if uncovered && !self.uncovered.contains(&held.slot) && self.incoming.is_none() && !self.bugs.no_adoption {
            return Err(format!("{marker:?} is an orphan outside of any session"));
        }
        Ok(())
    }
}

fn check(what: &str, counted: u64, found: u64) -> Result<(), String> {
    if counted == found { Ok(()) } else { Err(format!("{what}: counted {counted}, found {found}")) }
}
