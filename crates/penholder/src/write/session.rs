//! The write lock and the writing connection, together.

use std::cell::Cell;
use std::mem;
use std::time::{Duration, Instant};

#[cfg(feature = "tokio")]
use penholder_core::Canceller;
use penholder_core::{DatabaseWords, Deadline, Guard, LeaseEnd, SqliteAccess};
use penholder_vfs::database_words;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, ffi};

use super::resources::{CallSite, WriteContext};
use super::transaction::{Notes, Transaction};
use super::turn::WriteTurn;
use crate::data::{Executed, Statement, Value, place_of};
use crate::error::{Error, Kept, Result, Setting, is_busy_code};
use crate::options::OpenOptions;
use crate::sqlite::busy_wait::BusyWait;
use crate::sqlite::checkpointer::CheckpointOf;
use crate::sqlite::connection;
use crate::sqlite::fingerprint::Fingerprint;
use crate::sqlite::query::step;
use crate::sqlite::sql::{StatementKind, may_change_connection};
use crate::sqlite::wal::Due;
use crate::sqlite::write_connection::{FailedStatement, WriteConnection};
use crate::telemetry::{self, HoldSpan, WaitSpan};

/// How long the files may go unchecked while the lock is held: the slice for which a process keeps it.
const SLICE: Duration = Duration::from_millis(2);

/// The write lock and the writing connection, together.
///
/// [`finish`](Self::finish) ends it. Dropping it only undoes, after an error or a panic: it
/// rolls back what was not committed, gives the connection back, and then the lock.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    context: WriteContext<'a>,
    deadline: Deadline,
    /// `None` once the session has ended.
    connection: Option<Box<WriteConnection>>,
    /// `None` once the session has ended.
    turn: Option<WriteTurn>,
    /// The time as it was read last.
    now: Cell<Instant>,
    /// The checkpoint that is due for what another connection wrote under the same lock.
    due: Cell<Due>,
    /// Whether the first waiter gets the lock when the session ends.
    passes_on: bool,
    /// Whether nothing ran in it that may change the connection.
    is_plain: Cell<bool>,
    /// Where the program asked for what was done last.
    site: Cell<Option<CallSite>>,
    /// `None` once the session has ended.
    hold: Option<HoldSpan>,
}

impl<'a> Session<'a> {
    /// Waits for the write lock until the deadline, which also bounds what SQLite waits for
    /// afterwards, and begins a session.
    pub(crate) fn acquire(context: WriteContext<'a>, deadline: Deadline) -> Result<Self> {
        let labels = context.labels();
        let waiting = WaitSpan::begin(labels);
        let guard = context.locker().acquire_until(&deadline).map_err(|error| {
            let error = error.into();
            telemetry::failed(labels, &error);
            error
        })?;
        waiting.ends(labels, &guard);
        Self::begin_to_wait(context, deadline, guard)
    }

    /// As [`acquire`](Self::acquire), with a wait that another thread may end. The error for that
    /// reaches nobody: the future that wanted the session is gone.
    #[cfg(feature = "tokio")]
    pub(crate) fn acquire_unless_cancelled(
        context: WriteContext<'a>,
        deadline: Deadline,
        canceller: &Canceller,
    ) -> Result<Self> {
        let labels = context.labels();
        let waiting = WaitSpan::begin(labels);
        let waited = context
            .locker()
            .acquire_with_request(&deadline, Some(canceller), None);
        let guard = waited.lock.map_err(Error::from).and_then(|guard| {
            guard.ok_or_else(|| Error::misuse("write", "its future was dropped", "await it"))
        });
        let guard = guard.inspect_err(|error| telemetry::failed(labels, error))?;
        waiting.ends(labels, &guard);
        Self::begin_to_wait(context, deadline, guard)
    }

    /// Begins a session in which SQLite waits for its own locks until the deadline, whatever is
    /// done.
    fn begin_to_wait(context: WriteContext<'a>, deadline: Deadline, guard: Guard) -> Result<Self> {
        let session = Self::begin(context, deadline, WriteTurn::new(guard))?;
        session.set_busy_timeout(deadline.remaining())?;
        Ok(session)
    }

