//! The accesses to replay: a trace from a file, or a Zipf stream generated from a seed.

use std::{
    collections::HashMap,
    error::Error,
    fs::File,
    io::{self, BufReader, Read, Seek, Write},
    path::Path,
};

/// The accesses in order. Products are numbered from 0 without gaps; `ids` holds their ids in the database.
pub struct Trace {
    pub ids: Vec<u32>,
    pub accesses: Vec<u32>,
}

impl Trace {
    fn from_keys(keys: impl Iterator<Item = u32>) -> Self {
        let mut trace = Self { ids: Vec::new(), accesses: Vec::new() };
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        for key in keys {
            let next = numbers.len() as u32;
            let number = *numbers.entry(key).or_insert(next);
            if number == next && trace.ids.len() == next as usize {
                trace.ids.push(key);
            }
            trace.accesses.push(number);
        }
        trace
    }

    /// Reads consecutive big-endian 32-bit keys. The file is decompressed first if it starts with the magic bytes of
    /// xz.
    pub fn read(path: &Path, limit: usize) -> Result<Self, Box<dyn Error>> {
        let mut file = File::open(path)?;
        let mut magic = [0; 6];
        let packed = file.read_exact(&mut magic).is_ok() && magic == *b"\xfd7zXZ\0";
        file.rewind()?;
        let mut keys = Keys::default();
        let mut input = BufReader::new(file);
        if packed {
            lzma_rs::xz_decompress(&mut input, &mut keys).map_err(|error| format!("{error:?}"))?;
        } else {
            io::copy(&mut input, &mut keys)?;
        }
        match keys.done.is_empty() {
            true => Err("no access in it".into()),
            false => Ok(Self::from_keys(keys.done.into_iter().take(limit))),
        }
    }

    /// Generates `count` accesses to `products` products, whose popularity follows Zipf's law with `exponent`.
    pub fn zipf(products: u32, exponent: f64, count: usize, seed: u64) -> Self {
        let mut total = 0.0;
        let sums: Vec<f64> = (1..=products)
            .map(|rank| {
                total += f64::from(rank).powf(-exponent);
                total
            })
            .collect();
        let access = |index: usize| {
            let point = unit(mix(seed, index as u64)) * total;
            sums.partition_point(|&sum| sum < point).min(sums.len() - 1) as u32
        };
        Self::from_keys((0..count).map(access))
    }
}

/// A converter from bytes to keys. A chunk may end in the middle of a key.
#[derive(Default)]
struct Keys {
    done: Vec<u32>,
    partial: u32,
    bytes: u32,
}

impl Write for Keys {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        for &byte in piece {
            self.partial = self.partial << 8 | u32::from(byte);
            self.bytes = (self.bytes + 1) % 4;
            if self.bytes == 0 {
                self.done.push(self.partial);
            }
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The assignment of accesses to nodes and of updates: a pure function of the seed and the position. So the replay and
/// the simulations see the same accesses, in whatever order the threads run.
#[derive(Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    /// Percentage of the accesses that are updates.
    pub updates: f64,
}

impl Plan {
    /// Returns the node for the access at `index`.
    pub fn node(&self, index: usize) -> usize {
        (mix(self.seed ^ 0x6e6f_6465, index as u64) % self.nodes as u64) as usize
    }

    /// Returns true if the access at `index` is an update.
    pub fn is_update(&self, index: usize) -> bool {
        unit(mix(self.seed ^ 0x7570_6461, index as u64)) * 100.0 < self.updates
    }
}

/// Returns the SplitMix64 hash of the pair.
fn mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Maps bits to a number from 0 to below 1.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
