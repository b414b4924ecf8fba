//! A database wherever its address says.

use penholder::{AsyncDatabase, Executed, IntoParams, Migrated, Query, Result, RowSet, Store};

use crate::address::Address;
use crate::cluster::Cluster;

/// A database on this machine, or on a cluster: what [`connect`] returns.
#[derive(Debug, Clone)]
pub enum AnyDatabase {
    /// A file of this machine.
    File(AsyncDatabase),
    /// A cluster.
    Cluster(Cluster),
}

/// Opens the database at an address: a path, `cluster:DIR/client.toml`, or `cluster://HOST:PORT,…`.
///
/// ```
/// use penholder::{Result, Store, StoreExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let address = directory.path().join("app.db").to_string_lossy().into_owned();
/// let store = penholder_cluster::connect(&address).await?;
/// store.migrate(&["CREATE TABLE note(text)"]).await?;
/// store.execute("INSERT INTO note VALUES (?1)", ["hello"]).await?;
/// let notes: Vec<(String,)> = store.query_as("SELECT text FROM note", ()).await?;
/// assert_eq!(notes, [("hello".to_owned(),)]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of [`AsyncDatabase::open`] and [`Cluster::connect`].
pub async fn connect(address: &str) -> Result<AnyDatabase> {
    match Address::parse(address)? {
        Address::File(path) => AsyncDatabase::open(path).await.map(AnyDatabase::File),
        _ => Cluster::connect(address).await.map(AnyDatabase::Cluster),
    }
}

impl Store for AnyDatabase {
    async fn execute(
        &self,
        sql: impl Into<String> + Send,
        params: impl IntoParams + Send,
    ) -> Result<Executed> {
        match self {
            Self::File(database) => Store::execute(database, sql, params).await,
            Self::Cluster(cluster) => cluster.execute(sql, params).await,
        }
    }

    async fn batch<Q: Into<Query>>(
        &self,
        queries: impl IntoIterator<Item = Q> + Send,
    ) -> Result<Vec<Executed>> {
        match self {
            Self::File(database) => Store::batch(database, queries).await,
            Self::Cluster(cluster) => cluster.batch(queries).await,
        }
    }

    async fn query(
        &self,
        sql: impl Into<String> + Send,
        params: impl IntoParams + Send,
    ) -> Result<RowSet> {
        match self {
            Self::File(database) => Store::query(database, sql, params).await,
            Self::Cluster(cluster) => cluster.query(sql, params).await,
        }
    }

    async fn migrate(&self, steps: &[&str]) -> Result<Migrated> {
        match self {
            Self::File(database) => Store::migrate(database, steps).await,
            Self::Cluster(cluster) => cluster.migrate(steps).await,
        }
    }
}
