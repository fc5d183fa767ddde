//! Any bytes that a Redis client may send: framed, parsed, and run against a live node.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use driftless::Node;
use redis_protocol::{resp2, resp3};
use tokio::runtime::Runtime;

use super::Verdict;
use crate::serve::clients::Client;
use crate::serve::commands;
use crate::serve::reply::{Output, Protocol};
use crate::serve::request::{Framer, Front, Limits, MAX_ARGUMENTS, line_arguments};
use crate::serve::session::{Session, Shared, Silence};
use crate::serve::settings::Settings;

/// The capacity of the cache behind the server, in entries.
const CAPACITY: u64 = 1_000;

struct Stage {
    shared: Shared,
    runtime: Runtime,
}

static STAGE: OnceLock<Stage> = OnceLock::new();

fn stage() -> &'static Stage {
    STAGE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let node = runtime.block_on(Node::builder().cluster("fuzz-resp").start()).unwrap();
        let cache = node.cache::<Bytes, Bytes>("redis").max_capacity(CAPACITY).open().unwrap();
        let address = node.local_addr();
        let shared = Shared::new(node, vec![cache], "fuzz-resp".to_owned(), address, Settings::default());
        Stage { shared: Shared { drill: Some(Arc::default()), ..shared }, runtime }
    })
}

/// Runs one input, in one piece and cut in two. Both must yield the same requests and the same end. Another decoder
/// must read each reply as one whole value.
pub fn run(data: &[u8]) -> Verdict {
    let whole = requests(&[data]);
    let cut = data.first().map_or(0, |first| usize::from(*first) % data.len());
    let halves = requests(&[&data[..cut], data]);
    assert_eq!(whole, halves, "cutting the input changes what is asked");
    let Stage { shared, runtime } = stage();
    let _entered = runtime.enter();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let client = Arc::new(Client::new(1, address, address));
    shared.clients.add(&client);
    let mut session = Session::new(shared, client);
    let mut verdict = Verdict::default();
    for arguments in whole.0 {
        let words: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
        if words.is_empty() {
            continue;
        }
        let mut output = Output { protocol: session.protocol, ..Output::default() };
        commands::run(&mut session, &words, &mut output);
        let is_silent =
            session.silence != Silence::Off || session.waiting.take().is_some() || session.forgetting.take().is_some();
        let replies = decoded(&output);
        // `UNSUBSCRIBE` confirms each channel by itself.
        assert!(replies > 0 || is_silent, "a request without a reply: {words:?}");
        verdict.note(!output.bytes.starts_with(b"-"));
    }
    if let Some(error) = whole.1 {
        assert!(error.starts_with("ERR "), "{error}");
        verdict.note(false);
    }
    let held = stage().shared.cache().entry_count();
    assert!(held <= CAPACITY * 2, "{held} entries in a cache of {CAPACITY}");
    verdict
}

/// Returns the number of values that another decoder finds in the replies.
fn decoded(output: &Output) -> usize {
    let (mut rest, mut found) = (&output.bytes[..], 0);
    while !rest.is_empty() {
        let length = match output.protocol {
            Protocol::Two => resp2::decode::decode(rest).expect("a valid reply").map(|(_, length)| length),
            Protocol::Three => resp3::decode::complete::decode(rest).expect("a valid reply").map(|(_, length)| length),
        };
        rest = &rest[length.expect("a complete reply")..];
        found += 1;
    }
    found
}

const LIMITS: Limits = Limits { bytes: 8 << 20, arguments: MAX_ARGUMENTS };

type Requests = (Vec<Vec<Vec<u8>>>, Option<String>);

/// Returns the requests when the input arrives in these steps. Each step contains all bytes of the step before.
fn requests(arrivals: &[&[u8]]) -> Requests {
    let (mut framer, mut done, mut asked) = (Framer::new(LIMITS), 0, Vec::new());
    for input in arrivals {
        loop {
            let rest = &input[done..];
            let found = match framer.front(rest) {
                Ok(Front::Part) => break,
                Ok(Front::Array(len)) => {
                    Ok((len, framer.ranges().iter().map(|range| rest[range.clone()].to_vec()).collect()))
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
