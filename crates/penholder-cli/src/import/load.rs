//! Writing rows under the pen: in batches between which others get their turn, or
//! all at once.
//!
//! Rows are read before the pen is taken: nobody waits for the file. A batch that
//! fails at a row is rolled back, whatever the table does about conflicts, and the
//! rows before that one are written again as a batch of their own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use penholder::rusqlite::{self, CachedStatement};
use penholder::{Database, Transaction};

use super::progress::Progress;
use super::row::{Broken, Row, Rows};
use super::table::Table;
use crate::sys::signal::Interrupt;

/// As many rows and bytes are read ahead: more than one batch writes.
const AHEAD_ROWS: usize = 16_384;
const AHEAD_BYTES: usize = 8 << 20;

/// Why not all rows are in.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The database refused the row that begins there.
    Row { start: u64, error: rusqlite::Error },
    /// The rows of a batch could not be written for another reason.
    Database(penholder::Error),
    /// The file is not as it was when it was checked.
    Changed(String),
    /// A signal of this number.
    Signal(u8),
}

impl From<penholder::Error> for Stop {
    fn from(error: penholder::Error) -> Self {
        Self::Database(error)
    }
}

/// What is written where.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    pub(crate) db: &'a Database,
    pub(crate) table: &'a Table,
    pub(crate) rows: Rows<'a>,
    /// How many rows there are still, as was counted.
    pub(crate) left: u64,
    pub(crate) progress: &'a Progress,
}

impl Load<'_> {
    /// Writes batches, each for about `hold`. Says how many rows are in, and why not
    /// all.
    pub(crate) fn in_batches(
        &mut self,
        hold: Duration,
        interrupt: &Interrupt,
    ) -> (u64, Option<Stop>) {
        let mut done = 0;
        let mut ahead = Ahead::default();
        loop {
            if let Err(stop) = self.fill(&mut ahead) {
                return (done, Some(stop));
            }
            if ahead.rows.is_empty() {
                return (done, None);
            }
            if let Some(signal) = interrupt.signal() {
                return (done, Some(Stop::Signal(signal)));
            }
            match self.batch(&ahead.rows, hold) {
                Ok(written) => {
                    ahead.give_back(written);
                    done += written as u64;
                    self.progress.add(written as u64);
                }
                Err(refused) => {
                    let (again, stop) = self.rows_before(refused, &mut ahead);
                    return (done + again, Some(stop));
                }
            }
        }
    }

    /// Writes the rows before the one at which a batch was refused.
    fn rows_before(&self, refused: Refused, ahead: &mut Ahead) -> (u64, Stop) {
        let (number, stop) = match refused {
            Refused::At { number: 0, stop } => return (0, stop),
            Refused::At { number, stop } => (number, stop),
            Refused::All(error) => return (0, error.into()),
        };
        ahead.rows.truncate(number);
        match self.batch(&ahead.rows, Duration::MAX) {
            Ok(written) => (written as u64, stop),
            Err(Refused::At { stop, .. }) => (0, stop),
            Err(Refused::All(error)) => (0, error.into()),
        }
    }

    /// Writes all rows in one transaction, or none.
    pub(crate) fn at_once(&mut self, interrupt: &Interrupt) -> (u64, Option<Stop>) {
        let Self {
            db,
            table,
            rows,
            left,
            progress,
        } = self;
        let written = db.write(|tx| -> Result<u64, Stop> {
            let mut insert = Insert::new(tx, table);
            let mut row = rows.new_row();
            for number in 0..*left {
                next(rows, &mut row)?;
                insert.row(&row).map_err(|error| Stop::Row {
                    start: row.start,
                    error,
                })?;
                if let Some(signal) = interrupt.signal() {
                    return Err(Stop::Signal(signal));
                }
                if number % 1024 == 0 {
                    progress.set(number);
                }
            }
            Ok(*left)
        });
        match written {
            Ok(written) => (written, None),
            Err(stop) => (0, Some(stop)),
        }
    }

    /// Passes over rows.
    pub(crate) fn skip(&mut self, count: u64) -> Result<(), Stop> {
        let mut row = self.rows.new_row();
        for _ in 0..count {
            next(&mut self.rows, &mut row)?;
            self.left -= 1;
        }
        Ok(())
    }

    fn fill(&mut self, ahead: &mut Ahead) -> Result<(), Stop> {
        while self.left > 0 && !ahead.is_full() {
            let mut row = ahead.spare.pop().unwrap_or_else(|| self.rows.new_row());
            next(&mut self.rows, &mut row)?;
            self.left -= 1;
            ahead.bytes += row.size();
            ahead.rows.push_back(row);
        }
        Ok(())
    }

    /// Writes rows until `hold` is over, one at least, and says how many.
    fn batch(&self, rows: &VecDeque<Row>, hold: Duration) -> Result<usize, Refused> {
        self.db.write(|tx| {
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
        })
    }
}

/// The next row, of which it is known that there is one.
fn next(rows: &mut Rows<'_>, row: &mut Row) -> Result<(), Stop> {
    match rows.read(row) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Stop::Changed("it ends sooner".to_owned())),
        Err(Broken::Malformed { why, .. }) => Err(Stop::Changed(why)),
        Err(Broken::Io(error)) => Err(Stop::Changed(error.to_string())),
    }
}

/// Why a batch was rolled back.
enum Refused {
    /// At its row of this number.
    At {
        number: usize,
        stop: Stop,
    },
    All(penholder::Error),
}

impl From<penholder::Error> for Refused {
    fn from(error: penholder::Error) -> Self {
        Self::All(error)
    }
}

/// Rows that are read and not yet written.
#[derive(Debug, Default)]
struct Ahead {
    rows: VecDeque<Row>,
    bytes: usize,
    /// Rows whose memory is used again.
    spare: Vec<Row>,
}

impl Ahead {
    fn is_full(&self) -> bool {
        self.rows.len() >= AHEAD_ROWS || self.bytes >= AHEAD_BYTES
    }

    /// The first `count` rows are written.
    fn give_back(&mut self, count: usize) {
        for row in self.rows.drain(..count) {
            let size = row.size();
            self.bytes -= size;
            // One that is large would keep its memory for ever.
            if size < AHEAD_BYTES / AHEAD_ROWS {
                self.spare.push(row);
            }
        }
    }
}

/// The statement for the rows of one transaction: another only when a row has other
/// columns than the one before.
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
