//! The mutations of seed inputs: those of a fuzzer, without coverage.

use fastrand::Rng;

/// Numbers at the edges of encodings and types, written big-endian.
const EDGES: [u64; 12] =
    [0, 1, 0x17, 0x18, 0x7f, 0x80, 0xff, 0xffff, 0x1_0000, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];
/// The longest input, in bytes.
const MAX_LEN: usize = 4_096;

/// Returns one of the seeds with zero to five random changes.
pub fn input(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(0..6) {
        change(rng, &mut bytes, seeds);
    }
    bytes.truncate(MAX_LEN);
    bytes
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = rng.usize(0..=bytes.len());
    match rng.u8(0..8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(0..8),
        1 if at < bytes.len() => bytes[at] = rng.u8(..),
        2 => bytes.truncate(at),
        3 => drop(bytes.splice(at..at, (0..rng.usize(1..9)).map(|_| rng.u8(..)).collect::<Vec<_>>())),
        4 => drop(bytes.drain(at..(at + rng.usize(0..9)).min(bytes.len()))),
        5 => {
            let other = &seeds[rng.usize(..seeds.len())];
            let from = rng.usize(0..=other.len());
            bytes.truncate(at);
            bytes.extend(&other[from..]);
        }
        6 => {
            let edge = EDGES[rng.usize(..EDGES.len())].to_be_bytes();
            let width = 1 << rng.u32(0..4);
            let end = (at + width).min(bytes.len());
            drop(bytes.splice(at..end, edge[8 - width..].iter().copied()));
        }
        _ => {
            let end = (at + rng.usize(0..33)).min(bytes.len());
            let again = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, again));
        }
    }
}
