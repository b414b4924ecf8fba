//! The write path: lock, work, commit, release, acknowledge.
//!
//! | step | if it fails, or the process dies here |
//! | --- | --- |
//! | take the write lock | nothing happened |
//! | `BEGIN IMMEDIATE` | nothing happened; busy means an outsider |
//! | run | rolled back, by us or by whoever opens the database next |
//! | `COMMIT` | done, or rolled back; never half |
//! | release | the write stands; the kernel releases for us |
//! | acknowledge | the caller never learns of a write that stands |

use std::cell::Cell;
use std::ops::Deref;
use std::panic::Location as SourceLocation;
use std::sync::Arc;
use std::time::{Duration, Instant};

use penholder_core::{Deadline, Guard, Locker, Process};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ffi};

use crate::carrier;
use crate::data::{Executed, Rows, Statement, Value};
use crate::database::Attachment;
use crate::error::{self, Error, Result};
use crate::group::Group;
use crate::location::Location;
use crate::options::{GroupCommit, GroupLimits, Options};
use crate::sqlite::connection;
use crate::sqlite::ffi::WalCountingConnection;
use crate::sqlite::hooks::Hooks;
use crate::sqlite::lock_bytes;
use crate::sqlite::sql::{StatementKind, may_change_connection};
use crate::sqlite::wal::{self, Due};
use crate::telemetry::{self, Hold, Subject, Wait};

/// Where a program asked for something.
pub(crate) type CallSite = &'static SourceLocation<'static>;

/// The transaction that a closure writes in: rusqlite's `Connection`, less the
/// right to end the transaction.
///
/// A `COMMIT` inside the closure is an error and rolls back; so does a
/// `ROLLBACK`, and [`write`](crate::Database::write) reports it. Savepoints of its own
/// are the closure's affair; names that begin with `penholder_` are taken.
#[derive(Debug)]
pub struct Transaction<'a> {
    session: &'a Session<'a>,
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.session.connection()
    }
}

impl Transaction<'_> {
    /// Says what this closure does next, for whoever waits: it stands in the status
    /// and in the error of a timeout in the place of where the closure was given to
    /// [`write`](crate::Database::write). The first 120 bytes are kept; nothing where
    /// [`record_sql`](Options::record_sql) is off.
    pub fn note_statement(&self, statement: &str) {
        self.session.note_statement(statement);
    }
}

/// A statement that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: rusqlite::Error,
    /// Changes that stand all the same.
    pub(crate) kept: u64,
}

/// The writing connection of a process, kept between writes.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) connection: WalCountingConnection,
    hooks: Arc<Hooks>,
    /// SQLite's patience as it was last set, in milliseconds, if nobody else may
    /// have changed it.
    patience_ms: Cell<Option<u64>>,
}

impl Writer {
    pub(crate) fn open(
        location: &Location,
        options: &Options,
        deadline: &Deadline,
    ) -> Result<Self> {
        let mut connection = connection::open_writer(location, options, deadline)?;
        let hooks = Hooks::install(&mut connection)
            .map_err(|e| Error::sqlite("open database", &location.path, e))?;
        let connection = WalCountingConnection::new(connection);
        connection.set_canary();
        Ok(Self {
            connection,
            hooks,
            patience_ms: Cell::new(None),
        })
    }

    /// Runs one statement to its end.
    pub(crate) fn run(
        &self,
        sql: &str,
        kind: StatementKind,
        params: &[Value],
    ) -> Result<Executed, Failed> {
        let Self {
            connection, hooks, ..
        } = self;
        let (changes, id) = (connection.total_changes(), connection.last_insert_rowid());
        hooks.watch_for_insert(id);
        let returned = collect(connection, sql, params).map_err(|error| Failed {
            error,
            // What `FAIL` asks for: SQLite keeps what the statement did until then. Of
            // one that was taken back the changes of its triggers stay in the total.
            kept: match connection.changes() {
                0 => 0,
                _ => connection.total_changes() - changes,
            },
        })?;
        let changed = connection.total_changes() != changes;
        let rows_changed = if changed { connection.changes() } else { 0 };
        // A row may get the id that stood there before. An upsert that updates
        // leaves the id alone, and so does whatever a trigger inserts.
        let new_id = connection.last_insert_rowid();
        let inserted =
            kind != StatementKind::UpdateOrDelete && rows_changed > 0 && hooks.has_inserted();
        Ok(Executed {
            returned,
            rows_changed,
            last_insert_id: (new_id != id || inserted).then_some(new_id),
        })
    }

