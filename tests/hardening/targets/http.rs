//! Any bytes sent to the debug interface over a real connection. Promise: the server replies or closes, never with a
//! 500, and changes nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use driftless::inspect::Inspector;
use driftless::inspect::http::{HttpConfig, HttpServer};
use driftless::{Cache, Node};
use tokio::runtime::Runtime;

use super::Verdict;

const ENTRIES: u64 = 300;

struct Stage {
    addr: SocketAddr,
    cache: Cache<String, String>,
    _server: HttpServer,
    _runtime: Runtime,
}

static STAGE: OnceLock<Stage> = OnceLock::new();

fn stage() -> &'static Stage {
    STAGE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let node = runtime.block_on(Node::builder().cluster("fuzz-http").name("it").start()).unwrap();
        let cache: Cache<String, String> = node.cache("test").open().unwrap();
        for n in 0..ENTRIES {
            cache.insert(format!("key {n}"), format!("SECRET {n}")).unwrap();
        }
        let config = HttpConfig::new(([127, 0, 0, 1], 0).into());
        let server = runtime.block_on(HttpServer::start(Inspector::new(&node), config)).unwrap();
        Stage { addr: server.local_addr(), cache, _server: server, _runtime: runtime }
    })
}

/// Runs one input: a whole request, or the target of a GET if it does not contain the end of a request.
pub fn run(data: &[u8]) -> Verdict {
    let stage = stage();
    let looks_whole = data.windows(4).any(|four| four == b"\r\n\r\n");
    let request = if looks_whole { data.to_vec() } else { get(data) };
    let answer = ask(stage.addr, &request);
    let mut verdict = Verdict::default();
    verdict.note(answer.starts_with(b"HTTP/1.1 2"));
    if !answer.is_empty() {
        let status: u16 = answer.get(9..12).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok()).unwrap_or(0);
        assert!((200..500).contains(&status) || matches!(status, 503 | 505), "{}", answer.escape_ascii());
    }
    assert!(!answer.windows(6).any(|six| six == b"SECRET"), "a value was shown");
    assert_eq!(stage.cache.entry_count(), ENTRIES, "something was changed");
    verdict
}

fn get(target: &[u8]) -> Vec<u8> {
    let mut request = b"GET /".to_vec();
    request.extend(target);
    request.extend(b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    request
}

fn ask(addr: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let _ = stream.write_all(request);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    // A connection reset after an error counts as the end of the reply.
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no answer within its deadline"),
        _ => answer,
    }
}