    /// Begins a session with the lock held.
    pub(crate) fn begin(
        context: WriteContext<'a>,
        deadline: Deadline,
        mut turn: WriteTurn,
    ) -> Result<Self> {
        let hold = HoldSpan::begin(context.labels());
        let connection = match context.resources.take_connection() {
            Some(connection) => connection,
            None => {
                let opened = open_connection(&context, &deadline)?;
                turn.taken = Instant::now();
                opened
            }
        };
        begin_lease(&context, &connection, &mut turn.guard);
        count_commits(&context, &connection, &turn.guard);
        let session = Self {
            context,
            deadline,
            connection: Some(connection),
            now: Cell::new(turn.taken),
            turn: Some(turn),
            due: Cell::new(Due::NotYet),
            passes_on: false,
            is_plain: Cell::new(true),
            site: Cell::new(None),
            hold: Some(hold),
        };
        if !session.guard().is_resumed() || !session.are_files_checked() {
            session.check_files_now()?;
        }
        if context.resources.is_customized() {
            session.write_connection().forget_hook_calls();
        }
        Ok(session)
    }

    #[expect(clippy::expect_used, reason = "taken out only as the session ends")]
    pub(crate) fn write_connection(&self) -> &WriteConnection {
        self.connection
            .as_ref()
            .expect("ours until the session ends")
    }

    pub(crate) fn connection(&self) -> &Connection {
        self.write_connection()
    }

    #[expect(clippy::expect_used, reason = "taken out only as the session ends")]
    pub(crate) fn turn(&self) -> &WriteTurn {
        self.turn.as_ref().expect("ours until the session ends")
    }

    pub(crate) fn guard(&self) -> &Guard {
        &self.turn().guard
    }

