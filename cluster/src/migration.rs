//! Schema changes of a cluster, each of which runs once.
//!
//! The table `penholder_migration` has a row for each step that has run, with its text. The row is part
//! of the step's transaction, so of two clients that run one step at the same time one finds the row
//! there, and goes on. (A file counts its steps in `user_version`, which the engine does not
//! replicate.)

use penholder::sql_script::statements;
use penholder::{Error, ErrorKind, Migrated, Query, Result, Store};

/// Creates the table.
pub(crate) const CREATE: &str = "CREATE TABLE IF NOT EXISTS penholder_migration(\
                      number INTEGER PRIMARY KEY, step TEXT NOT NULL)";
/// Notes a step.
pub(crate) const INSERT: &str = "INSERT INTO penholder_migration(number, step) VALUES (?1, ?2)";
/// The text of a step that ran on a file. No step of a program is empty.
pub(crate) const UNKNOWN: &str = "";
/// The table.
pub(crate) const TABLE: &str = "penholder_migration";
const SELECT: &str = "SELECT step FROM penholder_migration ORDER BY number";
/// What SQLite says if another client has run the step.
const RUN_BY_ANOTHER: &str = "penholder_migration.number";

/// Runs those of the steps that have not run.
pub(crate) async fn migrate(store: &impl Store, steps: &[&str]) -> Result<Migrated> {
    store.execute(CREATE, ()).await?;
    let from = run_before(store, steps).await?;
    for (number, step) in steps.iter().enumerate().skip(from) {
        match store.batch(batch_of(number + 1, step)?).await {
            Err(error)
                if error.is_constraint_violation()
                    && error.to_string().contains(RUN_BY_ANOTHER) =>
            {
                run_before(store, steps).await?;
            }
            done => drop(done.map_err(|error| at_step(number + 1, steps.len(), &error))?),
        }
    }
    let mut migrated = Migrated::default();
    (migrated.from, migrated.to) = (from, steps.len());
    Ok(migrated)
}

/// Returns how many steps have run, all of which are the first of these.
async fn run_before(store: &impl Store, steps: &[&str]) -> Result<usize> {
    let rows = store.query(SELECT, ()).await?;
    for (number, row) in rows.iter().enumerate() {
        let run: String = row.get(0)?;
        let why = match steps.get(number) {
            // Of a step that ran before the database was loaded from a file, only its number is known.
            Some(step) if *step == run || run == UNKNOWN => continue,
            Some(_) => format!("step {} has run with another text", number + 1),
            None => format!(
                "{} steps have run, and this program has {}",
                rows.len(),
                steps.len()
            ),
        };
        let text = format!(
            "migrate: {why}: nothing more was run: use the newest release of the program, and do not \
             change steps that have run"
        );
        return Err(Error::of_engine(ErrorKind::Refused, text));
    }
    Ok(rows.len())
}

fn batch_of(number: usize, step: &str) -> Result<Vec<Query>> {
    let row = i64::try_from(number).unwrap_or(i64::MAX);
    let mut batch = vec![Query::new(INSERT, (row, step))];
    batch.extend(
        statements(step)
            .iter()
            .map(|statement| Query::from(statement.sql)),
    );
    if batch.len() == 1 {
        let text = format!("migrate: step {number} is empty: remove it");
        return Err(Error::of_engine(ErrorKind::Misuse, text));
    }
    Ok(batch)
}

fn at_step(number: usize, of: usize, error: &Error) -> Error {
    Error::of_engine(
        error.kind(),
        format!("migrate: step {number} of {of}: {error}"),
    )
}
