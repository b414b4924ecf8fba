//! Where each node takes clients: a table that every node has, so that a client learns of nodes which were added
//! after it had read its file.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hiqlite::rusqlite::{self, Connection};
use hiqlite::{Client, Param};

use crate::replica::Replica;

const CREATE: &str = "CREATE TABLE IF NOT EXISTS _penholder_node(\
                      id INTEGER PRIMARY KEY, client TEXT NOT NULL)";
const INSERT: &str = "INSERT INTO _penholder_node(id, client) VALUES (?1, ?2) \
                      ON CONFLICT DO UPDATE SET client = excluded.client";
/// How long one attempt may take, and the pause before the next one.
const ATTEMPT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(1);

/// Writes the address of this node, unless it is there already. Tries again until it is.
pub(crate) async fn announce(engine: Client, replica: Replica, node: u64, address: String) {
    while known(&replica).await.get(&node) != Some(&address) {
        let id = i64::try_from(node).unwrap_or(i64::MAX);
        let values = vec![Param::Integer(id), Param::Text(address.clone())];
        let statements = vec![(CREATE, Vec::new()), (INSERT, values)];
        let _ = tokio::time::timeout(ATTEMPT, engine.txn(statements)).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns the addresses that are known here.
pub(crate) async fn known(replica: &Replica) -> HashMap<u64, String> {
    let found = replica.read(Instant::now() + ATTEMPT, read).await;
    // There is no table before the first one.
    found.unwrap_or_default()
}

fn read(connection: &Connection) -> rusqlite::Result<HashMap<u64, String>> {
    let mut statement = connection.prepare_cached("SELECT id, client FROM _penholder_node")?;
    let found = statement.query_map([], |row| {
        let id: i64 = row.get(0)?;
        Ok((u64::try_from(id).unwrap_or(0), row.get(1)?))
    })?;
    found.collect()
}
