//! The messages at the end of an import: how many rows are in, and how to go on.

use std::fmt::Write;

use penholder::rusqlite::{self, ErrorCode, ffi};
use penholder_core::one_line;

use super::load::Stop;
use super::row::ReadError;
use super::source::Source;
use super::table::Table;
use super::tally::{Found, Tally};
use super::unknown::Unknown;
use crate::args::Import;
use crate::failure::{FAILED, Failure, HALFWAY, TIMEOUT, WAIT_LONGER};
use crate::sys::signal;
use crate::text::count;

/// All rows are written.
pub(super) fn finished(
    args: &Import,
    source: &Source,
    table: &Table,
    done: &Tally,
    unknown: &Unknown,
    seconds: f64,
) -> String {
    let name = one_line(&args.table);
    let rows = done.inserted();
    let mut text = format!(
        "{} imported into {name} in {seconds:.2} s",
        count(rows, "row")
    );
    if args.atomic {
        text += "; no other process wrote meanwhile";
    } else if let Some(rate) = per_second(rows as u64, seconds) {
        let _ = write!(text, ", {rate} per second");
    }
    for what in what_else(args, source, table, done) {
        let _ = write!(text, "\n  {what}");
    }
    if table.is_view {
        text += "\n  it is a view: what is stored is up to its trigger";
    }
    if let Some(names) = unknown.names() {
        let _ = write!(
            text,
            "\n  left out, because the table takes no such column: {names}"
        );
    }
    text
}

/// What is worth saying to a user who wants to hear nothing else. `None` if nothing is.
pub(super) fn warning(
    args: &Import,
    source: &Source,
    table: &Table,
    done: &Tally,
) -> Option<String> {
    let texts = what_else(args, source, table, done);
    (!texts.is_empty()).then(|| format!("import: {}: {}", source.name, texts.join("; ")))
}

/// What became of rows and values that are not stored as the file has them, or as the table
/// promises.
fn what_else(args: &Import, source: &Source, table: &Table, done: &Tally) -> Vec<String> {
    let rows = [ignored(source, done), replaced(source, done)];
    let values = odd_values(args, source, table, done);
    let quoted = (done.quoted_fields.count > 0).then(|| {
        let (are, count) = are(done.quoted_fields, "field");
        let first = line(source, done.quoted_fields.first);
        format!(
            "{count} {are} stored in quotes, as in the file; the first: {first}: --quote '\"' takes \
             them off"
        )
    });
    rows.into_iter()
        .flatten()
        .chain(quoted)
        .chain(values)
        .collect()
}

/// The most messages about columns.
const MAX_COLUMNS: usize = 5;

/// Says for each column which of its values are not what its type promises, or were replaced.
fn odd_values(args: &Import, source: &Source, table: &Table, done: &Tally) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for (number, found) in done.columns() {
        let column = format!("{:?}", table.name(number));
        let of_type = one_line(table.declared_type(number)).to_string();
        let of_type = format!("column {column} of type {of_type}");
        let first = |found: Found| line(source, found.first);
        if found.words.count > 0 {
            let (are, count) = are(found.words, "value");
            let first = first(found.words);
            let numbers = if found.words.count == 1 {
                "number"
            } else {
                "numbers"
            };
            texts.push(format!(
                "{count} of {of_type} {are} no {numbers}, and stored as text; the first: {first}"
            ));
        }
        if found.empty_fields.count > 0 {
            let (are, count) = are(found.empty_fields, "empty field");
            let first = first(found.empty_fields);
            let next = match args.empty_as_null {
                None => ": --empty-as-null stores NULL",
                Some(_) => "",
            };
            texts.push(format!(
                "{count} of {of_type} {are} stored as empty text; the first: {first}{next}"
            ));
        }
        if found.replaced_nulls.count > 0 {
            let (are, count) = are(found.replaced_nulls, "NULL");
            let first = first(found.replaced_nulls);
            texts.push(format!(
                "{count} of column {column} {are} stored as its default, by a conflict clause of \
                 the table; the first: {first}"
            ));
        }
    }
    let more = texts.len().saturating_sub(MAX_COLUMNS);
    if more > 1 {
        texts.truncate(MAX_COLUMNS);
        texts.push(format!("and so in {more} more cases"));
    }
    texts
}

fn are(found: Found, noun: &str) -> (&'static str, String) {
    let are = if found.count == 1 { "is" } else { "are" };
    (are, count(found.count, noun))
}

/// The rows that a conflict clause or a trigger ignored. `None` if there are none.
fn ignored(source: &Source, done: &Tally) -> Option<String> {
    let first = line(source, done.first_ignored?);
    let were = if done.ignored == 1 { "was" } else { "were" };
    Some(format!(
        "{} {were} ignored by a conflict clause or a trigger of the table; the first: {first}",
        count(done.ignored, "row")
    ))
}