    /// Whether statements mean the same here as on a connection of this kind, after a
    /// closure of the application has had it. The application must have replaced
    /// neither functions nor collations nor hooks.
    pub(crate) fn is_of_kind(&self, kind: u64, location: &Location) -> bool {
        let ask = "SELECT sqlite_compileoption_used('ENABLE_PREUPDATE_HOOK')";
        // There is no seeing whether that hook is set.
        let has_preupdate = || self.connection.query_row(ask, [], |row| row.get(0));
        self.hooks.saw_write()
            && self.connection.wal_frames() > 0
            && !self.connection.is_redefined()
            && !has_preupdate().unwrap_or(true)
            && self.connection.execute_batch("BEGIN; ROLLBACK").is_ok()
            && carrier::kind(&self.connection, location).is_ok_and(|found| found == kind)
            && self.hooks.saw_all()
    }

    /// Rolls back what was not committed; `None` if that fails, and then the
    /// connection is closed, which does it too.
    fn reset(self: Box<Self>) -> Option<Box<Self>> {
        self.hooks.end();
        let clean =
            self.connection.is_autocommit() || self.connection.execute_batch("ROLLBACK").is_ok();
        clean.then_some(self)
    }

    /// The session begins that may prove that the hooks are ours.
    pub(crate) fn forget_hooks(&self) {
        self.hooks.forget_calls();
        self.connection.reset_wal_frames();
    }

    /// Whether the log is to be moved after what was just written.
    pub(crate) fn due(&self, awaited: bool) -> Due {
        let frames = self.connection.wal_frames();
        if wal::is_short(frames) {
            return Due::NotYet;
        }
        Due::after(frames, self.connection.take_pages_written(), awaited)
    }
}

/// What a write needs to know of its database in this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Desk<'a> {
    pub(crate) location: &'a Location,
    pub(crate) options: &'a Options,
    pub(crate) attachment: &'a Attachment,
}

impl<'a> Desk<'a> {
    pub(crate) fn locker(&self) -> &'a Locker {
        &self.attachment.locker
    }

    pub(crate) fn group(&self) -> &'a Group {
        &self.attachment.group
    }

    pub(crate) fn subject(&self) -> Subject<'a> {
        Subject {
            database: self.location,
            options: self.options,
        }
    }

    pub(crate) fn limits(&self) -> GroupLimits {
        match self.options.group_commit {
            GroupCommit::Off => GroupLimits::default().statements(1).latency(Duration::ZERO),
            GroupCommit::WithinProcess | GroupCommit::AcrossProcesses => self.options.group_limits,
        }
    }

    /// In a process that was forked inside a closure nothing may touch what its
    /// parent has open.
    pub(crate) fn is_ours(&self) -> bool {
        self.attachment.is_ours()
    }

    pub(crate) fn forked(&self) -> Error {
        Error::forked("write", &self.location.path)
    }

    /// Waits for the write lock, up to the deadline, which also bounds what
    /// SQLite waits for afterwards.
    pub(crate) fn session(self, deadline: Deadline) -> Result<Session<'a>> {
        let waiting = Wait::begin(self.subject());
        let guard = self.locker().acquire_until(&deadline).map_err(|error| {
            let error = error.into();
            telemetry::failed(self.subject(), &error);
            error
        })?;
        waiting.ends(self.subject(), &guard);
        Session::with(self, deadline, guard)
    }
}

/// The write lock and the writing connection, together.
///
/// Dropping it rolls back what was not committed, gives the connection back and
/// then the lock: also on an error and on a panic. Before or after, it keeps the
/// log short.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    desk: Desk<'a>,
    deadline: Deadline,
    /// `None` only while it is being dropped.
    writer: Option<Box<Writer>>,
    /// `None` only while it is being dropped.
    guard: Option<Guard>,
    /// What another connection wrote under the same lock makes due.
    due: Cell<Due>,
    /// Nothing ran in it that may change the connection.
    is_plain: Cell<bool>,
    /// Where the program asked for what was done last.
    site: Cell<Option<CallSite>>,
    /// `None` only while it is being dropped.
    hold: Option<Hold>,
}

