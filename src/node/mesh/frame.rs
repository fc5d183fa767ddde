//! The outermost bytes of memberlist 0.8's wire format, read before memberlist reads them.
//!
//! memberlist allocates as much as a length field asks for before one byte of it has arrived, and before decryption. So
//! label, encryption and length are checked here first. A refusal is counted by its kind.

use super::{counters::Counters, incidents::IncidentKind};
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
    /// Not the traffic of a cluster.
    ForeignLabel,
    /// The traffic of another cluster.
    OtherCluster,
    /// Not encrypted, while this member has a key.
    Plaintext,
    /// Encrypted, while this member has no key.
    Encrypted,
    /// Encrypted with a key that this member does not have, or damaged.
    Undecipherable,
    Malformed,
    Oversize,
}

/// The first bytes of the answer to a frame that is refused. No frame begins like this.
const REFUSED: [u8; 7] = [0xf0, b'r', b'e', b'f', b'u', b's', b'e'];

/// The refusals that are answered, with the last byte of the answer. The sender is most likely a misconfigured member.
const ANSWERED: [(u8, Refusal); 4] =
    [(1, Refusal::OtherCluster), (2, Refusal::Undecipherable), (3, Refusal::Plaintext), (4, Refusal::Encrypted)];

/// The error of a frame that another member refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the member there refused this one: {}", .0.of_sender())]
pub(super) struct RefusedThere(pub(super) Refusal);

/// Reads the answer to a refused frame. Returns `None` if the bytes are no such answer, and `Some(None)` if they may be
/// the beginning of one.
pub(super) fn refused_there(head: &[u8]) -> Option<Option<RefusedThere>> {
    let len = head.len().min(REFUSED.len());
    if len == 0 || head[..len] != REFUSED[..len] {
        return None;
    }
    let Some(code) = head.get(REFUSED.len()) else { return Some(None) };
    let refusal = ANSWERED.iter().find(|(known, _)| known == code)?;
    Some(Some(RefusedThere(refusal.1)))
}

impl Refusal {
    pub(super) fn count(self, counters: &Counters) {
        let counter: &Counter = match self {
            Self::ForeignLabel | Self::OtherCluster => &counters.foreign_label,
            Self::Plaintext => &counters.refused_plaintext,
            Self::Undecipherable => &counters.undecipherable,
            Self::Malformed | Self::Encrypted => &counters.malformed_frames,
            Self::Oversize => &counters.oversize_frames,
        };
        counter.one();
    }
}

impl Refusal {
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::ForeignLabel => "not cluster traffic",
            Self::OtherCluster => "sent by another cluster",
            Self::Plaintext => "not encrypted",
            Self::Encrypted => "encrypted, and this member has no key",
            Self::Undecipherable => "encrypted with another key, or damaged",
            Self::Malformed => "malformed",
            Self::Oversize => "too large",
        }
    }

    /// Returns the reason in words for the member whose frame was refused.
    pub(super) fn of_sender(self) -> &'static str {
        match self {
            Self::ForeignLabel | Self::OtherCluster => "it is in another cluster",
            Self::Plaintext => "it encrypts, and this node has no key",
            Self::Encrypted => "it has no key, and this node encrypts",
            Self::Undecipherable => "it has none of this node's keys",
            Self::Malformed | Self::Oversize => "it runs another release or has other limits",
        }
    }

    /// Returns the incident that a refusal of these bytes is, if a misconfigured member may have sent them.
    pub(super) fn incident(self) -> Option<IncidentKind> {
        match self {
            Self::OtherCluster => Some(IncidentKind::OtherCluster),
            Self::Plaintext => Some(IncidentKind::Unencrypted),
            Self::Encrypted => Some(IncidentKind::Encrypted),
            Self::Undecipherable => Some(IncidentKind::OtherKey),
            Self::ForeignLabel | Self::Malformed | Self::Oversize => None,
        }
    }

    /// Returns the answer to a frame that is refused for this reason, if there is one.
    pub(super) fn answer(self) -> Option<[u8; 8]> {
        let (code, _) = ANSWERED.iter().find(|(_, refusal)| *refusal == self)?;
        let mut answer = [*code; 8];
        answer[..REFUSED.len()].copy_from_slice(&REFUSED);
        Some(answer)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "refused: {}", self.why())
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for std::io::Error {
    fn from(refusal: Refusal) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, refusal)
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
            (true, false) => Err(Refusal::Encrypted),
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
            return Err(Refusal::OtherCluster);
        }
        let end = 2 + self.label.len();
        match head.get(2..end) {
            Some(label) if label == self.label.as_bytes() => Ok(Some(end)),
            Some(_) => Err(Refusal::OtherCluster),
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
        assert_eq!(policy(false).frame_len(&[LABELED, 2]), Err(Refusal::OtherCluster));
        assert_eq!(policy(false).frame_len(&[LABELED, 1, b'd']), Err(Refusal::OtherCluster));
        assert_eq!(policy(false).frame_len(&[LABELED, 1, b'c', ENCRYPTED, 1]), Err(Refusal::Encrypted));
        assert_eq!(policy(true).frame_len(&[LABELED, 1, b'c', 9]), Err(Refusal::Plaintext));
        assert_eq!(policy(true).frame_len(&[LABELED, 1, b'c', ENCRYPTED, 2]), Err(Refusal::Malformed));
        assert_eq!(policy(false).frame_len(&[LABELED, 1, b'c', 9, 255, 255, 255, 255, 255]), Err(Refusal::Malformed));
    }

    #[test]
    fn an_answer_to_a_refusal_is_read_back_and_is_no_frame() {
        for refusal in [Refusal::OtherCluster, Refusal::Undecipherable, Refusal::Plaintext, Refusal::Encrypted] {
            let answer = refusal.answer().unwrap();
            assert!((1..8).all(|len| refused_there(&answer[..len]) == Some(None)));
            assert_eq!(refused_there(&answer), Some(Some(RefusedThere(refusal))));
            assert_eq!(policy(false).frame_len(&answer), Err(Refusal::ForeignLabel));
        }
        assert!(Refusal::ForeignLabel.answer().is_none(), "a port scan gets no answer");
        assert_eq!(refused_there(&[]), None);
        assert_eq!(refused_there(&[0xf0, b'r', b'e', b'f', b'u', b's', b'e', 9]), None);
        assert_eq!(refused_there(&[LABELED]), None);
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
