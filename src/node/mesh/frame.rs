//! The outermost bytes of memberlist 0.8's wire format, read before memberlist reads them.
//!
//! memberlist allocates as much as a length field asks for before one byte of it has arrived, and before decryption. So
//! label, encryption and length are checked here first. A refusal is counted by its kind.

use super::counters::Counters;
use crate::counters::Counter;

const COMPOUND: u8 = 1;
const LABELED: u8 = 12;
const CHECKSUMED: u8 = 13;
const COMPRESSED: u8 = 14;
const ENCRYPTED: u8 = 15;

const NO_PADDING: u8 = 1;
const NONCE: usize = 12;
const GCM_TAG: usize = 16;
/// Size of a fixed header: tag, one byte (algorithm or count), four bytes of length. Encrypted and compound frames have
/// it.
const FIXED_HEADER: usize = 6;

/// The least limit of a frame, in bytes: a member table must pass even if user frames are kept tiny.
const FLOOR: usize = 64 << 10;
/// Bytes allowed for label, headers, nonce, tag and trailer.
const OVERHEAD: usize = 512;

/// Maximum size of a header: label, then a fixed or varint header.
pub(super) const MAX_HEADER: usize = 2 + 255 + FIXED_HEADER;

/// The reason for which bytes from the network were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    ForeignLabel,
    Plaintext,
    Malformed,
    Oversize,
}

impl Refusal {
    pub(super) fn count(self, counters: &Counters) {
        let counter: &Counter = match self {
            Self::ForeignLabel => &counters.foreign_label,
            Self::Plaintext => &counters.refused_plaintext,
            Self::Malformed => &counters.malformed_frames,
            Self::Oversize => &counters.oversize_frames,
        };
        counter.one();
    }
}

impl Refusal {
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::ForeignLabel => "sent by another cluster, or not cluster traffic",
            Self::Plaintext => "not encrypted",
            Self::Malformed => "malformed",
            Self::Oversize => "too large",
        }
    }
}

impl From<Refusal> for std::io::Error {
    fn from(refusal: Refusal) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, format!("refused: {refusal:?}"))
    }
}

/// The rules by which bytes from the network are accepted.
pub(super) struct Policy {
    pub(super) label: Box<str>,
    pub(super) encrypted: bool,
    pub(super) max_frame: usize,
}

impl Policy {
    /// Returns the full length of the stream frame that begins with `head`, or `None` while the header is incomplete.
    pub(super) fn frame_len(&self, head: &[u8]) -> Result<Option<usize>, Refusal> {
        let Some(start) = self.label_len(head)? else { return Ok(None) };
        let Some(&tag) = head.get(start) else { return Ok(None) };
        self.check_encryption(tag)?;
        let len = match tag {
            ENCRYPTED => fixed(&head[start..], NONCE + GCM_TAG, Some(NO_PADDING))?,
            COMPOUND => fixed(&head[start..], 0, None)?,
            CHECKSUMED | COMPRESSED | LABELED => return Err(Refusal::Malformed),
            _ => plain(&head[start..])?,
        };
        match len {
            Some(len) if len > self.limit() => Err(Refusal::Oversize),
            Some(len) => Ok(Some(start + len)),
            None => Ok(None),
        }
    }

