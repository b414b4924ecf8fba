//! Writes rows under the write lock: in batches between which other processes get their
//! turn, or all at once.
//!
//! Rows are read before the lock is taken: no process waits for the file. A batch that fails
//! at a row is rolled back, even if the table has a conflict clause. Then the rows before
//! the failed one are written again, as a batch of their own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use penholder::rusqlite::{self, CachedStatement};
use penholder::{Database, Transaction};

use super::row::{ReadError, Row};
use super::rows::Rows;
use super::table::Table;
use crate::interruption::Interruption;
use crate::progress::Progress;

/// Rows and bytes to read ahead: more than one batch writes.
const AHEAD_ROWS: usize = 16_384;
const AHEAD_BYTES: usize = 8 << 20;

/// Why an import stopped before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The database refused the row that begins at `start`.
    Row { start: u64, error: rusqlite::Error },
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
    pub(crate) state: &'a dyn Fn(u64) -> String,
}

impl Load<'_> {
    /// Writes batches, each for about `hold`. Returns how many rows were written, and
    /// why not all of them.
    pub(crate) fn in_batches(&mut self, hold: Duration) -> (u64, Option<Stop>) {
        let mut done = 0;
        let mut ahead = ReadAhead::default();
        loop {
            if let Err(stop) = self.fill(&mut ahead) {
                return (done, Some(stop));
            }
            if ahead.rows.is_empty() {
                return (done, None);
            }
            match self.batch(&ahead.rows, hold, done) {
                Ok(written) => {
                    ahead.remove(written);
                    done += written as u64;
                    self.progress.add(written as u64);
                }
                Err(refused) => {
                    let (again, stop) = self.rows_before(refused, &mut ahead, done);
                    return (done + again, Some(stop));
                }
            }
        }
    }

    /// Writes the rows before the one at which a batch was refused.
    fn rows_before(&self, refused: Refused, ahead: &mut ReadAhead, done: u64) -> (u64, Stop) {
        let (number, stop) = match refused {
            Refused::At { number: 0, stop } | Refused::All(stop) => return (0, stop),
            Refused::At { number, stop } => (number, stop),
        };
        ahead.rows.truncate(number);
        match self.batch(&ahead.rows, Duration::MAX, done) {
            Ok(written) => (written as u64, stop),
            Err(Refused::At { stop, .. } | Refused::All(stop)) => (0, stop),
        }
    }

    /// Writes all rows in one transaction, or none.
    pub(crate) fn atomically(&mut self) -> (u64, Option<Stop>) {
        let Self {
            db,
            table,
            rows,
            left,
            progress,
            interruption,
            state: _,
        } = self;
        let written = db.try_write(|tx| -> Result<u64, Stop> {
            interruption.begin_work().map_err(Stop::Signal)?;
            let mut insert = Insert::new(tx, table);
            let mut row = rows.new_row();
            for number in 0..*left {
                next(rows, &mut row)?;
                insert.row(&row).map_err(|error| Stop::Row {
                    start: row.start,
                    error,
                })?;
                if let Some(signal) = interruption.noted() {
                    return Err(Stop::Signal(signal));
                }
                if number % 1024 == 0 {
                    progress.set(number);
                }
            }
            Ok(*left)
        });
        if written.is_ok() {
            interruption.set_outcome(", after all rows were imported");
        }
        interruption.end_work();
        match written {
            Ok(written) => (written, None),
            Err(stop) => (0, Some(stop)),
        }
    }

    /// Skips rows.
    pub(crate) fn skip(&mut self, count: u64) -> Result<(), Stop> {
        let mut row = self.rows.new_row();
        for _ in 0..count {
            next(&mut self.rows, &mut row)?;
            self.left -= 1;
        }
        Ok(())
    }

    fn fill(&mut self, ahead: &mut ReadAhead) -> Result<(), Stop> {
        while self.left > 0 && !ahead.is_full() {
            let mut row = ahead.spare.pop().unwrap_or_else(|| self.rows.new_row());
            next(&mut self.rows, &mut row)?;
            self.left -= 1;
            ahead.bytes += row.size();
            ahead.rows.push_back(row);
        }
        Ok(())
    }

    /// Writes rows until `hold` is over, at least one, and returns how many. A signal ends
    /// this process if it still waits for the lock. Later the batch is finished first.
    fn batch(&self, rows: &VecDeque<Row>, hold: Duration, done: u64) -> Result<usize, Refused> {
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
            for (number, row) in rows.iter().enumerate() {
                if number > 0 && begun.elapsed() >= hold {
                    return Ok(number);
                }
                insert.row(row).map_err(|error| Refused::At {
                    number,
                    stop: Stop::Row {
                        start: row.start,
                        error,
                    },
                })?;
            }
            Ok(rows.len())
        });
        if let Ok(written) = written {
            let done = done + written as u64;
            self.interruption.set_outcome((self.state)(done));
        }
        self.interruption.end_work();
        written
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
    prepared: Option<(Vec<usize>, CachedStatement<'a>)>,
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

    fn row(&mut self, row: &Row) -> rusqlite::Result<()> {
        let (columns, mut statement) = match self.prepared.take() {
            Some(prepared) if prepared.0 == row.columns => prepared,
            _ => {
                let sql = self.table.insert(&row.columns);
                (row.columns.clone(), self.tx.prepare_cached(&sql)?)
            }
        };
        row.bind(&mut statement)?;
        statement.raw_execute()?;
        self.prepared = Some((columns, statement));
        Ok(())
    }
}
