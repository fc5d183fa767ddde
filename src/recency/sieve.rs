//! The places in order of their arrival, with the hand of SIEVE (Zhang, Yang, Yue, Vigfusson and Rashmi 2024).
//!
//! The list is threaded through an array with one node for each place, so that no operation searches.

use super::reads::Visited;
use crate::store::{SlotId, SlotRef};

/// The end of the list, in the place of a neighbour.
const NONE: u32 = u32::MAX;
/// The most places that one eviction spares. It bounds the work under the replica's lock if everything was used.
const SPARED: usize = 256;

/// In the place of the older neighbour: the place holds nothing that can be evicted.
const UNUSED: u32 = u32::MAX - 1;
/// In the place of the older neighbour: the place holds an entry of weight zero, which is never evicted.
const WEIGHTLESS: u32 = u32::MAX - 2;

/// The state of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unused,
    Listed,
    Weightless,
}

/// A place with its neighbours in the list.
#[derive(Clone, Copy, Debug)]
struct Node {
    older: u32,
    newer: u32,
    generation: u32,
}

const FREE: Node = Node { older: UNUSED, newer: NONE, generation: 0 };

impl Node {
    fn state(self) -> State {
        match self.older {
            UNUSED => State::Unused,
            WEIGHTLESS => State::Weightless,
            _ => State::Listed,
        }
    }
}

/// The least number of nodes for which memory is kept.
const FEW: usize = 1_024;

/// The places in order of their arrival.
pub(crate) struct Sieve {
    nodes: Vec<Node>,
    oldest: u32,
    newest: u32,
    /// The place at which the next eviction begins. `NONE` stands for the oldest place.
    hand: u32,
    len: usize,
    /// The number of places in use: listed, or without weight.
    used: usize,
    /// The number of places freed since unused nodes were last dropped.
    freed: usize,
}

impl Default for Sieve {
    fn default() -> Self {
        Self { nodes: Vec::new(), oldest: NONE, newest: NONE, hand: NONE, len: 0, used: 0, freed: 0 }
    }
}

impl Sieve {
    fn node(&self, id: u32) -> Node {
        self.nodes.get(id as usize).copied().unwrap_or(FREE)
    }

    fn is(&self, slot: SlotRef, state: State) -> bool {
        let node = self.node(slot.id.0);
        node.state() == state && node.generation == slot.generation
    }

    fn link(&mut self, slot: SlotRef) {
        let id = slot.id.0;
        self.set(id, Node { older: self.newest, newer: NONE, generation: slot.generation });
        match self.newest {
            NONE => self.oldest = id,
            newest => self.nodes[newest as usize].newer = id,
        }
        self.newest = id;
        self.len += 1;
    }

    /// Stores the node of a place that is unused so far.
    fn set(&mut self, id: u32, node: Node) {
        let least = id as usize + 1;
        if self.nodes.len() < least {
            self.grow(least);
        }
        self.nodes[id as usize] = node;
        self.used += 1;
    }

    /// Adds nodes up to a length. Reserves a quarter more, not twice as much: there is a node for each place.
    fn grow(&mut self, len: usize) {
        if self.nodes.capacity() < len {
            self.nodes.reserve_exact(len + (len / 4).max(FEW / 4) - self.nodes.len());
        }
        self.nodes.resize(len, FREE);
    }

