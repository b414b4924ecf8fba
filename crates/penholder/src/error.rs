//! The error of this crate.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use penholder_core::{Obstacle, Shortage, one_line, shown_name, shown_path};
use penholder_lock::{Deadline, Holder, LockError, Process, SqliteHolder, SqliteLock};
use rusqlite::{ErrorCode, ffi};

use crate::sidecar;

/// The result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of error it is: see [`Error::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The deadline passed before the write lock or a reader connection was free.
    Timeout,
    /// The deadline passed before SQLite's own locks were free, while the write lock was.
    SqliteBusy,
    /// A write was called inside another one, on the same thread.
    Nested,
    /// This process is a forked child, and the work belongs to its parent.
    Forked,
    /// The database, or the target of a backup, was refused before anything was changed.
    Refused,
    /// A constraint failed: `UNIQUE`, `NOT NULL`, `CHECK`, a foreign key, a primary key, a type
    /// of a `STRICT` table, `RAISE` in a trigger.
    ConstraintViolation,
    /// A query for one row found none.
    NoRow,
    /// Any other error of SQLite.
    Sqlite,
    /// Another write of the same batch made SQLite roll all of it back. Call again.
    BatchAborted,
    /// The outcome of this write, or its result, is not known.
    OutcomeUnknown,
    /// The database file, its `-wal` or its `-shm` was replaced or deleted while it was open.
    FileReplaced,
    /// The call itself is wrong: its parameters, the type that is asked for, what a closure did
    /// to its transaction.
    Misuse,
    /// A file could not be read or written.
    Io,
    /// Any other error of the write lock.
    Lock,
}

/// Why something could not be done.
///
/// It is opaque. Its predicates tell the cases apart; [`kind`](Self::kind) is for a `match`. Errors of the write lock and errors
/// of SQLite keep their causes ([`lock_error`](Self::lock_error),
/// [`sqlite_error`](Self::sqlite_error)). The text says what failed, where and why, and ends
/// with what to do next.
///
/// ```
/// use penholder::Database;
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let db = Database::open(directory.path().join("x.db")).unwrap();
/// let error = db.execute("INSERT INTO missing VALUES (1)", ()).unwrap_err();
/// assert!(error.sqlite_error().is_some() && error.lock_error().is_none());
/// assert!(error.to_string().contains("no such table: missing"));
/// ```
pub struct Error {
    kind: Box<Kind>,
}

#[derive(Debug)]
enum Kind {
    Lock(LockError),
    Sqlite {
        what: &'static str,
        path: Option<PathBuf>,
        /// Which of several statements failed.
        place: Option<String>,
        source: rusqlite::Error,
        /// What stands although the statement failed.
        kept: Kept,
        /// Files that keep this user from writing.
        obstacle: Option<Obstacle>,
        /// What the program has set on a connection, so that this failed.
        setting: Option<Setting>,
    },
    /// SQLite's own locks were not free.
    Busy {
        path: PathBuf,
        /// Which of several statements failed.
        place: Option<String>,
        deadline: Deadline,
        holder: Option<SqliteHolder>,
        /// Whether the write lock was ours meanwhile.
        is_locked: bool,
        source: rusqlite::Error,
    },
    /// All reader connections were in use until the deadline.
    NoReader {
        path: PathBuf,
        deadline: Deadline,
        size: usize,
    },
    Refused {
        what: &'static str,
        path: PathBuf,
        why: String,
        next: String,
    },
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
        next: Cow<'static, str>,
    },
    Misuse {
        what: &'static str,
        place: Option<String>,
        why: String,
        next: &'static str,
    },
    Forked {
        what: &'static str,
        path: PathBuf,
    },
    /// Another write of the same batch made SQLite roll the transaction back.
    RolledBack {
        path: PathBuf,
    },
    /// Another process claimed the write, and whether it was committed is not known.
    OutcomeUnknown {
        path: PathBuf,
        cause: Option<Box<Error>>,
    },
    /// The write was committed, but its result is lost.
    ResultLost {
        path: PathBuf,
    },
    /// A file of the database is not the one that is open any more.
    FileReplaced {
        what: &'static str,
        path: PathBuf,
        change: FileChange,
        /// Whether what failed had been committed when that was noticed.
        is_committed: bool,
    },
    /// Of another engine than this machine's SQLite.
    Engine {
        kind: ErrorKind,
        text: String,
    },
}

