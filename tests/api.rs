//! Checks of the promises that the public types make: auto traits, `Debug`, errors, settings.
#![cfg(feature = "node")]

use driftless::{
    BulkError, Cache, CacheBuilder, CacheSettings, CacheStats, ChangeEvent, ChangeKind, ConfigError, Counters,
    EntryInfo, FillError, Filled, InsertError, KeyError, Member, Members, Node, NodeBuilder, NodeSettings,
    NotReplicated, NotSeen, OpenError, ParseTokenError, Policy, Ready, RemovalCause, ReplicaConfig, ReplicaId,
    Replicated, Stamp, StartError, Subscription, SubscriptionError, Token, TooFewMembers, Traffic, Unsent, UnsentCache,
    Written,
};

fn shared<T: Send + Sync + Unpin + 'static>() {}
fn shown<T: std::fmt::Debug>() {}
fn error<T: std::error::Error + Send + Sync + 'static>() {}
fn future_is_send(_: impl Future + Send) {}

macro_rules! for_each {
    ($check:ident: $($type:ty,)*) => { $($check::<$type>();)* };
}

/// A value type that implements only the required traits.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Bare;

#[test]
fn handles_data_and_errors_cross_threads() {
    for_each!(shared: Cache<String, Bare>, CacheBuilder<String, Bare>, Node, NodeBuilder, NodeSettings, Subscription<String, Bare>,);
    for_each!(shared: CacheSettings, CacheStats, ChangeEvent<String, Bare>, ChangeKind, Counters, EntryInfo<Bare>, Filled<Bare>,);
    for_each!(shared: Member, Members, Policy, Ready, RemovalCause, Replicated, ReplicaConfig, ReplicaId, Stamp, Token, Traffic, Unsent, UnsentCache, Written,);
    for_each!(shared: driftless::inspect::Inspector, driftless::report::NodeReport, driftless::cache::Iter<'static, String, Bare>,);
}

#[test]
fn everything_can_be_printed() {
    // Handles must implement `Debug` even if their values do not.
    for_each!(shown: Cache<String, Bare>, CacheBuilder<String, Bare>, Node, NodeBuilder, NodeSettings, Subscription<String, Bare>,);
    for_each!(shown: CacheSettings, CacheStats, ChangeEvent<String, u8>, ChangeKind, Counters, EntryInfo<u8>, Filled<u8>,);
    for_each!(shown: Member, Members, Policy, Ready, RemovalCause, Replicated, ReplicaConfig, ReplicaId, Stamp, Token, Traffic, Unsent, UnsentCache, Written,);
    for_each!(shown: driftless::inspect::Inspector, driftless::report::NodeReport, driftless::cache::Iter<'static, String, Bare>,);
}

#[test]
fn errors_are_errors() {
    for_each!(error: BulkError, ConfigError, InsertError, KeyError, NotReplicated, NotSeen, OpenError, ParseTokenError, StartError, SubscriptionError, TooFewMembers,);
    for_each!(error: FillError<std::io::Error>, driftless::inspect::InspectError,);
}

#[test]
fn futures_can_be_spawned() {
    type Parts<'a> = (&'a Node, &'a Cache<String, Bare>, &'a mut Subscription<String, Bare>, Written);
    // Compiling it is the test: it is never called.
    let _: fn(Parts<'static>) = |(node, cache, subscription, written)| {
        let time = std::time::Duration::from_secs(1);
        future_is_send(cache.get_with("key".into(), || async { Bare }));
        future_is_send(cache.try_get_with("key".into(), || async { std::io::Result::Ok(Bare) }));
        future_is_send(cache.ready(time));
        future_is_send(cache.wait_replicated(written, Members::All, time));
        future_is_send(cache.wait_seen(&written.token(), time));
        future_is_send(subscription.recv());
        future_is_send(node.shutdown());
        future_is_send(node.wait_for_members(1, time));
        future_is_send(node.forget("member"));
        let inspector = driftless::inspect::Inspector::new(node);
        future_is_send(inspector.explain("cache", "key", time));
        future_is_send(inspector.diff("cache", "member", None, 1));
        future_is_send(inspector.audit_now("cache"));
        future_is_send(Node::builder().start());
    };
}

/// Checks that `Debug` output shows no encryption key: it could end up in a log.
#[test]
fn keys_are_never_printed() {
    let text = format!("{:?}", Node::builder().encryption_key([0xAB; 32]));
    assert!(!text.contains("171") && !text.to_lowercase().contains("ab, "), "{text}");
}

#[test]
fn a_nodes_settings_come_from_a_file_and_a_mistake_is_named() {
    let text = r#"{ "cluster": "shop", "bind": "0.0.0.0:7946", "advertise": "10.0.0.1:7946", "seeds": ["a:1"] }"#;
    let settings: NodeSettings = serde_json::from_str(text).unwrap();
    assert_eq!((settings.bind.port(), settings.seeds.len()), (7946, 1));
    assert_eq!(settings.name, NodeSettings::default().name);
    let again: NodeSettings = serde_json::from_str(&serde_json::to_string(&settings).unwrap()).unwrap();
    assert_eq!(again, settings);
    let built = format!("{:?}", Node::builder().settings(settings));
    assert!(["shop", "0.0.0.0:7946", "10.0.0.1:7946", "a:1"].iter().all(|it| built.contains(it)), "{built}");
    let refused = |text| serde_json::from_str::<NodeSettings>(text).unwrap_err().to_string();
    let misspelt = refused(r#"{ "seed": ["a:1"] }"#);
    assert!(misspelt.contains("unknown field `seed`, expected"), "{misspelt}");
    let address = refused(r#"{ "bind": "localhost" }"#);
    assert!(address.contains("socket address"), "{address}");
}
