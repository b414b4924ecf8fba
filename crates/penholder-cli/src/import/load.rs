//! Writes rows under the write lock: in batches between which other processes get their
//! turn, or all at once.
//!
//! Rows are read before the lock is taken: no process waits for the file. A batch that fails
//! at a row is rolled back, even if the table has a conflict clause. Then the rows before
//! the failed one are written again, as a batch of their own.
//!
//! A transaction for all rows checks foreign keys at its end, so that a row may refer to a
//! later one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use penholder::rusqlite::{self, CachedStatement, ffi};
use penholder::{Database, Transaction};

use super::row::{ReadError, Row};
use super::rows::Rows;
use super::table::Table;
use super::tally::{Fate, Tally};
use super::written_rows::WrittenRows;
use crate::interruption::Interruption;
use crate::progress::Progress;

/// Rows and bytes to read ahead: more than one batch writes.
const AHEAD_ROWS: usize = 16_384;
const AHEAD_BYTES: usize = 8 << 20;

/// Why an import stopped before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The database refused the row that begins at `start`.
    Row {
        start: u64,
        error: rusqlite::Error,
        /// Whether it has an empty field that is stored as text.
        has_empty_text: bool,
    },
    /// The database refused rows at the commit; the first one begins at `start`.
    Commit { start: u64, error: penholder::Error },
    /// The rows of a batch could not be written for another reason.
    Database(penholder::Error),
    /// The file has changed since it was checked.
    Changed(String),
    /// The signal of this number came.
    Signal(i32),
}

impl From<penholder::Error> for Stop {
    fn from(error: penholder::Error) -> Self {
        Self::Database(error)
    }
}

/// Rows, and where to write them.
pub(crate) struct Load<'a> {
    pub(crate) db: &'a Database,
    pub(crate) table: &'a Table,
    pub(crate) rows: Rows<'a>,
    /// How many rows are left, according to the check.
    pub(crate) left: u64,
    pub(crate) progress: &'a Progress,
    pub(crate) interruption: &'a Interruption,
    /// What the message of an interruption says after this many rows.
    pub(crate) state: &'a dyn Fn(&Tally) -> String,
}