/// What became of a file of a database while it was open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileChange {
    path: PathBuf,
    is_deleted: bool,
}

impl FileChange {
    pub(crate) fn replaced(path: &Path) -> Self {
        let path = path.to_owned();
        let is_deleted = false;
        Self { path, is_deleted }
    }

    pub(crate) fn deleted(path: &Path) -> Self {
        let path = path.to_owned();
        let is_deleted = true;
        Self { path, is_deleted }
    }
}

impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = shown_name(&self.path);
        if self.is_deleted {
            write!(f, "there is no {name} any more")
        } else {
            write!(f, "{name} is another file now")
        }
    }
}

/// A setting of the program on the writing connection because of which something failed. SQLite
/// itself would say that permissions or another process are in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    QueryOnly,
    ExclusiveLockingMode,
}

impl Setting {
    fn text(self) -> &'static str {
        match self {
            Self::QueryOnly => {
                "`PRAGMA query_only` is set on the writing connection, by a closure or a connection \
                 hook of this program: set it to OFF in a closure of `with_write_lock`, or leave it out"
            }
            Self::ExclusiveLockingMode => {
                "`PRAGMA locking_mode=EXCLUSIVE` is set on the writing connection, by a closure or \
                 a connection hook of this program, and locks out all others: set it to NORMAL, \
                 and then write, in a closure of `with_write_lock`, or leave it out"
            }
        }
    }
}

/// What stands of a statement that failed: with `FAIL`, SQLite keeps what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Nothing,
    /// This number of changes.
    Changes(u64),
    /// Changes that SQLite does not count, because triggers made them.
    Uncounted,
}

impl Error {
    fn new(kind: Kind) -> Self {
        Self {
            kind: Box::new(kind),
        }
    }

    /// Makes an error of another engine than this machine's SQLite, for which `Store` is
    /// implemented. The text says what failed, where and why, and ends with what to do next.
    pub fn of_engine(kind: ErrorKind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self::new(Kind::Engine { kind, text })
    }

    /// Makes an error of SQLite itself. `SQLITE_BUSY` has [`busy`](Self::busy).
    pub(crate) fn sqlite(what: &'static str, path: &Path, source: rusqlite::Error) -> Self {
        Self::new(Kind::Sqlite {
            what,
            path: Some(path.to_owned()),
            place: None,
            obstacle: obstacle(what, path, &source),
            source,
            kept: Kept::Nothing,
            setting: None,
        })
    }

    /// Makes the error of a statement that failed while SQLite keeps some of its changes, as
    /// the statement asks for.
    pub(crate) fn partly_written(path: &Path, kept: Kept, source: rusqlite::Error) -> Self {
        Self::new(Kind::Sqlite {
            what: "write",
            path: Some(path.to_owned()),
            place: None,
            source,
            kept,
            obstacle: None,
            setting: None,
        })
    }

    /// Says which setting of the program is the reason why SQLite refused it.
    pub(crate) fn because_of(self, setting: Setting) -> Self {
        match *self.kind {
            Kind::Sqlite {
                what,
                path,
                place,
                source,
                kept,
                ..
            } => Self::new(Kind::Sqlite {
                what,
                path,
                place,
                source,
                kept,
                obstacle: None,
                setting: Some(setting),
            }),
            Kind::Busy {
                path,
                place,
                source,
                ..
            } => Self::new(Kind::Sqlite {
                what: "open database",
                path: Some(path),
                place,
                source,
                kept: Kept::Nothing,
                obstacle: None,
                setting: Some(setting),
            }),
            other => Self::new(other),
        }
    }

    /// Says which of several statements or steps failed.
    pub(crate) fn at_place(mut self, found: impl FnOnce() -> String) -> Self {
        match &mut *self.kind {
            Kind::Sqlite { place, .. } | Kind::Busy { place, .. } | Kind::Misuse { place, .. } => {
                *place = Some(found());
            }
            _ => {}
        }
        self
    }

    /// Names a database by the path that it is to have, in the place of the one where it was made.
    pub(crate) fn about(mut self, made: &Path, named: &Path) -> Self {
        match &mut *self.kind {
            Kind::Sqlite {
                path: Some(path), ..
            }
            | Kind::Busy { path, .. }
            | Kind::Refused { path, .. }
            | Kind::Io { path, .. }
                if path == made =>
            {
                named.clone_into(path);
            }
            _ => {}
        }
        self
    }

