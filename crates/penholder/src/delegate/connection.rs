//! The connection that executes requests of other processes, and writes of this process that
//! another process might as well have executed.
//!
//! No closure ever has it, so it has no functions, collations, hooks, temporary tables,
//! attached databases or pragmas of the application. A statement means the same on every such
//! connection with the same [`Fingerprint`]. What runs here is prepared under an authorizer
//! that lets it change rows of `main` and nothing else.
//!
//! The time of a statement is checked between the steps of SQLite's virtual machine, so each step
//! has to be short: values are short, and what takes long in one step is not executed here (see
//! `docs/design.md`, "How long a request may run").

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ffi::CStr;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use penholder_core::Deadline;
use rusqlite::functions::FunctionFlags;
use rusqlite::hooks::Authorization;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, ffi};

use super::batch_table::{BatchTable, TABLE};
use super::wire::LAYOUT;
use crate::data::{Executed, Statement};
use crate::error::{Error, Result};
use crate::group::Work;
use crate::location::Location;
use crate::options::OpenOptions;
use crate::sqlite::ffi::{Access, set_authorizer};
use crate::sqlite::fingerprint::{self, Fingerprint};
use crate::sqlite::query;
use crate::sqlite::sql::{StatementKind, first_word};
use crate::sqlite::write_connection::{FailedStatement, WriteConnection};

/// How long a statement may run in a transaction that it shares with other processes. After
/// that SQLite interrupts it, and its owner runs it itself.
const TIME_LIMIT: Duration = Duration::from_millis(5);
/// How many steps of SQLite's virtual machine lie between two looks at the clock.
const STEPS_BETWEEN_CHECKS: i32 = 100;
/// The longest value or row that is executed for another process, in bytes.
const VALUE_MAX: i32 = 1 << 14;
/// The longest pattern of `LIKE` and `GLOB`, in bytes: their time is its length times that of the
/// text.
const PATTERN_MAX: i32 = 32;
/// The most arguments of a function: some read their first argument once for each other one.
const ARGUMENTS_MAX: i32 = 32;
/// How many statements are remembered that are not executed here.
const REFUSED_MAX: usize = 64;
/// How long they are.
const REFUSED_TIME: Duration = Duration::from_secs(60);

/// Replaces the last insert id before a statement, so that it is never by chance the one that
/// the statement, or a trigger of it, inserts.
const NO_ID: i64 = -0x70e6_e686_f6c6_4657;

/// Distinguishes the text of a delegated statement from the connection's own in its cache. It
/// stands before the text: what follows the last expression of `RETURNING` is part of the name
/// of a column.
const MARK: &str = "--delegated\n";

/// A connection for plain data only.
#[derive(Debug)]
pub(crate) struct DelegateConnection {
    connection: Box<WriteConnection>,
    /// Whether the authorizer restricts what is prepared.
    is_restricted: Arc<AtomicBool>,
    /// When what runs has to end, in nanoseconds since `origin`; zero for never.
    ends: Arc<AtomicU64>,
    origin: Instant,
    /// How long a statement may run.
    time_limit: Duration,
    fingerprint: Fingerprint,
    batch_table: BatchTable,
    /// What is refused at once: hashes of statements that took too long or were not allowed.
    refused: RefCell<VecDeque<(u64, Instant)>>,
}

/// How one statement went.
pub(crate) enum Delegated {
    Done(Executed),
    /// A constraint violation, which the owner's connection would report in the same way. Some
    /// changes of the statement may remain, as after [`Local`](Self::Local): roll back the
    /// savepoint, or all of the transaction.
    Failed {
        code: i32,
        text: Option<String>,
    },
    /// Its owner has to execute it; some changes may remain.
    Local,
    /// Its owner has to execute it: here it was not even begun.
    Refused,
    /// The transaction is gone, or has to go.
    Aborted,
}