    /// Checks the outer bytes of a datagram. memberlist checks the content.
    pub(super) fn check_datagram(&self, bytes: &[u8]) -> Result<(), Refusal> {
        let start = self.label_len(bytes)?.ok_or(Refusal::Malformed)?;
        let tag = *bytes.get(start).ok_or(Refusal::Malformed)?;
        self.check_encryption(tag)?;
        // memberlist indexes into this header and knows no other algorithm, so it must never see another. No member of
        // a cluster compresses, and a small compressed datagram could expand to a large one.
        if tag == COMPRESSED || tag == ENCRYPTED && bytes.get(start + 1) != Some(&NO_PADDING) {
            return Err(Refusal::Malformed);
        }
        Ok(())
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    fn limit(&self) -> usize {
        self.max_frame.max(FLOOR) + OVERHEAD
    }

    fn check_encryption(&self, tag: u8) -> Result<(), Refusal> {
        match (tag == ENCRYPTED, self.encrypted) {
            (false, true) => Err(Refusal::Plaintext),
            // This member has no key to decrypt it with.
            (true, false) => Err(Refusal::Malformed),
            _ => Ok(()),
        }
    }

    fn label_len(&self, head: &[u8]) -> Result<Option<usize>, Refusal> {
        let Some(&tag) = head.first() else { return Ok(None) };
        if tag != LABELED {
            return Err(Refusal::ForeignLabel);
        }
        let Some(&len) = head.get(1) else { return Ok(None) };
        if usize::from(len) != self.label.len() {
            return Err(Refusal::ForeignLabel);
        }
        let end = 2 + self.label.len();
        match head.get(2..end) {
            Some(label) if label == self.label.as_bytes() => Ok(Some(end)),
            Some(_) => Err(Refusal::ForeignLabel),
            None => Ok(None),
        }
    }
}

/// Returns the length of `[tag, second, length: u32]`, its payload, and `extra` bytes around it.
fn fixed(head: &[u8], extra: usize, second: Option<u8>) -> Result<Option<usize>, Refusal> {
    if let (Some(want), Some(&got)) = (second, head.get(1))
        && want != got
    {
        return Err(Refusal::Malformed);
    }
    Ok(head
        .get(2..FIXED_HEADER)
        .and_then(|b| b.try_into().ok())
        .map(|b| FIXED_HEADER + extra + u32::from_be_bytes(b) as usize))
}

/// Returns the length of `[tag, length: varint of at most five bytes]` and its payload.
fn plain(head: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut value = 0u64;
    for (i, byte) in head.iter().skip(1).take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).map_err(|_| Refusal::Malformed)?;
            return Ok(Some(2 + i + value as usize));
        }
    }
    if head.len() > 5 { Err(Refusal::Malformed) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(encrypted: bool) -> Policy {
        Policy { label: "c".into(), encrypted, max_frame: 1 << 20 }
    }

    #[test]
    fn a_header_is_incomplete_until_its_last_byte() {
        let whole = [LABELED, 1, b'c', 9, 0x80, 0x01];
        for n in 0..whole.len() {
            assert_eq!(policy(false).frame_len(&whole[..n]), Ok(None), "{n}");
        }
        assert_eq!(policy(false).frame_len(&whole), Ok(Some(3 + 3 + 128)));
    }

    // Checks that a frame of 4 GiB is refused as soon as its header is complete (scenario 75).
    #[test]
    fn four_gigabytes_are_refused_by_their_header() {
        let plain = [LABELED, 1, b'c', 9, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(policy(false).frame_len(&plain), Err(Refusal::Oversize));
        let sealed = [LABELED, 1, b'c', ENCRYPTED, NO_PADDING, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(policy(true).frame_len(&sealed), Err(Refusal::Oversize));
        let batch = [LABELED, 1, b'c', COMPOUND, 2, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(policy(false).frame_len(&batch), Err(Refusal::Oversize));
    }

    #[test]
    fn every_refusal_has_its_kind() {
        assert_eq!(policy(false).frame_len(&[9]), Err(Refusal::ForeignLabel));
        assert_eq!(policy(false).frame_len(&[LABELED, 2]), Err(Refusal::ForeignLabel));
        assert_eq!(policy(false).frame_len(&[LABELED, 1, b'd']), Err(Refusal::ForeignLabel));
        assert_eq!(policy(true).frame_len(&[LABELED, 1, b'c', 9]), Err(Refusal::Plaintext));
        assert_eq!(policy(true).frame_len(&[LABELED, 1, b'c', ENCRYPTED, 2]), Err(Refusal::Malformed));
        assert_eq!(policy(false).frame_len(&[LABELED, 1, b'c', 9, 255, 255, 255, 255, 255]), Err(Refusal::Malformed));
    }

    // Checks that no bytes make the screen panic, on 200,000 random prefixes (scenario 75).
    #[test]
    fn no_prefix_panics() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..200_000 {
            let mut head: Vec<u8> = (0..rng.usize(..20)).map(|_| rng.u8(..)).collect();
            if rng.bool() {
                head.splice(0..0, [LABELED, 1, b'c']);
            }
            let policy = policy(rng.bool());
            let _ = policy.frame_len(&head);
            let _ = policy.check_datagram(&head);
        }
    }
}