    /// Returns what SQLite said if it was that another connection has one of its locks, and no
    /// more is known of that.
    pub(crate) fn into_busy(self) -> Result<rusqlite::Error, Self> {
        match *self.kind {
            Kind::Sqlite {
                source,
                setting: None,
                ..
            } if is_busy_code(&source) => Ok(source),
            other => Err(Self::new(other)),
        }
    }

    /// Adds what a closure was running, and where, to an error that it got from SQLite.
    pub(crate) fn in_closure(mut self, operation: &'static str, database: &Path) -> Self {
        if let Kind::Sqlite { what, path, .. } = &mut *self.kind
            && path.is_none()
        {
            *what = operation;
            *path = Some(database.to_owned());
        }
        self
    }

    pub(crate) fn busy(
        path: &Path,
        deadline: Deadline,
        holder: Option<SqliteHolder>,
        source: rusqlite::Error,
    ) -> Self {
        let path = path.to_owned();
        Self::new(Kind::Busy {
            path,
            place: None,
            deadline,
            holder,
            is_locked: false,
            source,
        })
    }

    /// Names the deadline of the call, of which this was one of several attempts.
    pub(crate) fn until(mut self, whole: &Deadline) -> Self {
        if let Kind::Busy { deadline, .. } = &mut *self.kind {
            *deadline = *whole;
        }
        self
    }

    /// Says that the write lock was ours while SQLite's own was not free.
    pub(crate) fn under_write_lock(mut self) -> Self {
        if let Kind::Busy { is_locked, .. } = &mut *self.kind {
            *is_locked = true;
        }
        self
    }

    pub(crate) fn no_reader(path: &Path, deadline: Deadline, size: usize) -> Self {
        let path = path.to_owned();
        Self::new(Kind::NoReader {
            path,
            deadline,
            size,
        })
    }

    pub(crate) fn refused(
        what: &'static str,
        path: &Path,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self::new(Kind::Refused {
            what,
            path: path.to_owned(),
            why: why.into(),
            next: next.into(),
        })
    }

    pub(crate) fn io(
        what: &'static str,
        path: &Path,
        source: io::Error,
        next: &'static str,
    ) -> Self {
        let path = path.to_owned();
        let next = match Shortage::of(&source) {
            Some(shortage) => shortage.to_string().into(),
            None => next.into(),
        };
        Self::new(Kind::Io {
            what,
            path,
            source,
            next,
        })
    }

    pub(crate) fn misuse(what: &'static str, why: impl Into<String>, next: &'static str) -> Self {
        let why = why.into();
        Self::new(Kind::Misuse {
            what,
            place: None,
            why,
            next,
        })
    }

    pub(crate) fn forked(what: &'static str, path: &Path) -> Self {
        let path = path.to_owned();
        Self::new(Kind::Forked { what, path })
    }

    pub(crate) fn rolled_back(path: &Path) -> Self {
        let path = path.to_owned();
        Self::new(Kind::RolledBack { path })
    }

    pub(crate) fn outcome_unknown(path: &Path, cause: Option<&Self>) -> Self {
        Self::new(Kind::OutcomeUnknown {
            path: path.to_owned(),
            cause: cause.map(|cause| Box::new(cause.for_another())),
        })
    }

    pub(crate) fn result_lost(path: &Path) -> Self {
        let path = path.to_owned();
        Self::new(Kind::ResultLost { path })
    }

    pub(crate) fn file_replaced(what: &'static str, path: &Path, change: FileChange) -> Self {
        Self::new(Kind::FileReplaced {
            what,
            path: path.to_owned(),
            change,
            is_committed: false,
        })
    }

    /// Says that what failed had been committed before, if a file was replaced.
    pub(crate) fn after_commit(mut self) -> Self {
        if let Kind::FileReplaced { is_committed, .. } = &mut *self.kind {
            *is_committed = true;
        }
        self
    }

