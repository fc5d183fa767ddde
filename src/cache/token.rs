//! A write as a short text, which a user can carry to another node.

use std::fmt;
use std::str::FromStr;

use crate::hlc::{HlcTime, Stamp};

/// The characters of base64url (RFC 4648, section 5), in the order of their values.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// The length of a token in characters.
const LENGTH: usize = 22;

/// A write as 22 characters that are safe in a URL, a cookie or a header. [`Written::token`](super::Written::token)
/// makes it on one node; [`Cache::wait_seen`](super::Cache::wait_seen) waits for the write on any node.
///
/// It has the 64-bit time of the write's stamp, and a 64-bit hash in place of the 16 bytes of the replica id: both in
/// full would take 32 characters. A node looks for the id among those that it knows. Two of them with one hash are an
/// error, [`NotSeen::Ambiguous`](super::NotSeen::Ambiguous), and not a wrong answer. At least 62 bits of each id are
/// random. So among a thousand known ids a shared hash has a probability of 1.1e-13. That the token of an unknown
/// replica has the hash of one of them, and is taken for its token, has a probability of 2.2e-16.
///
/// A token is not secret, and is not signed: a client can make one up. A made-up token reads nothing. It makes
/// `wait_seen` wait for its time limit at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    pub(super) time: HlcTime,
    /// The hash of the replica id: [`ReplicaId::short_hash`](crate::ReplicaId).
    pub(super) origin: u64,
}

impl Token {
    pub(super) fn new(stamp: Stamp) -> Self {
        Self { time: stamp.time, origin: stamp.replica.short_hash() }
    }

    /// Returns the time of the write by its replica's hybrid clock, in nanoseconds since the UNIX epoch.
    #[must_use]
    pub fn time(&self) -> HlcTime {
        self.time
    }

    /// Returns true if both tokens are of one replica. Of two such tokens, a node that has seen the later one has seen
    /// both.
    #[must_use]
    pub fn is_of_same_replica(&self, other: &Self) -> bool {
        self.origin == other.origin
    }
}

/// Writes the base64url form, without padding, of the time and the hash, each in big-endian order.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = (u128::from(self.time) << 64) | u128::from(self.origin);
        let mut text = String::with_capacity(LENGTH);
        for index in 0..LENGTH - 1 {
            text.push(char::from(ALPHABET[(bits >> (122 - 6 * index)) as usize & 63]));
        }
        // The last character has two bits of the token. Its four low bits are zero.
        text.push(char::from(ALPHABET[(bits as usize & 3) << 4]));
        f.pad(&text)
    }
}

/// The reason why a text is no [`Token`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTokenError {
    /// The text has another length.
    #[error("a token has {LENGTH} characters, and this text has {0}: pass on what Written::token returned, unchanged")]
    Length(usize),
    /// One character is none of base64url.
    #[error(
        "the character {found:?} at index {index} of a token is none of A-Z, a-z, 0-9, `-` and `_`: pass on what \
         Written::token returned, unchanged"
    )]
    Character {
        /// The index of the character, counted in characters from zero.
        index: usize,
        /// The character.
        found: char,
    },
    /// The last character sets bits that a token does not have, so no token ends with it.
    #[error("no token ends with {0:?}, only with A, Q, g or w: pass on what Written::token returned, unchanged")]
    LastCharacter(char),
}

impl FromStr for Token {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let length = text.chars().count();
        if length != LENGTH {
            return Err(ParseTokenError::Length(length));
        }
        let mut bits = 0_u128;
        for (index, found) in text.chars().enumerate() {
            let value = ALPHABET.iter().position(|known| char::from(*known) == found);
            let value = value.ok_or(ParseTokenError::Character { index, found })? as u128;
            bits = match index {
                0..21 => (bits << 6) | value,
                _ if value & 15 != 0 => return Err(ParseTokenError::LastCharacter(found)),
                _ => (bits << 2) | (value >> 4),
            };
        }
        Ok(Self { time: (bits >> 64) as u64, origin: bits as u64 })
    }
}

#[cfg(test)]
mod laws {
    use proptest::prelude::*;

    use super::*;
    use crate::ReplicaId;

    #[test]
    fn the_text_is_base64url_of_time_and_hash() {
        let token = Token { time: 0x0001_0203_0405_0607, origin: 0xF8F9_FAFB_FCFD_FEFF };
        assert_eq!(token.to_string(), "AAECAwQFBgf4-fr7_P3-_w");
        assert_eq!(Token { time: 0, origin: 0 }.to_string(), "A".repeat(22));
        assert_eq!(Token { time: u64::MAX, origin: u64::MAX }.to_string(), "_".repeat(21) + "w");
    }

    #[test]
    fn a_text_that_is_no_token_is_refused_with_a_reason() {
        let parse = |text: &str| text.parse::<Token>().unwrap_err();
        assert_eq!(parse(""), ParseTokenError::Length(0));
        assert_eq!(parse(&"A".repeat(23)), ParseTokenError::Length(23));
        assert_eq!(parse(&"ä".repeat(22)), ParseTokenError::Character { index: 0, found: 'ä' });
        assert_eq!(parse(&("A".repeat(21) + "=")), ParseTokenError::Character { index: 21, found: '=' });
        assert_eq!(parse(&("A".repeat(21) + "B")), ParseTokenError::LastCharacter('B'));
        assert!(parse("short").to_string().contains("has 22 characters, and this text has 5"));
    }

    proptest! {
        #![proptest_config(crate::testing::proptest_config())]

        /// A token and its text are one to one: each text that parses is the text of what it parses to.
        #[test]
        fn a_token_survives_its_text(time: u64, id: u128, text in "[A-Za-z0-9_-]{21}[AQgw]") {
            let token = Token::new(Stamp::new(time, ReplicaId::from_bytes(id.to_be_bytes())));
            prop_assert_eq!(token.to_string().parse::<Token>(), Ok(token));
            prop_assert_eq!(text.parse::<Token>().unwrap().to_string(), text);
        }
    }
}
