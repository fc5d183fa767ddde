//! Tests of `driftless serve` from outside: real processes on loopback, with requests written by hand. The long test:
//!
//! ```sh
//! # A process is stopped for 150 seconds; DRIFTLESS_STOP_SECONDS=20 shortens it.
//! cargo test -p driftless-cli --test sidecar -- --ignored --nocapture
//! ```
#![cfg(unix)]

mod common;

use common::client::{Client, Reply, command};
use common::process::{Cluster, Flags, Signal, eventually, refused};
use std::{
    io::Write,
    time::{Duration, Instant},
};

/// The time limit for anything that travels between processes. It is generous, because the machine may be busy. Only a
/// failing test waits that long.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_write_on_one_is_read_on_the_others_and_a_delete_removes_it_everywhere() {
    let cluster = Cluster::start(3, Flags::default());
    for writer in 0..3 {
        let key = format!("from-{writer}");
        cluster.client(writer).expect(&["SET", &key, "one"], Reply::ok());
        cluster.eventually_everywhere(SOON, &["GET", &key], &Reply::bulk("one"));
        cluster.client((writer + 1) % 3).expect(&["SET", &key, "two"], Reply::ok());
        cluster.eventually_everywhere(SOON, &["GET", &key], &Reply::bulk("two"));
        cluster.client((writer + 2) % 3).expect(&["DEL", &key], Reply::Integer(1));
        cluster.eventually_everywhere(SOON, &["GET", &key], &Reply::Null);
    }
    cluster.eventually_everywhere(SOON, &["DBSIZE"], &Reply::Integer(0));
}

#[test]
fn keys_and_values_are_any_bytes() {
    let cluster = Cluster::start(2, Flags::default());
    let every: Vec<u8> = (0..=255).collect();
    let set = [&b"SET"[..], &every, &every].map(<[u8]>::to_vec);
    assert_eq!(cluster.client(0).call_bytes(&set), Reply::ok());
    let get = [&b"GET"[..], &every].map(<[u8]>::to_vec);
    eventually(SOON, || match cluster.client(1).call_bytes(&get) {
        Reply::Bulk(bytes) if bytes == every => Ok(()),
        other => Err(format!("{other:?}")),
    });
    cluster.client(0).expect(&["SET", "", ""], Reply::ok());
    cluster.eventually_everywhere(SOON, &["GET", ""], &Reply::bulk(""));
}

#[test]
fn a_large_value_arrives_whole() {
    let cluster = Cluster::start(2, Flags::default());
    let value = "0123456789abcdef".repeat(40_000);
    cluster.client(0).expect(&["SET", "large", &value], Reply::ok());
    cluster.client(0).expect(&["GET", "large"], Reply::bulk(&value));
    eventually(SOON, || match cluster.client(1).call(&["GET", "large"]) {
        Reply::Bulk(bytes) if bytes == value.as_bytes() => Ok(()),
        Reply::Bulk(bytes) => Err(format!("{} other bytes", bytes.len())),
        other => Err(format!("{other:?}")),
    });
}

// scenario 33: a process is killed and restarted at the same address.
#[test]
fn a_killed_and_restarted_process_catches_up() {
    let mut cluster = Cluster::start(3, Flags::default());
    let mut first = cluster.client(0);
    for key in 0..300 {
        first.expect(&["SET", &key.to_string(), "before"], Reply::ok());
    }
    cluster.eventually_everywhere(SOON, &["DBSIZE"], &Reply::Integer(300));

    cluster.signal(1, Signal::Kill);
    for key in 0..100 {
        first.expect(&["DEL", &key.to_string()], Reply::Integer(1));
    }
    for key in 100..200 {
        first.expect(&["SET", &key.to_string(), "after"], Reply::ok());
    }
    cluster.restart(1);
    let holds = |node: usize| {
        expect_values(&mut cluster.client(node), 0..300, |key| match key {
            0..100 => None,
            100..200 => Some("after"),
            _ => Some("before"),
        })
    };
    for node in 0..3 {
        eventually(SOON, || holds(node));
    }
    cluster.client(1).expect(&["SET", "back", "again"], Reply::ok());
    cluster.eventually_everywhere(SOON, &["GET", "back"], &Reply::bulk("again"));
}