    /// Copies the error for another write of the same batch, for which `COMMIT` failed too.
    pub(crate) fn for_another(&self) -> Self {
        Self::new(match &*self.kind {
            Kind::Sqlite {
                what,
                path,
                place,
                source,
                kept,
                obstacle,
                setting,
            } => Kind::Sqlite {
                what,
                path: path.clone(),
                place: place.clone(),
                source: copy_of(source),
                kept: *kept,
                obstacle: obstacle.clone(),
                setting: *setting,
            },
            Kind::Busy {
                path,
                place,
                deadline,
                holder,
                is_locked,
                source,
            } => Kind::Busy {
                path: path.clone(),
                place: place.clone(),
                deadline: *deadline,
                holder: holder.clone(),
                is_locked: *is_locked,
                source: copy_of(source),
            },
            Kind::Lock(error) => Kind::Lock(error.clone()),
            Kind::FileReplaced {
                what,
                path,
                change,
                is_committed,
            } => Kind::FileReplaced {
                what,
                path: path.clone(),
                change: change.clone(),
                is_committed: *is_committed,
            },
            Kind::OutcomeUnknown { path, cause } => Kind::OutcomeUnknown {
                path: path.clone(),
                cause: cause.as_ref().map(|cause| Box::new(cause.for_another())),
            },
            other => Kind::Misuse {
                what: "write",
                place: None,
                why: format!("the batch failed: {}", Text(other)),
                next: "nothing was written: try again",
            },
        })
    }