impl<'a> Session<'a> {
    /// With the lock in hand.
    pub(crate) fn with(desk: Desk<'a>, deadline: Deadline, guard: Guard) -> Result<Self> {
        let hold = Hold::begin(desk.subject());
        let writer = match desk.attachment.take_writer() {
            Some(writer) => writer,
            None => Box::new(Writer::open(desk.location, desk.options, &deadline)?),
        };
        let session = Self {
            desk,
            deadline,
            writer: Some(writer),
            guard: Some(guard),
            due: Cell::new(Due::NotYet),
            is_plain: Cell::new(true),
            site: Cell::new(None),
            hold: Some(hold),
        };
        if desk.attachment.carrying.is_touched() {
            session.writer().forget_hooks();
        }
        session.wait_at_most(deadline.remaining())?;
        Ok(session)
    }

    #[expect(clippy::expect_used, reason = "taken out only in `drop`")]
    fn writer(&self) -> &Writer {
        self.writer.as_ref().expect("ours until dropped")
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.writer().connection
    }

    #[expect(clippy::expect_used, reason = "taken out only in `drop`")]
    pub(crate) fn guard(&self) -> &Guard {
        self.guard.as_ref().expect("ours until dropped")
    }

    /// What comes next was asked for there, and has a statement to show or not.
    pub(crate) fn is_asked_at(&self, site: CallSite, has_statement: bool) {
        self.site.set(Some(site));
        if !has_statement || !self.desk.options.record_sql {
            self.guard().note_place(site);
        }
    }

    /// Shows what is run next, if it may be shown.
    pub(crate) fn note_statement(&self, sql: &str) {
        if self.desk.options.record_sql {
            self.guard().note_statement(sql);
        }
    }

