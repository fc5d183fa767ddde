//! The part to copy: how to read and update rows through the cache.

use crate::database::{Product, Rows, reprice};
use clap::ValueEnum;
use driftless::{Cache, InsertError};
use parking_lot::Mutex;
use std::fmt;
use std::time::Duration;

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
    #[error("reading a row for the cache: {0}")]
    Fill(String),
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
    /// A slow database: how long each read of a row for the cache takes beyond its own time.
    fill_delay: Duration,
    /// SQLite lets one writer in at a time, and would make the others poll for their turn.
    writer: Mutex<()>,
}

impl Shop {
    pub fn new(mode: Mode, fill_delay: Duration) -> Self {
        Self { mode, fill_delay, writer: Mutex::new(()) }
    }

    /// Reads a product through the cache: from memory, or else from its row, and then it is in everybody's memory.
    ///
    /// An update may commit after the row was read and before the fill ends, here or on another machine. The fill then loses: its stamp is
    /// from before its start.
    pub fn read_through(
        &self,
        cache: &Cache<u32, Product>,
        rows: &Rows,
        id: u32,
    ) -> Result<(Product, Source), ShopError> {
        let mut source = Source::Cache;
        let product = cache.try_get_with_blocking(id, || {
            source = Source::Database;
            let row = rows.read(id);
            if !self.fill_delay.is_zero() {
                std::thread::sleep(self.fill_delay);
            }
            row
        });
        product.map(|product| (product, source)).map_err(|error| ShopError::Fill(error.to_string()))
    }

    /// Changes a row, and sees to it that no cache keeps the old one. Returns the new row.
    pub fn update(&self, cache: &Cache<u32, Product>, rows: &mut Rows, id: u32) -> Result<Product, ShopError> {
        let _my_turn = self.writer.lock();
        let transaction = rows.begin()?;
        let product = reprice(&transaction, id)?;
        if self.mode == Mode::WriteThrough {
            cache.insert(id, product.clone())?;
        }
        let committed = transaction.commit();
        // If the new row was evicted before its commit, a fill may have begun meanwhile and seen the old one: it loses against a delete.
        if self.mode == Mode::Invalidate || committed.is_err() || !cache.contains_key(&id) {
            cache.invalidate(&id);
        }
        committed?;
        Ok(product)
    }
}