#[test]
fn the_seed_itself_may_be_killed_and_come_back() {
    let mut cluster = Cluster::start(3, Flags::default());
    cluster.client(0).expect(&["SET", "k", "v"], Reply::ok());
    cluster.eventually_everywhere(SOON, &["GET", "k"], &Reply::bulk("v"));
    cluster.signal(0, Signal::Kill);
    cluster.client(1).expect(&["SET", "k", "w"], Reply::ok());
    cluster.restart(0);
    // The restarted process has no seed, so its peers have to find it. They retry with backoff.
    eventually(3 * SOON, || cluster.client(0).wants(&["GET", "k"], &Reply::bulk("w")));
}

#[test]
fn a_process_that_is_asked_to_end_hands_over_its_last_writes() {
    let mut cluster = Cluster::start(3, Flags::default());
    let writes: Vec<u8> = (0..1000).flat_map(|key| command(&["SET", &format!("last-{key}"), "words"])).collect();
    let mut client = cluster.client(2);
    client.send(&writes);
    for _ in 0..1000 {
        assert_eq!(client.reply(), Reply::ok());
    }
    cluster.signal(2, Signal::Terminate);
    cluster.ends(2, SOON);
    for node in 0..2 {
        eventually(SOON, || cluster.client(node).wants(&["DBSIZE"], &Reply::Integer(1000)));
    }
}

#[test]
fn time_to_live_holds_everywhere() {
    let cluster = Cluster::start(3, Flags::default());
    let mut client = cluster.client(0);
    client.expect(&["SET", "short", "v", "PX", "1500"], Reply::ok());
    client.expect(&["SETEX", "long", "100", "v"], Reply::ok());
    client.expect(&["SET", "for-ever", "v"], Reply::ok());
    let written = Instant::now();
    cluster.eventually_everywhere(SOON, &["EXISTS", "long", "for-ever"], &Reply::Integer(2));
    for node in 0..3 {
        let mut client = cluster.client(node);
        client.expect(&["TTL", "for-ever"], Reply::Integer(-1));
        client.expect(&["TTL", "nothing"], Reply::Integer(-2));
        let Reply::Integer(left) = client.call(&["PTTL", "long"]) else { panic!("PTTL is a number") };
        assert!((50_000..=100_000).contains(&left), "node {node}: {left} ms of 100 s left");
    }
    std::thread::sleep(Duration::from_millis(1500).saturating_sub(written.elapsed()));
    // Every replica expires values by its own clock; here all share one clock.
    for node in 0..3 {
        eventually(Duration::from_millis(200), || cluster.client(node).wants(&["GET", "short"], &Reply::Null));
    }
    client.expect(&["SET", "long", "w", "KEEPTTL"], Reply::ok());
    assert!(matches!(client.call(&["TTL", "long"]), Reply::Integer(50..=100)));
    client.expect(&["SET", "long", "w"], Reply::ok());
    cluster.eventually_everywhere(SOON, &["TTL", "long"], &Reply::Integer(-1));
}

#[test]
fn flushall_empties_every_node() {
    let cluster = Cluster::start(3, Flags::default());
    for node in 0..3 {
        cluster.client(node).expect(&["MSET", &format!("a{node}"), "1", &format!("b{node}"), "2"], Reply::ok());
    }
    cluster.eventually_everywhere(SOON, &["DBSIZE"], &Reply::Integer(6));
    cluster.client(1).expect(&["FLUSHALL"], Reply::ok());
    cluster.client(1).expect(&["DBSIZE"], Reply::Integer(0));
    cluster.eventually_everywhere(SOON, &["DBSIZE"], &Reply::Integer(0));
    cluster.client(2).expect(&["SET", "new", "1"], Reply::ok());
    cluster.eventually_everywhere(SOON, &["GET", "new"], &Reply::bulk("1"));
}