    /// Returns what kind of error it is. More kinds may be added.
    ///
    /// ```
    /// use penholder::{Database, ErrorKind};
    ///
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = Database::open(directory.path().join("x.db")).unwrap();
    /// db.execute("CREATE TABLE user(name UNIQUE)", ()).unwrap();
    /// db.execute("INSERT INTO user VALUES ('ann')", ()).unwrap();
    /// let error = db.execute("INSERT INTO user VALUES ('ann')", ()).unwrap_err();
    /// let answer = match error.kind() {
    ///     ErrorKind::ConstraintViolation => "409 this name is taken",
    ///     ErrorKind::Timeout | ErrorKind::SqliteBusy => "503 try again",
    ///     _ => "500 an error",
    /// };
    /// assert_eq!(answer, "409 this name is taken");
    /// ```
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match &*self.kind {
            Kind::Lock(error) if error.is_timeout() => ErrorKind::Timeout,
            Kind::Lock(error) if error.is_nested() => ErrorKind::Nested,
            Kind::Lock(error) if error.is_forked() => ErrorKind::Forked,
            Kind::Lock(error) if error.is_network_file_system() => ErrorKind::Refused,
            Kind::Lock(_) => ErrorKind::Lock,
            Kind::Sqlite { source, .. } => kind_of(source),
            Kind::Busy { .. } => ErrorKind::SqliteBusy,
            Kind::NoReader { .. } => ErrorKind::Timeout,
            Kind::Refused { .. } => ErrorKind::Refused,
            Kind::Io { .. } => ErrorKind::Io,
            Kind::Misuse { .. } => ErrorKind::Misuse,
            Kind::Forked { .. } => ErrorKind::Forked,
            Kind::RolledBack { .. } => ErrorKind::BatchAborted,
            Kind::OutcomeUnknown { .. } | Kind::ResultLost { .. } => ErrorKind::OutcomeUnknown,
            Kind::FileReplaced { .. } => ErrorKind::FileReplaced,
            Kind::Engine { kind, .. } => *kind,
        }
    }

    /// Returns whether nothing was written because of another write of the same batch, which
    /// made SQLite roll all of it back after the closure had run (see
    /// [`OpenOptions::group_commit`](crate::OpenOptions::group_commit)). Call again.
    #[must_use]
    pub fn is_batch_aborted(&self) -> bool {
        self.kind() == ErrorKind::BatchAborted
    }

    /// Returns whether the outcome of this write, or its result, is not known.
    ///
    /// Either another process claimed the write and did not report the outcome in time: that
    /// process is stopped, or the queue file was damaged. The write happens once or not at
    /// all, perhaps later; look at the data before you write again.
    /// [`lock_error`](Self::lock_error) and [`holder`](Self::holder) name the process.
    ///
    /// Or the write was committed, and what it returned is lost; or a file of the database was
    /// replaced or deleted during the commit. The text says which.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match &*self.kind {
            Kind::FileReplaced { is_committed, .. } => *is_committed,
            Kind::Engine { kind, .. } => *kind == ErrorKind::OutcomeUnknown,
            kind => matches!(kind, Kind::OutcomeUnknown { .. } | Kind::ResultLost { .. }),
        }
    }

    /// Returns whether the deadline passed while the call waited for the write lock, for
    /// SQLite's own locks or for a free reader connection. Nothing was written, except for
    /// what a closure of `with_write_lock` committed before.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match &*self.kind {
            Kind::Lock(error) => error.is_timeout(),
            Kind::NoReader { .. } => true,
            Kind::Engine { kind, .. } => *kind == ErrorKind::Timeout,
            _ => self.is_sqlite_busy(),
        }
    }

    /// Returns whether SQLite's own locks were not free, while the write lock was: a process
    /// writes without the write lock, or SQLite recovers, or it closes and checkpoints.
    #[must_use]
    pub fn is_sqlite_busy(&self) -> bool {
        self.sqlite_error().is_some_and(is_busy_code)
    }

    /// Returns whether a constraint failed: `UNIQUE`, `NOT NULL`, `CHECK`, a foreign key, a
    /// primary key, a type of a `STRICT` table. [`sqlite_error`](Self::sqlite_error) has the
    /// extended code, which says which of them.
    #[must_use]
    pub fn is_constraint_violation(&self) -> bool {
        self.kind() == ErrorKind::ConstraintViolation
    }

    /// Returns whether this thread called a write inside another one, where it would wait for
    /// itself. Nothing ran.
    #[must_use]
    pub fn is_nested(&self) -> bool {
        self.kind() == ErrorKind::Nested
    }

    /// Returns whether this process is a forked child and the work belongs to its parent.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        match &*self.kind {
            Kind::Lock(error) => error.is_forked(),
            Kind::Forked { .. } => true,
            _ => false,
        }
    }

    /// Returns whether the database file, its `-wal` or its `-shm` was replaced or deleted while
    /// this process had it open.
    ///
    /// Nothing was written, unless [`is_outcome_unknown`](Self::is_outcome_unknown) is true too:
    /// then it was committed, perhaps to the former file only. All connections are given up, and the next call opens
    /// what is there, if that is safe.
    #[must_use]
    pub fn is_file_replaced(&self) -> bool {
        self.kind() == ErrorKind::FileReplaced
    }

    /// Returns whether the database was refused before anything was opened or changed.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        match &*self.kind {
            Kind::Lock(error) => error.is_network_file_system(),
            _ => self.kind() == ErrorKind::Refused,
        }
    }

    /// Returns the process that held the write lock when the deadline passed.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        self.lock_error()?.holder()
    }

    /// Returns the process that had SQLite's own lock when the deadline passed, and which lock it
    /// was, if the kernel's tables showed it.
    #[must_use]
    pub fn sqlite_holder(&self) -> Option<&SqliteHolder> {
        match &*self.kind {
            Kind::Busy { holder, .. } => holder.as_ref(),
            _ => None,
        }
    }

    /// Returns the process that writes without the write lock, or keeps writers out, if the
    /// kernel's tables show one.
    #[must_use]
    pub fn unlocked_writer(&self) -> Option<&Process> {
        if let Some(outsider) = self.lock_error().and_then(LockError::outsider) {
            return Some(&outsider.process);
        }
        let holder = self.sqlite_holder()?;
        holder.lock.keeps_writers_out().then_some(&holder.process)
    }

    /// Returns whether SQLite keeps what a statement had changed before it failed, because it uses
    /// `FAIL`.
    #[doc(hidden)]
    #[must_use]
    pub fn has_kept_changes(&self) -> bool {
        matches!(&*self.kind, Kind::Sqlite { kept, .. } if *kept != Kept::Nothing)
    }

    /// Returns the error of the write lock, if it is one.
    #[must_use]
    pub fn lock_error(&self) -> Option<&LockError> {
        match &*self.kind {
            Kind::Lock(error) => Some(error),
            Kind::OutcomeUnknown {
                cause: Some(cause), ..
            } => cause.lock_error(),
            _ => None,
        }
    }

    /// Returns the error of SQLite, if it is one.
    #[must_use]
    pub fn sqlite_error(&self) -> Option<&rusqlite::Error> {
        match &*self.kind {
            Kind::Sqlite { source, .. } | Kind::Busy { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Removes what SQLite says about the text of a statement from an error. What is not known to be
/// without it is replaced.
pub(crate) fn without_sql(error: rusqlite::Error) -> rusqlite::Error {
    use rusqlite::Error as Other;
    let is_code = |code: &ffi::Error| code.extended_code & 0xff == ffi::SQLITE_ERROR;
    match &error {
        Other::SqliteFailure(code, _) if !is_code(code) => error,
        Other::MultipleStatement | Other::QueryReturnedNoRows | Other::InvalidQuery => error,
        _ => {
            let code = error.sqlite_error().copied();
            let code = code.unwrap_or_else(|| ffi::Error::new(ffi::SQLITE_ERROR));
            let text = "the statement is wrong, and its text is not recorded (`record_sql`)";
            Other::SqliteFailure(code, Some(text.to_owned()))
        }
    }
}

impl From<LockError> for Error {
    fn from(error: LockError) -> Self {
        Self::new(Kind::Lock(error))
    }
}

impl From<rusqlite::Error> for Error {
    fn from(source: rusqlite::Error) -> Self {
        Self::new(Kind::Sqlite {
            what: "run SQL",
            path: None,
            place: None,
            source,
            kept: Kept::Nothing,
            obstacle: None,
            setting: None,
        })
    }
}

/// The same text as `Display`, because `main` and `unwrap` print this one; the fields with
/// `{:#?}`.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            self.kind.fmt(f)
        } else {
            fmt::Display::fmt(self, f)
        }
    }
}

