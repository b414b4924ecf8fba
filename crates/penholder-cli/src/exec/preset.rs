//! Pragmas that are set as the connection is opened: outside a transaction, and before a new
//! database is set to WAL.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use penholder::rusqlite::{self, Connection};
use penholder::{ConnectionRole, OpenOptions};

use super::plan::Plan;
use super::pragma::Pragma;

/// What was found as the pragmas were set.
#[derive(Debug, Default, Clone)]
pub(super) struct Preset {
    found: Arc<Mutex<Found>>,
}

#[derive(Debug, Default)]
struct Found {
    /// The first value of each pragma, by its name.
    before: BTreeMap<String, Option<String>>,
    /// The errors, by the SQL of their statements.
    errors: BTreeMap<String, String>,
}

/// A pragma to set.
struct Setting {
    pragma: Pragma,
    sql: String,
    /// Only compile it: that sets it, and a write has to wait for the write lock.
    is_layout: bool,
}

impl Preset {
    /// Lets each connection that is opened with the options have the settings of a script.
    pub(super) fn add_to(&self, options: OpenOptions, plan: &Plan<'_>) -> OpenOptions {
        let settings: Vec<Setting> = plan
            .settings()
            .map(|(pragma, sql, is_layout)| Setting {
                pragma: pragma.clone(),
                sql: sql.to_owned(),
                is_layout,
            })
            .collect();
        let restored: Vec<Pragma> = plan.restored().cloned().collect();
        if settings.is_empty() && restored.is_empty() {
            return options;
        }
        let found = Arc::clone(&self.found);
        options.connection_hook(move |connection, role| {
            if role == ConnectionRole::Writer {
                let mut found = lock(&found);
                restored.iter().for_each(|one| found.note(connection, one));
                settings.iter().for_each(|one| found.set(connection, one));
            }
            Ok(())
        })
    }

    /// The value that a pragma had as the connection was opened.
    pub(super) fn before(&self, pragma: &Pragma) -> Option<String> {
        lock(&self.found)
            .before
            .get(&pragma.name)
            .cloned()
            .flatten()
    }

    /// Why a statement could not be set.
    pub(super) fn error(&self, sql: &str) -> Option<String> {
        lock(&self.found).errors.get(sql).cloned()
    }
}

fn lock(found: &Mutex<Found>) -> MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Found {
    fn note(&mut self, connection: &Connection, pragma: &Pragma) {
        if !self.before.contains_key(&pragma.name) {
            // What cannot be read is not known.
            let value = pragma.current(connection).unwrap_or_default();
            self.before.insert(pragma.name.clone(), value);
        }
    }

    /// Sets a pragma. An error is that of the statement, which reports it.
    fn set(&mut self, connection: &Connection, setting: &Setting) {
        let done = if setting.is_layout {
            connection.prepare(&setting.sql).map(drop)
        } else {
            self.note(connection, &setting.pragma);
            run(connection, &setting.sql)
        };
        // The connection may be opened again: only what it met last counts.
        match done {
            Ok(()) => self.errors.remove(&setting.sql),
            Err(error) => {
                let text = penholder::Error::from(error).to_string();
                self.errors.insert(setting.sql.clone(), text)
            }
        };
    }
}

fn run(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}
