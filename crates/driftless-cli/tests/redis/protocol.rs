//! The handshake, and the kinds of reply that differ between the versions.

use crate::{
    SOON,
    common::{
        client::{Reply, command},
        process::{Cluster, Flags, eventually},
    },
    hello_three,
};

#[test]
fn version_three_has_maps_sets_nulls_and_texts_and_can_be_left() {
    let cluster = Cluster::start(1, Flags::default());
    let mut client = cluster.client(0);
    let two = client.call(&["HELLO", "2", "SETNAME", "me"]);
    assert!(matches!(two, Reply::Array(_)) && two.field("proto") == Some(Reply::Integer(2)), "{two:?}");
    client.expect(&["CLIENT", "GETNAME"], Reply::bulk("me"));
    assert!(matches!(client.call(&["CONFIG", "GET", "maxmemory"]), Reply::Array(_)));

    hello_three(&mut client);
    client.send(b"*2\r\n$3\r\nGET\r\n$4\r\nnone\r\n");
    let mut raw = [0; 3];
    std::io::Read::read_exact(&mut client.sender(), &mut raw).expect("a null");
    assert_eq!(&raw, b"_\r\n");
    let config = client.call(&["CONFIG", "GET", "maxmemory"]);
    assert_eq!(config, Reply::Map(vec![(Reply::bulk("maxmemory"), Reply::bulk("0"))]));
    assert!(matches!(client.call(&["INFO", "server"]), Reply::Text(text) if text.contains("redis_version:7")));
    let tracking = client.call(&["CLIENT", "TRACKINGINFO"]);
    assert_eq!(tracking.field("flags"), Some(Reply::Set(vec![Reply::bulk("off")])));
    let Reply::Array(described) = client.call(&["COMMAND", "INFO", "get", "nothing"]) else { panic!("an array") };
    let Reply::Array(get) = &described[0] else { panic!("details of get") };
    assert_eq!((&get[0], &get[1], get.len()), (&Reply::bulk("get"), &Reply::Integer(2), 10));
    assert_eq!(described[1], Reply::Null);
    let docs = client.call(&["COMMAND", "DOCS", "SET"]);
    assert!(docs.field("set").and_then(|set| set.field("summary")).is_some(), "{docs:?}");

    client.expect(&["RESET"], Reply::Simple("RESET".into()));
    assert!(matches!(client.call(&["CONFIG", "GET", "maxmemory"]), Reply::Array(_)), "RESET leaves version 3");
    client.expect(&["CLIENT", "GETNAME"], Reply::Null);
    client.expect(&["HELLO", "4"], Reply::Error("NOPROTO unsupported protocol version".into()));
}

#[test]
fn nothing_works_without_the_password() {
    let cluster = Cluster::start(1, Flags { extra: &["--password", "a long password"] });
    let mut client = cluster.client(0);
    let refused = Reply::Error("NOAUTH Authentication required.".into());
    client.expect(&["GET", "k"], refused.clone());
    client.expect(&["CLIENT", "TRACKING", "ON"], refused.clone());
    assert!(client.call(&["HELLO", "3"]).text().starts_with("NOAUTH"));
    for words in
        [&["AUTH", "wrong"][..], &["AUTH", "other", "a long password"], &["HELLO", "3", "AUTH", "default", "no"]]
    {
        assert!(client.call(words).text().starts_with("WRONGPASS"), "{words:?}");
    }
    client.expect(&["GET", "k"], refused.clone());
    client.expect(&["AUTH", "a long password"], Reply::ok());
    client.expect(&["SET", "k", "v"], Reply::ok());
    client.expect(&["RESET"], Reply::Simple("RESET".into()));
    client.expect(&["GET", "k"], refused);
    let reply = client.call(&["HELLO", "3", "AUTH", "default", "a long password", "SETNAME", "me"]);
    assert_eq!(reply.field("proto"), Some(Reply::Integer(3)));
    client.expect(&["GET", "k"], Reply::bulk("v"));

    // A stranger cannot make the server hold much.
    let mut stranger = cluster.client(0);
    stranger.send(&command(&["SET", "k", &"x".repeat(100_000)]));
    assert!(stranger.rest().starts_with(b"-ERR Protocol error: invalid bulk length: request above 16384 bytes"));
    assert!(cluster.client(0).call(&["PING"]).text().starts_with("NOAUTH"));
}

#[test]
fn without_a_password_auth_says_so() {
    let cluster = Cluster::start(1, Flags::default());
    assert!(cluster.client(0).call(&["AUTH", "x"]).text().contains("without any password configured"));
}

#[test]
fn databases_are_caches_of_their_own_on_every_node() {
    let cluster = Cluster::start(2, Flags { extra: &["--database", "first", "--database", "second"] });
    let mut client = cluster.client(0);
    client.expect(&["SET", "k", "zero"], Reply::ok());
    client.expect(&["SELECT", "1"], Reply::ok());
    client.expect(&["GET", "k"], Reply::Null);
    client.expect(&["SET", "k", "one", "EX", "100"], Reply::ok());
    assert!(client.call(&["SELECT", "2"]).text().contains("this server has 2, from 0"));
    client.expect(&["GET", "k"], Reply::bulk("one"));
    let keyspace = client.call(&["INFO", "keyspace"]).text();
    assert!(keyspace.contains("db0:keys=1,expires=0") && keyspace.contains("db1:keys=1,expires=1"), "{keyspace}");

    let mut other = cluster.client(1);
    other.expect(&["SELECT", "1"], Reply::ok());
    eventually(SOON, || other.wants(&["GET", "k"], &Reply::bulk("one")));
    other.expect(&["FLUSHDB"], Reply::ok());
    eventually(SOON, || client.wants(&["GET", "k"], &Reply::Null));
    cluster.eventually_everywhere(SOON, &["GET", "k"], &Reply::bulk("zero"));
    client.expect(&["FLUSHALL"], Reply::ok());
    cluster.eventually_everywhere(SOON, &["GET", "k"], &Reply::Null);
}
