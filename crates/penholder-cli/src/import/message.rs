//! What an import says at its end: how many rows are in, and how to go on.

use std::fmt::Write;
use std::io;

use penholder::Database;

use super::load::Stop;
use super::row::Broken;
use super::source::Source;
use super::{Layout, csv};
use crate::args::Import;
use crate::failure::{FAILED, Failure, HALFWAY, TIMEOUT};

/// All rows are in.
pub(super) fn finished(args: &Import, rows: u64, seconds: f64) -> String {
    let table = &args.table;
    let rate = per_second(rows, seconds);
    let mut text = format!("{} imported into {table} in {seconds:.2} s", plural(rows));
    if args.atomic {
        text += "; nobody else wrote meanwhile";
    } else if let Some(rate) = rate {
        let _ = write!(text, ", {rate} a second");
    }
    text
}

/// Nothing, where the time is too short to mean anything.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "for people, and neither negative nor near 2^53"
)]
fn per_second(rows: u64, seconds: f64) -> Option<u64> {
    (seconds >= 0.001).then(|| (rows as f64 / seconds) as u64)
}

/// The table is missing: with the columns of the file, if it names them.
pub(super) fn no_table(args: &Import, db: &Database, source: &Source, layout: &Layout) -> Failure {
    let header = match layout {
        Layout::Csv(dialect) => csv::header(source, *dialect).ok(),
        Layout::JsonLines => None,
    };
    let names: Vec<&str> = header.iter().flatten().collect();
    // Only names that need no quotes, in SQL and in a shell.
    let is_plain = |name: &&str| {
        let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        name.starts_with(is_letter) && name.chars().all(|c| is_letter(c) || c.is_ascii_digit())
    };
    let columns = match names.iter().all(is_plain) && !names.is_empty() {
        true => names.join(", "),
        false => "…".to_owned(),
    };
    let (table, path, given) = (&args.table, db.path().display(), args.target.db.display());
    let message = format!(
        "import: {path}: there is no table {table}: create it: \
         penholder exec {given} 'CREATE TABLE {table}({columns})'"
    );
    Failure::new(message, FAILED)
}

/// The check found a row that is not as it should be, or could not go on.
pub(super) fn malformed(source: &Source, broken: Broken) -> Failure {
    let file = &source.name;
    let message = match broken {
        Broken::Malformed { start, why } => {
            let line = line(source, start);
            format!("import: {file}: {line}: {why}: nothing was imported: correct it and try again")
        }
        Broken::Io(error) => {
            format!("import: {file}: {error}: nothing was imported: try again")
        }
    };
    Failure::new(message, FAILED)
}

/// The import ended before its time, with so many rows in.
pub(super) fn stopped(args: &Import, source: &Source, done: u64, stop: Stop) -> Failure {
    let file = &source.name;
    let skip = args.skip + done;
    let state = if done > 0 {
        format!("{} in", plural_are(done))
    } else {
        "nothing was imported".to_owned()
    };
    let go_on = match skip {
        0 => "try again".to_owned(),
        skip => format!("go on with --skip {skip}"),
    };
    let (why, next, code) = match stop {
        Stop::Row { start, error } => {
            let why = format!("import: {file}: {}: {error}", line(source, start));
            let next = match args.atomic {
                true => format!("correct it and {go_on}"),
                false => format!(
                    "correct it and {go_on}, or leave it out with --skip {}",
                    skip + 1
                ),
            };
            (why, next, FAILED)
        }
        Stop::Database(error) if error.is_timeout() => (error.to_string(), go_on, TIMEOUT),
        Stop::Database(error) => (error.to_string(), go_on, FAILED),
        Stop::Changed(why) => {
            let why = format!("import: {file}: it was changed after it was checked: {why}");
            (why, format!("see what changed, then {go_on}"), FAILED)
        }
        Stop::Signal(number) => {
            let why = format!("import: {file}: ended by signal {number}");
            (why, go_on, 128 + number)
        }
    };
    let code = if code == FAILED && done > 0 {
        HALFWAY
    } else {
        code
    };
    Failure::new(format!("{why}\n  {state}\n  {next}"), code)
}

fn line(source: &Source, start: u64) -> String {
    let line: io::Result<u64> = source.line_at(start);
    line.map_or_else(|_| format!("byte {start}"), |line| format!("line {line}"))
}

fn plural(rows: u64) -> String {
    let word = if rows == 1 { "row" } else { "rows" };
    format!("{rows} {word}")
}

fn plural_are(rows: u64) -> String {
    let verb = if rows == 1 { "is" } else { "are" };
    format!("{} {verb}", plural(rows))
}