impl Load<'_> {
    /// Writes batches, each for about `hold`. Returns what became of the rows, and why not
    /// all of them were written.
    pub(crate) fn in_batches(&mut self, hold: Duration) -> (Tally, Option<Stop>) {
        let mut done = Tally::default();
        let mut ahead = ReadAhead::default();
        loop {
            if let Err(stop) = self.fill(&mut ahead) {
                return (done, Some(stop));
            }
            if ahead.rows.is_empty() {
                return (done, None);
            }
            match self.batch(&ahead.rows, hold, &done) {
                Ok(batch) => {
                    ahead.remove(batch.rows);
                    done = done.and(&batch);
                    self.progress.add(batch.rows as u64);
                }
                Err(refused) => {
                    let (again, stop) = self.rows_before(refused, &mut ahead, &done);
                    return (done.and(&again), Some(stop));
                }
            }
        }
    }

    /// Writes the rows before the one at which a batch was refused.
    fn rows_before(&self, refused: Refused, ahead: &mut ReadAhead, done: &Tally) -> (Tally, Stop) {
        let nothing = Tally::default();
        let (number, stop) = match refused {
            Refused::At { number: 0, stop } | Refused::All(stop) => return (nothing, stop),
            Refused::At { number, stop } => (number, stop),
        };
        ahead.rows.truncate(number);
        match self.batch(&ahead.rows, Duration::MAX, done) {
            Ok(batch) => (batch, stop),
            Err(Refused::At { stop, .. } | Refused::All(stop)) => (nothing, stop),
        }
    }

    /// Writes all rows in one transaction, or none.
    pub(crate) fn atomically(&mut self) -> (Tally, Option<Stop>) {
        let Self {
            db,
            table,
            rows,
            left,
            progress,
            interruption,
            state: _,
        } = self;
        let start = rows.offset();
        let written = db.try_write(|tx| -> Result<Tally, Stop> {
            interruption.begin_work().map_err(Stop::Signal)?;
            let all_rows = |error: rusqlite::Error| Stop::Database(error.into());
            tx.pragma_update(None, "defer_foreign_keys", true)
                .map_err(all_rows)?;
            let mut insert = Insert::new(tx, table);
            let mut row = Row::default();
            let mut tally = Tally::default();
            let mut written = table.has_foreign_keys.then(WrittenRows::default);
            for number in 0..*left {
                next(rows, &mut row)?;
                let fate = insert.row(&row).map_err(|error| refused_row(&row, error))?;
                tally.add(&row, fate, table);
                if let Some(written) = &mut written
                    && fate != Fate::Ignored
                {
                    written.add(tx.last_insert_rowid(), row.start);
                }
                if let Some(signal) = interruption.noted() {
                    return Err(Stop::Signal(signal));
                }
                if number % 1024 == 0 {
                    progress.set(number);
                }
            }
            if let Some(written) = &written
                && tx.has_deferred_violation()
                && let Some(row) = written.without_parent(tx, table).map_err(all_rows)?
            {
                return Err(Stop::Row {
                    start: row.start,
                    error: row.error,
                    has_empty_text: row.has_empty_text,
                });
            }
            Ok(tally)
        });
        if written.is_ok() {
            interruption.set_outcome(", after all rows were imported");
        }
        interruption.end_work();
        match written {
            Ok(tally) => (tally, None),
            Err(stop) => (Tally::default(), Some(stop.at_commit_of(start))),
        }
    }

    /// Skips rows.
    pub(crate) fn skip(&mut self, count: u64) -> Result<(), Stop> {
        let mut row = Row::default();
        for _ in 0..count {
            next(&mut self.rows, &mut row)?;
            self.left -= 1;
        }
        Ok(())
    }

    fn fill(&mut self, ahead: &mut ReadAhead) -> Result<(), Stop> {
        while self.left > 0 && !ahead.is_full() {
            let mut row = ahead.spare.pop().unwrap_or_default();
            next(&mut self.rows, &mut row)?;
            self.left -= 1;
            ahead.bytes += row.size();
            ahead.rows.push_back(row);
        }
        Ok(())
    }

    /// Writes rows until `hold` is over, at least one, and returns what became of them. A
    /// signal ends this process if it still waits for the lock. Later the batch is finished
    /// first.
    fn batch(&self, rows: &VecDeque<Row>, hold: Duration, done: &Tally) -> Result<Tally, Refused> {
        self.interruption.set_outcome((self.state)(done));
        if let Some(signal) = self.interruption.noted() {
            return Err(Refused::All(Stop::Signal(signal)));
        }
        let written = self.db.try_write(|tx| {
            self.interruption
                .begin_work()
                .map_err(|signal| Refused::All(Stop::Signal(signal)))?;
            let begun = Instant::now();
            let mut insert = Insert::new(tx, self.table);
            let mut tally = Tally::default();
            for (number, row) in rows.iter().enumerate() {
                if number > 0 && begun.elapsed() >= hold {
                    break;
                }
                let fate = insert.row(row).map_err(|error| Refused::At {
                    number,
                    stop: refused_row(row, error),
                })?;
                tally.add(row, fate, self.table);
            }
            Ok(tally)
        });
        if let Ok(batch) = &written {
            self.interruption
                .set_outcome((self.state)(&done.and(batch)));
        }
        self.interruption.end_work();
        written.map_err(|refused| match refused {
            Refused::All(stop) => {
                Refused::All(stop.at_commit_of(rows.front().map_or(0, |row| row.start)))
            }
            refused => refused,
        })
    }
}

fn refused_row(row: &Row, error: rusqlite::Error) -> Stop {
    if is_about_database(&error) {
        return Stop::Database(error.into());
    }
    Stop::Row {
        start: row.start,
        error,
        has_empty_text: row.has_empty_text(),
    }
}

/// Whether the database could take no row at all, whatever is in it.
fn is_about_database(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode as Code;
    matches!(
        error.sqlite_error_code(),
        Some(
            Code::DatabaseCorrupt
                | Code::NotADatabase
                | Code::SystemIoFailure
                | Code::DiskFull
                | Code::OutOfMemory
                | Code::ReadOnly
                | Code::CannotOpen
                | Code::PermissionDenied
                | Code::DatabaseBusy
                | Code::DatabaseLocked
        )
    )
}

impl Stop {
    /// What the rows from `start` met at their commit, if it is that. A constraint that no
    /// row met is checked only there.
    fn at_commit_of(self, start: u64) -> Self {
        match self {
            Self::Database(error) if error.is_constraint_violation() => {
                Self::Commit { start, error }
            }
            stop => stop,
        }
    }
}

/// Reads a row that the check has found.
fn next(rows: &mut Rows<'_>, row: &mut Row) -> Result<(), Stop> {
    match rows.read(row) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Stop::Changed("it is shorter".to_owned())),
        Err(ReadError::Malformed { why, .. }) => Err(Stop::Changed(why)),
        Err(ReadError::Io(error)) => Err(Stop::Changed(error.to_string())),
    }
}

