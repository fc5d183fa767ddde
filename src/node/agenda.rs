//! The caches that the driver visits in its next turn. A turn costs as much as the caches that have something to do,
//! not as all that are open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The caches to visit in one turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ToVisit {
    /// Every open cache.
    All,
    /// These caches, if they are still open.
    Only(BTreeSet<Arc<str>>),
}

/// The caches that wait for a visit, and the times of the next ones.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    wanted: BTreeSet<Arc<str>>,
    all: bool,
    /// The monotonic time at which each cache is due.
    due: BTreeMap<Arc<str>, u64>,
    by_time: BTreeSet<(u64, Arc<str>)>,
}

impl Agenda {
    /// Asks for a visit of one cache in the next turn.
    pub(crate) fn want(&mut self, cache: &Arc<str>) {
        if !self.wanted.contains(cache) {
            self.wanted.insert(Arc::clone(cache));
        }
    }

    /// Asks for a visit of every cache in the next turn: something changed that may concern each of them.
    pub(crate) fn want_all(&mut self) {
        self.all = true;
    }

    /// Takes the caches to visit now: those that were asked for, and those that are due. Each of them must be given its
    /// next time with [`set_due`](Self::set_due) if it is still open.
    pub(crate) fn take(&mut self, now: u64) -> ToVisit {
        let mut wanted = std::mem::take(&mut self.wanted);
        if std::mem::take(&mut self.all) {
            // Caches that were closed meanwhile get no next time, so their old one ends here.
            self.due.clear();
            self.by_time.clear();
            return ToVisit::All;
        }
        while let Some((at, cache)) = self.by_time.pop_first() {
            if at > now {
                self.by_time.insert((at, cache));
                break;
            }
            self.due.remove(&cache);
            wanted.insert(cache);
        }
        ToVisit::Only(wanted)
    }

    /// Sets the time at which a cache is due next.
    pub(crate) fn set_due(&mut self, cache: &Arc<str>, at: u64) {
        if let Some(before) = self.due.insert(Arc::clone(cache), at) {
            self.by_time.remove(&(before, Arc::clone(cache)));
        }
        self.by_time.insert((at, Arc::clone(cache)));
    }

    /// Returns the time of the next visit: zero if a cache is asked for, and `None` if there is nothing to do.
    pub(crate) fn next(&self) -> Option<u64> {
        if self.all || !self.wanted.is_empty() {
            return Some(0);
        }
        self.by_time.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Arc<str> {
        Arc::from(name)
    }

    fn only(names: &[&str]) -> ToVisit {
        ToVisit::Only(names.iter().map(|cache| name(cache)).collect())
    }

    #[test]
    fn a_turn_visits_what_is_asked_for_and_what_is_due() {
        let mut agenda = Agenda::default();
        ["a", "b", "c"].iter().zip([30, 10, 20]).for_each(|(cache, at)| agenda.set_due(&name(cache), at));
        assert_eq!(agenda.next(), Some(10));
        agenda.want(&name("a"));
        assert_eq!((agenda.next(), agenda.take(20)), (Some(0), only(&["a", "b", "c"])));
        assert_eq!(agenda.next(), Some(30), "a is visited early, and its time stays until it gets another");
        agenda.set_due(&name("a"), 50);
        agenda.set_due(&name("b"), 40);
        assert_eq!((agenda.take(30), agenda.take(40), agenda.next()), (only(&[]), only(&["b"]), Some(50)));
    }

    #[test]
    fn a_visit_of_all_forgets_the_times_of_closed_caches() {
        let mut agenda = Agenda::default();
        agenda.set_due(&name("closed"), 10);
        agenda.want_all();
        assert_eq!((agenda.next(), agenda.take(0)), (Some(0), ToVisit::All));
        assert_eq!((agenda.next(), agenda.take(10)), (None, only(&[])));
    }
}
