//! Access patterns: the keys that are requested, and their order.

use std::path::Path;

/// A small random number generator with a seed, so that every contestant gets the same sequence.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number of SplitMix64 (Steele, Lea and Flood 2014).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Returns `length` indices into `keys` keys, Zipf-distributed. The popularity of the keys is in random order.
pub fn zipf(keys: usize, skew: f64, length: usize, seed: u64) -> Vec<u32> {
    let mut total = 0.0;
    let cumulated: Vec<f64> = (1..=keys)
        .map(|rank| {
            total += (rank as f64).powf(-skew);
            total
        })
        .collect();
    let mut dice = Dice::new(seed);
    let mut names: Vec<u32> = (0..keys as u32).collect();
    dice.shuffle(&mut names);
    (0..length)
        .map(|_| {
            let point = dice.next() as f64 / u64::MAX as f64 * total;
            names[cumulated.partition_point(|sum| *sum < point).min(keys - 1)]
        })
        .collect()
}

/// Returns `0..keys` in random order.
pub fn shuffled(keys: usize, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..keys as u32).collect();
    Dice::new(seed).shuffle(&mut order);
    order
}

/// A recorded access sequence: its name, its keys renumbered from zero, and the number of distinct keys.
#[derive(Debug)]
pub struct Trace {
    pub name: String,
    pub accesses: Vec<u32>,
    pub keys: usize,
}

/// Reads the traces in a folder: xz-compressed big-endian 32-bit keys. Prints a message for each trace that is missing.
pub fn traces(folder: &Path) -> Vec<Trace> {
    let mut found = Vec::new();
    for name in ["orm-busy", "web12"] {
        let path = folder.join(format!("{name}.trace.xz"));
        match std::fs::File::open(&path) {
            Ok(file) => found.push(trace(name, file)),
            Err(error) => eprintln!("  skipped the trace {}: {error} (see --traces)", path.display()),
        }
    }
    found
}

fn trace(name: &str, file: std::fs::File) -> Trace {
    let mut bytes = Vec::new();
    lzma_rs::xz_decompress(&mut std::io::BufReader::new(file), &mut bytes).expect("the trace is xz");
    let mut numbers = std::collections::HashMap::new();
    let accesses = bytes
        .chunks_exact(4)
        .map(|word| {
            let next = numbers.len() as u32;
            *numbers.entry(<[u8; 4]>::try_from(word).expect("four bytes")).or_insert(next)
        })
        .collect();
    Trace { name: name.to_owned(), accesses, keys: numbers.len() }
}
