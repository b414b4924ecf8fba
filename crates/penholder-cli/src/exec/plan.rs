//! What happens to each statement of a script, decided before anything runs.
//!
//! A script runs in one transaction. Its own `BEGIN` and `COMMIT` may wrap it: then they are left
//! out. `VACUUM` behind pragmas that need it (`auto_vacuum`) runs outside a transaction, with nothing
//! else.
//!
//! | pragma with a value | where it stands | what happens |
//! | --- | --- | --- |
//! | of the connection | first in the script | set as the connection is opened, and read back |
//! | | between other statements | runs there and is read back; or it must be set already |
//! | | behind all others | must be what the connection had at first; the end of it restores that |
//! | | alone | refused: it would end with its connection |
//! | of the layout | first in the script | applied before a new database is made; runs, and is read back |
//! | of the database | anywhere | runs, and is read back |

use std::path::Path;

use penholder_core::{one_line, shell_path};

use super::kind::Kind;
use super::pragma::{Effect, Pragma};
use crate::advised_target::AdvisedTarget;
use crate::failure::{FAILED, Failure};
use crate::shell_command::ShellCommand;
use crate::sql_text::{self, TokenKind, Tokens};
use penholder::sql_script::ScriptStatement;

/// A statement, and what happens to it.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) statement: ScriptStatement<'a>,
    pub(super) action: Action,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Run,
    /// Run it, and read back what it sets.
    RunAndCheck(Pragma),
    /// As `RunAndCheck`, after it was set on the new connection: before WAL, if the database is
    /// new.
    Layout(Pragma),
    /// It was set on the new connection: read back whether that had an effect.
    CheckSet(Pragma),
    /// Do not run it: it must hold already.
    MustHold(Pragma),
    /// Do not run it: the connection, which ends now, must have had this value at first.
    MustRestore(Pragma),
    /// Open the other database in the file that has this name.
    Attach(String),
    /// Do not run it: the end of the connection does the same to the database with this name,
    /// which must be attached.
    Detach(String),
}

/// What a script does.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    pub(super) steps: Vec<Step<'a>>,
    /// Whether it runs outside a transaction.
    pub(super) is_vacuum: bool,
}

impl Plan<'_> {
    /// Pragmas that are set as the connection is opened.
    pub(super) fn settings(&self) -> impl Iterator<Item = (&Pragma, &str, bool)> {
        self.steps.iter().filter_map(|step| match &step.action {
            Action::Layout(pragma) => Some((pragma, step.statement.sql, true)),
            Action::CheckSet(pragma) => Some((pragma, step.statement.sql, false)),
            _ => None,
        })
    }

    /// Pragmas of which the first value is needed.
    pub(super) fn restored(&self) -> impl Iterator<Item = &Pragma> {
        self.steps.iter().filter_map(|step| match &step.action {
            Action::MustRestore(pragma) => Some(pragma),
            _ => None,
        })
    }

    pub(super) fn sets_encoding(&self) -> bool {
        let mut settings = self.settings();
        settings.any(|(pragma, _, is_layout)| is_layout && pragma.name == "encoding")
    }

    /// The statement, if it is the only one and changes rows.
    pub(super) fn only_change(&self) -> Option<&ScriptStatement<'_>> {
        let [Step { statement, action }] = &self.steps[..] else {
            return None;
        };
        let is_change = *action == Action::Run && sql_text::changes_rows(statement.sql);
        is_change.then_some(statement)
    }

    pub(super) fn attaches(&self) -> bool {
        let is_attach = |step: &Step<'_>| matches!(step.action, Action::Attach(_));
        self.steps.iter().any(is_attach)
    }
}

/// Plans a script.
pub(super) fn plan<'a>(
    statements: &[ScriptStatement<'a>],
    target: &AdvisedTarget,
) -> Result<Plan<'a>, Failure> {
    let kinds: Vec<Kind> = statements.iter().map(|one| Kind::of(one.sql)).collect();
    for (statement, kind) in statements.iter().zip(&kinds) {
        refuse_shell_command(statement, target)?;
        if let Kind::Pragma(pragma) = kind {
            refuse_pragma(statement, pragma, target)?;
        }
    }
    let script = Script {
        statements,
        kinds: &kinds,
        target,
    };
    script.check_transactions()?;
    let is_vacuum = script.is_vacuum()?;
    let mut steps = Vec::new();
    for (index, &statement) in statements.iter().enumerate() {
        if !kinds[index].is_transaction() {
            let action = script.action(index, is_vacuum)?;
            steps.push(Step { statement, action });
        }
    }
    Ok(Plan { steps, is_vacuum })
}

