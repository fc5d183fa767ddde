//! `CLIENT TRACKING`: a client is told of every change of a key that it has read, made by any node or by time.

use crate::{
    SOON,
    common::{
        client::{Client, Reply, command},
        process::{Cluster, Flags, eventually},
    },
    hello_three, info,
};
use std::time::Duration;

/// Returns the keys of the next invalidation; `None` for everything.
#[track_caller]
fn invalidated(client: &mut Client) -> Option<Vec<String>> {
    match client.reply() {
        Reply::Push(parts) if parts[0] == Reply::bulk("invalidate") => keys(&parts[1]),
        other => panic!("want an invalidation, got {other:?}"),
    }
}

fn keys(reply: &Reply) -> Option<Vec<String>> {
    match reply {
        Reply::Null => None,
        Reply::Array(keys) => Some(keys.iter().map(Reply::text).collect()),
        other => panic!("want keys, got {other:?}"),
    }
}

/// Checks that nothing was sent to a client but the reply to this request.
#[track_caller]
fn expect_silence(client: &mut Client) {
    std::thread::sleep(Duration::from_millis(300));
    client.expect(&["PING"], Reply::Simple("PONG".into()));
}

/// Returns a client of version 3 that tracks with these options.
fn tracking(cluster: &Cluster, node: usize, options: &[&str]) -> Client {
    let mut client = cluster.client(node);
    hello_three(&mut client);
    let words: Vec<&str> = ["CLIENT", "TRACKING", "ON"].iter().chain(options).copied().collect();
    client.expect(&words, Reply::ok());
    client
}

#[test]
fn changes_by_any_node_and_by_time_are_reported_once_for_each_read() {
    let cluster = Cluster::start(3, Flags::default());
    let mut writer = cluster.client(1);
    writer.expect(&["MSET", "a", "1", "b", "1", "c", "1"], Reply::ok());
    cluster.eventually_everywhere(SOON, &["EXISTS", "a", "b", "c"], &Reply::Integer(3));
    let mut reader = tracking(&cluster, 0, &[]);
    reader.expect(&["GET", "a"], Reply::bulk("1"));
    reader.expect(&["EXISTS", "b", "absent"], Reply::Integer(1));

    writer.expect(&["SET", "a", "2"], Reply::ok());
    assert_eq!(invalidated(&mut reader), Some(vec!["a".to_owned()]), "a write on another node");
    writer.expect(&["SET", "a", "3"], Reply::ok());
    writer.expect(&["SET", "c", "3"], Reply::ok());
    cluster.eventually_everywhere(SOON, &["GET", "c"], &Reply::bulk("3"));
    expect_silence(&mut reader);
    reader.expect(&["GET", "a"], Reply::bulk("3"));
    writer.expect(&["DEL", "b"], Reply::Integer(1));
    assert_eq!(invalidated(&mut reader), Some(vec!["b".to_owned()]), "a delete on another node");
    writer.expect(&["SET", "absent", "1"], Reply::ok());
    assert_eq!(invalidated(&mut reader), Some(vec!["absent".to_owned()]), "a key that was not there");
    reader.expect(&["SET", "a", "own"], Reply::ok());
    assert_eq!(invalidated(&mut reader), Some(vec!["a".to_owned()]), "a write of its own");

    writer.expect(&["SET", "short", "1", "PX", "3000"], Reply::ok());
    cluster.eventually_everywhere(SOON, &["GET", "short"], &Reply::bulk("1"));
    reader.expect(&["GET", "short"], Reply::bulk("1"));
    assert_eq!(invalidated(&mut reader), Some(vec!["short".to_owned()]), "the end of its time to live");
    reader.expect(&["GET", "short"], Reply::Null);
}

#[test]
fn a_flush_on_another_node_is_one_message_for_everything() {
    let cluster = Cluster::start(2, Flags::default());
    let mut reader = tracking(&cluster, 0, &[]);
    let mut writer = cluster.client(1);
    for key in 0..200 {
        writer.expect(&["SET", &format!("k{key}"), "1"], Reply::ok());
    }
    cluster.eventually_everywhere(SOON, &["DBSIZE"], &Reply::Integer(200));
    reader.expect(&["GET", "k7"], Reply::bulk("1"));
    writer.expect(&["FLUSHALL"], Reply::ok());
    assert_eq!(invalidated(&mut reader), None);
    cluster.eventually_everywhere(SOON, &["DBSIZE"], &Reply::Integer(0));
}

