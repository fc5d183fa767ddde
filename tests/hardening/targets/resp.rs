//! Any bytes that a Redis client may send: framed, parsed, and run against a live node.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use driftless::Node;
use redis_protocol::resp2::encode::extend_encode;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::Verdict;
use crate::serve::commands;
use crate::serve::request::{Framer, Front, array_arguments, line_arguments};
use crate::serve::session::{Session, Shared, Stats};

/// The capacity of the cache behind the server, in entries.
const CAPACITY: u64 = 1_000;

struct Stage {
    shared: Shared,
    _runtime: Runtime,
}

static STAGE: OnceLock<Stage> = OnceLock::new();

fn stage() -> &'static Stage {
    STAGE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let node = runtime.block_on(Node::builder().cluster("fuzz-resp").start()).unwrap();
        let cache = node.cache::<Bytes, Bytes>("redis").max_capacity(CAPACITY).open().unwrap();
        let shared = Shared {
            redis: node.local_addr(),
            node,
            databases: vec![cache],
            cluster: "fuzz-resp".to_owned(),
            max_clients: 1,
            places: Arc::new(Semaphore::new(1)),
            started: Instant::now(),
            stats: Stats::default(),
            drill: Some(Arc::default()),
        };
        Stage { shared, _runtime: runtime }
    })
}

/// Runs one input, in one piece and cut in two. Both must yield the same requests and the same end.
pub fn run(data: &[u8]) -> Verdict {
    let whole = requests(&[data]);
    let cut = data.first().map_or(0, |first| usize::from(*first) % data.len());
    let halves = requests(&[&data[..cut], data]);
    assert_eq!(whole, halves, "cutting the input changes what is asked");
    let mut session = Session::new(&stage().shared);
    let mut verdict = Verdict::default();
    for arguments in whole.0 {
        let words: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        if words.is_empty() {
            continue;
        }
        let answer = commands::run(&mut session, &words);
        let mut out = BytesMut::new();
        extend_encode(&mut out, &answer, false).expect("every answer can be encoded");
        assert!(out.ends_with(b"\r\n"), "an answer ends with its line");
        verdict.note(!out.starts_with(b"-"));
    }
    if let Some(error) = whole.1 {
        assert!(error.starts_with("ERR "), "{error}");
        verdict.note(false);
    }
    let held = stage().shared.cache().entry_count();
    assert!(held <= CAPACITY * 2, "{held} entries in a cache of {CAPACITY}");
    verdict
}

type Requests = (Vec<Vec<Vec<u8>>>, Option<String>);

/// Returns the requests when the input arrives in these steps. Each step contains all bytes of the step before.
fn requests(arrivals: &[&[u8]]) -> Requests {
    let (mut framer, mut done, mut asked) = (Framer::default(), 0, Vec::new());
    for input in arrivals {
        loop {
            let rest = &input[done..];
            let found = match framer.front(rest) {
                Ok(Front::Part) => break,
                Ok(Front::Array(len)) => {
                    array_arguments(&rest[..len]).map(|words| (len, words.into_iter().map(<[u8]>::to_vec).collect()))
                }
                Ok(Front::Line(len)) => line_arguments(&rest[..len]).map(|words| (len, words)),
                Err(error) => Err(error),
            };
            match found {
                Ok((len, words)) => {
                    assert!(len > 0 && len <= rest.len(), "a request of {len} bytes in {}", rest.len());
                    done += len;
                    asked.push(words);
                }
                Err(error) => return (asked, Some(error.to_string())),
            }
        }
    }
    (asked, None)
}
