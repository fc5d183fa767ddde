//! A writer that discards its input: it counts the bytes and the nesting of an item while the item is serialised.

use std::io;

use smallvec::SmallVec;

use super::limits::MAX_DEPTH;

/// The byte that ends a container of indefinite length.
const BREAK: u8 = 0xff;

/// The argument of a head of indefinite length, and the count of remaining items of such a container.
const UNKNOWN: u64 = u64::MAX;

/// Counter for the bytes of one CBOR item. It refuses the item as soon as it nests too deeply. The error also ends the
/// recursion of the `Serialize` that writes the item.
pub(super) struct Gauge {
    len: usize,
    limit: usize,
    too_deep: bool,
    head: ItemHead,
    /// The remaining bytes of the current string.
    payload: u64,
    /// The remaining items of each open container.
    levels: SmallVec<[u64; 8]>,
}

/// A head of which only some bytes may have been written.
#[derive(Clone, Copy, Default)]
struct ItemHead {
    first: u8,
    /// The number that follows the major type, as far as it was written.
    argument: u64,
    /// The number of bytes of the argument that are still to come.
    missing: u8,
}

impl Gauge {
    /// Creates a gauge that refuses items nested deeper than `limit` levels, or [`MAX_DEPTH`] if that is lower.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            len: 0,
            limit: limit.min(MAX_DEPTH),
            too_deep: false,
            head: ItemHead::default(),
            payload: 0,
            levels: SmallVec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn is_too_deep(&self) -> bool {
        self.too_deep
    }

    /// Takes the next bytes, which may end anywhere: inside a head, inside a string, or between items.
    fn take(&mut self, mut bytes: &[u8]) {
        while !self.too_deep {
            if self.payload > 0 {
                let taken = usize::try_from(self.payload).unwrap_or(usize::MAX).min(bytes.len());
                self.payload -= taken as u64;
                bytes = bytes.get(taken..).unwrap_or_default();
                if self.payload == 0 {
                    self.complete();
                }
            }
            let Some((&byte, rest)) = bytes.split_first() else { return };
            bytes = rest;
            self.byte(byte);
        }
    }

    fn byte(&mut self, byte: u8) {
        if self.head.missing > 0 {
            self.head.argument = (self.head.argument << 8) | u64::from(byte);
            self.head.missing -= 1;
        } else {
            let (argument, missing) = match byte & 0x1f {
                small @ 0..=23 => (u64::from(small), 0),
                power @ 24..=27 => (0, 1 << (power - 24)),
                _ => (UNKNOWN, 0),
            };
            self.head = ItemHead { first: byte, argument, missing };
        }
        if self.head.missing == 0 {
            self.head_done();
        }
    }

    fn head_done(&mut self) {
        let ItemHead { first, argument, .. } = self.head;
        match first >> 5 {
            2 | 3 if argument > 0 => self.payload = argument,
            4 => self.open(argument),
            5 if argument == UNKNOWN => self.open(UNKNOWN),
            5 => self.open(argument.saturating_mul(2)),
            6 => self.open(1),
            // A NaN with all bits set has the same argument, and ends nothing.
            7 if first == BREAK => self.close(),
            _ => self.complete(),
        }
    }

    /// Opens a container of `items` items. A map counts keys and values, a tag has one item.
    fn open(&mut self, items: u64) {
        if self.levels.len() >= self.limit {
            self.too_deep = true;
        } else if items == 0 {
            self.complete();
        } else {
            self.levels.push(items);
        }
    }

    /// Closes the innermost container at a break.
    fn close(&mut self) {
        self.levels.pop();
        self.complete();
    }

    /// Counts one complete item, and closes each container whose last item it was.
    fn complete(&mut self) {
        while let Some(level) = self.levels.last_mut() {
            if *level == UNKNOWN {
                return;
            }
            *level -= 1;
            if *level > 0 {
                return;
            }
            self.levels.pop();
        }
    }
}

impl io::Write for Gauge {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(bytes);
        if self.too_deep {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.len = self.len.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Checks that a NaN of any bits counts as one item: it must not close the containers around it, or items nested too
    /// deeply would pass.
    #[test]
    fn a_nan_is_no_break() {
        for nan in [[0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]] {
            // [[NaN, [[]]]], where the innermost array is on the fourth level.
            let item = [&[0x81, 0x82][..], &nan, &[0x81, 0x80]].concat();
            let measure = |limit| Gauge::new(limit).write(&item).is_ok();
            assert_eq!((measure(4), measure(3)), (true, false), "{nan:x?}");
        }
    }
}
