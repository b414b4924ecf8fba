//! One-row writes of one process, compared with bare rusqlite with the same settings
//! (WAL, `synchronous=NORMAL`, prepared statements).

use std::error::Error;
use std::fs::File;
use std::path::Path;

use penholder::Database;
use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
use rusqlite::Connection;

use crate::rounds::{self, Args, Operation};
use crate::table::{INSERT, TABLE, TEXT};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) fn run(args: &Args) -> Result<()> {
    let directory = args.directory.temporary()?;
    let create = |name: &str| {
        let directory = directory.path().join(name);
        std::fs::create_dir(&directory).map(|()| directory)
    };
    let mut operations = [
        parsed(&create("parsed")?)?,
        prepared(&create("prepared")?)?,
        autocommit(&create("autocommit")?)?,
        locked(&create("locked")?)?,
        execute(&create("execute")?)?,
        write(&create("write")?)?,
    ];
    let times = rounds::measure(args, &mut operations)?;
    rounds::print(&operations, &times);
    let rate = |peer: usize| times[peer].as_secs_f64() / times[4].as_secs_f64();
    println!(
        "\nexecute: {:.2} of the rate of BEGIN, INSERT, COMMIT (target 0.85)",
        rate(0)
    );
    println!("execute: {:.2} of the rate of the same, prepared", rate(1));
    println!(
        "execute: {:.2} of the rate of autocommit (target 0.70)",
        rate(2)
    );
    Ok(())
}

fn parsed(directory: &Path) -> Result<Operation<'static>> {
    let connection = connect(directory)?;
    let name = "rusqlite BEGIN, INSERT, COMMIT";
    Ok(Operation::new(name, move || {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        connection.prepare_cached(INSERT)?.execute((1, TEXT))?;
        Ok(connection.execute_batch("COMMIT")?)
    }))
}

fn prepared(directory: &Path) -> Result<Operation<'static>> {
    let connection = connect(directory)?;
    Ok(Operation::new("the same, all prepared", move || {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        connection.prepare_cached(INSERT)?.execute((1, TEXT))?;
        connection.prepare_cached("COMMIT")?.execute(())?;
        Ok(())
    }))
}

fn autocommit(directory: &Path) -> Result<Operation<'static>> {
    let connection = connect(directory)?;
    Ok(Operation::new("rusqlite INSERT, autocommit", move || {
        connection.prepare_cached(INSERT)?.execute((1, TEXT))?;
        Ok(())
    }))
}

fn locked(directory: &Path) -> Result<Operation<'static>> {
    let connection = connect(directory)?;
    let locker = WriteLocker::new(directory)?;
    locker.acquire(DEFAULT_TIMEOUT)?.release()?;
    sync_lock_file(locker.lock_file())?;
    let name = "the lock around such an INSERT";
    Ok(Operation::new(name, move || {
        let guard = locker.acquire(DEFAULT_TIMEOUT)?;
        connection.prepare_cached(INSERT)?.execute((1, TEXT))?;
        Ok(guard.release()?)
    }))
}

fn execute(directory: &Path) -> Result<Operation<'static>> {
    let db = open(directory)?;
    Ok(Operation::new("penholder execute", move || {
        db.execute(INSERT, (1, TEXT))?;
        Ok(())
    }))
}

fn write(directory: &Path) -> Result<Operation<'static>> {
    let db = open(directory)?;
    Ok(Operation::new("penholder write", move || {
        db.write(|tx| -> penholder::Result<()> {
            tx.prepare_cached(INSERT)?.execute((1, TEXT))?;
            Ok(())
        })?;
        Ok(())
    }))
}

fn connect(directory: &Path) -> Result<Connection> {
    let connection = Connection::open(directory.join("bench.db"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.execute_batch(TABLE)?;
    Ok(connection)
}

fn open(directory: &Path) -> Result<Database> {
    let db = Database::open(directory.join("bench.db"))?;
    db.execute(TABLE, ())?;
    sync_lock_file(&db.lock_file())?;
    Ok(db)
}

/// A lock file in use is old, and its block is allocated on disk.
fn sync_lock_file(path: &Path) -> Result<()> {
    Ok(File::open(path)?.sync_all()?)
}