/// The message for a statement that is refused before anything ran.
pub(super) fn refused(statement: &ScriptStatement<'_>, why: &str) -> Failure {
    Failure::new(format!("{}: {why}", statement.place()), FAILED)
}

fn refuse_shell_command(
    statement: &ScriptStatement<'_>,
    target: &AdvisedTarget,
) -> Result<(), Failure> {
    match ShellCommand::of(statement.sql) {
        Some(command) => Err(refused(statement, &command.instead(target))),
        None => Ok(()),
    }
}

/// The message for a pragma that is refused, or had no effect.
pub(super) fn without_effect(
    statement: &ScriptStatement<'_>,
    pragma: &Pragma,
    why: &str,
    target: &AdvisedTarget,
) -> Failure {
    let next = pragma.next_step(target);
    let name = one_line(&pragma.name);
    refused(
        statement,
        &format!("PRAGMA {name}: {why}: nothing was written: {next}"),
    )
}

/// The command that does what `VACUUM`, or `VACUUM INTO`, would do.
fn instead_of_vacuum(statement: &ScriptStatement<'_>, target: &AdvisedTarget) -> String {
    let db = &target.db;
    let mut tokens = Tokens::significant(statement.sql);
    if !tokens.any(|token| token.is("INTO")) {
        return format!("penholder vacuum {db}");
    }
    let file = tokens
        .next()
        .filter(|token| token.kind == TokenKind::Quoted);
    let copy = file.map_or("copy.db".into(), |token| token.value());
    let copy = shell_path(Path::new(&*copy));
    format!("penholder backup {db} {copy}")
}

/// Refuses a pragma that can have no effect wherever it stands.
fn refuse_pragma(
    statement: &ScriptStatement<'_>,
    pragma: &Pragma,
    target: &AdvisedTarget,
) -> Result<(), Failure> {
    let name = one_line(&pragma.name);
    let refuse = |why: &str| Err(refused(statement, &format!("PRAGMA {name}: {why}")));
    let Some(entry) = pragma.entry() else {
        if pragma.is_known()? {
            return Ok(());
        }
        return refuse(
            "SQLite has no such pragma, and ignores it: nothing was written: check the name",
        );
    };
    if pragma.effect() == Some(Effect::Asks) {
        return Ok(());
    }
    if pragma.is_explained {
        return refuse(
            "SQLite sets some pragmas to explain them: nothing was written: leave EXPLAIN out",
        );
    }
    if pragma.has_wrong_value() {
        let value = one_line(pragma.value.as_deref().unwrap_or_default());
        return refuse(&format!(
            "`{value}` is not one of its values: nothing was written: see https://sqlite.org/pragma.html"
        ));
    }
    match entry.effect {
        Effect::Refused { unless }
            if unless.is_empty() || pragma.expected().as_deref() != Some(unless) =>
        {
            Err(without_effect(statement, pragma, entry.why, target))
        }
        _ => Ok(()),
    }
}

/// A script that is being planned.
struct Script<'s, 'a> {
    statements: &'s [ScriptStatement<'a>],
    kinds: &'s [Kind],
    target: &'s AdvisedTarget,
}

impl Script<'_, '_> {
    /// Refuses transactions of the script, unless one wraps it, with nothing before but pragmas and
    /// `ATTACH`, and nothing after but pragmas and `DETACH`.
    fn check_transactions(&self) -> Result<(), Failure> {
        let first = self
            .kinds
            .iter()
            .position(|kind| !matches!(kind, Kind::Pragma(_) | Kind::Attach(_)));
        let last = self
            .kinds
            .iter()
            .rposition(|kind| !matches!(kind, Kind::Pragma(_) | Kind::Detach));
        let (Some(first), Some(last)) = (first, last) else {
            return Ok(());
        };
        if self.kinds[first] != Kind::Begin {
            return self.refuse_transactions(0..self.kinds.len(), IN_ONE);
        }
        match self.kinds[last] {
            Kind::Commit => self.refuse_transactions(first + 1..last, SEVERAL),
            Kind::Rollback => Err(refused(
                &self.statements[last],
                "the script ends with ROLLBACK, which undoes all of it, as a dump does of a \
                 database that could not be read to its end: nothing was written: end it with \
                 COMMIT if it is complete",
            )),
            _ => {
                self.refuse_transactions(first + 1..last + 1, SEVERAL)?;
                Err(refused(
                    &self.statements[first],
                    "no COMMIT ends this transaction, so the script may be cut off: nothing was \
                     written: end it with COMMIT, or leave BEGIN out",
                ))
            }
        }
    }

    fn refuse_transactions(&self, range: std::ops::Range<usize>, why: &str) -> Result<(), Failure> {
        let place = self.kinds[range.clone()]
            .iter()
            .position(Kind::is_transaction);
        place.map_or(Ok(()), |place| {
            Err(refused(&self.statements[range.start + place], why))
        })
    }

