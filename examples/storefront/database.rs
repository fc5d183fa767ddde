//! The database: one SQLite file, one connection per thread.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// A row of the table, which is also the cached value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Product {
    pub id: u32,
    pub name: String,
    pub price_cents: u32,
    /// Grows with every update, so that a stale copy is recognised.
    pub version: u32,
}

/// The path of the database. Every thread opens its own connection.
pub struct Database {
    file: PathBuf,
}

impl Database {
    /// Creates the table in a new file under `folder`, with a row for each of `ids`.
    pub fn create(folder: &Path, ids: &[u32]) -> rusqlite::Result<Self> {
        let database = Self { file: folder.join("storefront.sqlite") };
        let mut connection = database.connect()?.0;
        connection.execute_batch(
            "CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price_cents INTEGER NOT NULL, version INTEGER NOT NULL)",
        )?;
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare("INSERT INTO product VALUES (?1, ?2, ?3, 1)")?;
            for &id in ids {
                insert.execute((id, format!("Product {id}"), 100 + id % 100_000))?;
            }
        }
        transaction.commit()?;
        Ok(database)
    }

    /// Opens a connection for one thread.
    pub fn connect(&self) -> rusqlite::Result<Rows> {
        let connection = Connection::open(&self.file)?;
        connection.busy_timeout(Duration::from_secs(20))?;
        // In WAL mode readers do not wait for the writer. Nothing here has to survive a power failure.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        Ok(Rows(connection))
    }
}

/// The shop's queries on one connection.
pub struct Rows(Connection);

impl Rows {
    /// Returns the last committed version of a row.
    pub fn read(&self, id: u32) -> rusqlite::Result<Product> {
        let mut select = self.0.prepare_cached("SELECT id, name, price_cents, version FROM product WHERE id = ?1")?;
        select.query_row((id,), product)
    }

    /// Begins an update. Until the transaction ends, no other connection can write.
    pub fn begin(&mut self) -> rusqlite::Result<Transaction<'_>> {
        self.0.transaction_with_behavior(TransactionBehavior::Immediate)
    }

    /// Returns all rows.
    pub fn all(&self) -> rusqlite::Result<HashMap<u32, Product>> {
        let mut select = self.0.prepare("SELECT id, name, price_cents, version FROM product")?;
        let rows = select.query_map((), |row| product(row).map(|product| (product.id, product)))?;
        rows.collect()
    }
}

/// Changes the price within a transaction, and returns the new row.
pub fn reprice(transaction: &Transaction<'_>, id: u32) -> rusqlite::Result<Product> {
    let mut update = transaction.prepare_cached(
        "UPDATE product SET price_cents = 100 + (price_cents * 31 + version) % 100000, version = version + 1 WHERE id = ?1
         RETURNING id, name, price_cents, version",
    )?;
    update.query_row((id,), product)
}

fn product(row: &rusqlite::Row<'_>) -> rusqlite::Result<Product> {
    Ok(Product { id: row.get(0)?, name: row.get(1)?, price_cents: row.get(2)?, version: row.get(3)? })
}
