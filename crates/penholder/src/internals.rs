//! What the tests of this crate need of its inside. No part of the API: it exists only with
//! the feature `failpoints`, which only dev-dependencies enable.

use std::path::Path;
use std::time::Duration;

use penholder_core::Deadline;
use rusqlite::Connection;

use crate::data::{Executed, Query, Statement};
use crate::delegate::{self, ExecutedWrite, Reply};
use crate::error::Result;
use crate::group::Isolation;
use crate::location::Location;
use crate::options::OpenOptions;
use crate::sqlite::connection::open_writer;
use crate::sqlite::fingerprint::{self, Fingerprint};
use crate::sqlite::sql::StatementKind;
use crate::sqlite::wal;
use crate::sqlite::write_connection::WriteConnection;

fn locate(path: &Path) -> Result<(Location, Deadline)> {
    let deadline = Deadline::after(Duration::from_secs(10));
    Ok((Location::of(path, "test")?, deadline))
}

/// How one statement went on a [`DelegateConnection`].
#[derive(Debug)]
pub enum StatementOutcome {
    /// It ran.
    Done(Executed),
    /// It violated a constraint: SQLite's extended code and text.
    Failed(i32, Option<String>),
    /// Its owner has to execute it.
    Local,
    /// The transaction is gone.
    Aborted,
}

/// How one write went in a shared transaction.
#[derive(Debug, PartialEq)]
pub enum WriteOutcome {
    /// All of it ran.
    Done(Vec<Executed>),
    /// It violated a constraint: SQLite's extended code and text.
    Failed(i32, Option<String>),
    /// Its owner has to execute it.
    Local,
    /// The transaction is gone, or has to go.
    Aborted,
}

/// The connection that executes requests of other processes.
#[derive(Debug)]
pub struct DelegateConnection(delegate::DelegateConnection);

impl DelegateConnection {
    /// Opens one.
    ///
    /// # Errors
    ///
    /// The database cannot be opened.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self> {
        let (location, deadline) = locate(path)?;
        delegate::DelegateConnection::open(&location, options, &deadline).map(Self)
    }

    /// Returns its fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.0.fingerprint().0
    }

    /// Returns the connection itself.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        self.0.connection()
    }

    /// Changes how long a statement may run.
    pub fn set_time_limit(&mut self, limit: Duration) {
        self.0.set_time_limit(limit);
    }

    /// Runs one statement in the open transaction.
    pub fn run(&self, query: &Query) -> StatementOutcome {
        match self.0.run(&statement(query)) {
            delegate::Delegated::Done(done) => StatementOutcome::Done(done),
            delegate::Delegated::Failed { code, text } => StatementOutcome::Failed(code, text),
            delegate::Delegated::Local | delegate::Delegated::Refused => StatementOutcome::Local,
            delegate::Delegated::Aborted => StatementOutcome::Aborted,
        }
    }

    /// Runs one write in a savepoint of the open transaction.
    pub fn execute_write(&self, queries: &[Query]) -> WriteOutcome {
        self.execute(queries, Isolation::Savepoint)
    }

    /// Runs one write in the open transaction, without a savepoint. Unless it is done, or
    /// [`Local`](WriteOutcome::Local), the transaction has to be rolled back.
    pub fn execute_write_without_savepoint(&self, queries: &[Query]) -> WriteOutcome {
        self.execute(queries, Isolation::None)
    }

    fn execute(&self, queries: &[Query], isolation: Isolation) -> WriteOutcome {
        let statements: Vec<Statement> = queries.iter().map(statement).collect();
        match delegate::execute_write(&self.0, &statements, isolation) {
            ExecutedWrite::Replied(Reply::Done(done)) => WriteOutcome::Done(done),
            ExecutedWrite::Replied(Reply::Failed { code, text, .. }) => {
                WriteOutcome::Failed(code, text)
            }
            ExecutedWrite::Replied(Reply::Local) => WriteOutcome::Local,
            ExecutedWrite::Aborted => WriteOutcome::Aborted,
        }
    }
}

#[expect(
    clippy::expect_used,
    reason = "tests give as many values as there are parameters"
)]
fn statement(query: &Query) -> Statement {
    let statement = query.clone().into_statement("write", |error, _| error);
    statement.expect("valid parameters")
}

/// Returns whether checkpoints of this program run under the write lock only.
#[must_use]
pub fn has_wal_reset_bug() -> bool {
    wal::has_wal_reset_bug()
}

/// Opens a connection as it is before any hook is set on it.
///
/// # Errors
///
/// The database cannot be opened.
pub fn open_plain(path: &Path, options: &OpenOptions) -> Result<Connection> {
    let (location, deadline) = locate(path)?;
    open_writer(&location, options, &deadline)
}

/// Returns the fingerprint of a connection.
///
/// # Errors
///
/// SQLite cannot answer.
pub fn fingerprint(connection: &Connection, path: &Path) -> Result<u64> {
    let (location, _) = locate(path)?;
    Ok(fingerprint::of(connection, &location, delegate::LAYOUT)?.0)
}

/// Returns whether a writing connection that `change` has had, and that has written since, is
/// found to have this fingerprint.
///
/// # Errors
///
/// The database cannot be opened or written, or `change` fails.
pub fn is_found_unchanged(
    path: &Path,
    fingerprint: u64,
    change: impl FnOnce(&mut Connection) -> rusqlite::Result<()>,
    insert: &str,
) -> Result<bool> {
    let (location, deadline) = locate(path)?;
    let mut connection = WriteConnection::open(&location, &OpenOptions::new(), &deadline)?;
    change(connection.for_setup())?;
    connection.forget_hook_calls();
    let ran = connection.run(insert, StatementKind::Insert, &[]);
    ran.map_err(|failed| failed.error)?;
    let expected = Fingerprint(fingerprint);
    Ok(connection.has_fingerprint(expected, &location, delegate::LAYOUT))
}
