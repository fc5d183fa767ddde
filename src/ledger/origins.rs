//! Replica ids interned as numbers, so that a register needs four bytes for each.

use std::collections::BTreeMap;

use crate::replica_id::ReplicaId;

/// An interner of replica ids. An entry lives as long as a register refers to it.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    /// The id that was acquired last, with its number. Consecutive registers often have the same origin.
    last: Option<(ReplicaId, u32)>,
    numbers: BTreeMap<ReplicaId, u32>,
    ids: Vec<(ReplicaId, u64)>,
    free: Vec<u32>,
}

impl Origins {
    /// Returns the number of `id`, and adds one to its reference count.
    #[inline]
    pub(crate) fn acquire(&mut self, id: ReplicaId) -> u32 {
        match self.last {
            Some((last, number)) if last == id => {
                self.ids[number as usize].1 += 1;
                number
            }
            _ => self.look_up(id),
        }
    }

    fn look_up(&mut self, id: ReplicaId) -> u32 {
        let number = self.number(id);
        self.last = Some((id, number));
        number
    }

    fn number(&mut self, id: ReplicaId) -> u32 {
        if let Some(&number) = self.numbers.get(&id) {
            self.ids[number as usize].1 += 1;
            return number;
        }
        let number = match self.free.pop() {
            Some(number) => {
                self.ids[number as usize] = (id, 1);
                number
            }
            None => {
                self.ids.push((id, 1));
                (self.ids.len() - 1) as u32
            }
        };
        self.numbers.insert(id, number);
        number
    }

    /// Subtracts one from the reference count of a number.
    #[inline]
    pub(crate) fn release(&mut self, number: u32) {
        let (id, count) = &mut self.ids[number as usize];
        *count -= 1;
        if *count == 0 {
            // The cached pair may be this id, whose number is free from now on.
            self.last = None;
            self.numbers.remove(id);
            self.free.push(number);
        }
    }

    /// Returns the id of a number that is in use.
    pub(crate) fn id(&self, number: u32) -> ReplicaId {
        self.ids[number as usize].0
    }

    /// Returns the number of ids in use.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_return_when_nothing_refers_to_them() {
        let id = |n: u8| ReplicaId::from_bytes([n; 16]);
        let mut origins = Origins::default();
        let first = origins.acquire(id(1));
        assert_eq!(origins.acquire(id(1)), first);
        origins.release(first);
        assert_eq!(origins.id(first), id(1));
        origins.release(first);
        assert_eq!(origins.len(), 0);
        assert_eq!(origins.acquire(id(2)), first);
    }
}
