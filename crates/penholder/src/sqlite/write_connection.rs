//! A connection that writes, kept between writes.

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use penholder_core::{DatabaseWords, Deadline};
use penholder_vfs::DatabaseFile;
use rusqlite::{Connection, ErrorCode};

use super::connection::{self, busy_ms, set_busy_timeout};
use super::ffi::{self, WalCountingConnection};
use super::fingerprint::{self, Fingerprint};
use super::hooks::Hooks;
use super::program;
use super::query::{query, step};
use super::sql::StatementKind;
use super::wal::{self, Due};
use crate::data::{Executed, Value};
use crate::error::{Error, Kept, Result};
use crate::location::Location;
use crate::options::{ConnectionRole, OpenOptions};

/// While a checkpoint of another process is in the way, the next attempt waits so long.
const CHECKPOINT_PAUSE: Duration = Duration::from_micros(300);

/// If there is no place to count commits, the next search for one comes after this time.
const SEARCH_PAUSE: Duration = Duration::from_millis(100);

/// A connection that writes, with our hooks on it.
#[derive(Debug)]
pub(crate) struct WriteConnection {
    connection: WalCountingConnection,
    hooks: Arc<Hooks>,
    /// The busy timeout as it was last set, in milliseconds; `None` if a closure may have
    /// changed it.
    busy_ms: Cell<Option<u64>>,
    /// Its database file, if locks may be kept on it.
    file: Option<Arc<DatabaseFile>>,
    /// When it was last checked that the paths name the files that are open.
    checked: Cell<Option<Instant>>,
    /// When a checkpoint was last due by the WAL index.
    checkpointed: Cell<Option<Instant>>,
    /// When a place to count commits was last searched for, and not found.
    searched: Cell<Option<Instant>>,
    /// How many frames the WAL had when a reader kept the rest from being copied; zero if none did.
    pinned: Cell<u32>,
}

/// A statement that failed.
#[derive(Debug)]
pub(crate) struct FailedStatement {
    pub(crate) error: rusqlite::Error,
    /// What was committed all the same. Nothing is in a transaction, which decides that later.
    pub(crate) kept: Kept,
}

/// What a connection had written when a statement began.
#[derive(Debug, Clone, Copy)]
struct Before {
    changes: u64,
    /// `None` in a transaction.
    pages: Option<c_int>,
}

impl WriteConnection {
    pub(crate) fn open(
        location: &Location,
        options: &OpenOptions,
        deadline: &Deadline,
    ) -> Result<Self> {
        let connection = connection::open_writer(location, options, deadline)?;
        Self::new(connection, location, options)
    }

    /// Sets our hooks on a connection, in the place of those that it has.
    fn new(mut connection: Connection, location: &Location, options: &OpenOptions) -> Result<Self> {
        let hooks = Hooks::install(&mut connection)
            .map_err(|e| Error::sqlite("open database", &location.path, e))?;
        let connection = WalCountingConnection::new(connection, options.checkpoints);
        connection.set_canary();
        let file = ffi::database_file(&connection);
        Ok(Self {
            connection,
            hooks,
            busy_ms: Cell::new(None),
            file,
            checked: Cell::new(None),
            checkpointed: Cell::new(None),
            searched: Cell::new(None),
            pinned: Cell::new(0),
        })
    }

    /// Opens the connection that the program's own statements run on.
    pub(crate) fn open_for_program(
        location: &Location,
        options: &OpenOptions,
        deadline: &Deadline,
    ) -> Result<Self> {
        let connection = connection::open_writer(location, options, deadline)?;
        connection::set_up_by_program(&connection, location, options, ConnectionRole::Writer)?;
        Self::new(connection, location, options)
    }

    /// Notes that the paths were checked, at this time.
    pub(crate) fn note_checked(&self, now: Instant) {
        self.checked.set(Some(now));
    }

    /// Returns whether the last check is not older than this.
    pub(crate) fn is_checked_since(&self, now: Instant, age: Duration) -> bool {
        self.checked
            .get()
            .is_some_and(|checked| now < checked + age)
    }

    /// Returns its database file, if it was opened through the VFS of penholder.
    pub(crate) fn file(&self) -> Option<&Arc<DatabaseFile>> {
        self.file.as_ref()
    }

    /// Borrows the connection to set hooks; the caller must not swap it with another.
    pub(crate) fn for_setup(&mut self) -> &mut Connection {
        self.connection.for_setup()
    }

