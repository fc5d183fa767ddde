//! Warnings: their subject, meaning, source and duration, and what to do.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{PeerReport, readable};
use crate::hlc::Now;

/// A condition that an operator should look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Warning {
    /// The name of the warning. It is stable, so alerts can refer to it.
    pub name: String,
    /// The subject: a node, a replica or an address.
    pub about: String,
    /// The meaning, and what to do.
    pub text: String,
    /// The address or addresses from which the cause comes, if it comes from the network.
    #[serde(default)]
    pub source: Option<String>,
    /// The time at which the warning began, by the clock of the node that warns. It is accurate to about a second.
    #[serde(default)]
    pub since: String,
    /// The time at which the warning ended. Absent while it lasts.
    #[serde(default)]
    pub until: Option<String>,
}

pub(super) fn warning(name: &str, about: impl Into<String>, text: impl Into<String>) -> Warning {
    Warning { name: name.into(), about: about.into(), text: text.into(), ..Warning::default() }
}

impl Warning {
    /// Returns the warning with its source.
    pub(super) fn from(self, source: impl Into<String>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.name, &self.about) == (&other.name, &other.about)
    }
}

pub(super) fn name_of(peer: &PeerReport) -> String {
    peer.node.clone().unwrap_or_else(|| peer.replica.clone())
}

/// The most warnings that are remembered after their end.
const ENDED: usize = 32;
/// The time for which a warning is remembered after its end, in nanoseconds.
const REMEMBERED: u64 = 900_000_000_000;
/// The time within which a warning that has ended and begins again is the same one, in nanoseconds.
const PAUSE: u64 = 5_000_000_000;

/// A warning that has ended, and the monotonic time of its end.
#[derive(Debug)]
struct Ended {
    warning: Warning,
    at: u64,
}

/// The present warnings about one subject, a node or a cache, with their beginnings, and those that have ended.
#[derive(Debug, Default)]
pub(crate) struct WarningLog {
    present: Vec<Warning>,
    ended: VecDeque<Ended>,
    /// The last value of each count, and the monotonic time at which it last rose.
    counts: BTreeMap<String, (u64, u64)>,
}

impl WarningLog {
    /// Takes the present warnings, and sets their beginnings. Warnings that are missing have ended.
    pub(crate) fn observe(&mut self, now: Now, mut warnings: Vec<Warning>) -> Vec<Warning> {
        let wall = readable(now.wall);
        for warning in &mut warnings {
            warning.since = self.beginning(now, warning).unwrap_or_else(|| wall.clone());
        }
        let gone = |known: &&Warning| !warnings.iter().any(|warning| warning.is_same(known));
        for known in self.present.iter().filter(gone) {
            let warning = Warning { until: Some(wall.clone()), ..known.clone() };
            self.ended.push_front(Ended { warning, at: now.mono });
        }
        self.ended.retain(|seen| now.mono.saturating_sub(seen.at) < REMEMBERED);
        self.ended.truncate(ENDED);
        self.present.clone_from(&warnings);
        warnings
    }

    /// Returns the beginning of a warning that is known. One that ended a moment ago goes on.
    fn beginning(&mut self, now: Now, warning: &Warning) -> Option<String> {
        if let Some(known) = self.present.iter().find(|known| known.is_same(warning)) {
            return Some(known.since.clone());
        }
        let is_same = |seen: &Ended| seen.warning.is_same(warning) && now.mono.saturating_sub(seen.at) < PAUSE;
        let at = self.ended.iter().position(is_same)?;
        self.ended.remove(at).map(|seen| seen.warning.since)
    }

    /// Returns the warnings that have ended within 15 minutes, the latest first.
    pub(crate) fn ended(&self) -> Vec<Warning> {
        self.ended.iter().map(|seen| seen.warning.clone()).collect()
    }

    /// Returns the milliseconds since each count last rose. A count that has not risen since the start is left out.
    pub(crate) fn ages(&mut self, now: Now, counts: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        let mut ages = BTreeMap::new();
        for (name, count) in counts {
            let known = self.counts.entry(name.clone()).or_default();
            if *count > known.0 {
                *known = (*count, now.mono);
            }
            if known.0 > 0 {
                ages.insert(name.clone(), now.mono.saturating_sub(known.1) / 1_000_000);
            }
        }
        ages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Now {
        Now { wall: 1_700_000_000_000_000_000 + second * 1_000_000_000, mono: second * 1_000_000_000 }
    }

    fn seen(log: &mut WarningLog, second: u64, abouts: &[&str]) -> Vec<(String, String)> {
        let warnings = abouts.iter().map(|about| warning("lagging-peer", *about, "")).collect();
        let begun = |warning: Warning| (warning.about, warning.since);
        log.observe(at(second), warnings).into_iter().map(begun).collect()
    }

    #[test]
    fn a_warning_has_a_beginning_and_an_end_and_a_short_pause_is_neither() {
        let mut log = WarningLog::default();
        let begun = |about: &str, second: u64| (about.to_owned(), readable(at(second).wall));
        assert_eq!(seen(&mut log, 1, &["b"]), [begun("b", 1)]);
        assert_eq!(seen(&mut log, 3, &["b", "c"]), [begun("b", 1), begun("c", 3)]);
        assert_eq!(seen(&mut log, 4, &["c"]), [begun("c", 3)]);
        let ended = log.ended();
        assert_eq!((ended.len(), ended[0].until.as_deref()), (1, Some(&*readable(at(4).wall))));
        assert_eq!(seen(&mut log, 8, &["b"]), [begun("b", 1)], "it goes on");
        assert_eq!(log.ended().iter().map(|warning| &*warning.about).collect::<Vec<_>>(), ["c"]);
        assert!(seen(&mut log, 9, &[]).is_empty());
        assert_eq!(seen(&mut log, 15, &["b"]), [begun("b", 15)], "a warning of its own");
        assert!(seen(&mut log, 16, &[]).is_empty() && log.ended().len() == 3);
        assert!(seen(&mut log, 2_000, &[]).is_empty() && log.ended().is_empty(), "forgotten after 15 minutes");
    }

    #[test]
    fn a_count_has_the_age_of_its_last_rise() {
        let mut log = WarningLog::default();
        let mut ages = |second, count| log.ages(at(second), &[("faults".to_owned(), count)].into());
        assert!(ages(1, 0).is_empty());
        assert_eq!(ages(2, 3)["faults"], 0);
        assert_eq!(ages(12, 3)["faults"], 10_000);
        assert_eq!(ages(13, 4)["faults"], 0);
    }
}
