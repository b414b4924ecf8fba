//! A program may examine a database that it has open itself: it keeps SQLite's locks, and
//! reading and writing go on.
#![cfg(test)]

use std::time::Duration;

use penholder::doctor::{Check, Doctor, Report, Severity};
#[cfg(unix)]
use penholder::lock::Process;
use penholder::{Database, OpenOptions, Synchronous};
#[cfg(unix)]
use penholder_testkit::{portable, requirement};
use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

fn severity(report: &Report, check: Check) -> Severity {
    let findings = report.findings.iter().filter(|one| one.check == check);
    findings.map(|one| one.severity).max().unwrap()
}

/// It looks at locks that only Unix has.
#[cfg(unix)]
#[test]
fn a_program_may_examine_a_database_that_it_has_open() {
    if !requirement::names_holders() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = portable::canonical(directory.path()).join("x.db");
    let db = Database::open(&path).unwrap();
    db.execute("CREATE TABLE t(a)", ()).unwrap();
    let doctor = Doctor::new(OpenOptions::new()).integrity(true);
    let shm = path.with_file_name("x.db-shm");
    // The byte that shows that a process has the database open in WAL mode.
    let own = || Process::with_shared_posix_lock(&shm, &(128..=128));
    assert_eq!(own().len(), 1);
    let report = db.write(|tx| -> penholder::Result<Report> {
        tx.execute("INSERT INTO t VALUES (1)", [])?;
        let report = doctor.examine(&path)?;
        let writer = Process::with_posix_lock(&shm, 120).unwrap();
        assert_eq!(writer.pid, std::process::id(), "SQLite's lock is kept");
        Ok(report)
    });
    let report = report.unwrap();
    assert_eq!(severity(&report, Check::UnlockedWriters), Severity::Ok);
    assert_eq!(severity(&report, Check::Integrity), Severity::Ok);
    assert_eq!(own().len(), 1, "SQLite's locks are kept");
    db.execute("INSERT INTO t VALUES (2)", ()).unwrap();
    let rows: i64 = db.query_scalar("SELECT count(*) FROM t", ()).unwrap();
    assert_eq!(rows, 2);
}

/// Only the program defines what the schema uses. That is no damage.
#[test]
fn what_only_the_program_defines_is_no_fault() {
    let collation = |c: &Connection| c.create_collation("reversed", |a, b| b.cmp(a));
    let function = |c: &Connection| {
        let flags = FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_UTF8;
        c.create_scalar_function("twice", 1, flags, |c| Ok(c.get::<i64>(0)? * 2))
    };
    type Definition<'a> = &'a dyn Fn(&Connection) -> rusqlite::Result<()>;
    let definitions: [Definition<'_>; 2] = [&collation, &function];
    let schemas = [
        "CREATE TABLE t(a COLLATE reversed PRIMARY KEY)",
        "CREATE TABLE t(a); CREATE INDEX i ON t(twice(a))",
    ];
    for (define, schema) in definitions.into_iter().zip(schemas) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let connection = Connection::open(&path).unwrap();
        define(&connection).unwrap();
        connection.execute_batch(schema).unwrap();
        connection
            .execute("INSERT INTO t VALUES (1), (2)", [])
            .unwrap();
        let doctor = Doctor::new(OpenOptions::new()).integrity(true);
        let report = doctor.examine(&path).unwrap();
        assert_eq!(severity(&report, Check::Integrity), Severity::Info);
        let text = format!("{report:?}");
        assert!(text.contains("not checked"), "{text}");
        assert!(!text.contains("restore a backup"), "{text}");
        let error = Database::open(&path).unwrap().vacuum().unwrap_err();
        assert!(error.to_string().contains("connection_hook"), "{error}");
    }
}

#[test]
fn a_path_that_cannot_be_examined_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let doctor = Doctor::new(OpenOptions::new());
    for name in ["missing.db", ".", "nowhere/x.db"] {
        let error = doctor.examine(directory.path().join(name)).unwrap_err();
        assert!(error.is_refused(), "{error}");
    }
    let text = directory.path().join("text");
    std::fs::write(&text, "Dear reader, this is text and no database at all.").unwrap();
    let error = doctor.examine(&text).unwrap_err();
    assert!(error.to_string().contains("not a database"), "{error}");
}

#[test]
fn settings_are_those_of_an_opening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.db");
    drop(Database::open(&path).unwrap());
    let found = |options: OpenOptions, check| {
        let report = Doctor::new(options).examine(&path).unwrap();
        let finding = report.findings.into_iter().find(|one| one.check == check);
        finding.unwrap()
    };
    let full = OpenOptions::new().synchronous(Synchronous::Full);
    let finding = found(full, Check::Synchronous);
    assert!(finding.finding.contains("with FULL (2)"), "{finding:?}");
    let finding = found(OpenOptions::new(), Check::Synchronous);
    assert!(finding.finding.contains("with NORMAL (1)"), "{finding:?}");
    let finding = found(OpenOptions::new(), Check::BusyTimeout);
    assert_eq!(finding.finding, "penholder waits 500 ms for SQLite's locks");
    let none = OpenOptions::new().timeout(Duration::ZERO);
    assert_eq!(found(none, Check::BusyTimeout).severity, Severity::Warning);
}
