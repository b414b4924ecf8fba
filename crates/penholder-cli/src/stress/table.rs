//! The table that `penholder stress` writes to. Its rows have the number of the run, so
//! that runs on one database do not mix.

use penholder::Database;
use penholder::rusqlite::Connection;
use penholder_core::{one_line, shown_path};

use crate::args::Target;
use crate::failure::{FAILED, Failure};

pub(super) const CREATE: &str = "\
    CREATE TABLE IF NOT EXISTS penholder_stress(
        run INTEGER NOT NULL,
        process INTEGER NOT NULL,
        number INTEGER NOT NULL,
        text TEXT NOT NULL,
        PRIMARY KEY (run, process, number)
    ) WITHOUT ROWID";
pub(super) const INSERT: &str = "INSERT INTO penholder_stress VALUES (?1, ?2, ?3, ?4)";
pub(super) const TEXT: &str = "a row of some forty bytes, as they are";

pub(super) fn create(db: &Database) -> penholder::Result<()> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE name = 'penholder_stress'";
    if db.query(sql, ())?.is_empty() {
        db.execute(CREATE, ())?;
    }
    Ok(())
}

/// Counts the rows of one run.
pub(super) fn count(connection: &Connection, run: i64) -> penholder::Result<i64> {
    let sql = "SELECT count(*) FROM penholder_stress WHERE run = ?1";
    Ok(connection.query_row(sql, [run], |row| row.get(0))?)
}

/// Checks the database. Returns `ok`, or what is wrong.
pub(super) fn integrity(connection: &Connection) -> penholder::Result<String> {
    Ok(connection.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0))?)
}

/// Refuses a database that has other tables.
pub(super) fn refuse_foreign(target: &Target) -> Result<(), Failure> {
    let path = &target.db;
    if !path.exists() {
        return Ok(());
    }
    let db = target.options().read_only(true).open(path)?;
    // The second table is that of group commit for combined writes.
    let sql = "SELECT name FROM sqlite_schema \
               WHERE tbl_name NOT IN ('penholder_stress', '_penholder_batch') LIMIT 1";
    let Some(name) = db.query_optional(sql, (), |row| row.get::<String>(0))? else {
        return Ok(());
    };
    let message = format!(
        "stress: {}: the database has other tables (for example {}): choose another file, or \
         give --force to add a table penholder_stress to it",
        shown_path(path),
        one_line(name)
    );
    Err(Failure::new(message, FAILED))
}