#[test]
fn ten_thousand_commands_in_one_go() {
    let cluster = Cluster::start(1, Flags::default());
    let mut client = cluster.client(0);
    let mut batch = Vec::new();
    for key in 0..5_000 {
        batch.extend(command(&["SET", &format!("key:{key}"), &format!("value:{key}")]));
        batch.extend(command(&["GET", &format!("key:{key}")]));
    }
    // Sent from a second thread: the replies exceed the socket buffers, and this thread does not read them yet.
    let mut sender = client.sender();
    let sending = std::thread::spawn(move || sender.write_all(&batch));
    for key in 0..5_000 {
        assert_eq!(client.reply(), Reply::ok());
        assert_eq!(client.reply(), Reply::bulk(&format!("value:{key}")));
    }
    sending.join().expect("the sender").expect("all sent");
    client.expect(&["DBSIZE"], Reply::Integer(5_000));
}

#[test]
fn the_commands_answer_like_redis() {
    let cluster = Cluster::start(1, Flags::default());
    let mut client = cluster.client(0);
    let nothing = Reply::Null;
    let bulks = |values: &[&str]| Reply::Array(values.iter().map(|value| Reply::bulk(value)).collect());
    for (words, expected) in [
        (&["PING"][..], Reply::Simple("PONG".into())),
        (&["ping", "hello"], Reply::bulk("hello")),
        (&["ECHO", "hello"], Reply::bulk("hello")),
        (&["SET", "a", "1", "NX"], Reply::ok()),
        (&["SET", "a", "2", "nx"], nothing.clone()),
        (&["SET", "b", "2", "XX"], nothing.clone()),
        (&["SET", "a", "3", "XX", "GET"], Reply::bulk("1")),
        (&["SET", "b", "3", "GET"], nothing.clone()),
        (&["SETNX", "a", "4"], Reply::Integer(0)),
        (&["MGET", "a", "none", "b"], Reply::Array(vec![Reply::bulk("3"), nothing.clone(), Reply::bulk("3")])),
        (&["EXISTS", "a", "a", "b", "none"], Reply::Integer(3)),
        (&["STRLEN", "a"], Reply::Integer(1)),
        (&["TYPE", "a"], Reply::Simple("string".into())),
        (&["TYPE", "none"], Reply::Simple("none".into())),
        (&["GETDEL", "b"], Reply::bulk("3")),
        (&["KEYS", "?"], bulks(&["a"])),
        (&["KEYS", "[b-z]"], bulks(&[])),
        (&["SCAN", "0", "MATCH", "a*", "COUNT", "10"], Reply::Array(vec![Reply::bulk("0"), bulks(&["a"])])),
        (&["SET", "a", "gone", "PXAT", "1"], Reply::ok()),
        (&["UNLINK", "a", "none"], Reply::Integer(0)),
        (&["SELECT", "0"], Reply::ok()),
        (&["CONFIG", "GET", "save"], bulks(&["save", ""])),
        (&["CONFIG", "GET", "unheard-of"], bulks(&[])),
        (&["CLIENT", "SETINFO", "LIB-NAME", "x"], Reply::ok()),
        (&["CLIENT", "SETNAME", "me"], Reply::ok()),
        (&["CLIENT", "GETNAME"], Reply::bulk("me")),
        (&["COMMAND", "DOCS", "nothing"], bulks(&[])),
        (&["RESET"], Reply::Simple("RESET".into())),
    ] {
        client.expect(words, expected);
    }
    for (words, expected) in [
        (&["NONSENSE"][..], "ERR unknown command 'NONSENSE'"),
        (&["GET"], "ERR wrong number of arguments for 'get' command"),
        (&["MSET", "a", "1", "b"], "ERR wrong number of arguments for 'mset' command"),
        (&["SET", "a", "1", "EX"], "ERR syntax error"),
        (&["SET", "a", "1", "EX", "1", "PX", "1"], "ERR syntax error"),
        (&["SET", "a", "1", "NX", "XX"], "ERR syntax error"),
        (&["SET", "a", "1", "EX", "ten"], "ERR value is not an integer or out of range"),
        (&["SET", "a", "1", "EX", "0"], "ERR invalid expire time in 'set' command"),
        (&["SET", "a", "1", "EX", "9223372036854775807"], "ERR invalid expire time in 'set' command"),
        (&["SETEX", "a", "-1", "v"], "ERR invalid expire time in 'setex' command"),
        (&["SELECT", "1"], "ERR DB index is out of range: this server has 1, from 0"),
        (&["HELLO", "4"], "NOPROTO unsupported protocol version"),
        (&["un\r\nkind"], "ERR unknown command 'un  kind'"),
    ] {
        client.expect(words, Reply::Error(expected.into()));
    }
    client.expect(&["DBSIZE"], Reply::Integer(0));
    client.expect(&["QUIT"], Reply::ok());
    assert_eq!(client.rest(), b"", "QUIT hangs up");
}

