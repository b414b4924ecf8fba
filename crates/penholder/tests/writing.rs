//! If a closure fails, panics or misuses its transaction, its own work is rolled back, its
//! own caller gets the error, and the next write works.
#![cfg(test)]

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use penholder::{Database, Error, OpenOptions, Result};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::{database_fixture, plain_sqlite, wait};
use rusqlite::{Connection, ErrorCode};

/// An application's own error.
#[derive(Debug)]
enum Failure {
    Own(&'static str),
    Database(Error),
    Sql(rusqlite::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// Asserts that the lock is free, that the table has these keys, and that writes work.
fn assert_next_write_works(db: &Database, keys: &[&str]) {
    // A write before that may have kept it for the next one.
    wait::until("the lock is free", || db.status().unwrap().holder.is_none());
    assert_eq!(database_fixture::keys(db), keys);
    database_fixture::insert(db, "next").unwrap();
    db.write(|tx| {
        tx.execute("DELETE FROM entry WHERE key = 'next'", [])
            .map_err(Error::from)
    })
    .unwrap();
    assert_eq!(database_fixture::keys(db), keys);
}

fn insert(connection: &Connection, key: &str) -> rusqlite::Result<usize> {
    connection.execute("INSERT INTO entry VALUES (?1)", [key])
}

#[test]
fn an_error_of_the_application_is_returned_and_rolls_back() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let done: Result<(), Failure> = db.try_write(|tx| {
        insert(tx, "no")?;
        Err(Failure::Own("changed my mind"))
    });
    assert!(matches!(done, Err(Failure::Own("changed my mind"))));
    assert_next_write_works(&db, &[]);
    let done: Result<(), Failure> = db.try_write(|tx| {
        insert(tx, "no")?;
        tx.execute("INSERT INTO missing VALUES (1)", [])?;
        Ok(())
    });
    let Err(Failure::Sql(error)) = done else {
        panic!("{done:?}");
    };
    assert!(error.to_string().contains("no such table"), "{error}");
    assert_next_write_works(&db, &[]);
    let done: Result<(), Failure> = db.try_with_write_lock(|connection| {
        connection.execute_batch("BEGIN; INSERT INTO entry VALUES ('no')")?;
        Err(Failure::Own("changed my mind"))
    });
    assert!(matches!(done, Err(Failure::Own(_))), "{done:?}");
    assert_next_write_works(&db, &[]);
}

#[test]
fn an_error_of_the_database_reaches_the_application() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let options = OpenOptions::new().read_only(true);
    let db = options.open(fixture.path()).unwrap();
    let done: Result<(), Failure> = db.try_write(|_| Ok(()));
    let Err(Failure::Database(error)) = done else {
        panic!("{done:?}");
    };
    assert!(error.to_string().contains("reading only"), "{error}");
}

#[test]
fn a_panic_rolls_back_and_poisons_nothing() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    database_fixture::insert(&db, "before").unwrap();
    let panics: [&dyn Fn(); 4] = [
        &|| {
            let _: Result<()> = db.write(|tx| {
                insert(tx, "no")?;
                panic!("on purpose");
            });
        },
        &|| {
            let _: Result<()> = db.with_write_lock(|connection| {
                connection.execute_batch("BEGIN; INSERT INTO entry VALUES ('no')")?;
                panic!("on purpose");
            });
        },
        &|| {
            let _: Result<()> = db.read(|connection| {
                connection.query_row("SELECT count(*) FROM entry", [], |_| Ok(()))?;
                panic!("on purpose");
            });
        },
        &|| {
            // In the middle of a statement.
            let _: Result<()> = db.write(|tx| {
                insert(tx, "no")?;
                tx.query_row("SELECT key FROM entry", [], |_| -> rusqlite::Result<()> {
                    panic!("on purpose")
                })?;
                Ok(())
            });
        },
    ];
    for panics in panics {
        // More often than there are reader connections, so that a lost one shows.
        for _ in 0..5 {
            let caught = catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
            assert_eq!(caught.downcast_ref(), Some(&"on purpose"));
            assert_next_write_works(&db, &["before"]);
        }
    }
}

