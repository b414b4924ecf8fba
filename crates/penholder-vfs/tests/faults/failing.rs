//! Each call of each method fails once, or from then on: a commit that is reported as failed
//! never arrives, nothing that is acknowledged is lost, and the next commit works.

use std::collections::BTreeSet;
use std::{fs, iter};

use penholder_testkit::lease_fixture::{LeaseFixture, open_with, or_busy, row_of};
use rusqlite::{Connection, ffi};

use crate::layer::{self, Call, Done, Fault};
use crate::{Setup, Writer, fixture, gates, setup, sqlite_alone, thoroughness, transaction};

/// The transactions of a run, without those of the second writer.
const TRANSACTIONS: u32 = 12;

const FAULTS: [(Call, i32, Done); 18] = [
    (Call::Read, ffi::SQLITE_IOERR_READ, Done::Nothing),
    (Call::Write, ffi::SQLITE_IOERR_WRITE, Done::Nothing),
    (Call::Write, ffi::SQLITE_IOERR_WRITE, Done::All),
    (Call::Write, ffi::SQLITE_FULL, Done::Nothing),
    (Call::Write, ffi::SQLITE_FULL, Done::Half),
    (Call::Truncate, ffi::SQLITE_IOERR_TRUNCATE, Done::Nothing),
    (Call::Sync, ffi::SQLITE_IOERR_FSYNC, Done::Nothing),
    (Call::FileSize, ffi::SQLITE_IOERR_FSTAT, Done::Nothing),
    (Call::Lock, ffi::SQLITE_IOERR_LOCK, Done::Nothing),
    (Call::Unlock, ffi::SQLITE_IOERR_UNLOCK, Done::Nothing),
    (Call::FileControl, ffi::SQLITE_IOERR, Done::Nothing),
    (Call::ShmMap, ffi::SQLITE_IOERR_SHMMAP, Done::Nothing),
    (Call::ShmLock, ffi::SQLITE_IOERR_SHMLOCK, Done::Nothing),
    (Call::ShmLock, ffi::SQLITE_BUSY, Done::Nothing),
    (Call::ShmUnlock, ffi::SQLITE_IOERR_SHMLOCK, Done::Nothing),
    (Call::Open, ffi::SQLITE_CANTOPEN, Done::Nothing),
    (Call::Delete, ffi::SQLITE_IOERR_DELETE, Done::Nothing),
    (Call::Access, ffi::SQLITE_IOERR_ACCESS, Done::Nothing),
];

/// What the writers were told.
#[derive(Debug, Default)]
struct Told {
    acknowledged: BTreeSet<u32>,
    failed: BTreeSet<u32>,
    /// Errors in steps in which no call failed, after one in which one did.
    late_errors: Vec<String>,
    is_last_acknowledged: bool,
}

impl Told {
    fn note(&mut self, id: u32, failed_before: u32, result: rusqlite::Result<()>) {
        self.is_last_acknowledged = result.is_ok();
        match result {
            Ok(()) => {
                self.acknowledged.insert(id);
            }
            Err(error) => {
                self.failed.insert(id);
                if layer::failed() == failed_before {
                    self.late_errors.push(format!("{id}: {error}"));
                }
            }
        }
    }
}

/// Writes with two connections, checkpoints, and closes.
fn run(fixture: &LeaseFixture, setup: Setup, check: impl FnOnce(&Told, [&Writer; 2])) -> Told {
    let mut told = Told::default();
    let open = || Writer::open(&fixture.path(), setup);
    let (Ok(a), Ok(b)) = (open(), open()) else {
        return told;
    };
    for id in 1..=TRANSACTIONS {
        if setup.has_leases {
            a.begin_lease();
        }
        let failed = layer::failed();
        told.note(id, failed, a.run(&transaction(id)));
        match id {
            3 => drop(row_of(&a.connection, "PRAGMA wal_checkpoint(PASSIVE)")),
            5 => {
                // Ends the lease.
                let failed = layer::failed();
                told.note(100, failed, b.run(&transaction(100)));
            }
            7 => a.end_lease(),
            8 => drop(row_of(&b.connection, "PRAGMA wal_checkpoint(TRUNCATE)")),
            10 => drop(row_of(&a.connection, "SELECT sum(length(x)) FROM big")),
            _ => {}
        }
    }
    check(&told, [&a, &b]);
    told
}