#[test]
fn info_says_who_is_there() {
    let cluster = Cluster::start(3, Flags::default());
    eventually(SOON, || {
        let Reply::Bulk(text) = cluster.client(0).call(&["INFO"]) else { return Err("no bulk string".to_owned()) };
        let text = String::from_utf8_lossy(&text).into_owned();
        let says = |what: &str| text.lines().any(|line| line.starts_with(what));
        let all = says("redis_version:") && says("replica_id:") && says("entries:0") && says("member2:");
        if all { Ok(()) } else { Err(text) }
    });
}

#[test]
fn people_may_type() {
    let cluster = Cluster::start(1, Flags::default());
    let mut client = cluster.client(0);
    client.send(b"PING\r\n  set \"a key\" 'a value'  \n\r\nget \"a\\x20key\"\r\n");
    assert_eq!(client.reply(), Reply::Simple("PONG".into()));
    assert_eq!(client.reply(), Reply::ok());
    assert_eq!(client.reply(), Reply::bulk("a value"));
}

#[test]
fn what_is_no_request_gets_an_error_and_the_connection_is_closed() {
    let cluster = Cluster::start(1, Flags::default());
    let nested = b"*1\r\n".repeat(200_000);
    let long_line = vec![b'x'; 100_000];
    for input in [
        &b"*1\r\n+PING\r\n"[..],
        b"*2\r\n$3\r\nGET\r\n:1\r\n",
        b"*abc\r\n",
        b"*1000000000\r\n",
        b"*9223372036854775808\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$1000000000000\r\n",
        b"*1\r\n$18446744073709551615\r\n",
        b"*1\r\n$4\r\nPINGPING\r\n",
        b"*1\r\n$4 \r\nPING\r\n",
        b"get \"unbalanced\r\n",
        &nested,
        &long_line,
    ] {
        let mut client = cluster.client(0);
        client.send(input);
        let answer = client.rest();
        let shown = String::from_utf8_lossy(&input[..input.len().min(40)]).into_owned();
        assert!(answer.starts_with(b"-ERR Protocol error"), "{shown:?} got {:?}", String::from_utf8_lossy(&answer));
        assert!(answer.ends_with(b"\r\n"), "{shown:?}");
    }
    // Complete requests before the malformed one are still answered.
    let mut client = cluster.client(0);
    client.send(b"*1\r\n$4\r\nPING\r\n*x\r\n");
    assert!(client.rest().starts_with(b"+PONG\r\n-ERR"));
    // A browser that is made to send a POST here is disconnected before its second line runs.
    let mut client = cluster.client(0);
    client.send(b"POST / HTTP/1.1\r\nSET stolen 1\r\n\r\n");
    client.rest();
    cluster.client(0).expect(&["EXISTS", "stolen"], Reply::Integer(0));
}

#[test]
fn random_bytes_never_end_the_process() {
    let cluster = Cluster::start(1, Flags::default());
    let mut random = fastrand::Rng::with_seed(7);
    let parts: &[&[u8]] =
        &[b"*", b"$", b"\r\n", b"3", b"-1", b"GET", b"SET", b"\"", b"\\x", b" ", b"99999999999999999999", b"\0\xff"];
    for _ in 0..300 {
        let mut client = cluster.client(0);
        let pieces = random.usize(1..30);
        let input: Vec<u8> = (0..pieces).flat_map(|_| parts[random.usize(..parts.len())].to_vec()).collect();
        client.send(&input);
    }
    cluster.client(0).expect(&["PING"], Reply::Simple("PONG".into()));
}

