//! The messages at the end of an import: how many rows are in, and how to go on.

use std::fmt::Write;

use penholder::Database;
use penholder_core::{one_line, shown_path};

use super::csv;
use super::format::Format;
use super::load::Stop;
use super::row::ReadError;
use super::source::Source;
use crate::args::Import;
use crate::failure::{FAILED, Failure, HALFWAY, TIMEOUT};

/// All rows are in.
pub(super) fn finished(args: &Import, rows: u64, seconds: f64) -> String {
    let table = one_line(&args.table);
    let rate = per_second(rows, seconds);
    let mut text = format!(
        "{} imported into {table} in {seconds:.2} s",
        row_count(rows)
    );
    if args.atomic {
        text += "; no other process wrote meanwhile";
    } else if let Some(rate) = rate {
        let _ = write!(text, ", {rate} per second");
    }
    text
}

/// `None` if the time is too short to tell.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people, neither negative nor near 2^53"
)]
fn per_second(rows: u64, seconds: f64) -> Option<u64> {
    (seconds >= 0.001).then(|| (rows as f64 / seconds) as u64)
}

/// The table is missing. The suggestion names the columns of the file, if it has a header.
pub(super) fn no_table(args: &Import, db: &Database, source: &Source, format: Format) -> Failure {
    let header = match format {
        Format::Csv(dialect) => csv::header(source, dialect).ok(),
        Format::JsonLines => None,
    };
    let names: Vec<&str> = header.iter().flatten().collect();
    // Only names that need no quotes in SQL and in a shell.
    let is_plain = |name: &&str| {
        let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        name.starts_with(is_letter) && name.chars().all(|c| is_letter(c) || c.is_ascii_digit())
    };
    let columns = match names.iter().all(is_plain) && !names.is_empty() {
        true => names.join(", "),
        false => "…".to_owned(),
    };
    let (table, path, given) = (
        one_line(&args.table),
        shown_path(db.path()),
        shown_path(&args.target.db),
    );
    let message = format!(
        "import: {path}: there is no table {table}: create it: \
         penholder exec {given} 'CREATE TABLE {table}({columns})'"
    );
    Failure::new(message, FAILED)
}

/// The check found a malformed row, or could not read the file.
pub(super) fn malformed(source: &Source, error: ReadError) -> Failure {
    let file = &source.name;
    let message = match error {
        ReadError::Malformed { start, why } => {
            let line = line(source, start);
            let why = one_line(why);
            format!("import: {file}: {line}: {why}: nothing was imported: correct it and try again")
        }
        ReadError::Io(error) => {
            format!("import: {file}: {error}: nothing was imported: try again")
        }
    };
    Failure::new(message, FAILED)
}

/// The import stopped before its end, after `done` rows.
pub(super) fn stopped(args: &Import, source: &Source, done: u64, stop: Stop) -> Failure {
    let (next, code) = match &stop {
        Stop::Row { .. } => (correct(args, done), FAILED),
        Stop::Changed(_) => {
            let again = again(args, done);
            (format!("find out what changed, then {again}"), FAILED)
        }
        Stop::Database(error) if error.is_timeout() => (again(args, done), TIMEOUT),
        Stop::Database(error) if error.is_file_replaced() => {
            let next =
                "see which of them are in the database that is there now, then import the rest";
            let next = if done > 0 { next } else { "try again" };
            (next.to_owned(), FAILED)
        }
        Stop::Database(_) => (again(args, done), FAILED),
        Stop::Signal(number) => {
            let code = u8::try_from(128 + number).unwrap_or(FAILED);
            (again(args, done), code)
        }
    };
    let code = match code {
        FAILED if done > 0 => HALFWAY,
        code => code,
    };
    let why = why(source, stop);
    Failure::new(format!("{why}\n  {}\n  {next}", imported(done)), code)
}

/// The end of the message if a signal ends the import after `done` rows.
pub(super) fn state(args: &Import, done: u64) -> String {
    format!("\n  {}\n  {}", imported(done), again(args, done))
}

fn imported(done: u64) -> String {
    match done {
        0 => "nothing was imported".to_owned(),
        1 => "1 row was imported".to_owned(),
        done => format!("{done} rows were imported"),
    }
}

fn why(source: &Source, stop: Stop) -> String {
    let file = &source.name;
    match stop {
        Stop::Row { start, error } => {
            let error = one_line(error);
            format!("import: {file}: {}: {error}", line(source, start))
        }
        Stop::Database(error) => error.to_string(),
        Stop::Changed(why) => {
            let why = one_line(why);
            format!("import: {file}: it has changed since it was checked: {why}")
        }
        Stop::Signal(number) => format!("import: {file}: ended by signal {number}"),
    }
}

/// The next step after `done` rows.
fn again(args: &Import, done: u64) -> String {
    match args.skip + done {
        0 => "try again".to_owned(),
        skip => format!("continue with --skip {skip}"),
    }
}

/// The next step if the database refused the row after `done` rows.
fn correct(args: &Import, done: u64) -> String {
    let again = again(args, done);
    if args.atomic {
        return format!("correct it and {again}");
    }
    let after = args.skip + done + 1;
    format!("correct it and {again}, or leave it out with --skip {after}")
}

fn line(source: &Source, start: u64) -> String {
    match source.line_at(start) {
        Ok(line) => format!("line {line}"),
        Err(_) => format!("byte {start}"),
    }
}

fn row_count(rows: u64) -> String {
    let word = if rows == 1 { "row" } else { "rows" };
    format!("{rows} {word}")
}