impl DelegateConnection {
    pub(crate) fn open(
        location: &Location,
        options: &OpenOptions,
        deadline: &Deadline,
    ) -> Result<Self> {
        let failed = |e| Error::sqlite("open database", &location.path, e);
        let options = options.clone().create(false);
        let mut connection = Box::new(WriteConnection::open(location, &options, deadline)?);
        if let Some(file) = connection.file() {
            file.join_frames();
        }
        let fingerprint = if has_foreign_code(&connection).map_err(failed)? {
            // Of no other connection: the same names may stand for something else there.
            Fingerprint(RandomState::new().hash_one(0))
        } else {
            fingerprint::of(&connection, location, LAYOUT).map_err(failed)?
        };
        replace_functions(&connection).map_err(failed)?;
        connection.keep_modules(&KEPT_MODULES);
        let is_restricted = Arc::new(AtomicBool::new(false));
        let ends = Arc::new(AtomicU64::new(0));
        let origin = Instant::now();
        install_hooks(connection.for_setup(), &is_restricted, &ends, origin).map_err(failed)?;
        Ok(Self {
            connection,
            is_restricted,
            ends,
            origin,
            time_limit: TIME_LIMIT,
            fingerprint,
            batch_table: BatchTable::default(),
            refused: RefCell::default(),
        })
    }

    /// Returns its fingerprint: requests are taken only from connections with the same one.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(super) fn batch_table(&self) -> &BatchTable {
        &self.batch_table
    }

    /// Changes how long a statement may run, and forgets those that ran for longer.
    #[cfg(feature = "failpoints")]
    pub(crate) fn set_time_limit(&mut self, limit: Duration) {
        self.time_limit = limit;
        self.refused.borrow_mut().clear();
    }

    pub(crate) fn write_connection(&self) -> &WriteConnection {
        &self.connection
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Runs a statement of this crate, such as `COMMIT`.
    pub(crate) fn step(&self, sql: &str) -> rusqlite::Result<()> {
        query::step(&self.connection, sql)
    }

    /// Rolls back the transaction, if one is open.
    pub(super) fn roll_back(&self) -> rusqlite::Result<()> {
        if self.connection().is_autocommit() {
            return Ok(());
        }
        self.step("ROLLBACK")
    }

    /// Runs one statement in a transaction that it shares with others.
    pub(crate) fn run(&self, statement: &Statement) -> Delegated {
        if !looks_delegable(&statement.sql) || self.is_refused(&statement.sql) {
            return Delegated::Refused;
        }
        let sql = format!("{MARK}{}", &statement.sql);
        self.is_restricted.store(true, Relaxed);
        let end = nanos(self.origin.elapsed() + self.time_limit);
        self.ends.store(end, Relaxed);
        self.connection.set_last_insert_id(NO_ID);
        let changes = self.connection.total_changes();
        let kind = StatementKind::of(&statement.sql);
        let longest = self.limit_values(VALUE_MAX);
        let done = self.connection.run(&sql, kind, &statement.values);
        self.limit_values(longest);
        self.is_restricted.store(false, Relaxed);
        self.ends.store(0, Relaxed);
        let has_changed = self.connection.total_changes() != changes;
        if let Err(failed) = &done
            && is_always_refused(&failed.error)
        {
            self.refuse(&statement.sql);
        }
        self.judge(&statement.sql, done, has_changed)
    }

    /// Changes the length of the longest value, and returns what it was.
    fn limit_values(&self, longest: i32) -> i32 {
        let limit = Limit::SQLITE_LIMIT_LENGTH;
        self.connection.set_limit(limit, longest).unwrap_or(longest)
    }

    fn is_refused(&self, sql: &str) -> bool {
        let mut refused = self.refused.borrow_mut();
        while let Some((_, at)) = refused.front()
            && at.elapsed() > REFUSED_TIME
        {
            refused.pop_front();
        }
        !refused.is_empty() && {
            let hash = hash_of(sql);
            refused.iter().any(|&(one, _)| one == hash)
        }
    }

    fn refuse(&self, sql: &str) {
        let mut refused = self.refused.borrow_mut();
        if refused.len() == REFUSED_MAX {
            refused.pop_front();
        }
        refused.push_back((hash_of(sql), Instant::now()));
    }

    fn judge(
        &self,
        sql: &str,
        done: Result<Executed, FailedStatement>,
        has_changed: bool,
    ) -> Delegated {
        if self.connection().is_autocommit() {
            return Delegated::Aborted;
        }
        match done {
            Ok(done) => Delegated::Done(done),
            // `FAIL` may keep what the statement, or a trigger, did before it failed, which is
            // not always counted. That is for its owner's connection.
            Err(_) if has_changed => Delegated::Local,
            Err(FailedStatement { error, .. }) if is_not_begun(&error) => Delegated::Refused,
            Err(FailedStatement { error, .. }) => match error {
                rusqlite::Error::SqliteFailure(code, text)
                    if code.code == ErrorCode::ConstraintViolation
                        && !self.connection.may_have_kept(sql) =>
                {
                    let code = code.extended_code;
                    Delegated::Failed { code, text }
                }
                // For any other error its owner is told by its own SQLite.
                _ => Delegated::Local,
            },
        }
    }
}

