//! The bounds of a connection: it reads while it writes, and a client that does not read is disconnected.

use crate::{
    SOON,
    common::{
        client::{Client, Reply, command},
        process::{Cluster, Flags, eventually},
    },
    info,
};
use std::{
    io::Write,
    time::{Duration, Instant},
};

/// A client that sends a million requests before it reads one reply.
#[test]
fn a_million_requests_may_be_sent_before_a_reply_is_read() {
    const REQUESTS: usize = 1_000_000;
    let cluster =
        Cluster::start(1, Flags { extra: &["--max-input-bytes", "40000000", "--max-output-bytes", "40000000"] });
    let mut client = cluster.client(0);
    client.expect(&["SET", "k", "0123456789"], Reply::ok());
    let (batch, get) = (10_000, command(&["GET", "k"]));
    let batch_bytes = get.repeat(batch);
    let mut sender = client.sender();
    sender.set_write_timeout(Some(3 * SOON)).expect("a time limit");
    for sent in 0..REQUESTS / batch {
        sender.write_all(&batch_bytes).unwrap_or_else(|error| panic!("after {} requests: {error}", sent * batch));
    }
    // Nothing was read so far, so the server holds what the sockets do not: less than the two limits.
    let held = info(&mut cluster.client(0), "client_buffer_bytes");
    assert!((1_000_000..80_000_000).contains(&held), "{held} bytes held");
    let expected = Reply::bulk("0123456789");
    for number in 0..REQUESTS {
        assert_eq!(client.reply(), expected, "reply {number}");
    }
    client.expect(&["PING"], Reply::Simple("PONG".into()));
    eventually(SOON, || match info(&mut cluster.client(0), "client_buffer_bytes") {
        0..1_000_000 => Ok(()),
        held => Err(format!("{held} bytes held after the end")),
    });
    assert_eq!(info(&mut cluster.client(0), "client_output_buffer_limit_disconnections"), 0);
}

/// Sends requests until the server ends the connection, without reading a reply.
fn flood(client: &Client, request: &[u8]) {
    let mut sender = client.sender();
    sender.set_write_timeout(Some(Duration::from_millis(100))).expect("a time limit");
    let start = Instant::now();
    while start.elapsed() < 3 * SOON {
        match sender.write_all(request) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
    panic!("a client that never reads is still connected after {:?}", start.elapsed());
}

#[test]
fn a_client_that_does_not_read_is_disconnected_and_others_are_served() {
    let flags = ["--max-input-bytes", "100000", "--max-output-bytes", "2000000", "--write-timeout", "1s"];
    let cluster = Cluster::start(1, Flags { extra: &flags });
    let mut other = cluster.client(0);
    other.expect(&["SET", "k", &"x".repeat(100_000)], Reply::ok());
    flood(&cluster.client(0), &command(&["GET", "k"]));
    assert_eq!(info(&mut other, "client_output_buffer_limit_disconnections"), 1);
    other.expect(&["EXISTS", "k"], Reply::Integer(1));

    // One reply that is larger than the limit.
    let mut greedy = cluster.client(0);
    let words: Vec<&str> = std::iter::once("MGET").chain(std::iter::repeat_n("k", 10_000)).collect();
    greedy.send(&command(&words));
    assert!(greedy.try_reply().is_none(), "a gigabyte is not sent");
    assert_eq!(info(&mut other, "client_output_buffer_limit_disconnections"), 2);
    // A reply within the limit is sent, however slowly it is read.
    let mut patient = cluster.client(0);
    patient.send(&command(&words[..15]));
    std::thread::sleep(Duration::from_millis(300));
    assert!(matches!(patient.reply(), Reply::Array(values) if values.len() == 14));
    eventually(SOON, || match info(&mut other, "client_buffer_bytes") {
        0..100_000 => Ok(()),
        held => Err(format!("{held} bytes held for clients that have left")),
    });
}

/// While all clients together hold too much, none may send ahead; and each is still answered.
#[test]
fn all_clients_together_are_bounded() {
    let cluster = Cluster::start(1, Flags { extra: &["--max-buffer-bytes", "1000000", "--write-timeout", "2s"] });
    let mut other = cluster.client(0);
    other.expect(&["SET", "k", &"x".repeat(10_000)], Reply::ok());
    let floods: Vec<_> = (0..4).map(|_| cluster.client(0)).collect();
    let request = command(&["GET", "k"]).repeat(1_000);
    std::thread::scope(|scope| {
        let running: Vec<_> = floods.iter().map(|client| scope.spawn(|| flood(client, &request))).collect();
        let mut most = 0;
        while running.iter().any(|flood| !flood.is_finished()) {
            most = most.max(info(&mut other, "client_buffer_bytes"));
            other.expect(&["EXISTS", "k"], Reply::Integer(1));
            std::thread::sleep(Duration::from_millis(5));
        }
        // Each may pass the limit by one read, and by the replies to one portion.
        assert!(most < 4_000_000, "{most} bytes held");
        assert!(most > 100_000, "the floods were held back: {most} bytes");
    });
    assert_eq!(info(&mut other, "client_output_buffer_limit_disconnections"), 4);
}
