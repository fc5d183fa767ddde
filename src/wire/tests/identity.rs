//! Tests that encoding and decoding are inverse.

use proptest::prelude::*;

use super::messages::{TestMessage, message, said};
use super::*;

proptest! {
    #![proptest_config(crate::testing::proptest_config())]

    /// scenario 78: decoding an encoded message returns the same message, and it encodes to the same bytes.
    #[test]
    fn what_is_decoded_is_what_was_encoded(message in message()) {
        let bytes = bytes_of(&message);
        let decoded = decode_as::<String, Bytes>(&bytes).unwrap();
        prop_assert_eq!(decoded.envelope, envelope());
        let again = decoded.message.unwrap();
        prop_assert_eq!(said(&again), said(&message));
        prop_assert_eq!(bytes_of(&again), bytes);
    }

    #[test]
    fn peeking_and_decoding_agree_on_the_envelope(message in message()) {
        let bytes = bytes_of(&message);
        let peeked = peek(&bytes).unwrap();
        let kind = match message {
            Message::Digest(_) => MessageKind::Digest,
            Message::Push(_) => MessageKind::Push,
            Message::Ack(_) => MessageKind::Ack,
            Message::Frame(_) => MessageKind::Frame,
            Message::Audit(_) => MessageKind::Audit,
        };
        prop_assert_eq!(peeked, Peeked::Message { envelope: envelope(), kind });
    }

    /// A decoded push keeps its bytes, which a relay sends on unchanged.
    #[test]
    fn a_push_remembers_the_bytes_it_came_as(message in message()) {
        let bytes = bytes_of(&message);
        if let TestMessage::Push(push) = message_in(&bytes) {
            prop_assert_eq!(push.raw, bytes);
        }
    }
}