fn install_hooks(
    connection: &mut Connection,
    is_restricted: &Arc<AtomicBool>,
    ends: &Arc<AtomicU64>,
    origin: Instant,
) -> rusqlite::Result<()> {
    let is_restricted = Arc::clone(is_restricted);
    set_authorizer(connection, move |access| {
        if is_restricted.load(Relaxed) {
            authorize(access)
        } else {
            Authorization::Allow
        }
    })?;
    let ends = Arc::clone(ends);
    connection.progress_handler(
        STEPS_BETWEEN_CHECKS,
        Some(move || match ends.load(Relaxed) {
            0 => false,
            end => nanos(origin.elapsed()) > end,
        }),
    )?;
    connection.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, PATTERN_MAX)?;
    connection
        .set_limit(Limit::SQLITE_LIMIT_FUNCTION_ARG, ARGUMENTS_MAX)
        .map(drop)
}

/// Returns whether a statement that failed with this error would take as long, or be refused,
/// the next time too.
fn is_always_refused(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::OperationInterrupted | ErrorCode::AuthorizationForStatementDenied)
    )
}

/// Returns whether a statement failed with this error before its first step, as far as that is known:
/// rusqlite may not tell an error of preparing from one of running.
fn is_not_begun(error: &rusqlite::Error) -> bool {
    #[cfg(feature = "bundled")]
    if matches!(error, rusqlite::Error::SqlInputError { .. }) {
        return true;
    }
    // SQLite asks the authorizer only as it prepares.
    error.sqlite_error_code() == Some(ErrorCode::AuthorizationForStatementDenied)
        || matches!(error, rusqlite::Error::InvalidParameterCount(..))
}

