//! Checks of the promises that the public types make: auto traits, `Debug`, errors, settings.
#![cfg(feature = "node")]

use driftless::{
    BulkError, Cache, CacheBuilder, CacheSettings, CacheStats, ChangeEvent, ChangeKind, ConfigError, Counters,
    EntryInfo, FillError, Filled, ForeignError, HostPort, HostPortError, InsertError, KeyError, Member, Members, Node,
    NodeBuilder, NodeSettings, NotReplicated, NotSeen, OpenError, Page, ParseTokenError, Policy, Ready, RemovalCause,
    ReplicaConfig, ReplicaId, Replicated, Stamp, StartError, Subscription, SubscriptionError, Token, TooFewMembers,
    Traffic, Unsent, UnsentCache, Written,
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
    for_each!(shared: CacheSettings, CacheStats, ChangeEvent<String, Bare>, ChangeKind, Counters, EntryInfo<Bare>, Filled<Bare>, Page<String, Bare>,);
    for_each!(shared: Member, Members, Policy, Ready, RemovalCause, Replicated, ReplicaConfig, ReplicaId, Stamp, Token, Traffic, Unsent, UnsentCache, Written,);
    for_each!(shared: HostPort, driftless::inspect::Inspector, driftless::report::NodeReport, driftless::cache::Iter<'static, String, Bare>,);
}

#[test]
fn everything_can_be_printed() {
    // Handles must implement `Debug` even if their values do not.
    for_each!(shown: Cache<String, Bare>, CacheBuilder<String, Bare>, Node, NodeBuilder, NodeSettings, Subscription<String, Bare>,);
    for_each!(shown: CacheSettings, CacheStats, ChangeEvent<String, u8>, ChangeKind, Counters, EntryInfo<u8>, Filled<u8>, Page<String, u8>,);
    for_each!(shown: Member, Members, Policy, Ready, RemovalCause, Replicated, ReplicaConfig, ReplicaId, Stamp, Token, Traffic, Unsent, UnsentCache, Written,);
    for_each!(shown: driftless::inspect::Inspector, driftless::report::NodeReport, driftless::cache::Iter<'static, String, Bare>,);
}

#[test]
fn errors_are_errors() {
    for_each!(error: BulkError, ConfigError, InsertError, KeyError, NotReplicated, NotSeen, OpenError, ParseTokenError, StartError, SubscriptionError, TooFewMembers,);
    for_each!(shared: FillError<Bare>, FillError<String>, FillError<Box<dyn std::error::Error + Send + Sync>>,);
    for_each!(error: ForeignError, HostPortError, FillError<std::io::Error>, driftless::inspect::InspectError,);
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
    assert!(address.contains("\"localhost\" is not a socket address or `host:port`"), "{address}");
    let named: NodeSettings = serde_json::from_str(r#"{ "bind": "localhost:0", "advertise": "[::1]:1" }"#).unwrap();
    assert_eq!(named.advertise.unwrap().port(), 1);
}

/// The Rust release whose rustdoc writes the format that `public-api` reads. Raise the two together.
const SNAPSHOT_RUST: &str = "1.95";

/// Returns the public interface with all features, one line for each item.
#[cfg(unix)]
fn interface() -> String {
    use std::{fs, os::unix::fs::PermissionsExt, process::Command};
    // Only rustdoc may use unstable options: a variable in Cargo's environment would rebuild the dependencies.
    let folder = tempfile::tempdir().unwrap();
    let rustdoc = folder.path().join("rustdoc");
    fs::write(&rustdoc, "#!/bin/sh\nexec env RUSTC_BOOTSTRAP=1 rustdoc \"$@\"\n").unwrap();
    fs::set_permissions(&rustdoc, fs::Permissions::from_mode(0o755)).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).env("RUSTDOC", &rustdoc).env_remove("RUSTDOCFLAGS");
    cargo.args(["rustdoc", "--quiet", "--lib", "--all-features", "--target-dir"]).arg(folder_of_target());
    cargo.args(["--", "-Zunstable-options", "--output-format", "json"]);
    assert!(cargo.status().unwrap().success(), "{cargo:?}");
    let json = folder_of_target().join("doc/driftless.json");
    let builder = public_api::Builder::from_rustdoc_json(json).omit_blanket_impls(true);
    let api = builder.omit_auto_trait_impls(true).omit_auto_derived_impls(true).build().unwrap();
    let mut seen = std::collections::HashSet::new();
    let lines = api.items().map(|item| format!("{item}\n")).filter(|line| seen.insert(line.clone()));
    lines.collect()
}

/// Returns the folder that has the folder of this test's profile.
#[cfg(unix)]
fn folder_of_target() -> std::path::PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(3).expect("target/debug/deps/api").to_owned()
}

/// Compares the public interface with its snapshot, so that a change of it is seen in review.
///
/// CI runs it. By hand: `cargo test --all-features --test api -- --ignored`. After a change that is meant:
/// `REFRESH_API=1 cargo test --all-features --test api -- --ignored`.
#[cfg(unix)]
#[test]
#[ignore = "documents the crate once more; CI runs it by name"]
fn the_public_interface_is_the_snapshot() {
    let rustc = std::process::Command::new("rustc").arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&rustc.stdout).into_owned();
    if !version.starts_with(&format!("rustc {SNAPSHOT_RUST}.")) {
        eprintln!("the public interface was not compared: that needs Rust {SNAPSHOT_RUST}, and this is {version}");
        return;
    }
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/public-api.txt");
    let now = interface();
    assert!(now.lines().count() > 500, "{now}");
    if std::env::var_os("REFRESH_API").is_some() {
        std::fs::write(&golden, &now).unwrap();
    }
    let before = std::fs::read_to_string(&golden).unwrap();
    let sides = [(&before, &now, '-'), (&now, &before, '+')];
    let changed = sides.into_iter().flat_map(|(one, two, sign)| {
        let two: std::collections::HashSet<_> = two.lines().collect();
        one.lines().filter(move |line| !two.contains(line)).map(move |line| format!("{sign} {line}\n"))
    });
    let changed: String = changed.collect();
    assert!(
        before == now,
        "the public interface has changed. If that is meant, run the test with REFRESH_API=1:\n{changed}"
    );
}
