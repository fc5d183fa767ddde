//! Writer for the structure of a message, into one buffer.

use bytes::Bytes;
use ciborium_ll::{Encoder, Header, simple};

use super::layout::NULL;

/// The bytes of a message that is being encoded.
pub(super) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { out: Vec::with_capacity(capacity) }
    }

    pub(super) fn finish(self) -> Bytes {
        self.out.into()
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    #[inline]
    pub(super) fn head(&mut self, header: Header) {
        push(&mut self.out, header);
    }

    #[inline]
    pub(super) fn uint(&mut self, number: u64) {
        self.head(Header::Positive(number));
    }

    pub(super) fn text(&mut self, text: &str) {
        self.head(Header::Text(Some(text.len())));
        self.raw(text.as_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.head(Header::Bytes(Some(bytes.len())));
        self.raw(bytes);
    }

    pub(super) fn bool(&mut self, yes: bool) {
        self.head(Header::Simple(if yes { simple::TRUE } else { simple::FALSE }));
    }

    #[inline]
    pub(super) fn null(&mut self) {
        self.out.push(NULL);
    }

    /// Writes the bytes that `write` appends as one byte string. Returns its length. `guess` is the expected length: if
    /// it is right, no bytes are moved.
    #[inline]
    pub(super) fn wrapped<E>(
        &mut self,
        guess: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let start = self.out.len();
        self.head(Header::Bytes(Some(guess)));
        let body = self.out.len();
        write(&mut self.out)?;
        let len = self.out.len().saturating_sub(body);
        if len != guess {
            self.mend_head(start, body, len);
        }
        Ok(len)
    }

    /// Replaces the head that was written for the guess. The body moves if the new head has another size.
    fn mend_head(&mut self, start: usize, body: usize, len: usize) {
        let mut head = Vec::with_capacity(9);
        push(&mut head, Header::Bytes(Some(len)));
        self.out.splice(start..body, head);
    }

    /// Starts a map of fewer than 24 fields. Its fields are counted as they are written.
    pub(super) fn open(&mut self) -> OpenMap {
        let at = self.out.len();
        self.head(Header::Map(Some(0)));
        OpenMap { at }
    }

    /// Starts the next field of `map`.
    pub(super) fn field(&mut self, map: &OpenMap, number: u64) {
        if let Some(head) = self.out.get_mut(map.at) {
            // The count is in the low five bits of the one-byte head, which holds counts below 24.
            *head += 1;
        }
        self.uint(number);
    }

    pub(super) fn uint_field(&mut self, map: &OpenMap, field: u64, number: u64) {
        self.field(map, field);
        self.uint(number);
    }

    /// Writes a number, or omits the field if the number is zero.
    pub(super) fn nonzero_field(&mut self, map: &OpenMap, field: u64, number: u64) {
        if number != 0 {
            self.uint_field(map, field, number);
        }
    }

    /// Writes a flag, or omits the field if the flag is false.
    pub(super) fn flag_field(&mut self, map: &OpenMap, field: u64, flag: bool) {
        if flag {
            self.field(map, field);
            self.bool(true);
        }
    }
}

/// A map whose fields are still being written.
pub(super) struct OpenMap {
    at: usize,
}

#[inline]
fn push(out: &mut Vec<u8>, header: Header) {
    // Writing to a `Vec` cannot fail.
    let _ = Encoder::from(out).push(header);
}
