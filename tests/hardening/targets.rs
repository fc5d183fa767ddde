//! The fuzz targets: each accepts any bytes, and panics if a promise is broken.
//!
//! `fuzz/fuzz_targets` and `stable.rs` both call them.

pub mod apply;
pub mod frame;
pub mod gen_message;
pub mod http;
pub mod resp;
pub mod wire;

/// The result of one input: the number of its parts that were accepted, and of those refused.
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

/// A function that accepts any bytes and returns counts.
type Target = fn(&[u8]) -> Verdict;

/// All targets, by name.
pub const ALL: &[(&str, Target)] = &[
    ("frame", frame::run),
    ("digest", wire::digest),
    ("delta", wire::delta),
    ("reconcile", wire::reconcile),
    ("apply", apply::run),
    ("resp", resp::run),
    ("http", http::run),
];
