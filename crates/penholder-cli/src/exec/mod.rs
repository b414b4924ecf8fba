//! `penholder exec`: run SQL that writes.

mod foreign_keys;
mod kind;
mod other_locks;
mod plan;
mod pragma;
mod preset;
mod runner;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::ExitCode;

use penholder::lock::WriteGuard;
use penholder::{Database, Executed, UNFINISHED_DATABASE, Value};

use crate::advised_target::AdvisedTarget;
use crate::args::Exec;
use crate::failure::{FAILED, Failure, USAGE, say_warnings};
use crate::interruption::Interruption;
use crate::param::Parameters;
use crate::row_printer::{Layout, RowPrinter};
use crate::sql_source;
use crate::sql_text;
use crate::sys::open_file;
use crate::text::count;
use other_locks::OtherLocks;
use penholder::sql_script::{self, ScriptStatement};
use plan::Plan;
use preset::Preset;
use runner::Runner;

/// An interruption before the first statement.
const NOTHING: &str = ": nothing was written";
/// An interruption later.
const UNCOMMITTED: &str = ": what was not committed is rolled back";

pub(crate) fn run(args: &Exec, interruption: &Interruption) -> Result<ExitCode, Failure> {
    interruption.set_outcome(NOTHING);
    // Comes before the lock: no process waits for our standard input.
    let sql = sql_source::read("exec", &args.sql, Some(&args.target.db))?;
    let (done, view) = run_script(args, without_shell_setting(&sql), interruption)?;
    interruption.set_outcome(", after its changes were committed");
    let rows = count(done.rows_changed, "row");
    // SQLite does not count what the triggers of a view change.
    let others = view.map_or_else(String::new, |view| {
        format!(", and those that the triggers of the view {view:?} changed")
    });
    args.quiet.say(format!("{rows} changed{others}"));
    print_returned(&done)?;
    Ok(ExitCode::SUCCESS)
}

/// Leaves out the first line of what `.recover` of SQLite's shell prints: what it sets holds here
/// anyway.
fn without_shell_setting(sql: &str) -> &str {
    match sql.strip_prefix(".dbconfig defensive off") {
        Some(rest) if rest.starts_with(['\n', '\r']) => rest,
        _ => sql,
    }
}

/// Runs a script. Returns what it did, and a view of which it changed rows.
fn run_script(
    args: &Exec,
    sql: &str,
    interruption: &Interruption,
) -> Result<(Executed, Option<String>), Failure> {
    let is_missing = !args.target.db.exists();
    let done = Job::new(args, sql, interruption).and_then(|job| {
        let done = job.run()?;
        Ok((done, job.view.take()))
    });
    done.map_err(|failure| match is_missing && !args.target.db.exists() {
        true => failure.about_missing(),
        false => failure,
    })
}

/// The SQL, and how it runs.
struct Job<'a> {
    args: &'a Exec,
    parameters: Parameters,
    plan: Plan<'a>,
    preset: Preset,
    locks: OtherLocks<'a>,
    target: AdvisedTarget,
    interruption: &'a Interruption,
    /// A view of which it has changed rows.
    view: RefCell<Option<String>>,
}

impl<'a> Job<'a> {
    fn new(args: &'a Exec, sql: &'a str, interruption: &'a Interruption) -> Result<Self, Failure> {
        let target = AdvisedTarget::of(&args.target);
        let parameters = Parameters::of(&args.params, &args.named)?;
        let statements = sql_script::statements(sql);
        if let (true, [_, second, ..]) = (parameters.are_positional(), &statements[..]) {
            let why = "values for ?1, ?2 … need a single statement: name the parameters of several, \
                       as in :name, and give their values with --param name=VALUE";
            return Err(Failure::new(why, USAGE).at(&second.place()));
        }
        let plan = plan::plan(&statements, &target)?;
        Ok(Self {
            locks: OtherLocks::of(&plan, args)?,
            preset: Preset::default(),
            args,
            parameters,
            plan,
            target,
            interruption,
            view: RefCell::default(),
        })
    }

