//! The reads and updates of rows through the cache: the part to copy.

use crate::database::{Product, Rows, reprice};
use clap::ValueEnum;
use driftless::{Cache, InsertError};
use parking_lot::Mutex;
use std::fmt;
use std::time::Duration;

/// The treatment of the cached copy when its row changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Write the cache inside the row's write transaction: commits of a row and its cache stamps have the same order
    WriteThrough,
    /// Invalidate the cached copy after the commit; the next read fills it again
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

/// The reason for which an access failed.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    #[error("the database: {0}")]
    Database(#[from] rusqlite::Error),
    #[error("the cache: {0}")]
    Cache(#[from] InsertError),
    #[error("reading a row for the cache: {0}")]
    Fill(String),
}

/// The source of a product that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Cache,
    Database,
}

/// The state that all threads share.
pub struct Shop {
    mode: Mode,
    /// Time added to each read of a row for the cache, to imitate a slow database.
    fill_delay: Duration,
    /// Serialises writers: SQLite admits one at a time, and waiting writers would poll.
    writer: Mutex<()>,
}

impl Shop {
    pub fn new(mode: Mode, fill_delay: Duration) -> Self {
        Self { mode, fill_delay, writer: Mutex::new(()) }
    }

    /// Reads a product through the cache: from memory, or else from its row. A row that was read is then cached on all
    /// nodes.
    ///
    /// An update may commit after the row was read and before the fill ends, on this or on another machine. The fill
    /// then loses, because a fill is stamped as of its start.
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

    /// Changes a row, makes sure that no cache keeps the old row, and returns the new row.
    pub fn update(&self, cache: &Cache<u32, Product>, rows: &mut Rows, id: u32) -> Result<Product, ShopError> {
        let _my_turn = self.writer.lock();
        let transaction = rows.begin()?;
        let product = reprice(&transaction, id)?;
        if self.mode == Mode::WriteThrough {
            cache.insert(id, product.clone())?;
        }
        let committed = transaction.commit();
        // The new row may have been evicted before its commit. A fill that began since may have read the old row: the
        // delete makes that fill lose.
        if self.mode == Mode::Invalidate || committed.is_err() || !cache.contains_key(&id) {
            cache.invalidate(&id);
        }
        committed?;
        Ok(product)
    }
}