#[test]
fn capacity_and_connections_are_bounded() {
    let cluster = Cluster::start(1, Flags { extra: &["--max-capacity", "100", "--max-clients", "3"] });
    let mut clients: Vec<Client> = (0..3).map(|_| cluster.client(0)).collect();
    for key in 0..1000 {
        clients[0].expect(&["SET", &key.to_string(), "v"], Reply::ok());
    }
    eventually(SOON, || match clients[0].call(&["DBSIZE"]) {
        Reply::Integer(1..=100) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    clients[1].expect(&["PING"], Reply::Simple("PONG".into()));
    clients[2].expect(&["PING"], Reply::Simple("PONG".into()));
    assert_eq!(cluster.client(0).rest(), b"-ERR max number of clients reached\r\n");
    clients.pop();
    eventually(SOON, || match cluster.client(0).try_call(&["PING"]) {
        Some(Reply::Simple(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn a_node_with_another_key_or_cluster_receives_nothing() {
    let key = "0123456789abcdef".repeat(4);
    let other = "f".repeat(64);
    let cluster = Cluster::start(2, Flags { extra: &["--key", &key] });
    let strangers = [
        cluster.stranger(&["--key", &other]),
        cluster.stranger(&[]),
        cluster.stranger(&["--key", &key, "--cluster", "another"]),
    ];
    cluster.client(0).expect(&["SET", "secret", "v"], Reply::ok());
    cluster.eventually_everywhere(SOON, &["GET", "secret"], &Reply::bulk("v"));
    for stranger in &strangers {
        stranger.client().expect(&["SET", "intruder", "v"], Reply::ok());
    }
    std::thread::sleep(Duration::from_secs(2));
    for stranger in &strangers {
        stranger.client().expect(&["GET", "secret"], Reply::Null);
    }
    cluster.eventually_everywhere(SOON, &["GET", "intruder"], &Reply::Null);
}

#[test]
fn flags_that_can_not_be_honoured_are_refused_with_a_reason() {
    let cluster = Cluster::start(1, Flags::default());
    // scenario 91: an address beyond loopback needs a token, and a build with the feature.
    let debug = refused(&["--http", "0.0.0.0:0"]);
    assert!(debug.contains("token") || debug.contains("inspect-http"), "{debug}");
    assert!(refused(&["--key", "abc"]).contains("64 hexadecimal digits"));
    assert!(refused(&["--redis", &cluster.redis(0).to_string()]).contains("--redis"));
    refused(&["--redis", "127.0.0.1:0", "--bind", &cluster.gossip(0).to_string()]);
}

#[test]
fn a_process_stopped_for_a_moment_shows_nothing_old() {
    stopped_for(Duration::from_secs(3));
}

#[test]
#[ignore = "takes as long as it says; DRIFTLESS_STOP_SECONDS for another time"]
fn a_process_stopped_for_150_seconds_shows_nothing_old() {
    let seconds = std::env::var("DRIFTLESS_STOP_SECONDS")
        .map_or(150, |text| text.parse().expect("DRIFTLESS_STOP_SECONDS is a number"));
    stopped_for(Duration::from_secs(seconds));
}

/// Deletes 400 and overwrites 300 of 1,000 keys while one process of three is stopped. Promise: within ten seconds of
/// its continuation no old value is left on any node, and none comes back.
fn stopped_for(time: Duration) {
    let cluster = Cluster::start(3, Flags::default());
    for key in 0..1000 {
        cluster.client(key % 3).expect(&["SET", &key.to_string(), "old"], Reply::ok());
    }
    cluster.eventually_everywhere(SOON, &["DBSIZE"], &Reply::Integer(1000));

    let stopped = Instant::now();
    cluster.signal(2, Signal::Stop);
    for key in 0..400 {
        cluster.client(key % 2).expect(&["DEL", &key.to_string()], Reply::Integer(1));
    }
    for key in 400..700 {
        cluster.client(key % 2).expect(&["SET", &key.to_string(), "new"], Reply::ok());
    }
    let right = |node| {
        expect_values(&mut cluster.client(node), 0..1000, |key| match key {
            0..400 => None,
            400..700 => Some("new"),
            _ => Some("old"),
        })
    };
    for node in 0..2 {
        eventually(SOON, || right(node));
    }
    std::thread::sleep(time.saturating_sub(stopped.elapsed()));

    cluster.signal(2, Signal::Continue);
    let continued = Instant::now();
    for node in [2, 0, 1] {
        eventually(SOON.saturating_sub(continued.elapsed()), || right(node));
    }
    println!("stopped for {time:?}: all right {:?} after continuing", continued.elapsed());
    while continued.elapsed() < Duration::from_secs(15) {
        for node in 0..3 {
            right(node)
                .unwrap_or_else(|wrong| panic!("node {node}, {:?} after continuing: {wrong}", continued.elapsed()));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Compares the values of a node with the expected ones. The error names the first difference.
fn expect_values(
    client: &mut Client,
    keys: std::ops::Range<usize>,
    expected: impl Fn(usize) -> Option<&'static str>,
) -> Result<(), String> {
    let names: Vec<String> = keys.clone().map(|key| key.to_string()).collect();
    let words: Vec<&str> = std::iter::once("MGET").chain(names.iter().map(String::as_str)).collect();
    let Reply::Array(values) = client.call(&words) else { return Err("no array".to_owned()) };
    let wanted = |key| expected(key).map_or(Reply::Null, Reply::bulk);
    let wrong: Vec<_> = keys.zip(values).filter(|(key, value)| *value != wanted(*key)).collect();
    match wrong.first() {
        None => Ok(()),
        Some((key, value)) => {
            Err(format!("{} keys are wrong, {key} first: {value:?}, want {:?}", wrong.len(), wanted(*key)))
        }
    }
}

/// Returns the reply of a debug interface.
#[cfg(feature = "inspect-http")]
fn debug(at: std::net::SocketAddr, path: &str) -> Result<serde_json::Value, String> {
    use std::io::{Read, Write};
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = std::net::TcpStream::connect(at).map_err(failed)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n").map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("cut off")?;
    serde_json::from_str(body).map_err(|error| error.to_string())
}

#[cfg(feature = "inspect-http")]
#[test]
fn a_paused_process_shows_up_in_the_warnings_and_explain_says_that_it_lacks_a_write() {
    let cluster = Cluster::start(2, Flags::default());
    let free = common::addresses::unused();
    let watcher = cluster.stranger(&["--name", "watcher", "--http", &free.to_string()]);
    let warnings = || debug(free, "/v1/node").map(|node| node["caches"][0]["warnings"].to_string());
    let green = || match warnings() {
        Ok(none) if none == "[]" => Ok(()),
        other => Err(format!("{other:?}")),
    };
    watcher.client().expect(&["SET", "before", "v"], Reply::ok());
    cluster.eventually_everywhere(SOON, &["GET", "before"], &Reply::bulk("v"));
    eventually(SOON, green);
    // The watcher can only miss a member that it has met.
    eventually(SOON, || match debug(free, "/v1/node")?["caches"][0]["peers"].as_array().map(Vec::len) {
        Some(2) => Ok(()),
        met => Err(format!("{met:?} peers")),
    });
    cluster.signal(1, Signal::Stop);
    watcher.client().expect(&["SET", "meanwhile", "v"], Reply::ok());
    eventually(SOON, || match warnings() {
        Ok(found) if found.contains("lagging-peer") && found.contains("node-1") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let told = debug(free, "/v1/caches/redis/explain?key=meanwhile").expect("an answer");
    assert!(
        told["silent"].to_string().contains("node-1: did not answer; it is not known to have the newest"),
        "{told}"
    );
    cluster.signal(1, Signal::Continue);
    cluster.eventually_everywhere(SOON, &["GET", "meanwhile"], &Reply::bulk("v"));
    eventually(SOON, green);
    let told = debug(free, "/v1/caches/redis/explain?key=meanwhile").expect("an answer");
    assert_eq!((&told["agreement"], told["nodes"].as_array().map(Vec::len)), (&"agree".into(), Some(3)), "{told}");
}
