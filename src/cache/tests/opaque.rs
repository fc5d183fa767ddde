//! A value that does not decode on a node is absent for every reader there.

use std::cell::Cell;

use serde::{Deserialize, Deserializer, Serialize, de::Error};

use crate::cache::testing::Cluster;
use crate::{ChangeKind, Filled, RemovalCause, Subscription, Written};

thread_local! {
    /// True while 13 does not decode.
    static SUPERSTITIOUS: Cell<bool> = const { Cell::new(false) };
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Number(u32);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            13 if SUPERSTITIOUS.get() => Err(D::Error::custom("13")),
            number => Ok(Self(number)),
        }
    }
}

/// Opens two nodes, of which the second has a value for key 1 that it cannot decode.
fn with_an_opaque_value() -> (Cluster<u32, Number>, Written) {
    SUPERSTITIOUS.set(false);
    let cluster = Cluster::<u32, Number>::new(2, |_, it| it);
    let written = cluster.caches[0].insert(1, Number(13)).unwrap();
    SUPERSTITIOUS.set(true);
    cluster.exchange();
    assert_eq!(cluster.caches[1].inspect().intake["undecodable_values"], 1);
    (cluster, written)
}

#[test]
fn no_reader_sees_it() {
    let (cluster, written) = with_an_opaque_value();
    let here = &cluster.caches[1];
    assert_eq!((here.get(&1), here.contains_key(&1), here.entry(&1).is_none()), (None, false, true));
    assert_eq!((here.get_many(&[1]), here.iter().count()), (vec![None], 0));
    assert_eq!(
        here.replace_if(1, Number(2), written.stamp).unwrap(),
        None,
        "an invisible entry is not reported as seen"
    );
    assert_eq!(here.remove_many(&[1]), 0, "no reader misses it");
    let (cluster, _) = with_an_opaque_value();
    assert_eq!(cluster.caches[1].remove(&1), None);
    cluster.exchange();
    assert_eq!(cluster.caches[0].get(&1), None, "it is deleted all the same");
}

#[test]
fn what_writes_if_there_is_nothing_writes() {
    let (cluster, _) = with_an_opaque_value();
    let here = &cluster.caches[1];
    assert!(here.insert_if_absent_local(1, Number(2)).unwrap().is_some());
    cluster.exchange();
    assert_eq!(
        cluster.caches.iter().map(|cache| cache.get(&1)).collect::<Vec<_>>(),
        [Some(Number(2)), Some(Number(2))]
    );

    let (cluster, _) = with_an_opaque_value();
    let here = &cluster.caches[1];
    let filled = here.fill_with_blocking::<std::io::Error>(1, || Ok(Filled::new(Number(3))));
    assert_eq!((filled.unwrap(), here.get(&1)), (Number(3), Some(Number(3))));
    cluster.exchange();
    assert_eq!(cluster.caches[0].get(&1), Some(Number(3)));
}

#[test]
fn the_change_stream_tells_what_readers_see() {
    fn kinds(changes: &mut Subscription<u32, Number>) -> Vec<ChangeKind> {
        std::iter::from_fn(|| changes.try_recv().ok()).map(|event| event.kind()).collect()
    }
    SUPERSTITIOUS.set(false);
    let cluster = Cluster::<u32, Number>::new(2, |_, it| it);
    let [there, here] = [&cluster.caches[0], &cluster.caches[1]];
    let mut changes = here.subscribe();
    let mut write = |number| {
        SUPERSTITIOUS.set(false);
        there.insert(1, Number(number)).unwrap();
        SUPERSTITIOUS.set(true);
        cluster.exchange();
        kinds(&mut changes)
    };
    use ChangeKind::{Inserted, Removed};
    assert_eq!(write(13), [], "no visible change");
    assert_eq!(write(1), [Inserted]);
    assert_eq!(write(13), [Removed(RemovalCause::Replaced)]);
    assert_eq!(write(13), []);
    there.remove(&1);
    cluster.exchange();
    assert_eq!(kinds(&mut changes), []);
}