/// Lets calls fail, and checks what is there afterwards. Returns whether there were so many calls.
fn try_fault(setup: Setup, fault: Fault) -> bool {
    let context = format!("{setup:?}, {fault:?}");
    let fixture = fixture();
    if !setup.is_wal {
        let switched = row_of(&fixture.open_plain(), "PRAGMA journal_mode = DELETE");
        assert_eq!(switched.as_deref(), Ok("delete"));
    }
    layer::fail(fault);
    // A commit may be complete on the disk although it is reported as failed. SQLite writes over
    // it in the next transaction, but finds it if it must recover before.
    let may_arrive = fault.call == Call::Sync || fault.done == Done::All;
    let told = run(&fixture, setup, |told, writers| {
        if layer::failed() == 0 || fault.lasts {
            return;
        }
        layer::heal();
        writers[0].end_lease();
        if told.is_last_acknowledged {
            check_recovery(&fixture, told, &context);
        }
        // SQLite alone would never release a lock whose release has failed.
        if setup.vfs.is_some() || fault.call != Call::ShmUnlock {
            let plain = fixture.open_plain();
            if setup.has_gates {
                // A lease ends by itself.
                plain.busy_timeout(gates::SOON).unwrap();
            }
            let begun = or_busy(row_of(&plain, "BEGIN IMMEDIATE"));
            assert_eq!(begun, "ok", "{context}");
        }
    });
    let has_failed = layer::heal() > 0 || !told.failed.is_empty();
    if !fault.lasts && (setup.vfs.is_some() || fault.call != Call::ShmUnlock) {
        assert!(told.late_errors.is_empty(), "{context}: {told:?}");
    }
    if setup.has_gates {
        gates::check_lock_is_free(&fixture, &context);
    }
    let plain = fixture.open_plain();
    let ids = check(&plain, &context);
    let arrived: Vec<_> = ids.difference(&told.acknowledged).collect();
    let is_lost = !told.acknowledged.is_subset(&ids);
    assert!(!is_lost, "{context}: lost: {told:?}, {ids:?}");
    let is_allowed = arrived.is_empty() || may_arrive && fault.lasts && arrived.len() == 1;
    assert!(is_allowed, "{context}: arrived: {told:?}, {ids:?}");
    has_failed
}

/// Checks what would be there if every process died now.
fn check_recovery(fixture: &LeaseFixture, told: &Told, context: &str) {
    let copy = tempfile::tempdir().unwrap();
    let target = copy.path().join("copy.db");
    fs::copy(fixture.path(), &target).unwrap();
    for kind in ["wal", "journal"] {
        let beside = fixture.other_path(&format!("lease.db-{kind}"));
        if beside.exists() {
            fs::copy(beside, copy.path().join(format!("copy.db-{kind}"))).unwrap();
        }
    }
    let ids = check(&open_with(&target, None).unwrap(), context);
    assert_eq!(ids, told.acknowledged, "{context}: after recovery");
}

/// Checks that a database is whole; returns the transactions that are in it.
fn check(connection: &Connection, context: &str) -> BTreeSet<u32> {
    let verdict = row_of(connection, "PRAGMA integrity_check");
    assert_eq!(verdict.as_deref(), Ok("ok"), "{context}");
    let mut select = connection.prepare("SELECT id FROM log").unwrap();
    let ids = select.query_map([], |row| row.get(0)).unwrap();
    let ids: BTreeSet<u32> = ids.map(Result::unwrap).collect();
    let tally = row_of(connection, "SELECT min(last), max(last) FROM tally").unwrap();
    let (min, max) = tally.split_once('|').unwrap();
    assert_eq!(min, max, "{context}: half a transaction");
    ids
}

/// Returns whether it makes sense that all of these calls fail. Where each lock is busy or stays
/// held, SQLite waits for long, and where each `xFileControl` fails, SQLite itself reports
/// commits as failed that are complete.
fn can_last(call: Call, code: i32) -> bool {
    code != ffi::SQLITE_BUSY && !matches!(call, Call::ShmUnlock | Call::FileControl)
}

/// Returns the number of the call that fails next: each of the first ones, when the connection is
/// opened, and some of the others.
fn after(nth: u32) -> u32 {
    if thoroughness() > 1 || nth < 5 {
        nth + 1
    } else {
        nth + 1 + nth / 5
    }
}

