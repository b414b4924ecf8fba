//! `penholder query`: run SQL that reads.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use penholder::rusqlite::fallible_iterator::FallibleIterator;
use penholder::rusqlite::types::ValueRef;
use penholder::rusqlite::{Batch, Connection, Statement};
use penholder::{Value, column_names};

use crate::args::Query;
use crate::caveats::Caveats;
use crate::failure::{FAILED, Failure};
use crate::output;
use crate::param::Parameters;
use crate::row_printer::{Format, Layout, RowPrinter, scalar};
use crate::sql_source;
use crate::text::printable;

pub(crate) fn run(args: &Query) -> Result<ExitCode, Failure> {
    let sql = sql_source::read("query", &args.sql)?;
    let parameters = Parameters::of(&args.params, &args.named)?;
    let options = args.target.options().timeout(args.timeout.timeout);
    let db = options.read_only(true).open(&args.target.db)?;
    db.try_read(|connection| print_all(connection, args, &sql, &parameters))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the rows of each statement. All see the same state of the database.
fn print_all(
    connection: &Connection,
    args: &Query,
    sql: &str,
    parameters: &Parameters,
) -> Result<(), Failure> {
    let mut statements: Vec<Statement<'_>> = Vec::new();
    let mut batch = Batch::new(connection, sql);
    while let Some(mut statement) = batch.next()? {
        check(&statement)?;
        parameters.bind(&mut statement)?;
        statements.push(statement);
    }
    parameters.refuse_unused()?;
    if args.scalar {
        return print_value(statements);
    }
    if statements.is_empty() {
        return Err(no_rows());
    }
    for (number, statement) in statements.into_iter().enumerate() {
        print_rows(connection, statement, args, number > 0)?;
    }
    Ok(())
}

fn check(statement: &Statement<'_>) -> Result<(), Failure> {
    if !statement.readonly() {
        let message = "query: this statement writes: use `penholder exec`";
        return Err(Failure::new(message, FAILED));
    }
    match statement.column_count() {
        0 => Err(no_rows()),
        _ => Ok(()),
    }
}

fn no_rows() -> Failure {
    let message = "query: this statement returns no rows: give a SELECT";
    Failure::new(message, FAILED)
}

/// Prints rows as SQLite returns them, so that a large result needs little memory.
fn print_rows(
    connection: &Connection,
    mut statement: Statement<'_>,
    args: &Query,
    is_another: bool,
) -> Result<(), Failure> {
    let mut rows = statement.raw_query();
    // The first row is read before the header is printed: a statement that fails prints
    // nothing. And only then the names of the columns are known for sure.
    let Some(first) = rows.next()? else {
        drop(rows);
        return printer(column_names(connection, &statement), args, is_another)?.end();
    };
    let columns = column_names(connection, first.as_ref());
    let width = columns.len();
    let mut printer = printer(columns, args, is_another)?;
    let mut row = Some(first);
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

/// Prints what comes before the rows.
fn printer(columns: Vec<String>, args: &Query, is_another: bool) -> Result<RowPrinter, Failure> {
    let layout = layout(args);
    if is_another && layout.format == Format::Csv {
        io::stdout().write_all(b"\n")?;
    }
    let mut caveats = Caveats::default();
    caveats.note_names(&columns);
    caveats.is_export = args.csv && !io::stdout().is_terminal();
    let mut printer = RowPrinter::new(columns, layout)?;
    printer.caveats = caveats;
    Ok(printer)
}

/// Prints the only value of the only row.
fn print_value(mut statements: Vec<Statement<'_>>) -> Result<(), Failure> {
    let refused = |message: String| Failure::new(format!("query: --scalar: {message}"), FAILED);
    let mut statement = match (statements.pop(), statements.len()) {
        (None, _) => return Err(no_rows()),
        (Some(statement), 0) => statement,
        _ => return Err(refused("there are several statements: give one".to_owned())),
    };
    let count = statement.column_count();
    if count != 1 {
        return Err(refused(format!("there are {count} columns: select one")));
    }
    let mut rows = statement.raw_query();
    let Some(row) = rows.next()? else {
        return Err(refused("there is no row".to_owned()));
    };
    let mut caveats = Caveats::default();
    if is_wrong_text(row.get_ref(0)?) {
        caveats.note_replaced();
    }
    let value = row.get(0)?;
    if matches!(value, Value::Blob(_)) {
        caveats.note_bare_blob();
    }
    let mut text = scalar(&value);
    if rows.next()?.is_some() {
        let why = "there are several rows: select one value, for example with LIMIT 1";
        return Err(refused(why.to_owned()));
    }
    if io::stdout().is_terminal() {
        text = printable(&text);
    }
    output::print(format!("{text}\n").as_bytes())?;
    caveats.say();
    Ok(())
}

/// Whether it is a text that is not UTF-8.
fn is_wrong_text(value: ValueRef<'_>) -> bool {
    matches!(value, ValueRef::Text(bytes) if str::from_utf8(bytes).is_err())
}

fn layout(args: &Query) -> Layout {
    let format = if args.json {
        Format::Json
    } else if args.csv {
        Format::Csv
    } else if args.table {
        Format::Table
    } else {
        Format::for_stdout()
    };
    Layout {
        format,
        has_header: !args.no_header,
    }
}