    /// Runs one statement to its end.
    pub(crate) fn run(
        &self,
        sql: &str,
        kind: StatementKind,
        params: &[Value],
    ) -> Result<Executed, FailedStatement> {
        let Self {
            connection, hooks, ..
        } = self;
        let before = Before {
            changes: connection.total_changes(),
            pages: self.is_autocommit().then(|| connection.pages_committed()),
        };
        let id = connection.last_insert_rowid();
        hooks.watch_for_insert(id);
        let returned = query(connection, sql, params).map_err(|error| FailedStatement {
            kept: self.kept_since(before, sql, &error),
            error,
        })?;
        let has_changed = connection.total_changes() != before.changes;
        let rows_changed = if has_changed { connection.changes() } else { 0 };
        // A row may get the id that was there before. An upsert that updates leaves the id
        // alone, and so does a trigger that inserts.
        let new_id = connection.last_insert_rowid();
        let has_inserted = new_id != id || rows_changed > 0 && hooks.has_inserted();
        // An update of an R-Tree inserts into the tables behind it.
        let may_insert = kind != StatementKind::UpdateOrDelete;
        Ok(Executed {
            returned,
            rows_changed,
            last_insert_rowid: (may_insert && has_inserted).then_some(new_id),
        })
    }

    /// Returns what was committed of a statement that failed outside a transaction. With `FAIL`,
    /// SQLite commits what the statement did before it failed.
    ///
    /// The counters of SQLite do not show that. They count nothing for a view and for a
    /// statement in which a trigger failed half-way, and they count what triggers did before
    /// it was rolled back. Only a commit writes pages.
    fn kept_since(&self, before: Before, sql: &str, error: &rusqlite::Error) -> Kept {
        let is_constraint = error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation);
        let Some(pages) = before.pages.filter(|_| is_constraint) else {
            // After any other error SQLite rolls back, also if that came while it committed.
            return Kept::Nothing;
        };
        let counted = self.total_changes() - before.changes;
        // SQLite sets this to zero as it rolls back. It shows what was kept of a temporary
        // table, of which nothing need be written.
        let is_counted = counted > 0 && self.changes() > 0;
        if !is_counted && self.connection.pages_committed() == pages {
            return Kept::Nothing;
        }
        if is_counted && counted == self.changes() && !program::may_run_another(self, sql) {
            Kept::Changes(counted)
        } else {
            Kept::Uncounted
        }
    }

    /// Returns whether a statement that violated a constraint in a transaction may have left
    /// changes in it, because the statement, a table or a trigger uses `FAIL`.
    pub(crate) fn may_have_kept(&self, sql: &str) -> bool {
        program::may_use_fail(self, sql)
    }

    // ---- transactions ----------------------------------------------------------

    /// Begins a transaction that only [`commit`](Self::commit) can commit.
    pub(crate) fn begin(&self) -> rusqlite::Result<()> {
        step(self, "BEGIN IMMEDIATE")?;
        self.hooks.begin();
        Ok(())
    }

    /// Ends the protection of the transaction; `false` if the transaction has ended before.
    pub(crate) fn end_protection(&self) -> bool {
        self.hooks.end()
    }

    pub(crate) fn commit(&self) -> rusqlite::Result<()> {
        step(self, "COMMIT")
    }

    /// Returns whether the transaction that began is still open.
    pub(crate) fn is_open(&self) -> bool {
        self.hooks.is_open() && !self.is_autocommit()
    }

    /// Rolls back the transaction, if one is open.
    pub(crate) fn roll_back(&self) -> rusqlite::Result<()> {
        self.hooks.end();
        if self.is_autocommit() {
            return Ok(());
        }
        step(self, "ROLLBACK")
    }

    /// Rolls back what was not committed. Returns `None` if that fails; then the connection is
    /// closed, which rolls back too.
    pub(crate) fn reset(self: Box<Self>) -> Option<Box<Self>> {
        self.roll_back().is_ok().then_some(self)
    }

    /// Makes the next commit note when it begins: see [`commit_time`](Self::commit_time).
    pub(crate) fn time_commit(&self) {
        self.hooks.time_commit();
    }

    /// Returns how long ago the commit began that was timed; `None` if none was, or if the
    /// application replaced our hook.
    pub(crate) fn commit_time(&self) -> Option<Duration> {
        self.hooks.commit_time()
    }

    /// Returns whether a commit would fail now because a deferred foreign key is violated.
    pub(crate) fn has_deferred_violation(&self) -> bool {
        self.connection.has_deferred_violation()
    }

    /// Sees to it that commits are counted, in the words that `find` finds.
    pub(crate) fn count_commits(&self, find: impl FnOnce() -> Option<DatabaseWords>) {
        if self.connection.counts_commits() {
            return;
        }
        let now = Instant::now();
        let searched = self.searched.get();
        if searched.is_some_and(|searched| now < searched + SEARCH_PAUSE) {
            return;
        }
        let found = find();
        self.searched.set(found.is_none().then_some(now));
        self.connection.count_commits_in(found);
    }

    // ---- settings --------------------------------------------------------------

    /// Sets the busy timeout, unless it is set to that already.
    pub(crate) fn set_busy_timeout(&self, timeout: Duration) -> rusqlite::Result<()> {
        let ms = Some(busy_ms(timeout));
        if self.busy_ms.get() != ms {
            set_busy_timeout(self, timeout)?;
            self.busy_ms.set(ms);
        }
        Ok(())
    }

    /// Notes that a closure is about to run, which may set another busy timeout.
    pub(crate) fn forget_busy_timeout(&self) {
        self.busy_ms.set(None);
    }

    /// Removes all modules of virtual tables but these.
    pub(crate) fn keep_modules(&self, names: &[&CStr]) {
        self.connection.keep_modules(names);
    }

    /// Sets what `last_insert_rowid()` returns.
    pub(crate) fn set_last_insert_id(&self, id: i64) {
        self.connection.set_last_insert_id(id);
    }

    // ---- the WAL, and what a closure left --------------------------------------

    /// Returns which checkpoint is due after what was just written. `is_awaited`:
    /// whether other processes wait for the lock.
    pub(crate) fn checkpoint_due(&self, is_awaited: impl FnOnce() -> bool) -> Due {
        if let Some(file) = self.file.as_ref().filter(|file| file.is_leased()) {
            return self.checkpoint_due_by_index(file);
        }
        let frames = self.connection.wal_frames();
        if wal::is_below_first_step(frames) {
            return Due::NotYet;
        }
        Due::after(frames, self.connection.take_pages_written(), is_awaited())
    }

    fn checkpoint_due_by_index(&self, file: &DatabaseFile) -> Due {
        let due = Due::by_index(file.wal_frames(), self.pinned.get());
        if due == Due::NotYet {
            return due;
        }
        let now = Instant::now();
        let last = self.checkpointed.get();
        if last.is_some_and(|last| now < last + CHECKPOINT_PAUSE) {
            return Due::NotYet;
        }
        self.checkpointed.set(Some(now));
        due
    }

    /// Returns whether a checkpoint under the lock would wait for one that is running.
    pub(crate) fn is_wal_too_long(&self) -> bool {
        wal::is_too_long(self.connection.wal_frames())
    }

    /// Runs a passive checkpoint while the caller holds the write lock. Returns `false` if another
    /// connection's was in the way.
    pub(crate) fn checkpoint_under_lock(&self, location: &Location) -> bool {
        let frames = self.connection.wal_frames();
        let done = wal::checkpoint_under_lock(self, location, frames);
        let is_run = done.is_some_and(|done| !done.busy);
        let is_pinned = is_run && done.is_some_and(|done| !done.is_complete());
        self.pinned.set(if is_pinned { frames } else { 0 });
        is_run
    }

    /// Forgets which hooks were called, so that what follows shows whether they are ours.
    pub(crate) fn forget_hook_calls(&self) {
        self.hooks.forget_calls();
        self.connection.reset_wal_frames();
    }

    /// Returns whether statements mean the same here as on a connection with this fingerprint,
    /// after a closure of the application has used it: the application must have replaced neither
    /// functions nor collations nor hooks.
    pub(crate) fn has_fingerprint(
        &self,
        fingerprint: Fingerprint,
        location: &Location,
        layout: u64,
    ) -> bool {
        let ask = "SELECT sqlite_compileoption_used('ENABLE_PREUPDATE_HOOK')";
        // Nothing shows whether that hook is set.
        let may_have_preupdate_hook = || self.query_row(ask, [], |row| row.get(0));
        self.hooks.saw_write()
            && self.connection.wal_frames() > 0
            && !self.connection.is_redefined()
            && !may_have_preupdate_hook().unwrap_or(true)
            && self.execute_batch("BEGIN; ROLLBACK").is_ok()
            && fingerprint::of(self, location, layout).is_ok_and(|found| found == fingerprint)
            && self.hooks.saw_all()
    }
}

impl Deref for WriteConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}
