//! The workloads of a comparison: what its processes write, and how to find out
//! afterwards whether all of it is there.

mod hot;
mod insert;
mod pages;
mod random;
pub(crate) mod requests;
mod scenario;
mod service;

use std::error::Error;
use std::fmt;
use std::path::Path;

use clap::ValueEnum;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::names;
use crate::share::Share;
use crate::workload::requests::Requests;
use crate::workload::scenario::Scenario;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Workload {
    /// Insert one row
    Insert,
    /// Insert five rows into a table that has three indexes over random values and
    /// begins with 60,000 rows: about 20 pages
    Pages,
    /// Update a random row, with a value of 380 bytes, in a table of 100 MB
    Random,
    /// Update the one row that all processes update
    Hot,
    /// The requests of a web shop: 40% read three rows by their keys, 25% insert a
    /// row, 20% update a session, 5% update a counter, and 10% read an article, update
    /// it and insert a purchase in one transaction
    Service,
}

impl Workload {
    fn scenario(self) -> &'static dyn Scenario {
        match self {
            Self::Insert => &insert::Insert,
            Self::Pages => &pages::Pages,
            Self::Random => &random::Random,
            Self::Hot => &hot::Hot,
            Self::Service => &service::Service,
        }
    }

    /// Creates a database in WAL mode with the content that the workload begins with.
    /// It is all in the database and on disk, because closing the only connection
    /// checkpoints the WAL.
    pub(crate) fn create(self, database: &Path) -> Result<(), Box<dyn Error>> {
        let connection = Connection::open(database)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        Ok(self.scenario().create(&connection)?)
    }

    /// The requests of one writer; its number is stored in the rows that it inserts.
    pub(crate) fn requests(self, number: u32) -> Box<dyn Requests> {
        self.scenario().requests(number)
    }

    /// Whether the database is intact and has every acknowledged write, and no other.
    pub(crate) fn is_complete(
        self,
        database: &Path,
        shares: &[Share],
    ) -> Result<bool, Box<dyn Error>> {
        let connection = Connection::open(database)?;
        let check: String =
            connection.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0))?;
        Ok(check == "ok" && self.scenario().is_complete(&connection, shares)?)
    }

    /// What each transaction does, in a few words.
    pub(crate) fn summary(self) -> &'static str {
        self.scenario().summary()
    }

    /// The SQL and the sizes that the worker in Python needs.
    pub(crate) fn parts(self) -> serde_json::Value {
        self.scenario().parts()
    }

    /// Whether some of its requests only read.
    pub(crate) fn reads(self) -> bool {
        self == Self::Service
    }

    /// Whether a transaction can be a single statement.
    pub(crate) fn has_single_statements(self) -> bool {
        self != Self::Pages
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&names::name(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pause::Pause;
    use crate::peer::Peer;
    use crate::peer::access::Access;
    use crate::peer::client::Outcome;
    use crate::peer::setting::Setting;
    use crate::synchronous::Synchronous;
    use crate::task::Task;

    /// Sends some requests, and returns the number of acknowledged writes.
    fn send(workload: Workload, database: &Path) -> u64 {
        let setting = Setting {
            peer: Peer::SqliteAutocommit,
            task: Task::Workload(workload),
            sync: Synchronous::Normal,
            database: database.to_owned(),
            number: 0,
            threads: 1,
            timeout: Peer::SqliteAutocommit.timeout(),
            pause: Pause::NONE,
            by_closure: false,
            once: false,
        };
        let mut client = Access::open(&setting).unwrap().client().unwrap();
        let mut requests = workload.requests(setting.number);
        let outcomes = (0..50).map(|_| requests.send(&mut *client).unwrap());
        outcomes
            .filter(|outcome| *outcome == Outcome::Written)
            .count() as u64
    }

    #[test]
    fn a_missing_write_and_one_that_nobody_acknowledged_are_noticed() {
        for workload in Workload::value_variants() {
            let directory = tempfile::tempdir().unwrap();
            let database = directory.path().join("bench.db");
            workload.create(&database).unwrap();
            let acknowledged = send(*workload, &database);
            let is_complete = |acknowledged| is_complete(*workload, &database, acknowledged);
            assert!(is_complete(acknowledged), "{workload}");
            assert!(!is_complete(acknowledged - 1), "{workload}");
            assert!(!is_complete(acknowledged + 1), "{workload}");
        }
    }

    #[test]
    fn a_wrong_row_is_noticed_even_if_the_number_of_writes_is_right() {
        let damages = [
            (Workload::Insert, "UPDATE t SET worker = 1 WHERE id = 1"),
            (Workload::Pages, "DELETE FROM indexed WHERE id = 1"),
            (
                Workload::Random,
                "UPDATE large SET value = randomblob(380) WHERE updates > 0",
            ),
            (
                Workload::Service,
                "UPDATE article SET sold = sold + 1 WHERE id = 1",
            ),
        ];
        for (workload, damage) in damages {
            let directory = tempfile::tempdir().unwrap();
            let database = directory.path().join("bench.db");
            workload.create(&database).unwrap();
            let acknowledged = send(workload, &database);
            let connection = Connection::open(&database).unwrap();
            connection.execute_batch(damage).unwrap();
            assert!(
                !is_complete(workload, &database, acknowledged),
                "{workload}"
            );
        }
    }

    fn is_complete(workload: Workload, database: &Path, acknowledged: u64) -> bool {
        let share = Share {
            acknowledged,
            ..Share::default()
        };
        workload.is_complete(database, &[share]).unwrap()
    }
}
