//! Entries that cannot be encoded must not hold back the entries that can.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::ser::{Error, SerializeStruct};
use serde::{Deserialize, Serialize, Serializer};

use crate::InsertError;
use crate::cache::CacheKey;
use crate::cache::testing::Cluster;

fn told<K: CacheKey>(cluster: &Cluster<K, u32>, keys: &[K]) -> Vec<Option<u32>> {
    cluster.exchange();
    cluster.advance(Duration::from_secs(5));
    keys.iter().map(|key| cluster.caches[1].get(key)).collect()
}

#[test]
fn a_delete_of_a_key_that_cannot_be_encoded_leaves_nothing() {
    let cluster = Cluster::<String, u32>::new(2, |_, it| it);
    let cache = &cluster.caches[0];
    cache.insert("a".into(), 1).unwrap();
    cluster.exchange();
    let giant = "k".repeat(70_000);
    assert_eq!(cache.remove(giant.as_str()), None);
    cache.invalidate(giant.as_str());
    cache.remove_many([giant.as_str()]);
    assert_eq!(cache.inspect().tombstones.total, 0);
    cache.insert("b".into(), 2).unwrap();
    cache.remove("a");
    assert_eq!(told(&cluster, &["a".into(), "b".into()]), [None, Some(2)]);
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, Serialize, Deserialize)]
struct Flat {
    a: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, u8>,
}

#[test]
fn a_key_that_lists_a_field_twice_is_refused_by_its_writer() {
    let cluster = Cluster::<Flat, u32>::new(2, |_, it| it);
    let flat = |name: &str| Flat { a: 1, rest: [(name.to_owned(), 2)].into() };
    let refused = cluster.caches[0].insert(flat("a"), 5);
    assert!(matches!(refused, Err(InsertError::Unserializable(_))), "{refused:?}");
    cluster.caches[0].insert(flat("b"), 6).unwrap();
    assert_eq!(told(&cluster, &[flat("a"), flat("b")]), [None, Some(6)]);
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, Deserialize)]
struct Boaster(u32);

impl Serialize for Boaster {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Boaster", 2)?;
        fields.serialize_field("0", &self.0)?;
        fields.end()
    }
}

#[test]
fn what_announces_more_than_it_writes_is_refused_by_its_writer() {
    let cluster = Cluster::<Boaster, Boaster>::new(1, |_, it| it);
    let refused = cluster.caches[0].insert(Boaster(1), Boaster(1)).unwrap_err();
    assert!(refused.to_string().contains("announces 2 items and writes 1"), "{refused}");
}

thread_local! {
    static POISONED: Cell<bool> = const { Cell::new(false) };
}

/// A number that stops being serialisable once `POISONED` is set: 13 returns an error, 14 panics.
#[derive(Clone, Debug, Hash, PartialEq, Eq, Deserialize)]
struct Fickle(u32);

impl Serialize for Fickle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (POISONED.get(), self.0) {
            (true, 13) => Err(S::Error::custom("poisoned")),
            (true, 14) => panic!("poisoned"),
            (_, number) => serializer.serialize_u32(number),
        }
    }
}

#[test]
fn an_entry_that_no_longer_serialises_is_removed_and_blocks_nothing() {
    let cluster = Cluster::<Fickle, Fickle>::new(2, |_, it| it);
    let [cache, other] = [&cluster.caches[0], &cluster.caches[1]];
    for value in [1, 2] {
        cache.insert(Fickle(value), Fickle(20)).unwrap();
    }
    cluster.exchange();
    assert_eq!(other.get(&Fickle(1)), Some(Fickle(20)));
    for (key, value) in [(1, 13), (2, 14), (13, 3), (14, 4), (5, 5)] {
        cache.insert(Fickle(key), Fickle(value)).unwrap();
    }
    POISONED.set(true);
    cluster.exchange();
    cluster.advance(Duration::from_secs(20));
    let read = |cache: &crate::Cache<Fickle, Fickle>| {
        [1, 2, 13, 14, 5].map(|key| cache.get(&Fickle(key)).map(|value| value.0))
    };
    assert_eq!(read(cache), [None, None, None, None, Some(5)], "nothing that other nodes cannot receive");
    assert_eq!(read(other), read(cache), "and nothing that it had overwritten");
    cache.insert(Fickle(6), Fickle(6)).unwrap();
    cluster.exchange();
    assert_eq!(other.get(&Fickle(6)), Some(Fickle(6)));
    let report = cache.inspect();
    assert_eq!(report.intake["unencodable"], 4);
    assert!(report.warnings.iter().any(|warning| warning.name == "unencodable-entries"));
    POISONED.set(false);
}
