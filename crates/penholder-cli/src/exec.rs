//! `penholder exec`: run SQL that writes.

use std::process::ExitCode;

use penholder::rusqlite::fallible_iterator::FallibleIterator;
use penholder::rusqlite::{self, Batch};
use penholder::{Database, Executed, RowSet, Transaction, Value};

use crate::args::Exec;
use crate::failure::{FAILED, Failure, USAGE, say_warnings};
use crate::interruption::Interruption;
use crate::param::Parameters;
use crate::row_printer::{Layout, RowPrinter};
use crate::sql_source;
use crate::sql_text::without_comments;

/// An interruption before the first statement.
const NOTHING: &str = ": nothing was written";
/// An interruption later.
const UNCOMMITTED: &str = ": what was not committed is rolled back";

pub(crate) fn run(args: &Exec, interruption: &Interruption) -> Result<ExitCode, Failure> {
    interruption.set_outcome(NOTHING);
    // Comes before the lock: no process waits for our standard input.
    let sql = sql_source::read("exec", &args.sql)?;
    let params = Parameters::of(&args.params, &[])?.positional;
    let mut options = args.target.options().timeout(args.timeout.timeout);
    if let Some(label) = &args.label {
        options = options.label(label);
    }
    let db = options.open(&args.target.db)?;
    say_warnings(&db);
    let done = execute(&db, &sql, params, interruption)?;
    interruption.set_outcome(", after its changes were committed");
    let plural = if done.rows_changed == 1 {
        "row"
    } else {
        "rows"
    };
    args.quiet
        .say(format!("{} {plural} changed", done.rows_changed));
    print_returned(&done)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs one statement with parameters, or any number of statements without, in one
/// transaction.
fn execute(
    db: &Database,
    sql: &str,
    params: Vec<Value>,
    interruption: &Interruption,
) -> Result<Executed, Failure> {
    if params.is_empty() {
        return db.try_write(|tx| {
            interruption.set_outcome(UNCOMMITTED);
            run_script(tx, sql)
        });
    }
    interruption.set_outcome(UNCOMMITTED);
    db.execute(sql, params)
        .map_err(|error| match error.sqlite_error() {
            Some(rusqlite::Error::MultipleStatement) => {
                let message =
                    "parameters need a single statement: split the SQL or write the values into it";
                Failure::new(message, USAGE)
            }
            _ => error.into(),
        })
}

/// Runs the statements in order. Keeps the rows of the last one.
fn run_script(tx: &Transaction<'_>, sql: &str) -> Result<Executed, Failure> {
    let mut done = Executed::default();
    let mut batch = Batch::new(tx, sql);
    for number in 1.. {
        let failed = |error: rusqlite::Error| explain(number, error);
        let Some(mut statement) = batch.next().map_err(failed)? else {
            break;
        };
        if statement.parameter_count() > 0 {
            let message =
                format!("statement {number}: it has parameters: give their values after the SQL");
            return Err(Failure::new(message, FAILED));
        }
        let text = statement.expanded_sql().unwrap_or_default();
        tx.note_statement(&text);
        if let Some((name, why, next)) = refused_pragma(&text) {
            let message =
                format!("statement {number}: PRAGMA {name}: {why}; nothing was written: {next}");
            return Err(Failure::new(message, FAILED));
        }
        let before = tx.total_changes();
        done.returned = RowSet::of(&mut statement).map_err(failed)?;
        if tx.total_changes() != before {
            done.rows_changed += tx.changes();
        }
    }
    Ok(done)
}

/// Pragmas that are refused if they have a value: why, and what to do instead.
const REFUSED: [(&str, &str, &str); 3] = [
    (
        "foreign_keys",
        "SQLite ignores it in a transaction, and the statements run in one, with foreign keys \
         enforced",
        "leave it out, or use `penholder run DB -- sqlite3 DB`",
    ),
    (
        "locking_mode",
        "the write lock is held already, and readers would be locked out too",
        "leave it out",
    ),
    (
        "query_only",
        "the statements after it could not write",
        "leave it out, or use `penholder query`",
    ),
];

/// Returns the pragma that this statement sets, if it is refused.
fn refused_pragma(sql: &str) -> Option<(&'static str, &'static str, &'static str)> {
    let mut bare = without_comments(sql).to_ascii_lowercase();
    bare.retain(|c| !c.is_whitespace() && !"\"'`[]".contains(c));
    // SQLite sets many pragmas as it compiles them, also to explain them.
    let bare = bare.trim_start_matches(';');
    let bare = bare.strip_prefix("explain").unwrap_or(bare);
    let pragma = bare
        .strip_prefix("queryplan")
        .unwrap_or(bare)
        .strip_prefix("pragma")?;
    let (name, _value) = pragma.split_once(['=', '('])?;
    // The name of a database may precede it.
    let name = name.rsplit('.').next()?;
    REFUSED.into_iter().find(|(refused, ..)| *refused == name)
}

fn explain(number: u32, error: rusqlite::Error) -> Failure {
    let nested = error.to_string().contains("within a transaction");
    let error = penholder::Error::from(error);
    let hint = if nested && !error.to_string().contains("VACUUM") {
        "the statements already run in one transaction: leave BEGIN and COMMIT out"
    } else {
        "nothing was written"
    };
    Failure::new(format!("statement {number}: {error}: {hint}"), FAILED)
}

fn print_returned(done: &Executed) -> Result<(), Failure> {
    if done.returned.columns().is_empty() {
        return Ok(());
    }
    let columns = done.returned.columns().to_vec();
    let mut printer = RowPrinter::new(columns, Layout::for_stdout())?;
    for row in done.returned.iter() {
        for value in row.values() {
            // Wrong bytes were replaced by this character when the row was read.
            if matches!(value, Value::Text(text) if text.contains('\u{FFFD}')) {
                printer.caveats.note_perhaps_replaced();
            }
        }
        printer.row(row.values())?;
    }
    printer.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pragma_that_is_refused_is_recognised() {
        for sql in [
            "PRAGMA foreign_keys=OFF",
            "pragma\nForeign_Keys ( 1 );",
            "PRAGMA main.foreign_keys = on",
            "/* a */ -- b\n PRAGMA /* c */ \"foreign_keys\" = 0",
            "PRAGMA query_only=1",
            "EXPLAIN QUERY PLAN PRAGMA query_only(1)",
            "; pragma main.LOCKING_MODE = EXCLUSIVE",
        ] {
            assert!(refused_pragma(sql).is_some(), "{sql}");
        }
        for sql in [
            "PRAGMA foreign_keys",
            "PRAGMA foreign_keys; -- = 1",
            "PRAGMA defer_foreign_keys=ON",
            "INSERT INTO t VALUES ('PRAGMA foreign_keys=1')",
            "-- PRAGMA foreign_keys=1",
            "/*",
            "",
        ] {
            assert!(refused_pragma(sql).is_none(), "{sql}");
        }
    }
}