#[test]
fn an_eviction_on_this_node_is_reported() {
    let cluster = Cluster::start(1, Flags { extra: &["--max-capacity", "100"] });
    let mut reader = tracking(&cluster, 0, &[]);
    let mut writer = cluster.client(0);
    writer.expect(&["SET", "first", "1"], Reply::ok());
    reader.expect(&["GET", "first"], Reply::bulk("1"));
    for key in 0..300 {
        writer.expect(&["SET", &format!("k{key}"), "1"], Reply::ok());
    }
    assert_eq!(invalidated(&mut reader), Some(vec!["first".to_owned()]));
    assert!(info(&mut writer, "evicted_keys") >= 1);
}

#[test]
fn modes_choose_what_is_tracked() {
    let cluster = Cluster::start(1, Flags::default());
    let mut writer = cluster.client(0);
    let mut opt_in = tracking(&cluster, 0, &["OPTIN"]);
    opt_in.expect(&["GET", "a"], Reply::Null);
    opt_in.expect(&["CLIENT", "CACHING", "YES"], Reply::ok());
    opt_in.expect(&["GET", "b"], Reply::Null);
    opt_in.expect(&["GET", "c"], Reply::Null);
    let mut opt_out = tracking(&cluster, 0, &["OPTOUT"]);
    opt_out.expect(&["CLIENT", "CACHING", "NO"], Reply::ok());
    opt_out.expect(&["GET", "a"], Reply::Null);
    opt_out.expect(&["GET", "b"], Reply::Null);
    let mut no_loop = tracking(&cluster, 0, &["NOLOOP"]);
    no_loop.expect(&["MGET", "a", "b", "c"], Reply::Array(vec![Reply::Null; 3]));
    no_loop.expect(&["SET", "a", "own"], Reply::ok());
    for key in ["a", "b", "c"] {
        writer.expect(&["SET", key, "1"], Reply::ok());
    }
    assert_eq!(invalidated(&mut opt_in), Some(vec!["b".to_owned()]));
    assert_eq!(invalidated(&mut opt_out), Some(vec!["b".to_owned()]));
    let mut told = Vec::new();
    while told.len() < 2 {
        told.extend(invalidated(&mut no_loop).expect("keys"));
    }
    assert_eq!(told, ["b", "c"], "but not its own write");
    no_loop.expect(&["GET", "a"], Reply::bulk("1"));
    no_loop.expect(&["DEL", "a"], Reply::Integer(1));
    for client in [&mut opt_in, &mut opt_out, &mut no_loop] {
        expect_silence(client);
    }

    for (options, reason) in [
        (&["PREFIX", "a"][..], "requires BCAST"),
        (&["BCAST", "OPTIN"], "not compatible with BCAST"),
        (&["OPTIN", "OPTOUT"], "both OPTIN and OPTOUT"),
        (&["REDIRECT", "99999"], "does not exist"),
        (&["BCAST", "PREFIX", "a", "PREFIX", "ab"], "overlaps"),
    ] {
        let words: Vec<&str> = ["CLIENT", "TRACKING", "ON"].iter().chain(options).copied().collect();
        hello_three(&mut writer);
        assert!(writer.call(&words).text().contains(reason), "{options:?}");
    }
    let told = cluster.client(0).call(&["CLIENT", "TRACKING", "ON"]).text();
    assert!(told.contains("HELLO 3 first"), "version 2 without a redirect: {told}");
}

#[test]
fn prefixes_are_reported_without_a_read() {
    let cluster = Cluster::start(2, Flags::default());
    let mut reader = tracking(&cluster, 0, &["BCAST", "PREFIX", "user:", "PREFIX", "item:"]);
    let state = reader.call(&["CLIENT", "TRACKINGINFO"]);
    assert_eq!(state.field("flags"), Some(Reply::Set(vec![Reply::bulk("on"), Reply::bulk("bcast")])));
    assert_eq!(state.field("prefixes"), Some(Reply::bulks(&["user:", "item:"])));
    let mut writer = cluster.client(1);
    for key in ["user:1", "other", "item:1", "use"] {
        writer.expect(&["SET", key, "1"], Reply::ok());
    }
    let mut told = Vec::new();
    while told.len() < 2 {
        told.extend(invalidated(&mut reader).expect("keys"));
    }
    assert_eq!(told, ["user:1", "item:1"]);
    cluster.eventually_everywhere(SOON, &["EXISTS", "use"], &Reply::Integer(1));
    expect_silence(&mut reader);
    reader.expect(&["CLIENT", "TRACKING", "OFF"], Reply::ok());
    writer.expect(&["SET", "user:2", "1"], Reply::ok());
    cluster.eventually_everywhere(SOON, &["EXISTS", "user:2"], &Reply::Integer(1));
    expect_silence(&mut reader);
    eventually(SOON, || {
        match info(&mut writer, "tracking_clients") + info(&mut cluster.client(0), "tracking_clients") {
            0 => Ok(()),
            left => Err(format!("{left} clients")),
        }
    });
}