    pub(crate) fn context(&self) -> &WriteContext<'a> {
        &self.context
    }

    pub(crate) fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    pub(crate) fn is_ours(&self) -> bool {
        self.context.is_ours()
    }

    /// Releases SQLite's locks after each transaction from now on, and the lock after this
    /// session: after an error, or if another connection or program works under the lock.
    pub(crate) fn forgo_lease(&self) {
        self.guard().forgo_lease(LeaseEnd::Other);
    }

    /// Sets how long the slice of this process lasts: see [`Guard::set_combining_slice`].
    pub(crate) fn set_combining_slice(&mut self, fingerprint: Fingerprint, longest: Duration) {
        if let Some(turn) = &mut self.turn {
            turn.guard.set_combining_slice(fingerprint.0, longest);
        }
    }

    /// Passes the lock on when the session ends, because this thread will not write soon.
    pub(crate) fn pass_on(&mut self) {
        self.passes_on = true;
    }

    /// Returns whether nothing ran in it that may change the connection.
    pub(crate) fn is_plain(&self) -> bool {
        self.is_plain.get()
    }

    // ---- what others see -------------------------------------------------------

    fn notes(&self) -> Notes<'_> {
        Notes::new(self.guard(), self.context.options)
    }

    /// Notes where the program asked for what comes next, which has a statement to show or
    /// not.
    pub(crate) fn note_call_site(&self, site: CallSite, has_statement: bool) {
        self.site.set(Some(site));
        self.notes().call_site(site, has_statement);
    }

    /// Shows the statement that runs next, if it may be shown.
    pub(crate) fn note_statement(&self, sql: &str) {
        self.notes().statement(sql);
    }

    // ---- work ------------------------------------------------------------------

    /// Runs a closure in one transaction.
    pub(crate) fn write<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.begin_transaction()?;
        let value = work(&self.transaction())?;
        self.commit(1)?;
        Ok(value)
    }

    /// Returns the open transaction, for a closure, which may change the connection.
    pub(crate) fn transaction(&self) -> Transaction<'_> {
        self.write_connection().forget_busy_timeout();
        self.note_customized();
        Transaction::new(self.write_connection(), self.notes())
    }

    fn note_customized(&self) {
        self.context.resources.set_customized(true);
        self.is_plain.set(false);
    }

    /// Runs one statement. SQLite makes a single INSERT, UPDATE or DELETE atomic by itself:
    /// `BEGIN` and `COMMIT` around it would only cost time.
    pub(crate) fn execute(
        &self,
        sql: &str,
        kind: StatementKind,
        params: &[Value],
    ) -> Result<Executed> {
        if kind == StatementKind::Other {
            return self.in_transaction(|| self.run_statement(sql, kind, params));
        }
        if !self.turn().is_awaited {
            let done = self.run_statement(sql, kind, params)?;
            self.check_after_commit()?;
            return Ok(done);
        }
        self.write_connection().time_commit();
        let done = self.run_statement(sql, kind, params);
        let commit_time = self.write_connection().commit_time();
        if let (Ok(_), Some(commit_time)) = (&done, commit_time) {
            self.note_commit(commit_time, 1);
        }
        let done = done?;
        self.check_after_commit()?;
        Ok(done)
    }

    /// Runs several statements in one transaction.
    pub(crate) fn batch(&self, statements: &[Statement]) -> Result<Vec<Executed>> {
        self.in_transaction(|| self.run_all(statements))
    }

    /// Runs several statements in the open transaction.
    pub(crate) fn run_all(&self, statements: &[Statement]) -> Result<Vec<Executed>> {
        let run = |(index, one): (usize, &Statement)| {
            let kind = StatementKind::of(&one.sql);
            let done = self.run_statement(&one.sql, kind, &one.values);
            done.map_err(|e| say_which_failed(e, index, statements, self.context.options))
        };
        statements.iter().enumerate().map(run).collect()
    }

    fn in_transaction<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.begin_transaction()?;
        let value = work()?;
        self.commit(1)?;
        Ok(value)
    }

    /// Runs one statement to its end. What it did before it failed remains only outside a
    /// transaction, and only if it asks for that.
    pub(crate) fn run_statement(
        &self,
        sql: &str,
        kind: StatementKind,
        params: &[Value],
    ) -> Result<Executed> {
        if may_change_connection(sql, kind) {
            self.note_customized();
        }
        self.note_statement(sql);
        let connection = self.write_connection();
        let attempt = || connection.run(sql, kind, params);
        let done = if connection.is_autocommit() {
            // It takes SQLite's write lock itself, and did nothing if that was not free.
            let set = |timeout| connection.set_busy_timeout(timeout);
            let is_busy = |failed: &FailedStatement| {
                failed.kept == Kept::Nothing && is_busy_code(&failed.error)
            };
            self.wait_for_sqlite(set, attempt, is_busy)
        } else {
            attempt()
        };
        done.map_err(|FailedStatement { error, kept }| match kept {
            Kept::Nothing => self.explain("write", error),
            kept => {
                let error = self.context.options.hide(error);
                Error::partly_written(&self.context.location.path, kept, error)
            }
        })
    }

    /// Runs a closure on the bare connection. A transaction that it leaves open is rolled back
    /// when the session ends.
    pub(crate) fn run<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.write_connection().forget_busy_timeout();
        self.note_customized();
        // It may start another program that writes, under our lock.
        self.forgo_lease();
        let value = work(self.connection())?;
        self.refuse_if_forked()?;
        self.check_after_commit()?;
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

    // ---- transactions ----------------------------------------------------------

    pub(crate) fn begin_transaction(&self) -> Result<()> {
        let connection = self.write_connection();
        let set = |timeout| connection.set_busy_timeout(timeout);
        self.wait_for_sqlite(set, || connection.begin(), is_busy_code)
            .map_err(|e| self.explain("begin transaction", e))?;
        // Statements on an attached database wait too.
        self.set_busy_timeout(self.deadline.remaining())
    }

    /// Commits for `writes` writes.
    pub(crate) fn commit(&self, writes: usize) -> Result<()> {
        self.refuse_if_forked()?;
        self.check_files_again()?;
        if !self.write_connection().end_protection() {
            return Err(self.ended_early());
        }
        let begun = self.guard().is_awaited().then(Instant::now);
        let committed = self.write_connection().commit();
        committed.map_err(|e| self.explain("commit", e))?;
        if let Some(begun) = begun {
            self.note_commit(begun.elapsed(), writes);
        }
        self.check_after_commit()
    }

    /// Notes how long a commit took: while others wait, that decides whether writes of other
    /// processes are combined.
    fn note_commit(&self, commit_time: Duration, writes: usize) {
        if let Some(stats) = self.guard().commit_stats() {
            stats.note(commit_time, writes);
        }
    }

    /// Returns the error for a transaction that has ended when it should be open.
    #[expect(clippy::unused_self, reason = "the transaction is this session's")]
    pub(crate) fn ended_early(&self) -> Error {
        Error::misuse(
            "commit",
            "the transaction was ended before its time: by COMMIT or ROLLBACK in the closure, \
             or by SQLite, which rolls back after some errors; nothing was written",
            "let `write` end the transaction, and return the errors you get",
        )
    }

    /// Returns the error for a write whose transaction another member of the batch ended.
    pub(crate) fn batch_aborted(&self) -> Error {
        Error::rolled_back(&self.context.location.path)
    }

    /// Returns whether the transaction that began is still open.
    pub(crate) fn is_open(&self) -> bool {
        self.write_connection().is_open()
    }

    pub(crate) fn roll_back(&self) {
        // If that fails, the next `BEGIN` does and says why.
        let _ = self.write_connection().roll_back();
    }

    /// Returns whether SQLite enforces foreign keys on this connection.
    fn has_foreign_keys(&self) -> bool {
        let setting = DbConfig::SQLITE_DBCONFIG_ENABLE_FKEY;
        self.connection().db_config(setting).unwrap_or(true)
    }

    /// Switches off `defer_foreign_keys`, if a member of a batch has switched it on: it would
    /// also apply to the next member.
    pub(crate) fn undefer_foreign_keys(&self) -> rusqlite::Result<()> {
        if !self.has_foreign_keys() {
            return Ok(());
        }
        // Only if it is on: setting it makes SQLite prepare all statements again.
        let mut ask = self
            .connection()
            .prepare_cached("PRAGMA defer_foreign_keys")?;
        if ask.query_row([], |row| row.get(0))? {
            step(self.connection(), "PRAGMA defer_foreign_keys = OFF")?;
        }
        Ok(())
    }

    /// Returns the error of a commit that would violate a foreign key now.
    pub(crate) fn deferred_violation(&self) -> Option<Error> {
        self.write_connection().has_deferred_violation().then(|| {
            let code = ffi::Error::new(ffi::SQLITE_CONSTRAINT_FOREIGNKEY);
            let text = "FOREIGN KEY constraint failed".to_owned();
            self.explain("commit", rusqlite::Error::SqliteFailure(code, Some(text)))
        })
    }

    // ---- the files -------------------------------------------------------------

    fn read_clock(&self) {
        self.now.set(Instant::now());
    }

    /// Checks again that the paths name the files that are open, if the last check is older than
    /// [`SLICE`]. No process that takes the write lock replaces them meanwhile.
    pub(crate) fn check_files_again(&self) -> Result<()> {
        self.read_clock();
        if self.are_files_checked() {
            return Ok(());
        }
        self.check_files_now()
    }

    /// Whether the last check is not older than [`SLICE`].
    fn are_files_checked(&self) -> bool {
        let now = self.now.get();
        self.write_connection().is_checked_since(now, SLICE)
    }

    /// Checks that the paths name the files that are open.
    pub(crate) fn check_files(&self) -> Result<()> {
        self.read_clock();
        self.check_files_now()
    }

    fn check_files_now(&self) -> Result<()> {
        let now = self.now.get();
        self.write_connection().note_checked(now);
        self.context.resources.files.check("write", now)
    }

    fn check_after_commit(&self) -> Result<()> {
        self.check_files_again().map_err(Error::after_commit)
    }

    // ---- waiting for SQLite's own locks ------------------------------------------

    /// Sets how long SQLite waits for its own locks from now on.
    pub(crate) fn set_busy_timeout(&self, timeout: Duration) -> Result<()> {
        self.write_connection()
            .set_busy_timeout(timeout)
            .map_err(|e| Error::sqlite("write", &self.context.location.path, e))
    }

    /// Runs what takes SQLite's write lock until it succeeds or the deadline passes: see
    /// [`BusyWait::run`].
    pub(crate) fn wait_for_sqlite<T, E>(
        &self,
        set: impl Fn(Duration) -> rusqlite::Result<()>,
        attempt: impl Fn() -> Result<T, E>,
        is_busy: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        self.busy_wait().run(&self.deadline, set, attempt, is_busy)
    }

    fn busy_wait(&self) -> BusyWait<'_> {
        BusyWait {
            guard: self.guard(),
            database: &self.context.location.path,
            lock_file: self.context.locker().lock_file(),
            access: SqliteAccess::Write,
            now: self.now.get(),
        }
    }

    /// Lets another connection wait for SQLite's locks as long as this one.
    pub(crate) fn share_busy_timeout(&self, other: &Connection) -> Result<()> {
        connection::set_busy_timeout(other, self.deadline.remaining())
            .map_err(|e| Error::sqlite("write", &self.context.location.path, e))
    }

    fn refuse_if_forked(&self) -> Result<()> {
        if self.is_ours() {
            Ok(())
        } else {
            Err(self.context.forked())
        }
    }

    /// Explains an error of SQLite. If a writer without the lock was in the way, it names it.
    pub(crate) fn explain(&self, what: &'static str, error: rusqlite::Error) -> Error {
        let path = &self.context.location.path;
        if !is_busy_code(&error) {
            let is_refused = error.sqlite_error_code() == Some(ErrorCode::ReadOnly);
            let error = connection::failed(what, path, self.context.options.hide(error));
            return if is_refused && connection::is_query_only(self.connection()) {
                error.because_of(Setting::QueryOnly)
            } else {
                error
            };
        }
        let holder = self.busy_wait().find_holder();
        let error = Error::busy(path, self.deadline, holder, error).under_write_lock();
        telemetry::failed(self.context.labels(), &error);
        error
    }

    // ---- the end ---------------------------------------------------------------

    /// Sees to it that the commits of another connection under this lock are counted.
    pub(crate) fn count_commits_of(&self, other: &WriteConnection) {
        count_commits(&self.context, other, self.guard());
    }

    /// Counts a commit of a connection that does not count its own.
    pub(crate) fn count_commit(&self) {
        if let Some(words) = find_words(&self.context, self.guard()) {
            words.note_commit();
        }
    }

    /// Notes what another connection wrote under this lock: a checkpoint may be due for it.
    pub(crate) fn note_writes_of(&self, other: &WriteConnection) {
        let due = other.checkpoint_due(|| self.guard().is_awaited());
        self.due.set(self.due.get().or(due));
    }

    /// Ends the session: gives the connection back, runs a checkpoint that is due, and releases
    /// the lock.
    ///
    /// # Errors
    ///
    /// Those of the release. What was committed stays committed.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.refuse_if_forked()?;
        let resources = self.context.resources;
        let connection = self.connection.take().and_then(WriteConnection::reset);
        let is_awaited = || self.guard().is_awaited();
        let due = connection.as_deref().map_or(Due::NotYet, |connection| {
            connection.checkpoint_due(is_awaited)
        });
        let due = match self.context.options.checkpoints {
            true => due.or(self.due.get()),
            false => Due::NotYet,
        };
        resources.note_written();
        if let (Due::UnderLock, Some(connection)) = (due, &connection) {
            if connection.is_wal_too_long() {
                // It waits for another connection's checkpoint, which may wait for what is parked.
                self.guard().forgo_lease(LeaseEnd::Checkpoint);
            }
            let begun = Instant::now();
            if connection.checkpoint_under_lock(self.context.location) {
                self.guard().forgo_lease(LeaseEnd::Checkpoint);
                if let Some(file) = connection.file() {
                    // SQLite's write lock was free meanwhile.
                    file.credit_free_time(begun.elapsed());
                }
            }
        }
        resources.keep_connection(connection);
        // This thread is about to run a checkpoint and will not write soon, so pass the lock on
        // instead of keeping the slice.
        let released = self.release(due == Due::AfterRelease || self.passes_on);
        let of = CheckpointOf {
            location: self.context.location,
            options: self.context.options,
            files: &resources.files,
        };
        match due {
            Due::AfterRelease => resources.checkpointer.run(of),
            Due::InBackground => resources.checkpointer.run_in_background(of),
            Due::NotYet | Due::UnderLock => {}
        }
        released
    }

    /// Releases the lock; with `at_once`, to the first waiter.
    fn release(&mut self, at_once: bool) -> Result<()> {
        let (Some(turn), Some(hold)) = (self.turn.take(), self.hold.take()) else {
            return Ok(());
        };
        let mut guard = turn.guard;
        let (site, options) = (self.site.get(), self.context.options);
        if let Some(site) = site {
            guard.set_call_site(site);
        }
        let is_long = hold.is_long(options);
        let statement = is_long.then(|| guard.noted_statement().unwrap_or_default());
        let released = if at_once {
            guard.release_fair()
        } else {
            guard.release()
        };
        hold.ends(self.context.labels(), site, statement.as_deref());
        Ok(released?)
    }
}

