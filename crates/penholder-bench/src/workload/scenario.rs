//! What makes up a workload.

use rusqlite::Connection;

use crate::share::Share;
use crate::workload::requests::Requests;

pub(crate) trait Scenario {
    /// What each transaction does, in a few words.
    fn summary(&self) -> &'static str;

    /// Creates the tables and the rows that the workload begins with.
    fn create(&self, connection: &Connection) -> rusqlite::Result<()>;

    /// The requests of one writer; its number is stored in the rows that it inserts.
    fn requests(&self, number: u32) -> Box<dyn Requests>;

    /// Whether the database has every acknowledged write, and no other.
    fn is_complete(&self, connection: &Connection, shares: &[Share]) -> rusqlite::Result<bool>;

    /// The SQL and the sizes that the worker in Python needs.
    fn parts(&self) -> serde_json::Value;
}