/// Copies an error of SQLite, as far as it can be copied.
fn copy_of(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, text) => {
            rusqlite::Error::SqliteFailure(*code, text.clone())
        }
        other => rusqlite::Error::SqliteFailure(
            ffi::Error::new(ffi::SQLITE_ERROR),
            Some(other.to_string()),
        ),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Text(&self.kind).fmt(f)
    }
}

/// The text of an error: what failed, where and why, and what to do next.
struct Text<'a>(&'a Kind);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Lock(error) if error.is_nested() => write!(
                f,
                "take write lock: {}: this call is inside a closure that holds the lock, and would \
                 wait for itself: use the connection that the closure gets, or call after it",
                shown_path(error.lock_file())
            ),
            Kind::Lock(error) => error.fmt(f),
            Kind::Sqlite {
                what,
                path,
                place,
                source,
                kept,
                obstacle,
                setting,
            } => {
                heading(f, what, path.as_deref(), place.as_deref())?;
                match obstacle {
                    Some(obstacle) if setting.is_none() => {
                        write!(f, "{}: {obstacle}", one_line(source))
                    }
                    _ => sqlite_text(f, what, source, *kept, *setting),
                }
            }
            Kind::Busy {
                path,
                place,
                deadline,
                holder,
                is_locked,
                ..
            } => {
                busy_heading(f, path, place.as_deref(), deadline)?;
                busy_text(f, holder.as_ref(), *is_locked)
            }
            Kind::NoReader {
                path,
                deadline,
                size,
            } => no_reader_text(f, path, deadline, *size),
            Kind::Refused {
                what,
                path,
                why,
                next,
            } => {
                let (path, why, next) = (shown_path(path), one_line(why), one_line(next));
                write!(f, "{what}: {path}: {why}: {next}")
            }
            Kind::Io {
                what,
                path,
                source,
                next,
            } => {
                let (path, source) = (shown_path(path), one_line(source));
                write!(f, "{what}: {path}: {source}: {next}")
            }
            Kind::Misuse {
                what,
                place,
                why,
                next,
            } => {
                heading(f, what, None, place.as_deref())?;
                write!(f, "{}: {next}", one_line(why))
            }
            Kind::Forked { what, path } => forked_text(f, what, path),
            Kind::OutcomeUnknown { path, cause } => outcome_unknown_text(f, path, cause.as_deref()),
            Kind::ResultLost { path } => result_lost_text(f, path),
            Kind::RolledBack { path } => rolled_back_text(f, path),
            Kind::FileReplaced {
                what,
                path,
                change,
                is_committed,
            } => file_replaced_text(f, what, path, change, *is_committed),
            Kind::Engine { text, .. } => f.write_str(text),
        }
    }
}

/// What failed and where.
fn heading(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    path: Option<&Path>,
    place: Option<&str>,
) -> fmt::Result {
    write!(f, "{what}: ")?;
    if let Some(path) = path {
        write!(f, "{}: ", shown_path(path))?;
    }
    place.map_or(Ok(()), |place| write!(f, "{}: ", one_line(place)))
}