/// The rows that took the place of others. `None` if there are none.
fn replaced(source: &Source, done: &Tally) -> Option<String> {
    let first = line(source, done.first_replacing?);
    Some(format!(
        "{} took the place of rows with the same key, by a conflict clause of the table; the \
         first: {first}",
        count(done.replacing, "row")
    ))
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

/// The check found a malformed row, or could not read the file.
pub(super) fn malformed(source: &Source, error: ReadError) -> Failure {
    let file = &source.name;
    match error {
        ReadError::Malformed { start, why } => {
            let line = line(source, start);
            let why = one_line(why);
            let next = "nothing was imported: correct it and try again";
            Failure::new(format!("import: {file}: {line}: {why}: {next}"), FAILED)
        }
        ReadError::Io(error) => {
            let next = "nothing was imported: try again";
            Failure::of_system(format!("import: {file}"), &error, next)
        }
    }
}

/// The import stopped before its end.
pub(super) fn stopped(args: &Import, source: &Source, done: &Tally, stop: Stop) -> Failure {
    let (next, code) = match &stop {
        Stop::Row {
            error,
            has_empty_text,
            ..
        } => (correct(args, done, error, *has_empty_text), FAILED),
        Stop::Commit { .. } if args.atomic => ("correct the file and try again".to_owned(), FAILED),
        Stop::Commit { .. } => {
            let again = again(args, done);
            let why = "which lets a row refer to a later one";
            let with = if again.contains("--") { "and" } else { "with" };
            (format!("{again} {with} --atomic, {why}"), FAILED)
        }
        Stop::Changed(_) => {
            let again = again(args, done);
            (format!("find out what changed, then {again}"), FAILED)
        }
        Stop::Database(error) if error.is_timeout() => (again(args, done), TIMEOUT),
        Stop::Database(error) if error.is_file_replaced() => {
            let next =
                "see which of them are in the database that is there now, then import the rest";
            let next = if done.rows > 0 { next } else { "try again" };
            (next.to_owned(), FAILED)
        }
        Stop::Database(_) => (again(args, done), FAILED),
        Stop::Signal(number) => {
            let code = u8::try_from(128 + number).unwrap_or(FAILED);
            (again(args, done), code)
        }
    };
    let code = match code {
        FAILED if done.rows > 0 => HALFWAY,
        code => code,
    };
    let why = why(args, source, stop);
    Failure::new(
        format!("{why}\n  {}\n  {next}", imported(source, done)),
        code,
    )
}

/// The end of the message if a signal ends the import now.
pub(super) fn state(args: &Import, source: &Source, done: &Tally) -> String {
    format!("\n  {}\n  {}", imported(source, done), again(args, done))
}

/// The same before the file is read.
pub(super) fn nothing_yet(args: &Import) -> String {
    format!(
        "\n  nothing was imported\n  {}",
        again(args, &Tally::default())
    )
}

fn imported(source: &Source, done: &Tally) -> String {
    let imported = match done.inserted() {
        0 => "nothing was imported".to_owned(),
        1 => "1 row was imported".to_owned(),
        rows => format!("{rows} rows were imported"),
    };
    let both = [ignored(source, done), replaced(source, done)];
    let texts: Vec<String> = [Some(imported)].into_iter().chain(both).flatten().collect();
    texts.join("; ")
}

fn why(args: &Import, source: &Source, stop: Stop) -> String {
    let file = &source.name;
    match stop {
        Stop::Row { start, error, .. } => {
            let error = one_line(error);
            format!("import: {file}: {}: {error}", line(source, start))
        }
        Stop::Commit { start, error } => {
            let rows = match args.atomic {
                true => "all rows".to_owned(),
                false => format!("the batch from {}", line(source, start)),
            };
            let why = error
                .sqlite_error()
                .map_or_else(|| error.to_string(), |error| one_line(error).to_string());
            format!("import: {file}: {rows}: refused at the commit: {why}")
        }
        Stop::Database(error) if error.is_timeout() => format!("{error}\n  {WAIT_LONGER}"),
        Stop::Database(error) => error.to_string(),
        Stop::Changed(why) => {
            let why = one_line(why);
            format!("import: {file}: it has changed since it was checked: {why}")
        }
        Stop::Signal(number) => {
            let signal = signal::name(number);
            format!("import: {file}: ended by {signal}")
        }
    }
}

/// The next step after these rows.
fn again(args: &Import, done: &Tally) -> String {
    match args.skip + done.rows as u64 {
        0 => "try again".to_owned(),
        skip => format!("continue with --skip {skip}"),
    }
}

/// The next step if the database refused the row after these.
fn correct(args: &Import, done: &Tally, error: &rusqlite::Error, has_empty_text: bool) -> String {
    let again = again(args, done);
    let mut text = match args.atomic {
        true => format!("correct it and {again}"),
        false => {
            let after = args.skip + done.rows as u64 + 1;
            format!("correct it and {again}, or leave it out with --skip {after}")
        }
    };
    if has_empty_text && args.empty_as_null.is_none() && depends_on_value(error) {
        text += "\n  if an empty field means NULL, add --empty-as-null";
    }
    if is_foreign_key(error) && !args.atomic {
        text += "\n  if it refers to a later row, add --atomic, which checks that at the end";
    }
    text
}

/// Whether the database refused a value, because of its type or a constraint.
fn depends_on_value(error: &rusqlite::Error) -> bool {
    let codes = [ErrorCode::ConstraintViolation, ErrorCode::TypeMismatch];
    error
        .sqlite_error_code()
        .is_some_and(|code| codes.contains(&code))
}

fn is_foreign_key(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code == Some(ffi::SQLITE_CONSTRAINT_FOREIGNKEY)
}

fn line(source: &Source, start: u64) -> String {
    match source.line_at(start) {
        Ok(line) => format!("line {line}"),
        Err(_) => format!("byte {start}"),
    }
}
