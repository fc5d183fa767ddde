//! What is fuzzed: each target takes any bytes, and panics if a promise is broken.
//!
//! `fuzz/fuzz_targets` and `stable.rs` both call these.

pub mod apply;
pub mod frame;
pub mod gen_message;
pub mod http;
pub mod resp;
pub mod wire;

/// What became of one input: how many of its parts were taken, and how many refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verdict {
    pub taken: u64,
    pub refused: u64,
}

impl Verdict {
    pub fn note(&mut self, taken: bool) {
        if taken {
            self.taken += 1;
        } else {
            self.refused += 1;
        }
    }
}

/// What runs one input.
pub type Run = fn(&[u8]) -> Verdict;

/// Every target by name.
pub const ALL: &[(&str, Run)] = &[
    ("frame", frame::run),
    ("digest", wire::digest),
    ("delta", wire::delta),
    ("reconcile", wire::reconcile),
    ("apply", apply::run),
    ("resp", resp::run),
    ("http", http::run),
];
