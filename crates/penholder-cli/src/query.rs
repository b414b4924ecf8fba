//! `penholder query`: run SQL that reads.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use penholder::Value;
use penholder::rusqlite::types::ValueRef;
use penholder::rusqlite::{Connection, Error as SqliteError};

use crate::args::Query;
use crate::column_names::column_names;
use crate::failure::{FAILED, Failure};
use crate::param;
use crate::row_printer::{Format, RowPrinter};
use crate::sql_text::is_blank;

pub(crate) fn run(args: &Query) -> Result<ExitCode, Failure> {
    let options = args.target.options().timeout(args.timeout.timeout);
    let db = options.read_only(true).open(&args.target.db)?;
    let params: Vec<Value> = args.params.iter().map(|word| param::value(word)).collect();
    db.try_read(|connection| print(connection, args, &params))?;
    Ok(ExitCode::SUCCESS)
}

fn no_rows() -> Failure {
    let message = "query: this statement returns no rows: give a SELECT";
    Failure::new(message, FAILED)
}

/// Prints rows as SQLite returns them, so that a large result needs little memory.
fn print(connection: &Connection, args: &Query, params: &[Value]) -> Result<(), Failure> {
    if is_blank(&args.sql) {
        return Err(no_rows());
    }
    let mut statement = connection.prepare(&args.sql).map_err(|error| match error {
        SqliteError::MultipleStatement => Failure::new(
            "query: there are several statements: give one at a time",
            FAILED,
        ),
        error => error.into(),
    })?;
    if statement.parameter_count() != params.len() {
        return Err(
            SqliteError::InvalidParameterCount(params.len(), statement.parameter_count()).into(),
        );
    }
    for (number, value) in params.iter().enumerate() {
        statement.raw_bind_parameter(number + 1, value)?;
    }
    let columns = column_names(&statement)?;
    if !statement.readonly() {
        let message = "query: this statement writes: use `penholder exec`";
        return Err(Failure::new(message, FAILED));
    }
    if columns.is_empty() {
        return Err(no_rows());
    }
    let width = columns.len();
    let mut rows = statement.raw_query();
    // The first row is read before the header is printed: a statement that fails prints
    // nothing.
    let mut row = rows.next()?;
    let mut printer = RowPrinter::new(columns, format(args))?;
    printer.caveats.is_export = args.csv && !io::stdout().is_terminal();
    while let Some(found) = row {
        let values: Result<Vec<Value>, _> = (0..width).map(|number| found.get(number)).collect();
        for number in 0..width {
            if is_wrong_text(found.get_ref(number)?) {
                printer.caveats.note_replaced();
            }
        }
        printer.row(&values?)?;
        row = rows.next()?;
    }
    printer.end()
}

/// Whether it is a text that is not UTF-8.
fn is_wrong_text(value: ValueRef<'_>) -> bool {
    matches!(value, ValueRef::Text(bytes) if str::from_utf8(bytes).is_err())
}

fn format(args: &Query) -> Format {
    if args.json {
        Format::Json
    } else if args.csv {
        Format::Csv
    } else if args.table {
        Format::Table
    } else {
        Format::for_stdout()
    }
}