/// Why a batch was rolled back.
enum Refused {
    /// The database refused its row of this number.
    At {
        number: usize,
        stop: Stop,
    },
    All(Stop),
}

impl From<penholder::Error> for Refused {
    fn from(error: penholder::Error) -> Self {
        Self::All(error.into())
    }
}

/// Rows that were read and are not yet written.
#[derive(Debug, Default)]
struct ReadAhead {
    rows: VecDeque<Row>,
    bytes: usize,
    /// Written rows, whose memory is reused.
    spare: Vec<Row>,
}

impl ReadAhead {
    fn is_full(&self) -> bool {
        self.rows.len() >= AHEAD_ROWS || self.bytes >= AHEAD_BYTES
    }

    /// Removes the first `count` rows, which are written.
    fn remove(&mut self, count: usize) {
        for row in self.rows.drain(..count) {
            let size = row.size();
            self.bytes -= size;
            // A large row would keep its memory until the end.
            if size < AHEAD_BYTES / AHEAD_ROWS {
                self.spare.push(row);
            }
        }
    }
}

/// The statement for the rows of one transaction. It is replaced when a row has other
/// columns than the row before.
struct Insert<'a> {
    tx: &'a Transaction<'a>,
    table: &'a Table,
    prepared: Option<Prepared<'a>>,
}

/// The statements for rows of these columns.
struct Prepared<'a> {
    columns: Vec<usize>,
    insert: CachedStatement<'a>,
    /// Fails where the other one would replace a row; `None` if it replaces none.
    replaces_nothing: Option<CachedStatement<'a>>,
}

impl<'a> Insert<'a> {
    fn new(tx: &'a Transaction<'a>, table: &'a Table) -> Self {
        let prepared = None;
        Self {
            tx,
            table,
            prepared,
        }
    }

    /// Returns what became of the row: a conflict clause or a trigger of the table may ignore
    /// it, and a conflict clause may replace other rows.
    fn row(&mut self, row: &Row) -> rusqlite::Result<Fate> {
        let mut prepared = match self.prepared.take() {
            Some(prepared) if prepared.columns == row.columns => prepared,
            _ => self.prepare(&row.columns)?,
        };
        let fate = self.write(row, &mut prepared)?;
        self.prepared = Some(prepared);
        Ok(fate)
    }

    fn prepare(&self, columns: &[usize]) -> rusqlite::Result<Prepared<'a>> {
        let sql = self.table.insert(columns);
        self.tx.note_statement(&sql);
        let replaces_nothing = self.table.replaces_rows.then(|| {
            let sql = sql.replacen("INSERT", "INSERT OR ABORT", 1);
            self.tx.prepare_cached(&sql)
        });
        Ok(Prepared {
            columns: columns.to_vec(),
            insert: self.tx.prepare_cached(&sql)?,
            replaces_nothing: replaces_nothing.transpose()?,
        })
    }

    fn write(&self, row: &Row, prepared: &mut Prepared<'_>) -> rusqlite::Result<Fate> {
        let mut replaces = false;
        if let Some(statement) = &mut prepared.replaces_nothing {
            row.bind(statement)?;
            match statement.raw_execute() {
                Ok(0) => return Ok(Fate::Ignored),
                Ok(_) => return Ok(Fate::Inserted),
                Err(error) => replaces = meets_key(&error, self.table),
            }
        }
        let statement = &mut prepared.insert;
        row.bind(statement)?;
        let before = self.tx.total_changes();
        let changed = statement.raw_execute()?;
        // The rows that the trigger of a view inserts are only in the total.
        let is_inserted = match self.table.is_view {
            true => self.tx.total_changes() != before,
            false => changed > 0,
        };
        Ok(match (is_inserted, replaces) {
            (false, _) => Fate::Ignored,
            (true, false) => Fate::Inserted,
            (true, true) => Fate::Replacing,
        })
    }
}

/// Whether a row was refused because another one of its table has its key; a trigger may meet a
/// key of another table.
fn meets_key(error: &rusqlite::Error, table: &Table) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    let codes = [
        ffi::SQLITE_CONSTRAINT_UNIQUE,
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
        ffi::SQLITE_CONSTRAINT_ROWID,
    ];
    let text = error.to_string();
    let key = text.strip_prefix("UNIQUE constraint failed: ");
    code.is_some_and(|code| codes.contains(&code)) && key.is_some_and(|key| table.has_key(key))
}
