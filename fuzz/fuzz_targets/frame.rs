//! The fuzz target `frame`. See `tests/hardening/targets.rs`.
#![no_main]

include!("common.rs");

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    targets::ALL.iter().find(|(name, _)| *name == "frame").map(|(_, run)| run(data));
});
