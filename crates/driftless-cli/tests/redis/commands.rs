//! Transactions, deadlines, cursors, connections, and the commands that are refused.

use crate::{
    SOON,
    common::{
        client::{Client, Reply, command},
        process::{Cluster, Flags, eventually},
    },
    info,
};
use std::collections::BTreeSet;

fn integer(client: &mut Client, words: &[&str]) -> i64 {
    match client.call(words) {
        Reply::Integer(number) => number,
        other => panic!("{words:?}: want a number, got {other:?}"),
    }
}

#[test]
fn a_transaction_runs_in_order_or_not_at_all() {
    let cluster = Cluster::start(2, Flags::default());
    let mut client = cluster.client(0);
    let queued = || Reply::Simple("QUEUED".into());
    client.expect(&["MULTI"], Reply::ok());
    client.expect(&["SET", "a", "1", "EX", "100"], queued());
    client.expect(&["GET", "a"], queued());
    client.expect(&["TTL", "a"], queued());
    client.expect(&["SET", "a", "2", "NX", "EX", "0"], queued());
    cluster.client(0).expect(&["EXISTS", "a"], Reply::Integer(0));
    let failed = Reply::Error("ERR invalid expire time in 'set' command".into());
    let results = vec![Reply::ok(), Reply::bulk("1"), Reply::Integer(100), failed];
    client.expect(&["EXEC"], Reply::Array(results));
    cluster.eventually_everywhere(SOON, &["GET", "a"], &Reply::bulk("1"));

    // A command that is refused when it is queued keeps all others from running.
    for refused in [&["INCR", "a"][..], &["NONSENSE"], &["GET"], &["WATCH", "a"], &["WAIT", "1", "1"]] {
        client.expect(&["MULTI"], Reply::ok());
        client.expect(&["SET", "b", "1"], queued());
        assert!(matches!(client.call(refused), Reply::Error(_)), "{refused:?}");
        client.expect(&["SET", "b", "2"], queued());
        assert!(client.call(&["EXEC"]).text().starts_with("EXECABORT"), "{refused:?}");
    }
    client.expect(&["MULTI"], Reply::ok());
    client.expect(&["MULTI"], Reply::Error("ERR MULTI calls can not be nested".into()));
    client.expect(&["SET", "b", "1"], queued());
    client.expect(&["DISCARD"], Reply::ok());
    client.expect(&["EXISTS", "b"], Reply::Integer(0));
    client.expect(&["EXEC"], Reply::Error("ERR EXEC without MULTI".into()));
    client.expect(&["DISCARD"], Reply::Error("ERR DISCARD without MULTI".into()));
    client.expect(&["MULTI"], Reply::ok());
    client.expect(&["EXEC"], Reply::Array(Vec::new()));
    client.expect(&["UNWATCH"], Reply::ok());
}

#[test]
fn a_transaction_is_bounded() {
    let cluster = Cluster::start(1, Flags { extra: &["--max-request-bytes", "2000000"] });
    let mut client = cluster.client(0);
    let value = "x".repeat(500_000);
    client.expect(&["MULTI"], Reply::ok());
    for key in ["a", "b", "c"] {
        client.expect(&["SET", key, &value], Reply::Simple("QUEUED".into()));
    }
    let refused = client.call(&["SET", "d", &value]).text();
    assert!(refused.contains("limit of 2000000 bytes: split it"), "{refused}");
    assert!(client.call(&["EXEC"]).text().starts_with("EXECABORT"));
    client.expect(&["DBSIZE"], Reply::Integer(0));
}

#[test]
fn deadlines_are_the_same_on_every_node() {
    let cluster = Cluster::start(3, Flags::default());
    let mut client = cluster.client(0);
    client.expect(&["MSET", "a", "1", "b", "2", "c", "3"], Reply::ok());
    client.expect(&["EXPIRE", "a", "1000"], Reply::Integer(1));
    client.expect(&["PEXPIREAT", "b", "4102444800123"], Reply::Integer(1));
    client.expect(&["EXPIRE", "none", "1000"], Reply::Integer(0));
    for (words, expected) in [
        (&["EXPIRE", "a", "2000", "NX"][..], 0),
        (&["EXPIRE", "a", "500", "GT"], 0),
        (&["EXPIRE", "a", "2000", "LT"], 0),
        (&["EXPIRE", "c", "2000", "XX"], 0),
        (&["EXPIRE", "c", "2000", "GT"], 0),
        (&["EXPIRE", "a", "2000", "GT"], 1),
        (&["PEXPIRE", "a", "1500000", "XX", "LT"], 1),
        (&["PERSIST", "c"], 0),
    ] {
        client.expect(words, Reply::Integer(expected));
    }
    assert_eq!(integer(&mut client, &["TTL", "a"]), 1500);
    let deadline = client.call(&["PEXPIRETIME", "a"]);
    cluster.eventually_everywhere(SOON, &["PEXPIRETIME", "a"], &deadline);
    cluster.eventually_everywhere(SOON, &["PEXPIRETIME", "b"], &Reply::Integer(4_102_444_800_123));
    cluster.eventually_everywhere(SOON, &["EXPIRETIME", "c"], &Reply::Integer(-1));
    cluster.eventually_everywhere(SOON, &["EXPIRETIME", "none"], &Reply::Integer(-2));
    let keyspace = client.call(&["INFO", "keyspace"]).text();
    assert!(keyspace.contains("db0:keys=3,expires=2,"), "{keyspace}");

    cluster.client(1).expect(&["PERSIST", "a"], Reply::Integer(1));
    cluster.eventually_everywhere(SOON, &["TTL", "a"], &Reply::Integer(-1));
    client.expect(&["GETEX", "a", "EX", "100"], Reply::bulk("1"));
    cluster.eventually_everywhere(SOON, &["TTL", "a"], &Reply::Integer(100));
    client.expect(&["GETEX", "a", "PERSIST"], Reply::bulk("1"));
    // A deadline in the past is a delete, everywhere.
    client.expect(&["EXPIREAT", "a", "1"], Reply::Integer(1));
    cluster.eventually_everywhere(SOON, &["EXISTS", "a"], &Reply::Integer(0));
    client.expect(&["SET", "c", "short", "PX", "300"], Reply::ok());
    cluster.eventually_everywhere(SOON, &["GET", "c"], &Reply::Null);
    eventually(SOON, || match info(&mut client, "expired_keys") {
        1.. => Ok(()),
        none => Err(format!("{none} expired keys")),
    });
}

