//! `penholder query`: run SQL that reads.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use penholder::rusqlite::fallible_iterator::FallibleIterator;
use penholder::rusqlite::types::ValueRef;
use penholder::rusqlite::{self, Batch, Connection, Statement};
use penholder::{Value, column_names};
use penholder_rows::terminal_text::printable;
use penholder_rows::value_text::scalar;

use crate::advised_target::AdvisedTarget;
use crate::args::Query;
use crate::caveats::Caveats;
use crate::failure::{FAILED, Failure};
use crate::output;
use crate::param::Parameters;
use crate::row_printer::{Format, Layout, RowPrinter};
use crate::shell_command::ShellCommand;
use crate::sql_source;
use crate::sql_text::Tokens;
use penholder::sql_script::{self, ScriptStatement};

pub(crate) fn run(args: &Query) -> Result<ExitCode, Failure> {
    let sql = sql_source::read("query", &args.sql, None)?;
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
    let script = sql_script::statements(sql);
    // The place of a statement, if there is anything to tell it from.
    let is_long = script.len() > 1;
    let place = |one: &ScriptStatement<'_>| is_long.then(|| one.place());
    let mut statements: Vec<(Statement<'_>, Option<String>)> = Vec::new();
    for one in &script {
        let at_place = |failure: Failure| match place(one) {
            Some(place) => failure.at(&place),
            None => failure,
        };
        if let Some(command) = ShellCommand::of(one.sql) {
            let instead = command.instead(&AdvisedTarget::of(&args.target));
            return Err(Failure::new(format!("query: {instead}"), FAILED));
        }
        let mut batch = Batch::new(connection, one.sql);
        while let Some(mut statement) = batch
            .next()
            .map_err(|error| at_place(explain(one, error)))?
        {
            check(&statement, one.sql).map_err(at_place)?;
            parameters.bind(&mut statement).map_err(at_place)?;
            statements.push((statement, place(one)));
        }
    }
    parameters.refuse_unused()?;
    if statements.is_empty() {
        let message = "query: there is no statement: give a SELECT";
        return Err(Failure::new(message, FAILED));
    }
    if args.scalar {
        return print_value(
            statements
                .into_iter()
                .map(|(statement, _)| statement)
                .collect(),
        );
    }
    for (number, (statement, place)) in statements.into_iter().enumerate() {
        let printed = print_rows(connection, statement, args, number > 0);
        printed.map_err(|failure| match place {
            Some(place) => failure.at(&place),
            None => failure,
        })?;
    }
    Ok(())
}

/// The message for a statement that SQLite refuses.
fn explain(statement: &ScriptStatement<'_>, error: rusqlite::Error) -> Failure {
    match error {
        // Its text would repeat the whole statement.
        rusqlite::Error::SqlInputError {
            error, msg, offset, ..
        } => {
            let message = statement.at_line(&msg, offset);
            rusqlite::Error::SqliteFailure(error, Some(message)).into()
        }
        error => error.into(),
    }
}

fn check(statement: &Statement<'_>, sql: &str) -> Result<(), Failure> {
    if Tokens::significant(sql)
        .next()
        .is_some_and(|first| first.is("ATTACH"))
    {
        let message = "query: it reads one database: use `penholder exec`, which takes the locks of \
                       those that it attaches, and prints the rows of the last statement";
        return Err(Failure::new(message, FAILED));
    }
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