/// Lets each call fail that the workload makes, or a sample of them.
pub(crate) fn try_all(setup: Setup, lasts: bool) {
    let mut tried = 0;
    for (call, code, done) in FAULTS {
        if lasts && !can_last(call, code) {
            continue;
        }
        let mut nth = 1;
        loop {
            let fault = Fault {
                call,
                nth,
                lasts,
                code,
                done,
            };
            if !try_fault(setup, fault) {
                break;
            }
            tried += 1;
            nth = after(nth);
        }
    }
    assert!(tried > 50, "{tried}");
}

#[test]
fn joined_frames_in_leases() {
    try_all(setup(true, true, "NORMAL"), false);
}

#[test]
fn joined_frames_in_leases_and_each_commit_synced() {
    try_all(setup(true, true, "FULL"), false);
}

#[test]
fn joined_frames_without_leases() {
    try_all(setup(true, false, "FULL"), false);
}

/// Runs statements in one transaction, and goes on after those that fail as long as SQLite leaves
/// it open; returns how many rows there must be.
fn go_on_after_errors(writer: &Writer) -> usize {
    if writer.connection.execute_batch("BEGIN IMMEDIATE").is_err() {
        return 0;
    }
    let (mut rows, mut doubled) = (0, false);
    for round in 0..15 {
        // A constraint may end a statement in its midst, so SQLite can undo each alone.
        let from = format!("{round} * 1000");
        let insert = format!("INSERT INTO keyed SELECT {from} + rowid, zeroblob(900) FROM tally");
        rows += writer.connection.execute(&insert, []).unwrap_or(0);
        // It reads what was spilled.
        let double = format!(
            "INSERT INTO keyed SELECT {from} + 100 + rowid, x FROM keyed WHERE key % 1000 = 5"
        );
        doubled |= writer.connection.execute(&double, []).is_ok_and(|more| {
            rows += more;
            more > 0
        });
        if writer.connection.is_autocommit() {
            return 0;
        }
    }
    match writer.connection.execute_batch("COMMIT") {
        Ok(()) => {
            assert!(doubled);
            rows
        }
        Err(_) => {
            let _ = writer.connection.execute_batch("ROLLBACK");
            0
        }
    }
}

#[test]
fn a_transaction_that_goes_on_after_an_error_has_what_succeeded() {
    for setup in [
        setup(true, true, "NORMAL"),
        setup(true, false, "FULL"),
        sqlite_alone("NORMAL"),
    ] {
        for (call, code, done) in [
            (Call::Write, ffi::SQLITE_FULL, Done::Half),
            (Call::Write, ffi::SQLITE_IOERR_WRITE, Done::Nothing),
            (Call::Read, ffi::SQLITE_IOERR_READ, Done::Nothing),
        ] {
            for nth in iter::successors(Some(1), |nth| Some(after(*nth))) {
                let (lasts, fixture) = (false, fixture());
                let fault = Fault {
                    call,
                    nth,
                    lasts,
                    code,
                    done,
                };
                let context = format!("{setup:?}, {fault:?}");
                let writer = Writer::open(&fixture.path(), setup).unwrap();
                let table = "CREATE TABLE keyed (key INTEGER UNIQUE, x)";
                writer.run(table).unwrap();
                if setup.has_leases {
                    writer.begin_lease();
                }
                layer::fail(fault);
                let rows = go_on_after_errors(&writer);
                let failed = layer::heal();
                let sum = row_of(
                    &writer.connection,
                    "SELECT count(*), total(length(x)) FROM keyed",
                );
                assert_eq!(sum.unwrap(), format!("{rows}|{}", rows * 900), "{context}");
                writer.run(&transaction(1)).unwrap();
                writer.end_lease();
                let ids = check(&fixture.open_plain(), &context);
                assert_eq!(ids, BTreeSet::from([1]), "{context}");
                if failed == 0 {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_disk_that_fails_for_good() {
    try_all(setup(true, true, "FULL"), true);
}

/// What is asked of penholder is what SQLite itself does.
#[test]
fn sqlite_alone_passes_the_same_tests() {
    try_all(sqlite_alone("FULL"), false);
    try_all(sqlite_alone("FULL"), true);
}
