//! Proves that examining a database harms no program that has it open itself: SQLite's
//! locks stay, work goes on, and what is examined is what others have open.
#![cfg(test)]

use penholder::lock::Process;
use penholder::{Check, Database, Doctor, Options, Report, Severity};

fn severity(report: &Report, check: Check) -> Severity {
    let findings = report.findings.iter().filter(|one| one.check == check);
    findings.map(|one| one.severity).max().unwrap()
}

#[test]
fn a_program_may_examine_what_it_has_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap().join("x.db");
    let db = Database::open(&path).unwrap();
    db.execute("CREATE TABLE t(a)", ()).unwrap();
    let doctor = Doctor::new(Options::new()).integrity(true);
    let shm = path.with_file_name("x.db-shm");
    // The byte that says that somebody has the database open in WAL mode.
    let own = || Process::with_shared_posix_lock(&shm, &(128..=128));
    assert_eq!(own().len(), 1);
    let report = db.write(|tx| -> penholder::Result<Report> {
        tx.execute("INSERT INTO t VALUES (1)", [])?;
        let report = doctor.examine(&path)?;
        let writer = Process::with_posix_lock(&shm, 120).unwrap();
        assert_eq!(writer.pid, std::process::id(), "SQLite's lock stays");
        Ok(report)
    });
    let report = report.unwrap();
    assert_eq!(severity(&report, Check::Outsiders), Severity::Ok);
    assert_eq!(severity(&report, Check::Integrity), Severity::Ok);
    assert_eq!(own().len(), 1, "SQLite's locks stay");
    db.execute("INSERT INTO t VALUES (2)", ()).unwrap();
    let rows: i64 = db
        .query("SELECT count(*) AS n FROM t", ())
        .unwrap()
        .get(0, "n")
        .unwrap();
    assert_eq!(rows, 2);
}

#[test]
fn what_cannot_be_examined_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let doctor = Doctor::new(Options::new());
    for name in ["missing.db", ".", "nowhere/x.db"] {
        let error = doctor.examine(directory.path().join(name)).unwrap_err();
        assert!(error.is_refused(), "{error}");
    }
    let text = directory.path().join("text");
    std::fs::write(&text, "Dear reader, this is text and no database at all.").unwrap();
    let error = doctor.examine(&text).unwrap_err();
    assert!(error.to_string().contains("not a database"), "{error}");
}
