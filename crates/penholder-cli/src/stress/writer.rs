//! What a worker writes through: penholder, or SQLite alone.

use penholder::Database;
use penholder::rusqlite::Connection;

use super::plain;
use super::table::{INSERT, TEXT};
use crate::args::{Peer, StressWorker};
use crate::failure::Failure;

pub(super) enum Writer {
    Penholder(Database),
    Sqlite(Connection),
}

impl Writer {
    pub(super) fn open(args: &StressWorker) -> Result<Self, Failure> {
        match args.peer {
            None => Ok(Self::Penholder(open_database(args)?)),
            Some(Peer::Sqlite) => Ok(Self::Sqlite(plain::connect(
                &args.target.db,
                args.sync,
                args.timeout,
            )?)),
        }
    }

    /// Inserts one row in a transaction of its own.
    pub(super) fn insert(&self, run: i64, process: u32, number: u32) -> penholder::Result<()> {
        let row = (run, process, number, TEXT);
        match self {
            Self::Penholder(db) => db.execute(INSERT, row).map(drop),
            Self::Sqlite(connection) => Ok(plain::execute(connection, INSERT, row)?),
        }
    }
}

fn open_database(args: &StressWorker) -> penholder::Result<Database> {
    let options = args
        .target
        .options()
        .timeout(args.timeout)
        .synchronous(args.sync.into())
        .label(format!("stress, process {}", args.process));
    options.open(&args.target.db)
}
