//! `penholder import`: the rows of a file into a table.

mod csv;
mod jsonl;
mod load;
mod message;
mod progress;
mod row;
mod source;
mod table;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use penholder::Database;

use crate::args::{Import, ImportFormat};
use crate::failure::{FAILED, Failure, USAGE, say};
use crate::sys::signal::Interrupt;
use csv::Dialect;
use load::Load;
use progress::Progress;
use row::{Broken, Rows};
use source::Source;
use table::Table;

pub(crate) fn run(args: &Import) -> Result<ExitCode, Failure> {
    let layout = Layout::of(args)?;
    let db = args
        .target
        .options()
        .timeout(args.timeout)
        .synchronous(args.sync.into())
        .label(&args.label)
        .create(false)
        .open(&args.target.db)?;
    db.warnings().iter().for_each(say);
    let table = Table::find(&db, &args.table)?;
    let source = Source::open(&args.file)?;
    let Some(table) = table else {
        return Err(message::no_table(args, &db, &source, &layout));
    };
    let checked = check(&source, &layout, &table);
    let rows = checked.map_err(|broken| message::malformed(&source, broken))?;
    if args.skip > rows {
        let file = &source.name;
        let message = format!("import: {file}: it has {rows} rows: give --skip {rows} or less");
        return Err(Failure::new(message, FAILED));
    }
    write(args, &db, &source, &layout, &table, rows)
}

/// How rows stand in the file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Layout {
    Csv(Dialect),
    JsonLines,
}

impl Layout {
    fn of(args: &Import) -> Result<Self, Failure> {
        let (format, delimiter) = match (args.format, named(&args.file)) {
            (Some(format), Some((_, delimiter))) => (format, delimiter),
            (Some(format), None) => (format, b','),
            (None, Some(named)) => named,
            (None, None) => {
                let file = args.file.display();
                let next = "say --format csv or --format jsonl";
                let message = format!("import: {file}: its name does not say what it is: {next}");
                return Err(Failure::new(message, USAGE));
            }
        };
        Ok(match format {
            ImportFormat::Jsonl => Self::JsonLines,
            ImportFormat::Csv => Self::Csv(Dialect {
                delimiter: args.delimiter.unwrap_or(delimiter),
                empty_as_null: args.empty_as_null,
            }),
        })
    }
}

/// What the end of a name says, with the delimiter that goes with it.
fn named(file: &Path) -> Option<(ImportFormat, u8)> {
    let end = file.extension()?.to_str()?.to_ascii_lowercase();
    match end.as_str() {
        "csv" => Some((ImportFormat::Csv, b',')),
        "tsv" => Some((ImportFormat::Csv, b'\t')),
        "jsonl" | "ndjson" | "json" => Some((ImportFormat::Jsonl, b',')),
        _ => None,
    }
}

/// Reads every row and writes none; says how many there are.
fn check(source: &Source, layout: &Layout, table: &Table) -> Result<u64, Broken> {
    let progress = Progress::of_check(source.len());
    let mut rows = Rows::of(source, layout, table)?;
    let mut row = rows.new_row();
    let mut count = 0;
    while rows.read(&mut row)? {
        count += 1;
        if count % 4096 == 0 {
            progress.set(rows.place());
        }
    }
    Ok(count)
}

fn write(
    args: &Import,
    db: &Database,
    source: &Source,
    layout: &Layout,
    table: &Table,
    rows: u64,
) -> Result<ExitCode, Failure> {
    if args.atomic {
        say("--atomic: nobody else writes until all rows are in");
    }
    let progress = Progress::of_rows(rows - args.skip);
    let interrupt = Interrupt::watch()
        .map_err(|error| Failure::new(format!("import: watch for signals: {error}"), FAILED))?;
    let mut load = Load {
        db,
        table,
        rows: Rows::of(source, layout, table)
            .map_err(|broken| message::malformed(source, broken))?,
        left: rows,
        progress: &progress,
    };
    let begun = Instant::now();
    let (done, stop) = match load.skip(args.skip) {
        Err(stop) => (0, Some(stop)),
        Ok(()) if args.atomic => load.at_once(&interrupt),
        Ok(()) => load.in_batches(args.hold, &interrupt),
    };
    let seconds = begun.elapsed().as_secs_f64();
    drop(progress);
    match stop {
        None => {
            say(message::finished(args, done, seconds));
            Ok(ExitCode::SUCCESS)
        }
        Some(stop) => Err(message::stopped(args, source, done, stop)),
    }
}