#[test]
fn a_walk_by_cursor_returns_every_key_that_stays_and_none_twice() {
    let cluster = Cluster::start(1, Flags::default());
    let mut client = cluster.client(0);
    let keys: Vec<String> = (0..3_000).map(|key| format!("key:{key}")).collect();
    let words: Vec<&str> = std::iter::once("MSET").chain(keys.iter().flat_map(|key| [key.as_str(), "v"])).collect();
    client.expect(&words, Reply::ok());
    let (mut seen, mut cursor, mut pages) = (BTreeSet::new(), "0".to_owned(), 0);
    loop {
        let Reply::Array(page) = client.call(&["SCAN", &cursor, "COUNT", "50", "MATCH", "key:*"]) else { panic!() };
        let Reply::Array(found) = &page[1] else { panic!("{page:?}") };
        assert!(found.len() <= 50);
        for key in found {
            assert!(seen.insert(key.text()), "{key:?} comes twice");
        }
        // Other keys come and go meanwhile.
        client.expect(&["SET", &format!("other:{pages}"), "v"], Reply::ok());
        client.expect(&["DEL", &format!("other:{}", pages / 2)], Reply::Integer(i64::from(pages % 2 == 0)));
        pages += 1;
        cursor = page[0].text();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen, keys.iter().cloned().collect(), "every key that stays");
    assert!(pages >= 60, "{pages} pages");
    let empty = Reply::Array(vec![Reply::bulk("0"), Reply::Array(Vec::new())]);
    client.expect(&["SCAN", "0", "TYPE", "list"], empty);
    client.expect(&["SCAN", "0", "COUNT", "0"], Reply::Error("ERR syntax error".into()));
    client.expect(&["SCAN", "x"], Reply::Error("ERR invalid cursor".into()));
    let drawn: BTreeSet<String> = (0..50).map(|_| client.call(&["RANDOMKEY"]).text()).collect();
    assert!(drawn.len() > 10, "{drawn:?}");
}

#[test]
fn writes_that_look_first_do_so() {
    let cluster = Cluster::start(1, Flags::default());
    let mut client = cluster.client(0);
    for (words, expected) in [
        (&["MSETNX", "a", "1", "b", "2"][..], Reply::Integer(1)),
        (&["MSETNX", "b", "3", "c", "4"], Reply::Integer(0)),
        (&["GETSET", "a", "5"], Reply::bulk("1")),
        (&["GETSET", "new", "6"], Reply::Null),
        (&["SET", "a", "7", "NX", "GET"], Reply::bulk("5")),
        (&["SET", "a", "8", "XX", "GET", "EX", "100"], Reply::bulk("5")),
        (&["SET", "a", "9", "KEEPTTL"], Reply::ok()),
        (&["TTL", "a"], Reply::Integer(100)),
        (&["SET", "a", "9", "PERSIST"], Reply::Error("ERR syntax error".into())),
        (&["GETEX", "a", "NX"], Reply::Error("ERR syntax error".into())),
        (&["STRLEN", "a"], Reply::Integer(1)),
        (&["GETRANGE", "a", "-1", "-1"], Reply::bulk("9")),
        (&["GETRANGE", "a", "1", "0"], Reply::bulk("")),
        (&["EXISTS", "a", "b", "c"], Reply::Integer(2)),
        (&["TOUCH", "a", "c"], Reply::Integer(1)),
        (&["GETDEL", "a"], Reply::bulk("9")),
        (&["UNLINK", "a", "b"], Reply::Integer(1)),
        (&["OBJECT", "ENCODING", "new"], Reply::bulk("raw")),
        (&["OBJECT", "REFCOUNT", "none"], Reply::Null),
    ] {
        client.expect(words, expected);
    }
}

