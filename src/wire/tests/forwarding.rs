//! Tests of the relay of a push.

use proptest::prelude::*;

use super::messages::{TestMessage, message, said};
use super::*;
use crate::message::Push;

const CARRIER: Envelope<'static> =
    Envelope { cache: "a name of another length", from: ReplicaId::MAX, node: Uuid::max() };

fn as_push(message: TestMessage) -> Option<Push<String, Bytes>> {
    match message {
        Message::Push(push) => Some(push),
        _ => None,
    }
}

proptest! {
    #![proptest_config(crate::testing::proptest_config())]

    #[test]
    fn only_envelope_and_hops_change(message in message()) {
        let bytes = bytes_of(&message);
        let Some(mut push) = as_push(message) else {
            prop_assert_eq!(forward(&CARRIER, &bytes), Err(EncodeError::NotAPush));
            return Ok(());
        };
        let forwarded = forward(&CARRIER, &bytes).unwrap();
        prop_assert_eq!(decode_as::<String, Bytes>(&forwarded).unwrap().envelope, CARRIER);
        push.hops = push.hops.saturating_add(1);
        prop_assert_eq!(said(&message_in::<String, Bytes>(&forwarded)), said(&Message::Push(push)));
    }
}

#[test]
fn what_this_release_does_not_understand_is_passed_on_too() {
    use super::hostile::{body, bytes_of_tree, tree};
    let mut tree = tree("push");
    body(&mut tree).push((99.into(), "new".into()));
    let bytes = bytes_of_tree(&tree);
    let forwarded = forward(&CARRIER, &bytes).unwrap();
    assert!(forwarded.ends_with(b"\x63new"));
    assert_eq!(forward(&envelope(), &bytes).unwrap().len(), bytes.len());
}

#[test]
fn hops_do_not_overflow() {
    let (_, sample) = super::golden::samples().into_iter().find(|(name, _)| *name == "push").unwrap();
    let mut push = as_push(sample).unwrap();
    push.hops = u8::MAX;
    let forwarded = forward(&CARRIER, &bytes_of(&Message::Push(push))).unwrap();
    assert_eq!(as_push(message_in(&forwarded)).unwrap().hops, u8::MAX);
}

#[test]
fn bytes_that_are_no_message_are_not_passed_on() {
    assert_eq!(forward(&CARRIER, &Bytes::new()), Err(EncodeError::Forward(DecodeError::Truncated("the version"))));
    assert_eq!(forward(&CARRIER, &Bytes::from_static(&[9])), Err(EncodeError::Forward(DecodeError::Version(9))));
}