    pub(crate) fn desk(&self) -> &Desk<'a> {
        &self.desk
    }

    pub(crate) fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    /// Another connection may wait as long for SQLite's locks as this one.
    pub(crate) fn have_patience(&self, connection: &Connection) -> Result<()> {
        connection::set_busy_timeout(connection, self.deadline.remaining())
            .map_err(|e| Error::sqlite("write", &self.desk.location.path, e))
    }

    /// Another connection wrote under this lock: the log may have to be moved.
    pub(crate) fn note_log_of(&self, writer: &Writer) {
        let due = writer.due(self.guard().is_awaited());
        self.due.set(self.due.get().or(due));
    }

    /// How long SQLite may wait for its own locks from now on.
    pub(crate) fn wait_at_most(&self, patience: Duration) -> Result<()> {
        let Writer {
            connection,
            patience_ms,
            ..
        } = self.writer();
        let ms = Some(connection::busy_ms(patience));
        if patience_ms.get() != ms {
            connection::set_busy_timeout(connection, patience)
                .map_err(|e| Error::sqlite("write", &self.desk.location.path, e))?;
            patience_ms.set(ms);
        }
        Ok(())
    }

    /// Runs the closure in one transaction.
    pub(crate) fn write<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.begin()?;
        self.forget_patience();
        let value = work(&self.transaction())?;
        self.commit(1)?;
        Ok(value)
    }

    /// Runs plain data in one transaction.
    fn together<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.begin()?;
        let value = work()?;
        self.commit(1)?;
        Ok(value)
    }

    /// A closure is about to run, which may set SQLite's patience otherwise.
    pub(crate) fn forget_patience(&self) {
        self.writer().patience_ms.set(None);
    }

    /// Something may change the connection.
    fn touch(&self) {
        self.desk.attachment.carrying.touch();
        self.is_plain.set(false);
    }

    pub(crate) fn transaction(&self) -> Transaction<'_> {
        self.touch();
        Transaction { session: self }
    }

    /// Runs one statement, which SQLite makes atomic by itself: `BEGIN` and
    /// `COMMIT` around a single INSERT, UPDATE or DELETE would only cost time.
    pub(crate) fn execute(&self, sql: &str, params: &[Value]) -> Result<Executed> {
        // What is not recognised takes the longer way, which is right too.
        if StatementKind::of(sql) != StatementKind::Other {
            let begun = self.begins_commit();
            let done = self.run_statement(sql, params, true);
            self.ends_commit(begun, 1);
            return done;
        }
        self.together(|| self.run_statement(sql, params, false))
    }

    /// Runs several in one transaction.
    pub(crate) fn batch(&self, statements: &[Statement]) -> Result<Vec<Executed>> {
        let run = |one: &Statement| self.run_statement(one.sql(), one.params(), false);
        self.together(|| statements.iter().map(run).collect())
    }

    /// Runs one statement to its end. `keeps`: what it did before it failed stands
    /// where it asks for that.
    pub(crate) fn run_statement(
        &self,
        sql: &str,
        params: &[Value],
        keeps: bool,
    ) -> Result<Executed> {
        if may_change_connection(sql) {
            self.touch();
        }
        self.note_statement(sql);
        let ran = self.writer().run(sql, StatementKind::of(sql), params);
        ran.map_err(|Failed { error, kept }| {
            if kept > 0 && keeps {
                let error = self.desk.options.hide(error);
                Error::partly_written(&self.desk.location.path, kept, error)
            } else {
                self.explain("write", error)
            }
        })
    }

    /// Runs a closure on the bare connection; a transaction that it leaves open
    /// is rolled back.
    pub(crate) fn run<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.forget_patience();
        self.touch();
        let value = work(self.connection())?;
        self.refuse_if_forked()?;
        if !self.connection().is_autocommit() {
            return Err(Error::misuse(
                "write under the lock",
                "the closure left a transaction open, which was rolled back",
                "COMMIT it, or use `write`, which does",
            )
            .into());
        }
        Ok(value)
    }

    pub(crate) fn begin(&self) -> Result<()> {
        self.step("BEGIN IMMEDIATE")
            .map_err(|e| self.explain("begin transaction", e))?;
        self.writer().hooks.begin();
        Ok(())
    }

    /// Commits for so many.
    pub(crate) fn commit(&self, members: usize) -> Result<()> {
        self.refuse_if_forked()?;
        if !self.writer().hooks.end() {
            return Err(self.ended_early());
        }
        let begun = self.begins_commit();
        let done = self.step("COMMIT").map_err(|e| self.explain("commit", e));
        self.ends_commit(begun, members);
        done
    }

    /// Where others wait, how long a commit takes decides whether they are carried.
    fn begins_commit(&self) -> Option<Instant> {
        self.guard().is_awaited().then(Instant::now)
    }

    fn ends_commit(&self, begun: Option<Instant>, members: usize) {
        if let (Some(begun), Some(stats)) = (begun, self.guard().commit_stats()) {
            stats.note(begun.elapsed(), members);
        }
    }

    /// The transaction is not there any more when it should be.
    #[expect(clippy::unused_self, reason = "what it speaks of")]
    pub(crate) fn ended_early(&self) -> Error {
        Error::misuse(
            "commit",
            "the transaction was ended before its time: by COMMIT or ROLLBACK in the closure, \
             or by SQLite, which rolls back after some errors; nothing was written",
            "let `write` end the transaction, and return the errors you get",
        )
    }

    /// Another member of the batch ended the transaction.
    pub(crate) fn lost(&self) -> Error {
        Error::rolled_back(&self.desk.location.path)
    }

    /// Whether the transaction that began is still there.
    pub(crate) fn is_open(&self) -> bool {
        self.writer().hooks.is_open() && !self.connection().is_autocommit()
    }

    pub(crate) fn roll_back(&self) {
        self.writer().hooks.end();
        if !self.connection().is_autocommit() {
            // If that fails, the next `BEGIN` does and says why.
            let _ = self.step("ROLLBACK");
        }
    }

    pub(crate) fn savepoint(&self) -> rusqlite::Result<()> {
        self.step("SAVEPOINT penholder_member")
    }

    pub(crate) fn release_savepoint(&self) -> rusqlite::Result<()> {
        self.step("RELEASE penholder_member")
    }

    pub(crate) fn roll_back_to_savepoint(&self) -> rusqlite::Result<()> {
        self.step("ROLLBACK TO penholder_member")?;
        self.release_savepoint()
    }

    /// Whether SQLite enforces foreign keys on this connection.
    pub(crate) fn has_foreign_keys(&self) -> bool {
        let asked = self
            .connection()
            .db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY);
        asked.unwrap_or(true)
    }

    /// Takes back that foreign keys are looked at no sooner than at the commit, if a
    /// member of a batch has asked for it.
    pub(crate) fn undefer_foreign_keys(&self) -> rusqlite::Result<()> {
        if !self.has_foreign_keys() {
            return Ok(());
        }
        // To set it makes SQLite prepare all statements anew: only where it is set.
        let mut asked = self
            .connection()
            .prepare_cached("PRAGMA defer_foreign_keys")?;
        if asked.query_row([], |row| row.get(0))? {
            self.step("PRAGMA defer_foreign_keys = OFF")?;
        }
        Ok(())
    }

    /// The error of a commit that violates a foreign key now.
    pub(crate) fn deferred_violation(&self) -> Option<Error> {
        self.writer().connection.has_deferred_violation().then(|| {
            let code = ffi::Error::new(ffi::SQLITE_CONSTRAINT_FOREIGNKEY);
            let text = "FOREIGN KEY constraint failed".to_owned();
            self.explain("commit", rusqlite::Error::SqliteFailure(code, Some(text)))
        })
    }

    fn step(&self, sql: &str) -> rusqlite::Result<()> {
        let mut statement = self.connection().prepare_cached(sql)?;
        statement.raw_execute().map(|_| ())
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.desk.is_ours()
    }

    fn refuse_if_forked(&self) -> Result<()> {
        if self.is_ours() {
            Ok(())
        } else {
            Err(self.desk.forked())
        }
    }

    pub(crate) fn explain(&self, what: &'static str, error: rusqlite::Error) -> Error {
        let path = &self.desk.location.path;
        if !error::is_sqlite_busy(&error) {
            return Error::sqlite(what, path, self.desk.options.hide(error));
        }
        let outsider = Process::with_posix_lock(&self.desk.location.shm(), lock_bytes::WAL_WRITE);
        let error = Error::busy(path, self.deadline, outsider, error);
        telemetry::failed(self.desk.subject(), &error);
        error
    }
}