#[test]
fn an_ended_transaction_is_reported() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    for sql in ["COMMIT", "END", "COMMIT; BEGIN; COMMIT", "COMMIT; BEGIN"] {
        let done = db.write(|tx| -> Result<()> {
            insert(tx, "first part")?;
            tx.execute_batch(sql)?;
            insert(tx, "second part")?;
            Ok(())
        });
        let text = done.unwrap_err().to_string();
        assert!(text.contains("leave COMMIT out"), "{sql}: {text}");
        assert_next_write_works(&db, &[]);
    }
    db.execute("COMMIT", ()).unwrap_err();
    db.execute("ROLLBACK", ()).unwrap_err();
    let batch = ["INSERT INTO entry VALUES ('no')", "ROLLBACK"];
    db.batch(batch).unwrap_err();
    assert_next_write_works(&db, &[]);
}

/// Also if the closure ignores the error, ends the transaction in another way, or begins
/// another transaction, which would commit only its last part.
#[test]
fn a_restarted_transaction_is_reported() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    for sql in ["COMMIT", "ROLLBACK", "ROLLBACK; BEGIN IMMEDIATE"] {
        let done = db.write(|tx| -> Result<()> {
            insert(tx, "first part")?;
            let _ = tx.execute_batch(sql);
            let _ = insert(tx, "second part");
            Ok(())
        });
        let error = done.expect_err(sql);
        let text = error.to_string();
        assert!(text.contains("ended before its time"), "{sql}: {text}");
        assert!(error.sqlite_error().is_none() && error.lock_error().is_none());
        assert_next_write_works(&db, &[]);
    }
}

/// A closure may use savepoints of its own.
#[test]
fn savepoints_in_a_closure_work() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    db.write(|tx| -> Result<()> {
        insert(tx, "kept")?;
        tx.execute_batch("SAVEPOINT inner")?;
        insert(tx, "rolled back")?;
        tx.execute_batch("ROLLBACK TO inner; RELEASE inner")?;
        Ok(())
    })
    .unwrap();
    assert_next_write_works(&db, &["kept"]);
}

#[test]
fn a_rollback_by_sqlite_is_reported() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    db.execute("CREATE TABLE single(a UNIQUE)", ()).unwrap();
    db.execute("INSERT INTO single VALUES (1)", ()).unwrap();
    let done = db.write(|tx| -> Result<()> {
        insert(tx, "no")?;
        // Rolls back everything, and the closure ignores the error.
        let _ = tx.execute("INSERT OR ROLLBACK INTO single VALUES (1)", []);
        Ok(())
    });
    let error = done.unwrap_err();
    assert!(error.to_string().contains("SQLite"), "{error}");
    assert_next_write_works(&db, &[]);
}

#[test]
fn an_open_transaction_is_rolled_back_and_reported() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let done = db.with_write_lock(|connection| -> Result<()> {
        connection.execute_batch("BEGIN; INSERT INTO entry VALUES ('no')")?;
        Ok(())
    });
    let error = done.unwrap_err();
    assert!(
        error.to_string().contains("left a transaction open"),
        "{error}"
    );
    assert_next_write_works(&db, &[]);
    let done = db.with_write_lock(|connection| -> Result<()> {
        connection.execute_batch("SAVEPOINT s; INSERT INTO entry VALUES ('no')")?;
        Ok(())
    });
    done.unwrap_err();
    assert_next_write_works(&db, &[]);
}

#[test]
fn several_transactions_run_under_one_lock() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let done = db.with_write_lock(|connection| -> Result<u32> {
        for key in ["1", "2"] {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            insert(connection, key)?;
            connection.execute_batch("COMMIT")?;
            assert!(db.status()?.holder.unwrap().is_this_process());
        }
        insert(connection, "3")?;
        connection.execute_batch("VACUUM")?;
        Ok(3)
    });
    assert_eq!(done.unwrap(), 3);
    assert_next_write_works(&db, &["1", "2", "3"]);
}

#[test]
fn a_closure_may_borrow_and_return_references() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let keys = [String::from("a"), String::from("b")];
    let mut seen = Vec::new();
    let longest = db.write(|tx| -> Result<&str> {
        for key in &keys {
            insert(tx, key)?;
            seen.push(tx.last_insert_rowid());
        }
        Ok(keys[1].as_str())
    });
    assert_eq!(longest.unwrap(), "b");
    assert_eq!(seen, [1, 2]);
    assert_next_write_works(&db, &["a", "b"]);
}

