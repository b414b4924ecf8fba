//! What a closure writes in.

use std::ops::Deref;

use penholder_core::Guard;
use rusqlite::Connection;

use super::resources::CallSite;
use crate::options::OpenOptions;
use crate::sqlite::write_connection::WriteConnection;

/// The transaction that a closure writes in: rusqlite's `Connection`, without the right to end
/// the transaction.
///
/// A `COMMIT` inside the closure is an error and rolls back; so does a `ROLLBACK`, and
/// [`write`](crate::Database::write) reports it. The closure may use savepoints of its own, by SQL
/// (`tx.execute_batch("SAVEPOINT s")`, `ROLLBACK TO s`, `RELEASE s`);
/// names that begin with `penholder_` are reserved.
#[derive(Debug)]
pub struct Transaction<'a> {
    connection: &'a WriteConnection,
    notes: Notes<'a>,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(connection: &'a WriteConnection, notes: Notes<'a>) -> Self {
        Self { connection, notes }
    }

    /// Says what this closure does next, for waiting processes: the status and the error of a
    /// timeout show it instead of the source location where the closure was passed to
    /// [`write`](crate::Database::write). The first 120 bytes are kept; nothing is, if
    /// [`record_sql`](OpenOptions::record_sql) is off.
    pub fn note_statement(&self, statement: &str) {
        self.notes.statement(statement);
    }

    /// Returns whether a commit would fail now because a deferred foreign key is violated. Which
    /// rows violate it, `PRAGMA foreign_key_check` tells.
    #[must_use]
    pub fn has_deferred_violation(&self) -> bool {
        self.connection.has_deferred_violation()
    }
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

/// What other processes see of a write, as far as the options allow it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Notes<'a> {
    guard: &'a Guard,
    may_show_sql: bool,
}

impl<'a> Notes<'a> {
    pub(super) fn new(guard: &'a Guard, options: &OpenOptions) -> Self {
        Self {
            guard,
            may_show_sql: options.record_sql,
        }
    }

    /// Shows the statement that runs next.
    pub(super) fn statement(self, sql: &str) {
        if self.may_show_sql {
            self.guard.note_statement(sql);
        }
    }

    /// Shows where the program asked for what runs next, if no statement may be shown.
    pub(super) fn call_site(self, site: CallSite, has_sql: bool) {
        if !has_sql || !self.may_show_sql {
            self.guard.show_call_site(site);
        }
    }
}
