//! Errors have a kind, say which statement or step failed, and are printed once.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "a test prints its own paths")]

use std::sync::Arc;
use std::time::Duration;

use penholder::{Database, Error, ErrorKind, OpenOptions, Query, Result};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::{database_fixture, peer};

#[test]
fn peer() {
    peer::run_role(&[("hold_transaction", database_fixture::hold_transaction)]);
}

fn short(fixture: &DatabaseFixture) -> Database {
    let options = OpenOptions::new().timeout(Duration::from_millis(20));
    options.open(fixture.path()).unwrap()
}

fn timeout() -> Error {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let _holder = database_fixture::start_holder("hold_transaction", &fixture.path());
    database_fixture::insert(&short(&fixture), "no").unwrap_err()
}

fn constraint() -> Error {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    db.execute("CREATE UNIQUE INDEX once ON entry(key)", [])
        .unwrap();
    let twice = "INSERT INTO entry VALUES ('a'), ('a')";
    db.execute(twice, []).unwrap_err()
}

#[test]
fn errors_have_a_kind() {
    assert_eq!(timeout().kind(), ErrorKind::Timeout);
    let error = constraint();
    assert_eq!(error.kind(), ErrorKind::ConstraintViolation);
    assert!(error.is_constraint_violation() && !error.is_nested());
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let nested = db
        .write(|_| database_fixture::insert(&db, "no"))
        .unwrap_err();
    assert_eq!(nested.kind(), ErrorKind::Nested, "{nested}");
    assert!(nested.is_nested());
    let sql = db.execute("SELEC", []).unwrap_err();
    assert_eq!(sql.kind(), ErrorKind::Sqlite, "{sql}");
    let refused = Database::open(":memory:").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    let ended = db
        .write(|tx| Ok(tx.execute_batch("ROLLBACK")?))
        .unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Misuse, "{ended}");
}

#[test]
fn reports_print_each_error_once() {
    for (error, words) in [
        (timeout(), "write lock timeout after 20ms"),
        (timeout(), "holder: pid:"),
        (constraint(), "UNIQUE constraint failed"),
        (Database::open("/nowhere/x.db").unwrap_err(), "/nowhere"),
    ] {
        let expected = error.to_string().matches(words).count();
        let first = |text: &str| text.matches(words).count();
        let error = Arc::new(error);
        let report = format!("{:?}", eyre::Report::new(Arc::clone(&error)));
        assert_eq!(first(&report), expected, "{report}");
        let report = format!("{:#}", anyhow::Error::new(error));
        assert_eq!(first(&report), expected, "{report}");
    }
}

/// `main` and `unwrap` print the `Debug` form.
#[test]
fn the_debug_form_is_the_text() {
    let error = timeout();
    assert_eq!(format!("{error:?}"), error.to_string());
    assert!(format!("{error:#?}").contains("Lock("), "{error:#?}");
    let lock = error.lock_error().unwrap();
    assert_eq!(format!("{lock:?}"), lock.to_string());
}

#[test]
fn an_error_of_a_closure_says_where() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let path = fixture.path().display().to_string();
    let missing = "INSERT INTO missing VALUES (1)";
    for error in [
        db.write(|tx| Ok(tx.execute(missing, [])?)).unwrap_err(),
        db.with_write_lock(|connection| Ok(connection.execute(missing, [])?))
            .unwrap_err(),
        db.read(|connection| Ok(connection.prepare(missing).map(drop)?))
            .unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(
            text.contains(&path) && text.contains("no such table"),
            "{text}"
        );
    }
}

#[test]
fn an_error_of_a_batch_names_the_statement() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let insert = |key: &str| Query::new("INSERT INTO\n  entry VALUES (?1)", [key]);
    let error = db
        .batch([
            insert("a"),
            Query::from("INSERT INTO missing VALUES (1)"),
            insert("b"),
        ])
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("statement 2 of 3 (`INSERT INTO missing VALUES (1)`)"),
        "{text}"
    );
    assert!(text.contains("no such table: missing"), "{text}");
    let too_many = Query::new("INSERT INTO\n  entry VALUES (?1)", [1, 2]);
    let text = db.batch([insert("a"), too_many]).unwrap_err().to_string();
    assert!(
        text.contains("statement 2 of 2 (`INSERT INTO entry VALUES (?1)`)"),
        "{text}"
    );
    assert_eq!(database_fixture::count_entries(&db), 0);
    let hidden = database_fixture::options().record_sql(false);
    let hidden = hidden.open(fixture.path()).unwrap();
    let secret = Query::from("INSERT INTO secret VALUES (1)");
    let text = hidden.batch([insert("a"), secret]).unwrap_err().to_string();
    assert!(
        text.contains("statement 2 of 2: ") && !text.contains("secret"),
        "{text}"
    );
}

#[test]
fn an_error_of_a_migration_names_the_step() {
    let fixture = DatabaseFixture::new();
    let db = database_fixture::open(&fixture.path());
    let steps = ["CREATE TABLE a(a)", "CREATE TABLE b(b); CREATE TABLE a(a)"];
    let text = db.migrate(&steps).unwrap_err().to_string();
    assert!(
        text.contains("step 2 of 2 (`CREATE TABLE b(b); CREATE TABLE a(a)`)"),
        "{text}"
    );
    assert!(text.contains("table a already exists"), "{text}");
    assert_eq!(db.migrate(&steps[..1]).unwrap().from, 1);
    let deferred = "PRAGMA foreign_keys = ON; CREATE TABLE owner(id INTEGER PRIMARY KEY);
        CREATE TABLE part(owner REFERENCES owner DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO part VALUES (7)";
    db.with_write_lock(|connection| Ok(connection.execute_batch("PRAGMA foreign_keys = ON")?))
        .unwrap();
    let text = db.migrate(&[steps[0], deferred]).unwrap_err().to_string();
    assert!(
        text.contains("step 2 of 2") && text.contains("FOREIGN KEY"),
        "{text}"
    );
}

#[test]
fn a_closure_keeps_its_error_type() {
    #[derive(Debug, PartialEq)]
    enum Own {
        SoldOut,
        Database,
    }
    impl From<Error> for Own {
        fn from(_: Error) -> Self {
            Self::Database
        }
    }
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let sold_out = || -> Result<(), Own> { Err(Own::SoldOut) };
    assert_eq!(db.try_write(|_| sold_out()), Err(Own::SoldOut));
    let spelled_out = db.try_write::<(), Own>(|_| Err(Own::SoldOut));
    assert_eq!(spelled_out, Err(Own::SoldOut));
    assert_eq!(db.try_read(|_| sold_out()), Err(Own::SoldOut));
    assert_eq!(db.try_with_write_lock(|_| sold_out()), Err(Own::SoldOut));
    let nested = db.try_write(|_| Ok::<_, Own>(db.try_write(|_| sold_out())));
    assert_eq!(nested, Ok(Err(Own::Database)));
}

/// An `Rc` is not `Send`, and this needs no `Send`.
#[test]
fn a_closure_under_the_lock_may_use_what_belongs_to_its_thread() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let key = std::rc::Rc::new("mine".to_owned());
    let kept = db.with_write_lock(|connection| {
        connection.execute("INSERT INTO entry VALUES (?1)", [key.as_str()])?;
        Ok(std::rc::Rc::clone(&key))
    });
    assert_eq!(*kept.unwrap(), "mine");
}