#[test]
fn uncommitted_rows_are_not_seen() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let other = database_fixture::open(&fixture.path());
    let seen = db.write(|tx| -> Result<(i64, i64)> {
        insert(tx, "1")?;
        Ok((
            database_fixture::count_entries(&db),
            database_fixture::count_entries(&other),
        ))
    });
    assert_eq!(seen.unwrap(), (0, 0));
    assert_eq!(
        (
            database_fixture::count_entries(&db),
            database_fixture::count_entries(&other)
        ),
        (1, 1)
    );
}

/// Asserts that every nested write is an error at once.
fn assert_nested(inner: &Database) {
    let ways: [&dyn Fn() -> Result<()>; 6] = [
        &|| database_fixture::insert(inner, "no"),
        &|| inner.batch(["INSERT INTO entry VALUES ('no')"]).map(drop),
        &|| inner.write(|_| Ok(())),
        &|| inner.with_write_lock(|_| Ok(())),
        &|| inner.checkpoint().map(drop),
        &|| inner.vacuum(),
    ];
    for way in ways {
        let (done, took) = wait::timed(way);
        let error = done.unwrap_err();
        assert!(error.lock_error().unwrap().is_nested(), "{error}");
        assert!(
            !error.is_timeout() && took < database_fixture::PROMPT,
            "{took:?}"
        );
    }
}

#[test]
fn a_nested_write_is_an_error_at_once() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let options = OpenOptions::new().timeout(database_fixture::ENDLESS_TIMEOUT);
    let db = options.clone().open(fixture.path()).unwrap();
    let second = options.open(fixture.path()).unwrap();
    for inner in [&db, &db.clone(), &second] {
        let done = db.write(|tx| -> Result<()> {
            insert(tx, "outer")?;
            assert_nested(inner);
            Ok(())
        });
        done.unwrap();
        let done = db.with_write_lock(|connection| -> Result<()> {
            assert_nested(inner);
            insert(connection, "outer")?;
            Ok(())
        });
        done.unwrap();
    }
    assert_next_write_works(&db, &["outer"; 6]);
}

#[test]
fn a_write_in_another_directory_is_not_nested() {
    let (fixture, elsewhere) = (DatabaseFixture::new(), DatabaseFixture::new());
    let (db, other) = (fixture.database(), elsewhere.database());
    let done = db.write(|tx| -> Result<()> {
        insert(tx, "here")?;
        database_fixture::insert(&other, "there")
    });
    done.unwrap();
    assert_eq!(database_fixture::keys(&db), ["here"]);
    assert_eq!(database_fixture::keys(&other), ["there"]);
}

#[test]
fn a_failed_commit_is_an_error_and_rolls_back() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let foreign_keys = |connection: &Connection| -> Result<()> {
        connection.pragma_update(None, "foreign_keys", true)?;
        Ok(())
    };
    db.with_write_lock(foreign_keys).unwrap();
    db.batch([
        "CREATE TABLE parent(id INTEGER PRIMARY KEY)",
        "CREATE TABLE child(of REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
    ])
    .unwrap();
    let done = db.write(|tx| -> Result<()> {
        insert(tx, "no")?;
        tx.execute("INSERT INTO child VALUES (7)", [])?;
        Ok(())
    });
    let error = done.unwrap_err();
    let code = error
        .sqlite_error()
        .and_then(rusqlite::Error::sqlite_error_code);
    assert_eq!(code, Some(ErrorCode::ConstraintViolation), "{error}");
    assert!(error.to_string().starts_with("commit: "), "{error}");
    assert_next_write_works(&db, &[]);
    let error = db.batch([
        "INSERT INTO entry VALUES ('no')",
        "INSERT INTO child VALUES (7)",
    ]);
    assert!(error.unwrap_err().sqlite_error().is_some());
    db.execute("INSERT INTO child VALUES (7)", ()).unwrap_err();
    assert_eq!(
        database_fixture::number(&db, "SELECT count(*) FROM child"),
        0
    );
    assert_next_write_works(&db, &[]);
    plain_sqlite::assert_integrity(Path::new(db.path()));
}
