//! What a program asks of a database, whichever engine it is on.

use std::future::Future;

use rusqlite::types::FromSql;
use serde::de::DeserializeOwned;

use crate::asynchronous::AsyncDatabase;
use crate::data::{Executed, IntoParams, Query, Row, RowSet};
use crate::error::{Error, Result};
use crate::maintenance::Migrated;

/// A database that takes and returns plain data: this machine's file, or another engine that speaks
/// the same SQL.
///
/// A program that uses only this trait and [`StoreExt`] runs unchanged on each. [`AsyncDatabase`]
/// implements it, and so does the client of the replicated engine, in the crate `penholder-cluster`.
/// Closures, and all else that needs a connection, stay with [`AsyncDatabase`].
///
/// ```
/// use penholder::{AsyncDatabase, Result, Store, StoreExt};
///
/// async fn next_ticket(store: &impl Store, owner: &str) -> Result<i64> {
///     let insert = "INSERT INTO ticket(owner) VALUES (?1)";
///     let done = store.execute(insert, [owner]).await?;
///     Ok(done.last_insert_rowid.unwrap_or_default())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("app.db");
/// let store = AsyncDatabase::open(path).await?;
/// let steps = ["CREATE TABLE ticket(n INTEGER PRIMARY KEY, owner TEXT)"];
/// Store::migrate(&store, &steps).await?;
/// assert_eq!(next_ticket(&store, "ann").await?, 1);
/// let count: i64 = StoreExt::query_scalar(&store, "SELECT count(*) FROM ticket", ()).await?;
/// assert_eq!(count, 1);
/// # Ok(())
/// # }
/// ```
///
/// # Instead of a closure
///
/// A batch is one transaction. A statement in it can depend on what the one before it changed, by
/// `changes()` and `last_insert_rowid()`:
///
/// | a closure that | as a batch |
/// | --- | --- |
/// | takes a job if there is one, and notes that | `UPDATE job SET owner = ?1 WHERE id = (SELECT min(id) FROM job WHERE owner IS NULL)`, then `INSERT INTO history SELECT … WHERE changes() > 0` |
/// | inserts a row and others that refer to it | `INSERT INTO invoice …`, then `INSERT INTO line(invoice, …) VALUES (last_insert_rowid(), …)`; for the third one on, look the invoice up by a name of its own |
/// | moves money if there is enough | `UPDATE account SET sum = sum - ?1 WHERE id = ?2 AND sum >= ?1`, then `UPDATE account SET sum = sum + ?1 WHERE id = ?3 AND changes() > 0` |
/// | inserts or counts up | `INSERT … ON CONFLICT DO UPDATE SET n = n + 1` |
/// | fails, and rolls back, if a condition does not hold | a `CHECK` constraint, or a trigger with `RAISE(ABORT, …)` |
pub trait Store: Send + Sync {
    /// Runs one statement that writes.
    ///
    /// # Errors
    ///
    /// The statement fails, or is refused as plain data, or the deadline passes: see
    /// [`Error::kind`].
    fn execute(
        &self,
        sql: impl Into<String> + Send,
        params: impl IntoParams + Send,
    ) -> impl Future<Output = Result<Executed>> + Send;

    /// Runs several statements in one transaction: all of them, or none.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute). The error says which statement failed.
    fn batch<Q: Into<Query>>(
        &self,
        queries: impl IntoIterator<Item = Q> + Send,
    ) -> impl Future<Output = Result<Vec<Executed>>> + Send;

    /// Runs one statement that reads. It sees every write that was acknowledged before.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute).
    fn query(
        &self,
        sql: impl Into<String> + Send,
        params: impl IntoParams + Send,
    ) -> impl Future<Output = Result<RowSet>> + Send;

    /// Brings the schema up to date: runs those of `steps` that have not run yet, each in a
    /// transaction of its own; see [`Database::migrate`](crate::Database::migrate).
    ///
    /// # Errors
    ///
    /// A step fails: those before it stay. Or the steps that have run are other ones.
    fn migrate(&self, steps: &[&str]) -> impl Future<Output = Result<Migrated>> + Send;
}

/// Typed reads of any [`Store`].
pub trait StoreExt: Store {
    /// Runs one statement that reads, and converts each row; see
    /// [`Database::query_as`](crate::Database::query_as).
    ///
    /// # Errors
    ///
    /// As [`Store::query`], and if a row does not fit the type.
    fn query_as<T: DeserializeOwned>(
        &self,
        sql: impl Into<String> + Send,
        params: impl IntoParams + Send,
    ) -> impl Future<Output = Result<Vec<T>>> + Send {
        let rows = self.query(sql, params);
        async move { rows.await?.iter().map(Row::deserialize).collect() }
    }

    /// Runs one statement that reads, and converts its first row, if there is one.
    ///
    /// # Errors
    ///
    /// As [`Store::query`], and those of `convert`.
    fn query_optional<T>(
        &self,
        sql: impl Into<String> + Send,
        params: impl IntoParams + Send,
        convert: impl FnOnce(&Row) -> Result<T> + Send,
    ) -> impl Future<Output = Result<Option<T>>> + Send {
        let rows = self.query(sql, params);
        async move { rows.await?.first().map(convert).transpose() }
    }

    /// Runs one statement that reads, and converts its first row.
    ///
    /// # Errors
    ///
    /// As [`query_optional`](Self::query_optional), and
    /// [`ErrorKind::NoRow`](crate::ErrorKind::NoRow).
    fn query_row<T>(
        &self,
        sql: impl Into<String> + Send,
        params: impl IntoParams + Send,
        convert: impl FnOnce(&Row) -> Result<T> + Send,
    ) -> impl Future<Output = Result<T>> + Send {
        let found = self.query_optional(sql, params, convert);
        async move { found.await?.ok_or_else(no_row) }
    }

    /// Runs one statement that reads, and returns the first column of its first row.
    ///
    /// # Errors
    ///
    /// As [`query_row`](Self::query_row).
    fn query_scalar<T: FromSql>(
        &self,
        sql: impl Into<String> + Send,
        params: impl IntoParams + Send,
    ) -> impl Future<Output = Result<T>> + Send {
        self.query_row(sql, params, |row| row.get(0))
    }
}

impl<S: Store + ?Sized> StoreExt for S {}

fn no_row() -> Error {
    rusqlite::Error::QueryReturnedNoRows.into()
}

impl Store for AsyncDatabase {
    #[track_caller]
    fn execute(
        &self,
        sql: impl Into<String> + Send,
        params: impl IntoParams + Send,
    ) -> impl Future<Output = Result<Executed>> + Send {
        Self::execute(self, sql, params)
    }

    #[track_caller]
    fn batch<Q: Into<Query>>(
        &self,
        queries: impl IntoIterator<Item = Q> + Send,
    ) -> impl Future<Output = Result<Vec<Executed>>> + Send {
        Self::batch(self, queries)
    }

    fn query(
        &self,
        sql: impl Into<String> + Send,
        params: impl IntoParams + Send,
    ) -> impl Future<Output = Result<RowSet>> + Send {
        Self::query(self, sql, params)
    }

    #[track_caller]
    fn migrate(&self, steps: &[&str]) -> impl Future<Output = Result<Migrated>> + Send {
        Self::migrate(self, steps)
    }
}
