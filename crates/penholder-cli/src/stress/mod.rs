//! `penholder stress`: many processes write to one database, and the result is checked.
//! With `--beside`, the same processes do the same work without penholder first.

mod plain;
mod report;
mod sample;
mod samples;
mod table;
mod trial;
pub(crate) mod worker;
mod workers;
mod writer;

use std::fmt::Display;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use penholder::Database;
use penholder::rusqlite::Connection;
use serde::Serialize;

use crate::args::{Peer, Stress};
use crate::failure::{Failure, say_warnings};
use crate::interruption::Interruption;
use crate::output;
use plain::Plain;
use report::{Comparison, Report};
use samples::Counted;
use workers::Work;

pub(crate) fn run(args: &Stress, interruption: &Interruption) -> Result<ExitCode, Failure> {
    let db = open(args)?;
    let Some(Peer::Sqlite) = args.beside else {
        let report = with_penholder(args, &db)?;
        return print(args, &report, report.exit_code());
    };
    let sqlite = with_sqlite(args, interruption)?;
    let penholder = with_penholder(args, &db)?;
    let exit_code = penholder.exit_code();
    print(args, &Comparison { sqlite, penholder }, exit_code)
}

fn open(args: &Stress) -> Result<Database, Failure> {
    if !args.force {
        table::refuse_foreign(&args.target)?;
    }
    let options = args
        .target
        .options()
        .timeout(args.timeout)
        .synchronous(args.sync.into());
    let db = options.label("stress").open(&args.target.db)?;
    say_warnings(&db);
    table::create(&db)?;
    Ok(db)
}

fn with_penholder(args: &Stress, db: &Database) -> Result<Report, Failure> {
    let work = Work {
        args,
        peer: None,
        database: &args.target.db,
        run: run_number(),
    };
    let counted = trial::run(&work)?;
    Ok(db.read(|connection| check(&work, &counted, connection))?)
}

/// The same work with SQLite alone.
fn with_sqlite(args: &Stress, interruption: &Interruption) -> Result<Report, Failure> {
    let plain = Plain::create(args, interruption)?;
    let work = Work {
        args,
        peer: Some(Peer::Sqlite),
        database: plain.path(),
        run: run_number(),
    };
    let counted = trial::run(&work)?;
    Ok(check(&work, &counted, &plain.connection)?)
}

/// Distinguishes the rows of this run from those of earlier ones.
fn run_number() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

fn check(work: &Work<'_>, counted: &Counted, connection: &Connection) -> penholder::Result<Report> {
    let rows_found = table::count(connection, work.run)?.unsigned_abs();
    let integrity = table::integrity(connection)?;
    Ok(Report::new(work.args, rows_found, integrity, counted))
}

fn print(
    args: &Stress,
    report: &(impl Display + Serialize),
    exit_code: ExitCode,
) -> Result<ExitCode, Failure> {
    if args.quiet && exit_code == ExitCode::SUCCESS {
        return Ok(exit_code);
    }
    let printed = if args.json {
        output::print_json(report)
    } else {
        output::print_text(&report.to_string())
    };
    match printed {
        // Without a reader for the report, the exit code still tells the result.
        Ok(_) | Err(Failure::PipeClosed) => Ok(exit_code),
        Err(failure) => Err(failure),
    }
}
