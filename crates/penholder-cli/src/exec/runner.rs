//! Running the steps of a plan on a connection.

use penholder::rusqlite::fallible_iterator::FallibleIterator;
use penholder::rusqlite::{self, Batch, Connection, ffi};
use penholder::{Executed, RowSet, column_names};
use penholder_core::one_line;

use super::foreign_keys::ForeignKeyCheck;
use super::plan::{Action, Plan, Step, refused, without_effect};
use super::pragma::{Effect, Pragma};
use super::preset::Preset;
use crate::advised_target::AdvisedTarget;
use crate::failure::Failure;
use crate::param::Parameters;
use crate::sql_text::{self, SavepointStep};
use penholder::sql_script::ScriptStatement;

/// What runs a script.
pub(super) struct Runner<'a> {
    pub(super) plan: &'a Plan<'a>,
    pub(super) preset: &'a Preset,
    pub(super) parameters: &'a Parameters,
    /// The database as a word of a shell.
    pub(super) target: &'a AdvisedTarget,
    /// Whether the database is being created.
    pub(super) is_new: bool,
}

impl Runner<'_> {
    /// Runs the statements in order. Keeps the rows of the last one. `note` is told of each
    /// statement before it runs; `has_deferred_violation` tells whether the commit would fail.
    pub(super) fn run(
        &self,
        connection: &Connection,
        note: &dyn Fn(&str),
        has_deferred_violation: &dyn Fn() -> bool,
    ) -> Result<Executed, Failure> {
        let check = ForeignKeyCheck::begin(connection)?;
        let mut done = Executed::default();
        let mut savepoints = Savepoints::default();
        for step in &self.plan.steps {
            self.step(connection, note, step, &mut done)?;
            savepoints.follow(step.statement.sql, &mut done.rows_changed);
        }
        self.parameters.refuse_unused()?;
        if self.plan.is_vacuum {
            self.check_layout(connection)?;
        } else if self.plan.sets_encoding() {
            store_encoding(connection)?;
        }
        let check = check.or_else(|| has_deferred_violation().then(ForeignKeyCheck::default));
        check.map_or(Ok(()), |check| check.end(connection, &self.shell()))?;
        Ok(done)
    }

    fn step(
        &self,
        connection: &Connection,
        note: &dyn Fn(&str),
        step: &Step<'_>,
        done: &mut Executed,
    ) -> Result<(), Failure> {
        let statement = &step.statement;
        let run = |done: &mut Executed| {
            note(statement.sql);
            self.run_statement(connection, statement, done)
        };
        match &step.action {
            Action::Run | Action::Attach(_) => run(done),
            Action::Detach(name) => refuse_unattached(connection, statement, name),
            Action::RunAndCheck(pragma) => {
                if pragma.name == "incremental_vacuum" {
                    self.refuse_other_vacuum(connection, statement, pragma)?;
                }
                // Asking some that only work would make them work.
                if pragma.expected().is_none() {
                    return run(done);
                }
                let before = current(connection, statement, pragma)?;
                run(done)?;
                self.check(connection, statement, pragma, before.as_deref())
            }
            Action::Layout(pragma) => {
                self.refuse_error(statement)?;
                run(done)?;
                // Only VACUUM, which follows, has the effect of this one.
                if self.plan.is_vacuum && pragma.name == "auto_vacuum" {
                    return Ok(());
                }
                self.check_one_layout(connection, statement, pragma)
            }
            Action::CheckSet(pragma) => {
                self.refuse_error(statement)?;
                let before = self.preset.before(pragma);
                self.check(connection, statement, pragma, before.as_deref())
            }
            Action::MustHold(pragma) => {
                let holds = pragma.expected() == current(connection, statement, pragma)?;
                self.unless(holds, statement, pragma)
            }
            Action::MustRestore(pragma) => {
                let wanted = pragma.expected().or_else(|| pragma.value.clone());
                // SQLite does not tell the value of some.
                let before = self.preset.before(pragma);
                self.unless(before.is_none() || before == wanted, statement, pragma)
            }
        }
    }

    /// Runs one statement to its end.
    fn run_statement(
        &self,
        connection: &Connection,
        script: &ScriptStatement<'_>,
        done: &mut Executed,
    ) -> Result<(), Failure> {
        let failed = |error| explain(script, error);
        let mut batch = Batch::new(connection, script.sql);
        while let Some(mut statement) = batch.next().map_err(failed)? {
            if statement.parameter_count() > 0 || self.parameters.are_positional() {
                let bound = self.parameters.bind(&mut statement);
                bound.map_err(|failure| failure.at(&script.place()))?;
            }
            // Virtual tables write rows of their own as they are created.
            let is_change = sql_text::changes_rows(script.sql);
            let before = connection.total_changes();
            done.returned =
                RowSet::of(&mut statement, |one| column_names(connection, one)).map_err(failed)?;
            if is_change && connection.total_changes() != before {
                done.rows_changed += connection.changes();
            }
        }
        Ok(())
    }

    /// The command for SQLite's shell on this database.
    fn shell(&self) -> String {
        let AdvisedTarget { db, path } = self.target;
        match self.is_new {
            true => format!("sqlite3 {path}"),
            false => format!("penholder run {db} -- sqlite3 {path}"),
        }
    }

    /// Refuses a pragma that was set, and reads as before.
    fn check(
        &self,
        connection: &Connection,
        statement: &ScriptStatement<'_>,
        pragma: &Pragma,
        before: Option<&str>,
    ) -> Result<(), Failure> {
        let Some(expected) = pragma.expected() else {
            return Ok(());
        };
        let found = current(connection, statement, pragma)?;
        // SQLite has no value to read back of some.
        let is_unknown = found.is_none();
        let is_limited = pragma.effect() != Some(Effect::Database) && found.as_deref() != before;
        let has_effect = is_unknown || is_limited || found == Some(expected);
        self.unless(has_effect, statement, pragma)
    }

    /// Refuses pragmas of the layout that had no effect.
    fn check_layout(&self, connection: &Connection) -> Result<(), Failure> {
        for step in &self.plan.steps {
            if let Action::Layout(pragma) = &step.action {
                self.check_one_layout(connection, &step.statement, pragma)?;
            }
        }
        Ok(())
    }

    fn check_one_layout(
        &self,
        connection: &Connection,
        statement: &ScriptStatement<'_>,
        pragma: &Pragma,
    ) -> Result<(), Failure> {
        let has_effect = current(connection, statement, pragma)? == pragma.expected();
        self.unless(has_effect, statement, pragma)
    }

    fn refuse_other_vacuum(
        &self,
        connection: &Connection,
        statement: &ScriptStatement<'_>,
        pragma: &Pragma,
    ) -> Result<(), Failure> {
        let mode = Pragma::named("auto_vacuum");
        let is_incremental = current(connection, statement, &mode)?.as_deref() == Some("2");
        self.unless(is_incremental, statement, pragma)
    }

    fn unless(
        &self,
        has_effect: bool,
        statement: &ScriptStatement<'_>,
        pragma: &Pragma,
    ) -> Result<(), Failure> {
        if has_effect {
            return Ok(());
        }
        let why = pragma.entry().map_or("", |entry| entry.why);
        Err(without_effect(statement, pragma, why, self.target))
    }

    /// Reports the error that a statement met as the connection was opened.
    fn refuse_error(&self, statement: &ScriptStatement<'_>) -> Result<(), Failure> {
        self.preset.error(statement.sql).map_or(Ok(()), |error| {
            Err(refused(statement, &format!("{error}: nothing was written")))
        })
    }
}