    /// Runs the SQL. A database that is missing is created by it, or not at all.
    fn run(&self) -> Result<Executed, Failure> {
        let args = self.args;
        self.locks.take_first()?;
        let mut options = args.target.options().timeout(args.timeout.timeout);
        if let Some(label) = &args.label {
            options = options.label(label);
        }
        let options = self.preset.add_to(options, &self.plan);
        // Without a thread that could do it, a directory stays if a signal ends this process.
        let remove = || open_file::remove_directories(UNFINISHED_DATABASE);
        let _ = self.interruption.before_end(remove);
        let unnamed = RefCell::new(None);
        let created = options.clone().create_with(&args.target.db, |db, guard| {
            unnamed.replace(Some(db.path().to_owned()));
            self.execute(db, Some(guard))
        });
        let unnamed = unnamed.into_inner();
        let created = created.map_err(|failure: Failure| match &unnamed {
            Some(path) => failure.about(path, &args.target.db),
            None => failure,
        });
        if let Some(done) = created? {
            return Ok(done);
        }
        if unnamed.is_some() && self.plan.attaches() {
            let message = format!(
                "exec: {}: another program created it meanwhile, and nothing was written to it, but \
                 to the databases that were attached: see what they have before you go on",
                self.target.path
            );
            return Err(Failure::new(message, FAILED));
        }
        let db = options.open(&args.target.db)?;
        say_warnings(&db);
        self.execute(&db, None)
    }

    /// Runs the statements, and notes whether they changed rows of a view.
    fn execute(&self, db: &Database, guard: Option<&WriteGuard>) -> Result<Executed, Failure> {
        let done = self.execute_all(db, guard)?;
        let statements = self.plan.steps.iter().map(|step| step.statement.sql);
        let tables: BTreeSet<String> = statements.filter_map(sql_text::changed_table).collect();
        let is_view = |table: &String| {
            let sql = "SELECT count(*) > 0 FROM sqlite_schema \
                       WHERE type = 'view' AND name = ?1 COLLATE NOCASE";
            // It is only for the message: everything is committed.
            let found = db.query_as::<(bool,)>(sql, [table]);
            found.is_ok_and(|rows| rows == [(true,)])
        };
        self.view.replace(tables.into_iter().find(is_view));
        Ok(done)
    }

    /// Runs the statements in one transaction. `guard` is the lock that others see, if it is not
    /// that of `db`.
    fn execute_all(&self, db: &Database, guard: Option<&WriteGuard>) -> Result<Executed, Failure> {
        let note = |sql: &str| guard.map_or((), |guard| guard.note_statement(sql));
        if self.parameters.are_positional()
            && let Some(statement) = self.plan.only_change()
        {
            note(statement.sql);
            return self.execute_one(db, statement);
        }
        let runner = Runner {
            plan: &self.plan,
            preset: &self.preset,
            parameters: &self.parameters,
            target: &self.target,
            is_new: guard.is_some(),
        };
        if self.plan.is_vacuum {
            return db.try_with_write_lock(|connection| {
                self.interruption.set_outcome(UNCOMMITTED);
                runner.run(connection, &note, &|| false)
            });
        }
        db.try_write_on_this_thread(|tx| {
            self.locks.take_rest()?;
            self.interruption.set_outcome(UNCOMMITTED);
            let note_both = |sql: &str| {
                tx.note_statement(sql);
                note(sql);
            };
            runner.run(tx, &note_both, &|| tx.has_deferred_violation())
        })
    }

    /// Runs a statement as its own transaction, which another process may do for this one.
    fn execute_one(
        &self,
        db: &Database,
        statement: &ScriptStatement<'_>,
    ) -> Result<Executed, Failure> {
        self.interruption.set_outcome(UNCOMMITTED);
        let values = self.parameters.positional.clone();
        let done = db.execute(statement.sql, values);
        done.map_err(|error| runner::explain_write(statement, error))
    }
}

fn print_returned(done: &Executed) -> Result<(), Failure> {
    if done.returned.columns().is_empty() {
        return Ok(());
    }
    let columns = done.returned.columns().to_vec();
    let mut printer = RowPrinter::new(columns, Layout::for_stdout())?;
    printer.caveats.note_names(done.returned.columns());
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
