//! Programs of several kinds that load the library, and others, on the same databases.
#![cfg(target_os = "linux")]
#![cfg(test)]

mod deadlocks;
mod events;
mod host;
mod semantics;
mod workload;

use std::path::{Path, PathBuf};

use penholder_testkit::peer;
use rusqlite::Connection;
use tempfile::TempDir;

#[test]
fn peer() {
    peer::run_role(&host::ROLES);
}

/// A directory with databases.
struct Fixture {
    directory: TempDir,
}

impl Fixture {
    /// Makes the databases `a.db` and `b.db` in this journal mode, by a program without the library.
    fn new(journal: &str) -> Self {
        let fixture = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        fixture.add("a.db", journal);
        fixture.add("b.db", journal);
        fixture
    }

    fn add(&self, name: &str, journal: &str) {
        let connection = plain(&self.path(name));
        let mode: String = connection
            .pragma_update_and_check(None, "journal_mode", journal, |row| row.get(0))
            .unwrap();
        assert!(mode.eq_ignore_ascii_case(journal), "{mode}");
        connection
            .execute_batch(
                "CREATE TABLE log (id INTEGER, part INTEGER, filler BLOB);
                 CREATE TABLE tally (n INTEGER);
                 INSERT INTO tally VALUES (0);
                 CREATE TRIGGER counted AFTER INSERT ON log BEGIN
                 UPDATE tally SET n = n + 1; END",
            )
            .unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn a(&self) -> PathBuf {
        self.path("a.db")
    }

    fn b(&self) -> PathBuf {
        self.path("b.db")
    }

    /// Asserts that a database is whole; returns how often each number is in it.
    #[track_caller]
    fn check(&self, name: &str) -> std::collections::BTreeMap<i64, i64> {
        let connection = plain(&self.path(name));
        let verdict: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(verdict, "ok", "{name}");
        let difference = "SELECT (SELECT count(*) FROM log) - (SELECT n FROM tally)";
        let difference: i64 = connection
            .query_row(difference, [], |row| row.get(0))
            .unwrap();
        assert_eq!(difference, 0, "{name}: half a transaction");
        let mut select = connection
            .prepare("SELECT id, count(*) FROM log GROUP BY id")
            .unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.unwrap().map(Result::unwrap).collect()
    }
}

/// Opens a connection without the library, which this process never loads.
fn plain(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .busy_timeout(penholder_testkit::wait::LIMIT)
        .unwrap();
    connection
}