/// The savepoints of a script, and how many rows it had changed at each.
#[derive(Debug, Default)]
struct Savepoints(Vec<(String, u64)>);

impl Savepoints {
    /// Follows a statement that has run, so that rows that it took back are not counted.
    fn follow(&mut self, sql: &str, rows_changed: &mut u64) {
        let Some(step) = SavepointStep::of(sql) else {
            return;
        };
        let place = |name: &str| self.0.iter().rposition(|(known, _)| known == name);
        match step {
            SavepointStep::Begin(name) => self.0.push((name, *rows_changed)),
            SavepointStep::Release(name) => self.0.truncate(place(&name).unwrap_or(0)),
            SavepointStep::RollBackTo(name) => {
                if let Some(place) = place(&name) {
                    *rows_changed = self.0[place].1;
                    self.0.truncate(place + 1);
                }
            }
        }
    }
}

fn current(
    connection: &Connection,
    statement: &ScriptStatement<'_>,
    pragma: &Pragma,
) -> Result<Option<String>, Failure> {
    let read = pragma.current(connection);
    read.map_err(|error| explain(statement, error))
}

/// Refuses to detach what is not attached, as SQLite does.
fn refuse_unattached(
    connection: &Connection,
    statement: &ScriptStatement<'_>,
    name: &str,
) -> Result<(), Failure> {
    // The first two are `main` and `temp`.
    let ask = "SELECT count(*) FROM pragma_database_list \
               WHERE seq >= 2 AND name = ?1 COLLATE NOCASE";
    let found: i64 = connection.query_row(ask, [name], |row| row.get(0))?;
    if found > 0 {
        return Ok(());
    }
    let why = format!(
        "no database is attached as {}: nothing was written: check the name",
        one_line(name)
    );
    Err(refused(statement, &why))
}

