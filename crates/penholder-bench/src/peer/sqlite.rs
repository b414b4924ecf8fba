//! The peers that use SQLite directly, over rusqlite.

use std::cell::Cell;
use std::error::Error;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use crate::peer::client::{self, Client, Outcome, Values, Work};
use crate::peer::setting::Setting;

/// How a write begins and ends its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transaction {
    /// `BEGIN IMMEDIATE` and `COMMIT` are parsed each time.
    Parsed,
    /// Both are prepared statements.
    Prepared,
    /// Only several statements have an explicit transaction, with prepared statements.
    IfSeveral,
}

pub(crate) struct Sqlite {
    connection: Connection,
    transaction: Transaction,
}

impl Sqlite {
    pub(crate) fn open(
        setting: &Setting,
        transaction: Transaction,
    ) -> Result<Self, Box<dyn Error>> {
        let connection = connect(setting)?;
        Ok(Self {
            connection,
            transaction,
        })
    }

    /// Like [`open`](Self::open), but retries every millisecond. It must be called on
    /// the thread that writes.
    pub(crate) fn open_retrying(setting: &Setting) -> Result<Self, Box<dyn Error>> {
        let mut sqlite = Self::open(setting, Transaction::Parsed)?;
        TIMEOUT.set(setting.timeout);
        sqlite
            .connection
            .busy_handler(Some(retry_each_millisecond))?;
        Ok(sqlite)
    }

    fn transact(&self, work: Work<'_>) -> rusqlite::Result<()> {
        let connection = &self.connection;
        if self.transaction == Transaction::Parsed {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            work(connection)?;
            return connection.execute_batch("COMMIT");
        }
        client::execute(connection, "BEGIN IMMEDIATE", &[])?;
        work(connection)?;
        client::execute(connection, "COMMIT", &[])
    }

    /// Separates `SQLITE_BUSY` from errors that end the benchmark, and leaves no
    /// transaction open.
    fn settle(
        &self,
        result: rusqlite::Result<()>,
        success: Outcome,
    ) -> Result<Outcome, Box<dyn Error>> {
        let Err(error) = result else {
            return Ok(success);
        };
        if !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy) => Ok(Outcome::Failed),
            _ => Err(error.into()),
        }
    }
}

impl Client for Sqlite {
    fn read(&mut self, work: Work<'_>) -> Result<Outcome, Box<dyn Error>> {
        self.settle(work(&self.connection), Outcome::Read)
    }

    fn write(&mut self, work: Work<'_>) -> Result<Outcome, Box<dyn Error>> {
        self.settle(self.transact(work), Outcome::Written)
    }

    fn execute(&mut self, sql: &str, values: Values<'_>) -> Result<Outcome, Box<dyn Error>> {
        let run = |connection: &Connection| client::execute(connection, sql, values);
        match self.transaction {
            Transaction::IfSeveral => self.settle(run(&self.connection), Outcome::Written),
            _ => self.write(&run),
        }
    }
}

/// Opens a connection with the settings that all peers share. Every other
/// setting keeps the library's default.
pub(crate) fn connect(setting: &Setting) -> Result<Connection, Box<dyn Error>> {
    let connection = Connection::open(&setting.database)?;
    // A short timeout must not make opening fail: opening is not measured.
    connection.busy_timeout(setting.timeout.max(Duration::from_secs(5)))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", setting.sync.to_string())?;
    connection.busy_timeout(setting.timeout)?;
    Ok(connection)
}

thread_local! {
    // rusqlite's busy handler is a plain function and cannot capture these values.
    static TIMEOUT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

fn retry_each_millisecond(attempt: i32) -> bool {
    if attempt == 0 {
        SINCE.set(Some(Instant::now()));
    }
    let waited = SINCE.get().map_or(Duration::ZERO, |since| since.elapsed());
    if waited >= TIMEOUT.get() {
        return false;
    }
    std::thread::sleep(Duration::from_millis(1));
    true
}