impl Session<'_> {
    /// Gives the lock back; `at_once`: to whoever is the first in line.
    fn let_go(&mut self, at_once: bool) {
        let (Some(mut guard), Some(hold)) = (self.guard.take(), self.hold.take()) else {
            return;
        };
        let (site, options) = (self.site.get(), self.desk.options);
        if let Some(site) = site {
            guard.note_call_site(site);
        }
        let slow = hold.is_slow(options);
        let slow = slow.then(|| guard.noted_statement().unwrap_or_default());
        // The write stands, whatever becomes of the record.
        let _ = if at_once {
            guard.release_fair()
        } else {
            guard.release()
        };
        hold.ends(self.desk.subject(), site, slow.as_deref());
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let writer = self.writer.take();
        if !self.desk.attachment.is_ours() {
            // The parent's: not even to be closed here.
            std::mem::forget(writer);
            return;
        }
        let writer = writer.and_then(Writer::reset);
        let awaited = self.guard.as_ref().is_some_and(Guard::is_awaited);
        let due = writer
            .as_deref()
            .map_or(Due::NotYet, |writer| writer.due(awaited))
            .or(self.due.get());
        let carrying = &self.desk.attachment.carrying;
        carrying.warm_up();
        if carrying.is_touched()
            && self.is_plain.get()
            && let Some(writer) = &writer
        {
            carrying.look_at(&self.desk, &self.deadline, writer);
        }
        if let (Due::UnderLock, Some(writer)) = (due, &writer) {
            wal::checkpoint_under_lock(&writer.connection, self.desk.location);
        }
        self.desk.attachment.keep_writer(writer);
        // Moving takes a while: nobody waits for our next write.
        self.let_go(due == Due::AfterRelease);
        if due != Due::AfterRelease {
            return;
        }
        self.desk
            .attachment
            .checkpointer
            .run(self.desk.location, self.desk.options);
    }
}

/// Runs one statement and keeps its rows.
pub(crate) fn collect(
    connection: &Connection,
    sql: &str,
    params: &[Value],
) -> rusqlite::Result<Rows> {
    let mut prepared = connection.prepare_cached(sql)?;
    let (wanted, given) = (prepared.parameter_count(), params.len());
    if wanted != given {
        return Err(rusqlite::Error::InvalidParameterCount(given, wanted));
    }
    for (number, value) in params.iter().enumerate() {
        prepared.raw_bind_parameter(number + 1, value)?;
    }
    if prepared.column_count() == 0 && prepared.readonly() && prepared.expanded_sql().is_none() {
        // Nothing but white space and comments: SQLite has no statement for it.
        return Ok(Rows::default());
    }
    Rows::of(&mut prepared)
}