#[test]
fn version_two_hears_by_a_subscription_of_another_connection() {
    let cluster = Cluster::start(2, Flags::default());
    let mut listener = cluster.client(0);
    let Reply::Integer(id) = listener.call(&["CLIENT", "ID"]) else { panic!("an id") };
    let channel = "__redis__:invalidate";
    let subscribed = vec![Reply::bulk("subscribe"), Reply::bulk(channel), Reply::Integer(1)];
    listener.expect(&["SUBSCRIBE", channel], Reply::Array(subscribed));
    assert!(listener.call(&["GET", "k"]).text().contains("allowed in this context"));
    listener.expect(&["PING"], Reply::bulks(&["pong", ""]));
    let mut reader = cluster.client(0);
    reader.expect(&["CLIENT", "TRACKING", "ON", "REDIRECT", &id.to_string()], Reply::ok());
    reader.expect(&["CLIENT", "GETREDIR"], Reply::Integer(id));
    reader.expect(&["GET", "k"], Reply::Null);
    cluster.client(1).expect(&["SET", "k", "v"], Reply::ok());
    let message = Reply::Array(vec![Reply::bulk("message"), Reply::bulk(channel), Reply::bulks(&["k"])]);
    assert_eq!(listener.reply(), message);

    // Version 3 is told that its messages reach no client any more.
    let mut broken = tracking(&cluster, 0, &["REDIRECT", &id.to_string()]);
    broken.expect(&["GET", "k"], Reply::bulk("v"));
    drop(listener);
    eventually(SOON, || match info(&mut cluster.client(0), "connected_clients") {
        0..=3 => Ok(()),
        more => Err(format!("{more} clients")),
    });
    cluster.client(1).expect(&["SET", "k", "w"], Reply::ok());
    assert_eq!(broken.reply(), Reply::Push(vec![Reply::bulk("tracking-redir-broken"), Reply::Integer(id)]));
}

#[test]
fn a_full_table_tells_readers_to_drop_keys_that_did_not_change() {
    let cluster = Cluster::start(1, Flags { extra: &["--tracking-keys", "160"] });
    let mut reader = tracking(&cluster, 0, &[]);
    let requests: Vec<u8> = (0..1_000).flat_map(|key| command(&["GET", &format!("k{key}")])).collect();
    reader.send(&requests);
    let (mut replies, mut dropped) = (0, Vec::new());
    while replies < 1_000 || dropped.len() < 840 {
        match reader.reply() {
            Reply::Null => replies += 1,
            Reply::Push(parts) => dropped.extend(keys(&parts[1]).expect("keys")),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(dropped.len(), 840, "all but those that the table holds");
    assert_eq!(dropped.iter().collect::<std::collections::BTreeSet<_>>().len(), 840, "each once");
    let mut other = cluster.client(0);
    assert_eq!(info(&mut other, "tracking_total_keys"), 160);
    assert_eq!(info(&mut other, "tracking_evicted_keys"), 840);
}

/// A client that does not read its invalidations is told to drop everything, and costs no more memory than that.
#[test]
fn a_reader_that_sleeps_is_told_to_drop_everything() {
    let cluster = Cluster::start(1, Flags::default());
    let mut reader = tracking(&cluster, 0, &["BCAST"]);
    let mut writer = cluster.client(0);
    let name = "k".repeat(1_000);
    for batch in 0..40 {
        let requests: Vec<u8> =
            (0..1_000).flat_map(|key| command(&["SET", &format!("{name}{batch}:{key}"), "v"])).collect();
        writer.send(&requests);
        (0..1_000).for_each(|_| assert_eq!(writer.reply(), Reply::ok()));
    }
    eventually(SOON, || match info(&mut writer, "tracking_overflows") + info(&mut writer, "tracking_lagged") {
        0 => Err("no overflow".to_owned()),
        _ => Ok(()),
    });
    let held = info(&mut writer, "client_buffer_bytes");
    assert!(held < 4_000_000, "{held} bytes held");
    let mut named = 0;
    while let Some(keys) = invalidated(&mut reader) {
        named += keys.len();
    }
    assert!(named < 40_000, "{named} keys were named before everything was dropped");
}