/// Begins a lease, or goes on with it, if the guard and the connection may have one.
fn begin_lease(context: &WriteContext<'_>, connection: &WriteConnection, guard: &mut Guard) {
    let Some(file) = connection.file() else {
        return;
    };
    if !guard.is_resumed() {
        let database = &context.location.path;
        context.resources.lease.share_words(database, guard);
    }
    if guard.may_lease() && (file.is_leased() || file.begin_lease()) {
        guard.begin_lease();
    }
}

/// Sees to it that the commits of a connection are counted.
fn count_commits(context: &WriteContext<'_>, connection: &WriteConnection, guard: &Guard) {
    connection.count_commits(|| find_words(context, guard));
}

/// Returns what the processes that use the database share, if there is a queue file, whether or not
/// the lock was taken through it.
fn find_words(context: &WriteContext<'_>, guard: &Guard) -> Option<DatabaseWords> {
    let database = &context.location.path;
    if guard.has_queue() {
        return database_words(database, guard);
    }
    DatabaseWords::of(context.locker().lock_file(), database)
}

fn open_connection(
    context: &WriteContext<'_>,
    deadline: &Deadline,
) -> Result<Box<WriteConnection>> {
    let (location, options) = (context.location, context.options);
    // The file was there when the database was opened.
    let options = &options.clone().create(false);
    let connection = WriteConnection::open_for_program(location, options, deadline)?;
    context
        .resources
        .files
        .check_opened(&connection, deadline)?;
    context.resources.note_opened(&connection, options);
    Ok(Box::new(connection))
}

/// Adds to an error which of several statements it is about.
pub(crate) fn say_which_failed(
    error: Error,
    index: usize,
    statements: &[Statement],
    options: &OpenOptions,
) -> Error {
    // The index may come from another process.
    let Some(one) = statements.get(index) else {
        return error;
    };
    let shown = options.record_sql.then_some(one.sql.as_str());
    error.at_place(|| place_of("statement", index + 1, statements.len(), shown))
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if self.is_ours() {
            self.context.resources.keep_connection(connection.reset());
            // After an error everything is released.
            if let Some(turn) = &self.turn {
                turn.guard.forgo_lease(LeaseEnd::Other);
            }
        } else {
            // The parent's, not even to be closed here.
            mem::forget(connection);
        }
    }
}