fn hash_of(sql: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    sql.hash(&mut hasher);
    hasher.finish()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns whether a statement looks like one that another process may execute; the authorizer
/// decides.
pub(super) fn looks_delegable(sql: &str) -> bool {
    let is_with = || first_word(sql).eq_ignore_ascii_case(b"WITH");
    (StatementKind::of(sql) != StatementKind::Other || is_with()) && !sql.contains(TABLE)
}

impl Work {
    /// Returns whether this looks like a write that another process may execute: plain data,
    /// of which every statement looks so.
    pub(super) fn looks_delegable(&self) -> bool {
        let all = self.statements();
        !all.is_empty() && all.iter().all(|one| looks_delegable(&one.sql))
    }
}

/// Functions whose result depends on what the connection did before.
const CONNECTION_FUNCTIONS: [&str; 3] = ["last_insert_rowid", "changes", "total_changes"];

/// Functions that reach out of the connection.
const LOCAL_FUNCTIONS: [&str; 5] = [
    "load_extension",
    "readfile",
    "writefile",
    "edit",
    "fts3_tokenizer",
];

/// Functions that may take long in one step: their time grows with the product of the lengths of
/// their arguments, or with a whole table (SQLite counts the rows of one in a single step).
const SLOW_FUNCTIONS: [&str; 10] = [
    "count",
    "instr",
    "replace",
    "trim",
    "ltrim",
    "rtrim",
    "json_patch",
    "jsonb_patch",
    "rtreecheck",
    "geopoly_overlap",
];

/// Those of them that are too slow even for the short values that are allowed here, with the
/// number of their arguments.
const SLOWEST_FUNCTIONS: [(&str, i32); 5] = [
    ("trim", 2),
    ("ltrim", 2),
    ("rtrim", 2),
    ("json_patch", 2),
    ("jsonb_patch", 2),
];

/// Functions that return `NULL` instead of an error, in older versions of SQLite, if their result
/// is longer than what is allowed here: a statement would mean something else than with its owner.
const SILENT_FUNCTIONS: [&str; 2] = ["printf", "format"];

/// The modules of virtual tables that may be used. One insertion into a full-text index may merge
/// or rebuild all of it.
const KEPT_MODULES: [&CStr; 4] = [c"rtree", c"rtree_i32", c"json_each", c"json_tree"];

/// Makes functions fail wherever they are called: SQLite does not ask the authorizer about those
/// in a `CHECK`, a generated column or an index.
fn replace_functions(connection: &Connection) -> rusqlite::Result<()> {
    for name in CONNECTION_FUNCTIONS {
        connection.create_scalar_function(name, 0, FunctionFlags::SQLITE_UTF8, |_| fail())?;
    }
    // As what they replace, or an index that uses one would make the schema invalid.
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    for name in SILENT_FUNCTIONS {
        connection.create_scalar_function(name, -1, flags, |_| fail())?;
    }
    for (name, arguments) in SLOWEST_FUNCTIONS {
        connection.create_scalar_function(name, arguments, flags, |_| fail())?;
    }
    Ok(())
}

fn fail() -> rusqlite::Result<i64> {
    Err(rusqlite::Error::InvalidQuery)
}

/// Returns whether the connection has functions or collations that SQLite does not bring, or that
/// replace its own: an extension that is loaded into every connection of the program may have
/// added them, and nothing shows what they do.
fn has_foreign_code(connection: &Connection) -> rusqlite::Result<bool> {
    // Those of SQLite's own virtual tables are added to each connection too.
    let sql = "SELECT EXISTS (SELECT 1 FROM pragma_function_list WHERE NOT builtin \
               AND name NOT GLOB 'fts[35]*' AND name NOT GLOB 'rtree*' \
               AND name NOT GLOB 'geopoly_*' AND name NOT IN \
               ('bm25', 'highlight', 'snippet', 'offsets', 'matchinfo', 'optimize', 'match')) \
               OR EXISTS (SELECT 1 FROM pragma_collation_list \
               WHERE name NOT IN ('BINARY', 'NOCASE', 'RTRIM'))";
    connection.query_row(sql, [], |row| row.get(0))
}

/// Lets a statement change rows of the main database, and nothing else.
fn authorize(access: &Access<'_>) -> Authorization {
    let name = |text: Option<&'_ CStr>| text.unwrap_or_default().to_bytes().to_owned();
    let is_allowed = match access.code {
        ffi::SQLITE_SELECT | ffi::SQLITE_RECURSIVE | ffi::SQLITE_READ => true,
        ffi::SQLITE_FUNCTION => {
            let function = name(access.second);
            let is = |name: &&str| function.eq_ignore_ascii_case(name.as_bytes());
            let all = CONNECTION_FUNCTIONS.iter().chain(&LOCAL_FUNCTIONS);
            !all.chain(&SLOW_FUNCTIONS).chain(&SILENT_FUNCTIONS).any(is)
        }
        ffi::SQLITE_INSERT | ffi::SQLITE_DELETE | ffi::SQLITE_UPDATE => {
            let table = name(access.first);
            let is_main = access.database.is_none_or(|name| name == c"main");
            let is_ours = table.eq_ignore_ascii_case(TABLE.as_bytes());
            let start = table.get(..7);
            let is_schema = start.is_some_and(|start| start.eq_ignore_ascii_case(b"sqlite_"));
            is_main && !is_ours && !is_schema
        }
        _ => false,
    };
    if !is_allowed {
        return Authorization::Deny;
    }
    match access.code {
        // It is executed, but row by row: SQLite would empty a whole table in one step.
        ffi::SQLITE_DELETE => Authorization::Ignore,
        _ => Authorization::Allow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An extension that is loaded into every connection may add functions, or replace SQLite's
    /// own by others of the same name.
    #[test]
    fn functions_and_collations_of_an_extension_are_seen() {
        let add = |name: &str, arguments| {
            let connection = Connection::open_in_memory().unwrap();
            let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
            connection
                .create_scalar_function(name, arguments, flags, |_| fail())
                .unwrap();
            connection
        };
        let plain = Connection::open_in_memory().unwrap();
        assert!(!has_foreign_code(&plain).unwrap());
        assert!(has_foreign_code(&add("mine", 1)).unwrap());
        assert!(has_foreign_code(&add("upper", 1)).unwrap());
        plain.create_collation("mine", |a, b| b.cmp(a)).unwrap();
        assert!(has_foreign_code(&plain).unwrap());
    }
}
