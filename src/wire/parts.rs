//! Reader for the parts that bodies and entries consist of.

use super::cursor::Cursor;
use super::error::DecodeError;
use super::layout::{BOUND_PARTS, REPLICAS};
use super::limits::Limits;
use super::replicas::Table;
use super::scan::{self, Rule};
use crate::crdt::VersionVector;
use crate::hlc::Stamp;
use crate::message::FillNote;
use crate::message::bound::{FillBound, MAX_KNOWN};
use crate::replica_id::ReplicaId;

/// A reader for the parts of one body. Replicas are indices into the body's table. `'a` is the lifetime of the message
/// bytes, `'r` that of the caller's limits.
pub(super) struct PartReader<'a, 'r> {
    pub(super) cursor: Cursor<'a>,
    pub(super) limits: &'r Limits,
    table: Table<'a>,
}

impl<'a, 'r> PartReader<'a, 'r> {
    pub(super) fn new(body: &'a [u8], limits: &'r Limits) -> Self {
        Self { cursor: Cursor::new(body), limits, table: Table::default() }
    }

    /// Reads a field that every body may have, or skips a field of a newer release.
    #[inline]
    pub(super) fn common_field(&mut self, field: u64) -> Result<(), DecodeError> {
        if field != REPLICAS {
            return self.skip();
        }
        self.table = Table::new(self.cursor.bytes("the replica table")?)?;
        Ok(())
    }

    pub(super) fn skip(&mut self) -> Result<(), DecodeError> {
        scan::skip(&mut self.cursor, Rule::Field, self.limits.depth())
    }

    /// Skips the elements that a newer release has appended to an array.
    #[inline]
    pub(super) fn skip_rest(&mut self, parts: usize, known: usize) -> Result<(), DecodeError> {
        (known..parts).try_for_each(|_| self.skip())
    }

    #[inline]
    pub(super) fn id(&mut self, what: &'static str) -> Result<ReplicaId, DecodeError> {
        self.table.id(self.cursor.uint(what)?)
    }

    /// Reads `[replica, time]`.
    #[inline]
    pub(super) fn stamp(&mut self) -> Result<Stamp, DecodeError> {
        const WHAT: &str = "a stamp";
        if self.cursor.array(WHAT)? != 2 {
            return Err(DecodeError::Type(WHAT));
        }
        let replica = self.id(WHAT)?;
        Ok(Stamp::new(self.cursor.uint(WHAT)?, replica))
    }

    /// Reads the bounds of fills, which must be in strictly rising order of dot time.
    pub(super) fn fills(&mut self) -> Result<Vec<FillNote>, DecodeError> {
        const WHAT: &str = "the bounds of fills";
        let count = self.cursor.array(WHAT)?;
        let mut fills: Vec<FillNote> = Vec::new();
        for _ in 0..count {
            let note = self.fill_note(WHAT)?;
            if fills.last().is_some_and(|last| last.time >= note.time) {
                return Err(DecodeError::EntryOrder);
            }
            fills.push(note);
        }
        Ok(fills)
    }

    fn fill_note(&mut self, what: &'static str) -> Result<FillNote, DecodeError> {
        let parts = self.cursor.array_of(BOUND_PARTS, what)?;
        let time = self.cursor.uint(what)?;
        let (after, epoch) = (self.cursor.uint(what)?, self.cursor.uint(what)?);
        let count = self.cursor.array(what)?;
        if count > MAX_KNOWN {
            return Err(DecodeError::Range(what));
        }
        let known = (0..count).map(|_| self.stamp()).collect::<Result<_, _>>()?;
        self.skip_rest(parts, BOUND_PARTS)?;
        Ok(FillNote { time, bound: FillBound { after, epoch, known } })
    }

    /// Reads a version vector. Its replicas must be in strictly rising order, and no time may be zero.
    pub(super) fn vector(&mut self) -> Result<VersionVector, DecodeError> {
        const WHAT: &str = "a version vector";
        let count = self.cursor.map(WHAT)?;
        self.limits.check_origins(WHAT, count)?;
        let mut entries = Vec::with_capacity(count.min(1_024));
        let mut next = 0;
        for _ in 0..count {
            let number = self.cursor.uint(WHAT)?;
            if number < next {
                return Err(DecodeError::ReplicaOrder(WHAT));
            }
            next = number.saturating_add(1);
            entries.push((self.table.id(number)?, self.cursor.uint(WHAT)?));
        }
        let vector: VersionVector = entries.into_iter().collect();
        // The vector drops zero times: an origin with time zero is encoded by omission only.
        if vector.len() == count { Ok(vector) } else { Err(DecodeError::Range(WHAT)) }
    }
}