    /// Whether it is `VACUUM` with the pragmas that need it, and others of the connection.
    fn is_vacuum(&self) -> Result<bool, Failure> {
        let Some(vacuum) = self.kinds.iter().position(|kind| *kind == Kind::Vacuum) else {
            return Ok(false);
        };
        let effect = |kind: &Kind| match kind {
            Kind::Pragma(pragma) => pragma.effect(),
            _ => None,
        };
        let is_layout = |kind: &Kind| effect(kind) == Some(Effect::Layout);
        // What another pragma writes would be committed at once.
        let may_stand = |kind: &Kind| {
            *kind == Kind::Vacuum
                || !matches!(effect(kind), None | Some(Effect::Database | Effect::Works))
        };
        if self.kinds.iter().all(may_stand) && self.kinds.iter().any(is_layout) {
            return Ok(true);
        }
        let statement = &self.statements[vacuum];
        let next = instead_of_vacuum(statement, self.target);
        let why = format!(
            "VACUUM does not run in a transaction, and the statements run in one: nothing was \
             written: leave it out, and run `{next}`"
        );
        Err(refused(statement, &why))
    }

    fn action(&self, index: usize, is_vacuum: bool) -> Result<Action, Failure> {
        let statement = &self.statements[index];
        match &self.kinds[index] {
            Kind::Pragma(pragma) => self.pragma_action(index, pragma, is_vacuum),
            Kind::Attach(Some(file)) => Ok(Action::Attach(file.clone())),
            Kind::Attach(None) => Err(refused(
                statement,
                "the file of ATTACH is computed, and its lock is not known: nothing was written: \
                 write its path as a text: ATTACH 'other.db' AS other",
            )),
            Kind::CreateTemp if !self.is_followed(index) => Err(refused(
                statement,
                "CREATE TEMP: what it creates ends with the connection, which ends with this \
                 script: nothing was written: leave TEMP out to keep it, or put the statements \
                 that use it after it",
            )),
            Kind::Detach if !self.is_followed(index) => {
                let name = Tokens::significant(statement.sql).last();
                let name = name.map_or_else(String::new, |name| name.value().into_owned());
                Ok(Action::Detach(name))
            }
            Kind::Detach => Err(refused(
                statement,
                "SQLite does not detach in a transaction, and the statements run in one: nothing \
                 was written: leave it out: exec detaches all at its end",
            )),
            _ => Ok(Action::Run),
        }
    }

    fn pragma_action(
        &self,
        index: usize,
        pragma: &Pragma,
        is_vacuum: bool,
    ) -> Result<Action, Failure> {
        let statement = &self.statements[index];
        let pragma = pragma.clone();
        let refuse = |pragma: &Pragma| {
            let why = pragma.entry().map_or("", |entry| entry.why);
            Err(without_effect(statement, pragma, why, self.target))
        };
        match pragma.effect() {
            None | Some(Effect::Asks) => Ok(Action::Run),
            Some(Effect::Refused { .. }) => Ok(Action::MustHold(pragma)),
            Some(Effect::Database | Effect::Works) if pragma.name != "shrink_memory" => {
                Ok(Action::RunAndCheck(pragma))
            }
            Some(Effect::Layout) => Ok(Action::Layout(pragma)),
            _ if !self.kinds.iter().any(Kind::does_something) => refuse(&pragma),
            _ if !self.is_followed(index) && pragma.name == "shrink_memory" => refuse(&pragma),
            Some(Effect::Transaction) if !self.is_followed(index) => refuse(&pragma),
            Some(Effect::Transaction | Effect::Database | Effect::Works) => {
                Ok(Action::RunAndCheck(pragma))
            }
            _ if !self.is_followed(index) => Ok(Action::MustRestore(pragma)),
            _ if is_vacuum => Ok(Action::RunAndCheck(pragma)),
            _ if self.is_first(index) && pragma.is_about_main() => Ok(Action::CheckSet(pragma)),
            Some(Effect::OutsideTransaction) => Ok(Action::MustHold(pragma)),
            Some(Effect::Connection) => Ok(Action::RunAndCheck(pragma)),
        }
    }

    fn is_followed(&self, index: usize) -> bool {
        self.kinds[index + 1..].iter().any(Kind::does_something)
    }

    /// Whether only pragmas and `ATTACH` stand before it.
    fn is_first(&self, index: usize) -> bool {
        let mut before = self.kinds[..index].iter();
        before.all(|kind| matches!(kind, Kind::Pragma(_) | Kind::Attach(_)))
    }
}