/// Stores the encoding of a database without tables: SQLite does that with the first table.
fn store_encoding(connection: &Connection) -> rusqlite::Result<()> {
    let ask = "SELECT count(*) FROM sqlite_schema";
    let entries: i64 = connection.query_row(ask, [], |row| row.get(0))?;
    if entries > 0 {
        return Ok(());
    }
    connection.execute_batch("CREATE TABLE _penholder_first(a); DROP TABLE _penholder_first")
}

fn explain(statement: &ScriptStatement<'_>, error: rusqlite::Error) -> Failure {
    let next = next_step(&error);
    let error = match error {
        // Its text would repeat the whole statement.
        rusqlite::Error::SqlInputError {
            error, msg, offset, ..
        } => rusqlite::Error::SqliteFailure(error, Some(statement.at_line(&msg, offset))),
        error => error,
    };
    let error = penholder::Error::from(error);
    refused(statement, &format!("{error}: nothing was written{next}"))
}

/// The message for a statement that was a transaction of its own.
pub(super) fn explain_write(statement: &ScriptStatement<'_>, error: penholder::Error) -> Failure {
    match error.sqlite_error() {
        Some(rusqlite::Error::SqlInputError { msg, offset, .. }) => {
            let why = one_line(statement.at_line(msg, *offset));
            refused(statement, &format!("run SQL: {why}: nothing was written"))
        }
        Some(_) if !error.is_timeout() && !error.has_kept_changes() => {
            refused(statement, &format!("{error}: nothing was written"))
        }
        _ => Failure::from(error).at(&statement.place()),
    }
}

fn next_step(error: &rusqlite::Error) -> &'static str {
    let code = error.sqlite_error().map(|error| error.extended_code);
    match code {
        Some(ffi::SQLITE_CONSTRAINT_FOREIGNKEY) => MEND_KEYS,
        // SQLite says `main` of the parent of a foreign key.
        _ if error.to_string().contains("no such table: main.") => CREATE_LATER,
        _ => "",
    }
}

/// What to do if the order of the statements violates foreign keys for a while.
const MEND_KEYS: &str = ": if later statements mend that, begin the script with PRAGMA \
                         defer_foreign_keys=ON, or as a dump does with PRAGMA foreign_keys=OFF: \
                         foreign keys are checked at its end";
/// What to do if the parent of a foreign key is created by a later statement.
const CREATE_LATER: &str = ": if a foreign key refers to it, and a later statement creates it, begin \
                            the script with PRAGMA foreign_keys=OFF: foreign keys are checked at \
                            its end";
