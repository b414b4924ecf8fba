//! Writes of one row by one process, beside bare rusqlite with the same
//! settings (WAL, `synchronous=NORMAL`, prepared statements).

use std::error::Error;
use std::fs::File;
use std::path::Path;

use penholder::Database;
use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
use rusqlite::Connection;

use crate::peer::writer::{INSERT, TABLE, TEXT};
use crate::rounds::{self, Peer, Plan};

pub(crate) fn run(plan: &Plan) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir_in(&plan.folder)?;
    let path = |name: &str| folder.path().join(name).join("bench.db");
    for name in [
        "parsed",
        "prepared",
        "autocommit",
        "locked",
        "execute",
        "write",
    ] {
        std::fs::create_dir(folder.path().join(name))?;
    }
    let parsed = bare(&path("parsed"))?;
    let prepared = bare(&path("prepared"))?;
    let autocommit = bare(&path("autocommit"))?;
    let locked = bare(&path("locked"))?;
    let locker = WriteLocker::new(folder.path().join("locked"))?;
    locker.acquire(DEFAULT_TIMEOUT)?.release()?;
    File::open(locker.lock_file())?.sync_all()?;
    let execute = open(&path("execute"))?;
    let write = open(&path("write"))?;
    let mut peers = [
        Peer {
            name: "rusqlite BEGIN, INSERT, COMMIT",
            operation: Box::new(|| {
                parsed.execute_batch("BEGIN IMMEDIATE")?;
                parsed.prepare_cached(INSERT)?.execute((1, TEXT))?;
                Ok(parsed.execute_batch("COMMIT")?)
            }),
        },
        Peer {
            name: "the same, all prepared",
            operation: Box::new(|| {
                prepared.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
                prepared.prepare_cached(INSERT)?.execute((1, TEXT))?;
                prepared.prepare_cached("COMMIT")?.execute(())?;
                Ok(())
            }),
        },
        Peer {
            name: "rusqlite INSERT, autocommit",
            operation: Box::new(|| {
                autocommit.prepare_cached(INSERT)?.execute((1, TEXT))?;
                Ok(())
            }),
        },
        Peer {
            name: "the lock around such an INSERT",
            operation: Box::new(|| {
                let guard = locker.acquire(DEFAULT_TIMEOUT)?;
                locked.prepare_cached(INSERT)?.execute((1, TEXT))?;
                Ok(guard.release()?)
            }),
        },
        Peer {
            name: "penholder execute",
            operation: Box::new(|| {
                execute.execute(INSERT, (1, TEXT))?;
                Ok(())
            }),
        },
        Peer {
            name: "penholder write",
            operation: Box::new(|| {
                write.write(|tx| -> penholder::Result<()> {
                    tx.prepare_cached(INSERT)?.execute((1, TEXT))?;
                    Ok(())
                })?;
                Ok(())
            }),
        },
    ];
    let times = rounds::measure(plan, &mut peers)?;
    rounds::print(&peers, &times);
    let rate = |peer: usize, beside: usize| times[beside].as_secs_f64() / times[peer].as_secs_f64();
    println!(
        "\nexecute: {:.2} of the rate of BEGIN, INSERT, COMMIT (target 0.85)",
        rate(4, 0)
    );
    println!(
        "execute: {:.2} of the rate of the same, prepared",
        rate(4, 1)
    );
    println!(
        "execute: {:.2} of the rate of autocommit (target 0.70)",
        rate(4, 2)
    );
    Ok(())
}

fn bare(path: &Path) -> Result<Connection, Box<dyn Error>> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.execute_batch(TABLE)?;
    Ok(connection)
}

fn open(path: &Path) -> Result<Database, Box<dyn Error>> {
    let db = Database::open(path)?;
    db.execute(TABLE, ())?;
    // Lock files are old: their block has long been given a place on the disk.
    File::open(db.lock_file())?.sync_all()?;
    Ok(db)
}
