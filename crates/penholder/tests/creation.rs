//! Proves that a database is created with its first content or not at all, and that what another
//! program puts in its place meanwhile is left as it is.
#![cfg(test)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use penholder::rusqlite::Connection;
use penholder::{Database, Error, OpenOptions};

/// What is in the directory but for the lock file.
fn others(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with("db.lock")).collect();
    names.sort();
    names
}

fn create_table(db: &Database) -> penholder::Result<u64> {
    Ok(db
        .execute("CREATE TABLE t AS SELECT 7 AS a", ())?
        .rows_changed)
}

#[test]
fn a_database_appears_complete() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.db");
    let done = OpenOptions::new().create_with(&path, |db, _| {
        create_table(db)?;
        assert!(!path.exists(), "before it is complete");
        db.query_scalar::<i64>("SELECT a FROM t", ())
    });
    assert_eq!(done.unwrap(), Some(7));
    assert_eq!(others(directory.path()), ["x.db"]);
    let db = Database::open(&path).unwrap();
    assert_eq!(db.query_scalar::<i64>("SELECT a FROM t", ()).unwrap(), 7);
    let mode: String = db
        .query_scalar("SELECT * FROM pragma_journal_mode", ())
        .unwrap();
    assert_eq!(mode, "wal");
}

#[test]
fn an_error_or_a_panic_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.db");
    let failed = OpenOptions::new().create_with(&path, |db, _| {
        create_table(db)?;
        db.execute("INSERT INTO nowhere VALUES (1)", ())
    });
    assert!(failed.unwrap_err().to_string().contains("nowhere"));
    assert_eq!(others(directory.path()), [""; 0]);
    let panicked = std::panic::catch_unwind(|| {
        OpenOptions::new().create_with(&path, |db, _| -> Result<(), Error> {
            create_table(db)?;
            panic!("on purpose")
        })
    });
    assert!(panicked.is_err());
    assert_eq!(others(directory.path()), [""; 0]);
}

#[test]
fn a_database_that_exists_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.db");
    for name in ["x.db", "x.db-wal", "x.db-journal"] {
        let file = directory.path().join(name);
        fs::write(&file, b"").unwrap();
        let done = OpenOptions::new().create_with(&path, |_, _| -> Result<(), Error> {
            panic!("there is a {name}")
        });
        assert_eq!(done.unwrap(), None);
        fs::remove_file(file).unwrap();
    }
}

/// A program without the lock may create the database at any moment.
#[test]
fn what_another_program_creates_meanwhile_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.db");
    let mut other = None;
    let done = OpenOptions::new().create_with(&path, |db, _| {
        let connection = Connection::open(&path)?;
        connection.execute_batch("CREATE TABLE theirs(a); BEGIN IMMEDIATE")?;
        other = Some(connection);
        create_table(db)
    });
    assert_eq!(done.unwrap(), None);
    let other = other.unwrap();
    other
        .execute_batch("INSERT INTO theirs VALUES (1); COMMIT")
        .unwrap();
    assert_eq!(others(directory.path()), ["x.db"]);
    let db = Database::open(&path).unwrap();
    let tables = "SELECT group_concat(name) FROM sqlite_schema";
    assert_eq!(db.query_scalar::<String>(tables, ()).unwrap(), "theirs");
}

#[test]
fn the_lock_is_held_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.db");
    let options = || OpenOptions::new().timeout(Duration::from_millis(50));
    let done = options().create_with(&path, |db, _| {
        let other = std::thread::scope(|scope| {
            let create = || options().create_with(&path, |db, _| create_table(db));
            scope.spawn(create).join().unwrap()
        });
        assert!(other.unwrap_err().is_timeout());
        create_table(db)
    });
    assert!(done.unwrap().is_some());
}
