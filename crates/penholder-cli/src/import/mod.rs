//! `penholder import`: write the rows of a file into a table.

mod advice;
mod column_type;
mod csv;
mod format;
mod json;
mod load;
mod message;
mod objects;
mod record;
mod records;
mod row;
mod rows;
mod source;
mod table;
mod tally;
mod unknown;
mod written_rows;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use penholder::Database;
use penholder_core::shown_path;

use crate::args::Import;
use crate::failure::{FAILED, Failure, say, say_warnings};
use crate::interruption::Interruption;
use crate::progress::Progress;
use crate::sys::open_file;
use format::Format;
use load::Load;
use row::{ReadError, Row};
use rows::Rows;
use source::Source;
use table::Table;
use tally::Tally;

pub(crate) fn run(args: &Import, interruption: &Interruption) -> Result<ExitCode, Failure> {
    interruption.set_outcome(message::nothing_yet(args));
    let format = Format::of(args)?;
    let db = args
        .target
        .options()
        .timeout(args.timeout)
        .synchronous(args.sync.into())
        .label(&args.label)
        .create(false)
        .open(&args.target.db)?;
    say_warnings(&db);
    let table = Table::find(&db, &args.table)?;
    refuse_own_file(&args.file, &db)?;
    let source = Source::open(&args.file, args.encoding)?;
    interruption.set_subject(format!("import: {}", source.name));
    let Some(table) = table else {
        return Err(advice::no_table(args, &db, &source, format));
    };
    let job = Job {
        args,
        db,
        source,
        format,
        table,
    };
    let rows = job
        .check()
        .map_err(|error| message::malformed(&job.source, error))?;
    if args.skip > rows {
        let file = &job.source.name;
        let message = format!("import: {file}: it has {rows} rows: give --skip {rows} or less");
        return Err(Failure::new(message, FAILED));
    }
    job.write(rows, interruption)
}

/// Refuses the database and its `-wal` and `-shm`: closing one of them drops the locks of SQLite.
fn refuse_own_file(file: &Path, db: &Database) -> Result<(), Failure> {
    let is_own = |suffix: &str| {
        let mut path = db.path().as_os_str().to_owned();
        path.push(suffix);
        open_file::is_same(file, path.as_ref())
    };
    if !["", "-wal", "-shm"].into_iter().any(is_own) {
        return Ok(());
    }
    let file = shown_path(file);
    let message = format!("import: {file}: it is the database itself: give a CSV or JSON file");
    Err(Failure::new(message, FAILED))
}

/// One import.
struct Job<'a> {
    args: &'a Import,
    db: Database,
    source: Source,
    format: Format,
    table: Table,
}

impl Job<'_> {
    /// Reads every row, writes none, and returns how many there are.
    fn check(&self) -> Result<u64, ReadError> {
        let progress = Progress::of_check(self.source.len(), &self.args.quiet);
        let mut rows = self.rows()?;
        let mut row = Row::default();
        let mut count = 0;
        while rows.read(&mut row)? {
            count += 1;
            if count % 4096 == 0 {
                progress.set(rows.offset());
            }
        }
        Ok(count)
    }

    fn write(&self, rows: u64, interruption: &Interruption) -> Result<ExitCode, Failure> {
        let args = self.args;
        if args.atomic {
            args.quiet
                .say("--atomic: no other process can write until all rows are in");
        }
        let progress = Progress::of_rows(rows - args.skip, &args.quiet);
        let mut load = Load {
            db: &self.db,
            table: &self.table,
            rows: self
                .rows()
                .map_err(|error| message::malformed(&self.source, error))?,
            left: rows,
            progress: &progress,
            interruption,
            state: &|done| message::state(args, &self.source, done),
        };
        let begun = Instant::now();
        let (done, stop) = match load.skip(args.skip) {
            Err(stop) => (Tally::default(), Some(stop)),
            Ok(()) if args.atomic => load.atomically(),
            Ok(()) => load.in_batches(args.hold),
        };
        let seconds = begun.elapsed().as_secs_f64();
        let unknown = load.rows.unknown().clone();
        drop(load);
        drop(progress);
        if let Some(stop) = stop {
            return Err(message::stopped(args, &self.source, &done, stop));
        }
        let finished = message::finished(args, &self.source, &self.table, &done, &unknown, seconds);
        args.quiet.say(finished);
        if args.quiet.quiet
            && let Some(warning) = message::warning(args, &self.source, &self.table, &done)
        {
            say(warning);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn rows(&self) -> Result<Rows<'_>, ReadError> {
        Rows::open(&self.source, self.format, &self.table, self.args)
    }
}