#[test]
fn what_cannot_be_kept_is_refused_with_the_reason() {
    let cluster = Cluster::start(1, Flags::default());
    let mut client = cluster.client(0);
    for (words, reason) in [
        (&["INCR", "a"][..], "the last writer wins"),
        (&["APPEND", "a", "b"], "the last writer wins"),
        (&["LPUSH", "a", "b"], "holds strings only"),
        (&["HSET", "a", "b", "c"], "holds strings only"),
        (&["EVAL", "return 1", "0"], "Locks need one place that decides"),
        (&["WATCH", "a"], "Use MULTI without WATCH"),
        (&["PUBLISH", "a", "b"], "Use CLIENT TRACKING"),
        (&["SUBSCRIBE", "news"], "only reports changes of keys"),
        (&["RENAME", "a", "b"], "Use GET, SET and DEL"),
        (&["SAVE"], "every node holds the data in memory"),
        (&["CONFIG", "SET", "maxmemory", "1"], "driftless serve --help"),
    ] {
        let told = client.call(words).text();
        assert!(told.starts_with("UNSUPPORTED ") && told.contains(reason), "{words:?}: {told}");
    }
    client.expect(&["CLUSTER", "INFO"], Reply::Error("ERR This instance has cluster support disabled".into()));
    let errors = info(&mut client, "total_error_replies");
    assert_eq!(errors, 12);
}

#[test]
fn wait_reports_how_many_nodes_have_the_writes() {
    let cluster = Cluster::start(3, Flags::default());
    let mut client = cluster.client(0);
    client.expect(&["SET", "k", "v"], Reply::ok());
    let mut seen = 0;
    eventually(SOON, || {
        seen = integer(&mut client, &["WAIT", "2", "5000"]);
        if seen == 2 { Ok(()) } else { Err(format!("{seen} nodes")) }
    });
    for node in 1..3 {
        cluster.client(node).expect(&["GET", "k"], Reply::bulk("v"));
    }
    // Requests behind it wait for it, and run.
    client.send(&[command(&["SET", "k", "w"]), command(&["WAIT", "1", "5000"]), command(&["GET", "k"])].concat());
    assert_eq!(client.reply(), Reply::ok());
    assert!(matches!(client.reply(), Reply::Integer(1..)));
    assert_eq!(client.reply(), Reply::bulk("w"));
    client.send(&[command(&["DRIFTLESS", "FORGET", "unheard-of"]), command(&["GET", "k"])].concat());
    assert_eq!(client.reply(), Reply::Integer(0));
    assert_eq!(client.reply(), Reply::bulk("w"));
    // For more members than there are, the reply comes at once.
    eventually(SOON, || client.wants(&["WAIT", "9", "60000"], &Reply::Integer(2)));
    assert!(matches!(client.call(&["WAIT", "0", "0"]), Reply::Integer(0..=2)));
    client.expect(&["WAIT", "1", "-1"], Reply::Error("ERR timeout is negative".into()));
}

#[test]
fn connections_list_and_end_each_other() {
    let cluster = Cluster::start(1, Flags::default());
    let (mut one, mut two) = (cluster.client(0), cluster.client(0));
    one.expect(&["CLIENT", "SETNAME", "one"], Reply::ok());
    one.expect(&["CLIENT", "SETINFO", "LIB-NAME", "by-hand"], Reply::ok());
    assert!(matches!(one.call(&["CLIENT", "SETNAME", "a b"]), Reply::Error(_)));
    let id = integer(&mut one, &["CLIENT", "ID"]).to_string();
    let list = two.call(&["CLIENT", "LIST"]).text();
    let line = list.lines().find(|line| line.starts_with(&format!("id={id} "))).expect("the first client");
    assert!(
        line.contains(" name=one ") && line.contains(" lib-name=by-hand") && line.contains(" cmd=client"),
        "{line}"
    );
    assert_eq!(list.lines().count(), 2, "{list}");
    assert!(one.call(&["CLIENT", "INFO"]).text().starts_with(&format!("id={id} ")));
    two.expect(&["CLIENT", "KILL", "ID", "999999"], Reply::Integer(0));
    two.expect(&["CLIENT", "KILL", "ID", &id], Reply::Integer(1));
    assert_eq!(one.rest(), b"", "the killed connection ends");
    eventually(SOON, || match two.call(&["CLIENT", "LIST"]).text().lines().count() {
        1 => Ok(()),
        more => Err(format!("{more} clients")),
    });
    two.send(&[command(&["CLIENT", "REPLY", "SKIP"]), command(&["SET", "a", "1"]), command(&["GET", "a"])].concat());
    assert_eq!(two.reply(), Reply::bulk("1"));
    two.send(&[command(&["CLIENT", "REPLY", "OFF"]), command(&["GET", "a"])].concat());
    two.expect(&["CLIENT", "REPLY", "ON"], Reply::ok());
    two.expect(&["CLIENT", "NO-TOUCH", "ON"], Reply::ok());
    two.expect(&["GET", "a"], Reply::bulk("1"));
}