const IN_ONE: &str = "the statements run in one transaction already: nothing was written: leave \
                      BEGIN, COMMIT and ROLLBACK out, or let BEGIN and COMMIT wrap the whole script";
const SEVERAL: &str = "the script has several transactions: nothing was written: split it, and give \
                       each to an exec of its own, or leave BEGIN, COMMIT and ROLLBACK out to run it \
                       in one";

#[cfg(test)]
mod tests {
    use super::*;
    use penholder::sql_script::statements;

    fn planned(sql: &str) -> Result<Plan<'_>, String> {
        plan(&statements(sql), &AdvisedTarget::plain("x.db")).map_err(|failure| match failure {
            Failure::Said { message, .. } => message,
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn a_transaction_may_wrap_the_script() {
        for sql in [
            "PRAGMA foreign_keys=OFF; BEGIN TRANSACTION; SELECT 1; COMMIT;",
            "BEGIN IMMEDIATE; SAVEPOINT a; ROLLBACK TO a; RELEASE a; END; PRAGMA foreign_keys=ON",
            "ATTACH 'b' AS b; BEGIN; SELECT 1; COMMIT; DETACH b",
            "BEGIN; COMMIT",
        ] {
            assert!(planned(sql).is_ok(), "{sql}");
        }
        for (sql, why) in [
            (
                "SELECT 1; BEGIN; SELECT 2; COMMIT",
                "statement 2, line 1: the statements run in one",
            ),
            (
                "BEGIN; SELECT 1;\nCOMMIT; BEGIN; COMMIT",
                "statement 3, line 2: the script has several",
            ),
            ("BEGIN; SELECT 1", "statement 1, line 1: no COMMIT"),
            (
                "BEGIN; SELECT 1; ROLLBACK",
                "statement 3, line 1: the script ends with ROLLBACK",
            ),
            ("COMMIT", "statement 1, line 1: the statements run in one"),
        ] {
            let message = planned(sql).unwrap_err();
            assert!(message.starts_with(why), "{sql}: {message}");
        }
    }

    #[test]
    fn where_a_pragma_stands_decides_what_happens() {
        let action = |sql: &str, index: usize| {
            let plan = planned(sql)?;
            Ok::<_, String>(
                format!("{:?}", plan.steps[index].action)
                    .split('(')
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            )
        };
        for (sql, index, expected) in [
            ("PRAGMA foreign_keys=OFF; SELECT 1", 0, "CheckSet"),
            ("SELECT 1; PRAGMA foreign_keys=OFF; SELECT 1", 1, "MustHold"),
            ("SELECT 1; PRAGMA cache_size=9; SELECT 1", 1, "RunAndCheck"),
            ("SELECT 1; PRAGMA foreign_keys=ON", 1, "MustRestore"),
            (
                "BEGIN; SELECT 1; PRAGMA writable_schema=OFF; COMMIT",
                1,
                "MustRestore",
            ),
            ("PRAGMA journal_mode=WAL", 0, "MustHold"),
            ("PRAGMA user_version=3", 0, "RunAndCheck"),
            ("PRAGMA page_size=512; SELECT 1", 0, "Layout"),
            ("PRAGMA auto_vacuum=FULL; VACUUM", 0, "Layout"),
            ("PRAGMA foreign_keys", 0, "Run"),
        ] {
            assert_eq!(action(sql, index).as_deref(), Ok(expected), "{sql}");
        }
        for (sql, why) in [
            ("PRAGMA synchronous=OFF", "exec commits with NORMAL"),
            (
                "PRAGMA cache_size=9; PRAGMA mmap_size=0",
                "PRAGMA cache_size",
            ),
            (
                "SELECT 1; PRAGMA defer_foreign_keys=ON",
                "no statement follows",
            ),
            ("PRAGMA journal_mode=DELETE", "penholder needs WAL"),
            ("PRAGMA foreign_key=ON", "no such pragma"),
            (
                "PRAGMA foreign_keys=banana; SELECT 1",
                "`banana` is not one of its values",
            ),
            ("EXPLAIN PRAGMA query_only=1", "leave EXPLAIN out"),
            ("PRAGMA wal_checkpoint", "penholder checkpoint x.db"),
            ("SELECT 1; VACUUM", "penholder vacuum x.db"),
            ("VACUUM", "penholder vacuum x.db"),
            ("ATTACH 'b' AS b; DETACH b; SELECT 1", "exec detaches all"),
            (
                "SELECT 1;\n.mode csv\nSELECT 2;",
                "statement 2, line 2: .mode",
            ),
        ] {
            let message = planned(sql).unwrap_err();
            assert!(message.contains(why), "{sql}: {message}");
        }
    }
}