    /// Marks a place as unused. Drops the unused nodes at the end from time to time: after 256 places, and a quarter as
    /// many as are in use, and after the last one.
    fn free(&mut self, id: u32) {
        self.nodes[id as usize] = FREE;
        self.used -= 1;
        self.freed += 1;
        if self.freed > self.used.max(FEW) / 4 || (self.used == 0 && self.nodes.len() > FEW) {
            self.freed = 0;
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        let used = self.nodes.iter().rposition(|node| node.state() != State::Unused);
        self.nodes.truncate(used.map_or(0, |used| used + 1));
        if self.nodes.capacity() > FEW.max(4 * self.nodes.len()) {
            self.nodes.shrink_to(2 * self.nodes.len());
        }
    }

    /// Takes a place out of the list, or out of those without weight.
    fn unlink(&mut self, id: u32) {
        let node @ Node { older, newer, .. } = self.node(id);
        if node.state() == State::Unused {
            return;
        }
        if node.state() == State::Listed {
            match older {
                NONE => self.oldest = newer,
                older => self.nodes[older as usize].newer = newer,
            }
            match newer {
                NONE => self.newest = older,
                newer => self.nodes[newer as usize].older = older,
            }
            if self.hand == id {
                self.hand = newer;
            }
            self.len -= 1;
        }
        self.free(id);
    }

    /// Adds a new entry as the newest, or notes a write to one, which counts as a use.
    pub(super) fn insert(&mut self, slot: SlotRef, weighs: bool, visited: &Visited) {
        if weighs && self.is(slot, State::Listed) {
            return visited.set(slot.id);
        }
        if self.node(slot.id.0).state() == State::Unused {
            // The bit of a free place is clear. If it is set, the value was read before its write was absorbed.
            visited.make_room(slot.id);
        } else {
            // The place may have belonged to another key.
            self.unlink(slot.id.0);
            visited.reset(slot.id);
        }
        self.add(slot, weighs);
    }

    fn add(&mut self, slot: SlotRef, weighs: bool) {
        if weighs {
            self.link(slot);
        } else {
            self.set(slot.id.0, Node { older: WEIGHTLESS, newer: NONE, generation: slot.generation });
        }
    }

    /// Notes that another node's write replaced the value of an entry, which is no use.
    pub(super) fn reweigh(&mut self, slot: SlotRef, weighs: bool) {
        let before = if weighs { State::Weightless } else { State::Listed };
        if self.is(slot, before) {
            self.unlink(slot.id.0);
            self.add(slot, weighs);
        }
    }

    /// Removes an entry, and clears the bit of its place for the next one. Must also be called for an entry that
    /// [`pop`](Self::pop) took out, once readers no longer find its value.
    pub(super) fn remove(&mut self, slot: SlotRef, visited: &Visited) {
        let node = self.node(slot.id.0);
        if node.state() == State::Unused || node.generation == slot.generation {
            self.unlink(slot.id.0);
            visited.take(slot.id);
        }
    }

    /// Takes out the next entry to evict: the first one from the hand on that was not used since the hand passed it.
    pub(super) fn pop(&mut self, visited: &Visited) -> Option<SlotRef> {
        let mut at = if self.hand == NONE { self.oldest } else { self.hand };
        for spared in 0..=SPARED {
            // The newest place stays if an older one can be evicted: nothing is refused on arrival.
            if at == self.newest {
                at = self.oldest;
            }
            if at == NONE {
                return None;
            }
            if spared == SPARED || !visited.take(SlotId(at)) {
                break;
            }
            at = self.after(at);
        }
        let Node { newer, generation, .. } = self.node(at);
        self.hand = newer;
        self.unlink(at);
        Some(SlotRef { id: SlotId(at), generation })
    }

    /// Returns the place to which the hand moves from this one.
    fn after(&self, id: u32) -> u32 {
        match self.node(id).newer {
            NONE => self.oldest,
            newer => newer,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the places: first those that were used since the hand passed them, then the rest, each time starting
    /// with those that the hand reaches last. Places without weight follow. Takes time in proportion to their number.
    pub(super) fn iter<'a>(&'a self, visited: &'a Visited) -> impl Iterator<Item = SlotRef> + 'a {
        let listed = [true, false]
            .into_iter()
            .flat_map(move |used| self.backwards().filter(move |slot| visited.is_set(slot.id) == used));
        let ids = (0..).map(SlotId).zip(&self.nodes);
        let weightless = ids.filter(|(_, node)| node.state() == State::Weightless);
        listed.chain(weightless.map(|(id, node)| SlotRef { id, generation: node.generation }))
    }

    /// Returns the listed places in the reverse of the order in which the hand reaches them.
    fn backwards(&self) -> impl Iterator<Item = SlotRef> + '_ {
        let before = |id: u32| match self.node(id).older {
            NONE => self.newest,
            older => older,
        };
        let first = if self.hand == NONE { self.newest } else { before(self.hand) };
        let places = std::iter::successors(Some(first), move |id| Some(before(*id))).take(self.len);
        places.map(|id| SlotRef { id: SlotId(id), generation: self.node(id).generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(id: u32) -> SlotRef {
        SlotRef { id: SlotId(id), generation: id }
    }

    fn filled(ids: std::ops::Range<u32>) -> (Sieve, Visited) {
        let (mut sieve, visited) = (Sieve::default(), Visited::default());
        ids.for_each(|id| sieve.insert(slot(id), true, &visited));
        (sieve, visited)
    }

    fn drain(sieve: &mut Sieve, visited: &Visited) -> Vec<u32> {
        std::iter::from_fn(|| sieve.pop(visited)).map(|slot| slot.id.0).collect()
    }

    /// The example of the paper's figure: the hand spares what was used, in place, and goes on from there.
    #[test]
    fn the_hand_spares_what_was_used_and_goes_on_from_there() {
        let (mut sieve, visited) = filled(0..7);
        [1, 2, 6].map(SlotId).iter().for_each(|id| visited.set(*id));
        assert_eq!(sieve.pop(&visited), Some(slot(0)));
        sieve.insert(slot(7), true, &visited);
        assert_eq!(sieve.pop(&visited), Some(slot(3)), "1 and 2 were used");
        sieve.insert(slot(8), true, &visited);
        visited.set(SlotId(1));
        assert_eq!(sieve.pop(&visited), Some(slot(4)), "the hand does not begin again");
        assert_eq!(drain(&mut sieve, &visited), [5, 7, 2, 6, 1, 8], "6 is spared once, then 1; 8 is the newest");
    }

    #[test]
    fn the_newest_stays_while_an_older_one_can_go() {
        let (mut sieve, visited) = filled(0..3);
        [0, 1].map(SlotId).iter().for_each(|id| visited.set(*id));
        assert_eq!(sieve.pop(&visited), Some(slot(0)), "2 was not used, but it has just come");
        assert_eq!(drain(&mut sieve, &visited), [1, 2]);
        assert_eq!(sieve.pop(&visited), None);
        assert_eq!(sieve.len(), 0);
    }

    /// If everything was used, an eviction looks at a bounded number of places.
    #[test]
    fn an_eviction_looks_at_a_bounded_number_of_places() {
        let (mut sieve, visited) = filled(0..10_000);
        (0..10_000).map(SlotId).for_each(|id| visited.set(id));
        let gone = sieve.pop(&visited).unwrap();
        assert_eq!(gone, slot(SPARED as u32));
        assert_eq!((0..10_000).filter(|id| !visited.is_set(SlotId(*id))).count(), SPARED);
    }

    #[test]
    fn memory_is_given_back_and_the_order_stays() {
        assert_eq!(size_of::<Node>(), 12);
        let (mut sieve, visited) = filled(0..100_000);
        assert!(sieve.nodes.capacity() < 130_000);
        (10..100_000).rev().for_each(|id| sieve.remove(slot(id), &visited));
        assert!(sieve.nodes.len() <= FEW && sieve.nodes.capacity() <= FEW, "{}", sieve.nodes.capacity());
        sieve.insert(slot(50), true, &visited);
        sieve.insert(slot(11), false, &visited);
        let expected: Vec<_> = (0..10).chain([50]).collect();
        assert_eq!(drain(&mut sieve, &visited), expected);
        assert_eq!(sieve.iter(&visited).count(), 1, "the place without weight is still there");
        let (mut sieve, visited) = filled(0..100_000);
        (0..100_000).for_each(|id| sieve.remove(slot(id), &visited));
        assert!(sieve.nodes.capacity() <= FEW, "the last place at the end was removed last");
    }

    #[test]
    fn a_local_write_is_a_use_and_a_remote_one_is_not() {
        let (mut sieve, visited) = filled(0..4);
        sieve.insert(slot(0), true, &visited);
        sieve.reweigh(slot(1), true);
        assert_eq!(drain(&mut sieve, &visited), [1, 2, 0, 3]);
    }

    #[test]
    fn what_weighs_nothing_is_not_in_the_list() {
        let (mut sieve, visited) = (Sieve::default(), Visited::default());
        (0..6).for_each(|id| sieve.insert(slot(id), id % 2 == 0, &visited));
        assert_eq!((sieve.len(), sieve.iter(&visited).count()), (3, 6));
        sieve.reweigh(slot(0), false);
        sieve.reweigh(slot(1), true);
        sieve.reweigh(SlotRef { id: SlotId(4), generation: 99 }, false);
        sieve.insert(slot(3), true, &visited);
        sieve.insert(slot(3), false, &visited);
        assert_eq!(drain(&mut sieve, &visited), [2, 4, 1]);
        assert_eq!(sieve.iter(&visited).count(), 3);
    }

    #[test]
    fn a_place_that_changed_hands_starts_again() {
        let (mut sieve, visited) = filled(0..4);
        visited.set(SlotId(1));
        let new = SlotRef { id: SlotId(1), generation: 99 };
        sieve.insert(new, true, &visited);
        sieve.remove(slot(1), &visited);
        assert_eq!(sieve.len(), 4, "that was its predecessor");
        assert_eq!(sieve.pop(&visited), Some(slot(0)));
        sieve.remove(new, &visited);
        assert_eq!(drain(&mut sieve, &visited), [2, 3]);
    }

    /// A value may be read before its write is absorbed. That use counts. A use of the value that the place had before
    /// does not.
    #[test]
    fn a_use_before_the_write_is_absorbed_counts() {
        let (mut sieve, visited) = filled(0..4);
        visited.set(SlotId(4));
        sieve.insert(slot(4), true, &visited);
        sieve.insert(slot(5), true, &visited);
        assert!(visited.is_set(SlotId(4)));
        sieve.remove(slot(4), &visited);
        let gone = sieve.pop(&visited).unwrap();
        visited.set(gone.id);
        sieve.remove(gone, &visited);
        for again in [SlotId(4), gone.id] {
            sieve.insert(SlotRef { id: again, generation: 99 }, true, &visited);
            assert!(!visited.is_set(again));
        }
    }

    /// The order that `iter` states is the order in which entries are evicted, backwards, wherever the hand is.
    #[test]
    fn the_stated_order_is_the_order_of_eviction() {
        for (turns, removed) in [(0, 9), (3, 9), (5, 5), (5, 3), (8, 11), (12, 0)] {
            let (mut sieve, visited) = filled(0..12);
            (0..12).filter(|id| id % 3 == 0).map(SlotId).for_each(|id| visited.set(id));
            for turn in 0..turns {
                sieve.pop(&visited);
                sieve.insert(slot(20 + turn), true, &visited);
                visited.set(SlotId(21));
            }
            sieve.remove(slot(removed), &visited);
            let mut stated: Vec<_> = sieve.iter(&visited).map(|slot| slot.id.0).collect();
            stated.reverse();
            let newest = sieve.newest;
            let mut gone = drain(&mut sieve, &visited);
            // The newest entry goes last, whatever the hand finds.
            stated.retain(|id| *id != newest);
            gone.retain(|id| *id != newest);
            assert_eq!(stated, gone, "after {turns} turns, without {removed}");
        }
    }
}
