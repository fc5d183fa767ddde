//! Types that encode and do not decode are refused where they are written.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Deserializer, Serialize};

use crate::cache::testing::{Cluster, alone};
use crate::cache::{CacheKey, CacheValue};
use crate::{InsertError, Members};

#[derive(Clone, Debug, Hash, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged<T> {
    Holds { it: T },
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged<T> {
    Holds(T),
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, Serialize, Deserialize)]
struct Inner<T> {
    it: T,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, Serialize, Deserialize)]
struct Flat<T> {
    name: String,
    #[serde(flatten)]
    rest: Inner<T>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FlatMap {
    name: String,
    #[serde(flatten)]
    rest: HashMap<u8, u32>,
}

#[derive(Clone, Debug, Default, Hash, PartialEq, Eq, Serialize, Deserialize)]
struct Skips {
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<u32>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, Serialize)]
struct Panics(u32);

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("cannot be read")
    }
}

/// A type whose second field is not encoded.
#[derive(Clone, Debug, Hash, PartialEq, Eq, Serialize, Deserialize)]
struct Forgets(u32, #[serde(skip)] u32);

const WIDE: i128 = i128::MAX;
const ADDR: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn assert_says(error: &InsertError, part: &str, reason: &str) {
    let InsertError::Unreadable { part: named, .. } = error else { panic!("{error:?}") };
    assert_eq!(*named, part);
    let text = error.to_string();
    for word in ["`test`", part, reason, "Types that do not come back"] {
        assert!(text.contains(word), "{word} is missing in: {text}");
    }
}

fn refused_as_value<V: CacheValue + PartialEq + std::fmt::Debug>(value: V, reason: &str) {
    let (cache, _) = alone::<u32, V>(|it| it);
    let error = cache.insert(1, value.clone()).unwrap_err();
    assert_says(&error, "value", reason);
    assert!(error.to_string().contains(std::any::type_name::<V>()), "{error}");
    assert_says(&cache.insert_if_absent_local(1, value.clone()).unwrap_err(), "value", reason);
    assert_says(&cache.insert_many([(1, value.clone())]).unwrap_err().error, "value", reason);
    assert!(!cache.contains_key(&1), "nothing is written");
    // A filled value that would be refused is returned to its callers, and not cached.
    assert_eq!(cache.get_with_blocking(1, || value.clone()), value);
    assert!(!cache.contains_key(&1));
    assert_eq!((cache.stats().fills.refused, cache.inspect().intake["unreadable"]), (1, 4));
    assert!(cache.inspect().warnings.iter().any(|warning| warning.name == "unreadable-entries"));
}

fn refused_as_key<K: CacheKey + std::fmt::Debug>(key: K, reason: &str) {
    let (cache, _) = alone::<K, u32>(|it| it);
    assert_says(&cache.insert(key.clone(), 1).unwrap_err(), "key", reason);
    assert_eq!(cache.get_with_blocking(key.clone(), || 2), 2);
    assert_eq!((cache.remove(&key), cache.remove_many([&key]), cache.last_written()), (None, 0, None));
    assert_eq!(cache.inspect().intake["unreadable"], 4, "each is counted, so that the report warns");
    assert!(cache.inspect().warnings.iter().any(|warning| warning.name == "unreadable-entries"));
}

#[test]
fn values_that_no_other_node_could_read_are_refused_by_their_writer() {
    refused_as_value(Tagged::Holds { it: WIDE }, "");
    refused_as_value(Untagged::Holds(WIDE), "");
    refused_as_value(Flat { name: "a".into(), rest: Inner { it: WIDE } }, "");
    refused_as_value(Tagged::Holds { it: ADDR }, "IP address");
    refused_as_value(Untagged::Holds(ADDR), "did not match any variant");
    refused_as_value(Flat { name: "a".into(), rest: Inner { it: ADDR } }, "IP address");
    refused_as_value(FlatMap { name: "a".into(), rest: [(1, 2)].into() }, "");
    refused_as_value(Skips::default(), "missing field `tags`");
    refused_as_value(Panics(1), "Deserialize panicked: cannot be read");
}

#[test]
fn keys_that_no_other_node_could_read_are_refused_by_their_writer() {
    refused_as_key(Tagged::Holds { it: WIDE }, "");
    refused_as_key(Untagged::Holds(ADDR), "did not match any variant");
    refused_as_key(Flat { name: "a".into(), rest: Inner { it: ADDR } }, "IP address");
    refused_as_key(Skips::default(), "missing field `tags`");
    refused_as_key(Panics(1), "Deserialize panicked: cannot be read");
    refused_as_key(Forgets(1, 2), "it decodes as a different key");
}

#[test]
fn what_can_be_read_elsewhere_is_not_refused() {
    fn travels<V: CacheValue + PartialEq + std::fmt::Debug>(value: V) {
        let cluster = Cluster::<u32, V>::new(2, |_, it| it);
        let written = cluster.caches[0].insert(1, value.clone()).unwrap();
        cluster.exchange();
        assert_eq!(cluster.caches[1].get(&1), Some(value));
        let waited = cluster.caches[0].wait_replicated_blocking(written, Members::All, std::time::Duration::ZERO);
        assert!(waited.is_ok());
    }
    travels(WIDE);
    travels(ADDR);
    travels(Some(ADDR));
    travels(Skips { name: "a".into(), tags: vec![1] });
    travels(Untagged::Holds(7_u64));
    travels(Flat { name: "a".into(), rest: Inner { it: "text".to_owned() } });
}

/// Checks that a value of a new size is read back at once, although 500 good entries of its type came before.
#[test]
fn a_value_that_is_unlike_those_before_is_read_back_whenever_it_comes() {
    let (cache, _) = alone::<u32, Skips>(|it| it);
    let good = || Skips { name: "a".into(), tags: vec![1, 2, 3] };
    for key in 0..500 {
        cache.insert(key, good()).unwrap();
    }
    assert!(cache.insert(500, Skips { name: "a".into(), tags: Vec::new() }).is_err(), "shorter than all before");
    assert!(cache.insert(501, good()).is_ok());
    assert!(cache.insert(502, Skips { name: "longer".into(), tags: Vec::new() }).is_err(), "now all are looked at");
}

#[test]
fn of_later_entries_some_are_read_back_whatever_their_rhythm() {
    let (cache, _) = alone::<u32, Untagged<Fickle>>(|it| it);
    let refused =
        (0..4_200_u32).filter(|key| cache.insert(*key, Untagged::Holds(Fickle(*key >= 64 && key % 2 == 1))).is_err());
    assert!(refused.count() > 1_000, "from the first one that is found");
}

/// A type of one encoded byte, of which `true` does not decode again.
#[derive(Clone, Debug, Hash, PartialEq, Eq, Serialize)]
struct Fickle(bool);

impl<'de> Deserialize<'de> for Fickle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match bool::deserialize(deserializer)? {
            true => Err(serde::de::Error::custom("true")),
            false => Ok(Self(false)),
        }
    }
}
