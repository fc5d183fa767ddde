//! The part to copy: how to read and update rows through the cache.

use crate::database::{Product, Rows, reprice};
use clap::ValueEnum;
use driftless::{Cache, InsertError};
use parking_lot::{Mutex, MutexGuard};
use std::fmt;

/// What becomes of the cached copy when its row changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// The cache is written inside the row's write transaction: commits of a row and its cache stamps have the same order
    WriteThrough,
    /// The cache is told after the commit that the row has changed; the next read fills it again
    Invalidate,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WriteThrough => "write-through",
            Self::Invalidate => "invalidate",
        })
    }
}

/// Why an access failed.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    #[error("the database: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("the cache: {0}")]
    Cache(#[from] InsertError),
}

/// Where a product came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Cache,
    Database,
}

/// What all threads share.
pub struct Shop {
    mode: Mode,
    fills: FillLocks,
    /// SQLite lets one writer in at a time, and would make the others poll for their turn.
    writer: Mutex<()>,
}

impl Shop {
    pub fn new(mode: Mode) -> Self {
        Self { mode, fills: FillLocks::new(), writer: Mutex::new(()) }
    }

    /// Reads a product through the cache: from memory, or else from its row, and then it is in everybody's memory.
    ///
    /// The row must not be read before an update and put into the cache after it. A lock that all nodes share keeps the two apart here; it
    /// stands in for the filler barrier, which needs no lock and works between machines. With it, all below the first line becomes
    /// `cache.try_get_with_blocking(id, || rows.read(id))`.
    pub fn read_through(
        &self,
        cache: &Cache<u32, Product>,
        rows: &Rows,
        id: u32,
    ) -> Result<(Product, Source), ShopError> {
        if let Some(product) = cache.get(&id) {
            return Ok((product, Source::Cache));
        }
        let _no_update_now = self.fills.lock(id);
        if let Some(product) = cache.get(&id) {
            return Ok((product, Source::Cache)); // filled while we waited
        }
        let product = rows.read(id)?;
        cache.insert(id, product.clone())?;
        Ok((product, Source::Database))
    }

    /// Changes a row, and sees to it that no cache keeps the old one. Returns the new row.
    pub fn update(&self, cache: &Cache<u32, Product>, rows: &mut Rows, id: u32) -> Result<Product, ShopError> {
        let _no_fill_now = self.fills.lock(id);
        let _my_turn = self.writer.lock();
        let transaction = rows.begin()?;
        let product = reprice(&transaction, id)?;
        if self.mode == Mode::WriteThrough {
            cache.insert(id, product.clone())?;
        }
        let committed = transaction.commit();
        if self.mode == Mode::Invalidate || committed.is_err() {
            cache.invalidate(&id);
        }
        committed?;
        Ok(product)
    }
}

/// A stopgap: one lock for each of many groups of rows, shared by the nodes of this process.
struct FillLocks(Vec<Mutex<()>>);

impl FillLocks {
    fn new() -> Self {
        Self((0..1024).map(|_| Mutex::new(())).collect())
    }

    fn lock(&self, id: u32) -> MutexGuard<'_, ()> {
        self.0[id.wrapping_mul(0x9e37_79b1) as usize >> 22].lock()
    }
}