fn sqlite_text(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    source: &rusqlite::Error,
    kept: Kept,
    setting: Option<Setting>,
) -> fmt::Result {
    if is_commit_in_closure(source) {
        return f.write_str(
            "`write` ends the transaction that it began; nothing was written: leave COMMIT out",
        );
    }
    write!(f, "{}", one_line(source))?;
    let kept = match kept {
        Kept::Changes(1) => "the change before the failure was".to_owned(),
        Kept::Changes(count) => format!("the {count} changes before the failure were"),
        Kept::Uncounted => "changes before the failure were".to_owned(),
        Kept::Nothing => {
            let next = setting.map(Setting::text);
            let next = next.or_else(|| next_step(what, source));
            return next.map_or(Ok(()), |next| write!(f, ": {next}"));
        }
    };
    write!(
        f,
        ": {kept} kept, because the statement, its table or a trigger uses FAIL: run it in a \
         transaction to undo that"
    )
}

fn busy_heading(
    f: &mut fmt::Formatter<'_>,
    path: &Path,
    place: Option<&str>,
    deadline: &Deadline,
) -> fmt::Result {
    write!(f, "database busy after {deadline}: {}", shown_path(path))?;
    match place {
        Some(place) => writeln!(f, ": {}", one_line(place)),
        None => writeln!(f),
    }
}

/// Who has SQLite's own lock, and what to do.
fn busy_text(
    f: &mut fmt::Formatter<'_>,
    holder: Option<&SqliteHolder>,
    is_locked: bool,
) -> fmt::Result {
    f.write_str(match is_locked {
        true => "  the write lock was free, but SQLite's own lock was not: ",
        false => "  SQLite's own lock was not free: ",
    })?;
    match holder {
        Some(holder) => writeln!(f, "{holder}")?,
        None => f.write_str(
            "a process writes without the write lock or keeps SQLite's lock \
             (`PRAGMA locking_mode=EXCLUSIVE`), or SQLite recovers or checkpoints\n",
        )?,
    }
    f.write_str(match holder.map(|holder| holder.lock) {
        Some(SqliteLock::Shared) => "  try again when it has ended its read transaction",
        Some(SqliteLock::Recovery) => "  try again",
        _ => "  try again, or let that program write through penholder",
    })
}

fn no_reader_text(
    f: &mut fmt::Formatter<'_>,
    path: &Path,
    deadline: &Deadline,
    size: usize,
) -> fmt::Result {
    write!(
        f,
        "read: {}: {} in use for {deadline}: end reads sooner, do not read inside a read, or raise \
         `OpenOptions::max_readers`",
        shown_path(path),
        match size {
            1 => "the only reader connection was".to_owned(),
            size => format!("all {size} reader connections were"),
        }
    )
}

fn forked_text(f: &mut fmt::Formatter<'_>, what: &str, path: &Path) -> fmt::Result {
    write!(
        f,
        "{what}: {}: this process was forked inside the closure, and the connection is its \
         parent's: nothing was done here; use the database again in the child, outside the closure",
        shown_path(path)
    )
}

fn outcome_unknown_text(
    f: &mut fmt::Formatter<'_>,
    path: &Path,
    cause: Option<&Error>,
) -> fmt::Result {
    write!(
        f,
        "write: {}: another process had claimed it, and did not report the outcome: ",
        shown_path(path)
    )?;
    if let Some(cause) = cause {
        write!(f, "{cause}\n  ")?;
    }
    f.write_str(
        "the write happens once or not at all; this is undecided while that process holds the \
         lock: check the data before you write again",
    )
}

fn result_lost_text(f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
    write!(
        f,
        "write: {}: it was written by another process, but the queue file, through which the \
         result came, was damaged: do not write it again",
        shown_path(path)
    )
}

fn rolled_back_text(f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
    write!(
        f,
        "write: {}: another write of the same batch made SQLite roll all of it back: nothing was \
         written: try again",
        shown_path(path)
    )
}

fn file_replaced_text(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    path: &Path,
    change: &FileChange,
    is_committed: bool,
) -> fmt::Result {
    let outcome = match what {
        _ if is_committed => {
            "it was committed, perhaps to the former file only, so check the data before you \
             write again"
        }
        "write" => "nothing was written",
        _ => "nothing was done",
    };
    write!(
        f,
        "{what}: {}: the database file was replaced or deleted ({change}): {outcome}: call again \
         to open what is there now, and replace a database with `penholder restore` only",
        shown_path(path)
    )
}

/// The text contains that of its cause, so there is no source, and reports that print the whole
/// chain (`anyhow`, `eyre`) say everything once. [`Error::sqlite_error`] and
/// [`Error::lock_error`] return the cause.
impl StdError for Error {}

fn kind_of(error: &rusqlite::Error) -> ErrorKind {
    match (error, error.sqlite_error_code()) {
        (rusqlite::Error::QueryReturnedNoRows, _) => ErrorKind::NoRow,
        _ if is_commit_in_closure(error) => ErrorKind::Misuse,
        (_, Some(ErrorCode::DatabaseBusy)) => ErrorKind::SqliteBusy,
        (_, Some(ErrorCode::ConstraintViolation)) => ErrorKind::ConstraintViolation,
        _ => ErrorKind::Sqlite,
    }
}

/// Returns whether our commit hook refused a COMMIT of a closure.
fn is_commit_in_closure(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code == Some(ffi::SQLITE_CONSTRAINT_COMMITHOOK)
}

/// Returns whether SQLite says that another connection has one of its locks.
pub(crate) fn is_busy_code(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// Makes what SQLite says if another connection has one of its locks.
pub(crate) fn busy_code() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None)
}

/// What SQLite says of a collation, and of a function, that this process does not define.
pub(crate) const NO_COLLATION: &str = "no such collation sequence: ";
pub(crate) const NO_FUNCTION: &str = "no such function: ";
/// The same of a function in the schema.
pub(crate) const UNKNOWN_FUNCTION: &str = "unknown function: ";

/// Looks for files that explain why SQLite may not write the database.
fn obstacle(what: &str, database: &Path, error: &rusqlite::Error) -> Option<Obstacle> {
    let is_reading = matches!(what, "query" | "read");
    let may_explain = match error.sqlite_error_code()? {
        ErrorCode::ReadOnly => !is_reading,
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::SystemIoFailure => true,
        _ => false,
    };
    may_explain.then(|| Obstacle::find(database, sidecar::all(database)))?
}

/// Returns what to do about an error of SQLite, if there is something to do.
fn next_step(what: &str, error: &rusqlite::Error) -> Option<&'static str> {
    if matches!(error, rusqlite::Error::QueryReturnedNoRows) {
        return Some(
            "if that is expected, use `query_optional`, or rusqlite's `optional` in a closure",
        );
    }
    if matches!(error, rusqlite::Error::MultipleStatement) {
        return Some("give one statement at a time; `batch` runs several, all or nothing");
    }
    let text = error.to_string();
    if text.contains("cannot VACUUM") {
        return Some("use `vacuum`");
    }
    // In other operations a function is rather misspelt in the statement.
    let is_of_schema = text.contains(NO_COLLATION)
        || text.contains(UNKNOWN_FUNCTION)
        || what == "vacuum" && text.contains(NO_FUNCTION);
    if is_of_schema {
        return Some("run this in the program that defines it (`OpenOptions::connection_hook`)");
    }
    Some(match error.sqlite_error_code()? {
        ErrorCode::NotADatabase => "nothing was changed; check the path",
        ErrorCode::OutOfMemory => Shortage::Memory.advice(),
        ErrorCode::DiskFull => "nothing was written; make room on the disk and try again",
        ErrorCode::SystemIoFailure => {
            "make room on the disk, and check quotas, file size limits and the disk itself"
        }
        ErrorCode::ReadOnly if matches!(what, "query" | "read") => {
            "this statement writes: use `execute`, or `write` for several"
        }
        ErrorCode::ReadOnly => {
            "writing needs write permission on the database and its directory, and a connection \
             that is not a reader's and has no `PRAGMA query_only`"
        }
        ErrorCode::DatabaseCorrupt => {
            "stop writing and restore a backup, or try `.recover` of the sqlite3 shell"
        }
        ErrorCode::CannotOpen => {
            "check the permissions of the database, of its directory and of its -wal and -shm files"
        }
        ErrorCode::DatabaseBusy => "try again",
        _ => return None,
    })
}
