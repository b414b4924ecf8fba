//! The connection on which a process carries out writes of others, and its own that
//! could as well have been carried out by others.
//!
//! No closure ever sees it: so it has no functions, collations, hooks, temporary
//! tables, attached databases or pragmas of the application's. A statement means the
//! same on every such connection of the same [`kind`](Carrier::kind). What runs here
//! was prepared under an authorizer that lets it change rows of `main` and nothing
//! else.
//!
//! Every transaction that carries something leaves a row in a small table of the
//! database, [`TABLE`]: number, id, and the ids of the requests. So whoever holds
//! SQLite's write lock can tell what became of a request whose carrier died.

use std::env;
use std::fs;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use penholder_core::{Deadline, RequestId};
use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode};

use crate::data::{Executed, Statement};
use crate::error::{Error, Result};
use crate::location::Location;
use crate::options::Options;
use crate::parcel::{LAYOUT, Reply};
use crate::sqlite::sql::{StatementKind, first_word};
use crate::sys::{self, Identity};
use crate::writer::{Failed, Writer};

/// The table that says which requests were carried out; made by the first batch that
/// carries any.
pub(crate) const TABLE: &str = "_penholder_batch";
/// Rows of it that are kept at least: more than there are places in the queue.
const KEPT: i64 = 1024;
/// So many more before the oldest are deleted.
const SPARE: i64 = 512;

/// How long a statement may run in the transaction of others.
const RUNS_AT_MOST: Duration = Duration::from_millis(5);
/// How often SQLite's virtual machine is interrupted to look at that, in steps.
const STEPS: i32 = 1000;
/// The longest value that is carried, in bytes.
const VALUE_MAX: i32 = 1 << 20;

/// What stands for the last insert id before a statement, so that it never is by
/// chance the one that the statement, or a trigger of it, inserts.
const NO_ID: i64 = -0x70e6_e686_f6c6_4657;

/// What sets the text of a carried statement apart in the connection's cache from the
/// connection's own. Before it: what follows the last expression of `RETURNING` is part
/// of its column's name.
const MARK: &str = "--carried\n";

/// A connection for plain data only.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) writer: Box<Writer>,
    guarded: Arc<AtomicBool>,
    /// When what runs has to end, in nanoseconds since `origin`; zero for never.
    ends: Arc<AtomicU64>,
    origin: Instant,
    /// How long a statement may run: [`RUNS_AT_MOST`], but for tests.
    pub(crate) runs_at_most: Duration,
    kind: u64,
}

/// How one statement went.
pub(crate) enum Carried {
    Done(Executed),
    /// As it would at home. Like after [`Home`](Self::Home), SQLite may have left some of
    /// it standing: only the savepoint around it takes that back.
    Failed {
        code: i32,
        text: Option<String>,
    },
    /// It has to be run at home.
    Home,
    /// The transaction is gone, or has to go.
    Spoiled,
}

impl Carrier {
    pub(crate) fn open(
        location: &Location,
        options: &Options,
        deadline: &Deadline,
    ) -> Result<Self> {
        let failed = |e| Error::sqlite("open database", &location.path, e);
        let options = options.clone().create(false);
        let mut writer = Box::new(Writer::open(location, &options, deadline)?);
        let kind = kind(&writer.connection, location).map_err(failed)?;
        refuse_home_functions(&writer.connection).map_err(failed)?;
        let guarded = Arc::new(AtomicBool::new(false));
        let ends = Arc::new(AtomicU64::new(0));
        let origin = Instant::now();
        let connection = writer.connection.for_setup();
        let guard = Arc::clone(&guarded);
        connection
            .authorizer(Some(move |context: AuthContext<'_>| {
                if guard.load(Relaxed) {
                    authorize(&context)
                } else {
                    Authorization::Allow
                }
            }))
            .map_err(failed)?;
        let end = Arc::clone(&ends);
        connection
            .progress_handler(
                STEPS,
                Some(move || match end.load(Relaxed) {
                    0 => false,
                    end => nanos(origin.elapsed()) > end,
                }),
            )
            .map_err(failed)?;
        connection
            .set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_MAX)
            .map_err(failed)?;
        Ok(Self {
            writer,
            guarded,
            ends,
            origin,
            runs_at_most: RUNS_AT_MOST,
            kind,
        })
    }

    /// What makes statements mean the same: requests are taken only from connections
    /// of the same kind.
    pub(crate) fn kind(&self) -> u64 {
        self.kind
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.writer.connection
    }

    pub(crate) fn step(&self, sql: &str) -> rusqlite::Result<()> {
        let mut statement = self.connection().prepare_cached(sql)?;
        statement.raw_execute().map(|_| ())
    }

    /// Runs one statement in a savepoint of a transaction that it shares with others.
    pub(crate) fn run(&self, statement: &Statement) -> Carried {
        if !may_travel(statement.sql()) {
            return Carried::Home;
        }
        let sql = format!("{MARK}{}", statement.sql());
        self.guarded.store(true, Relaxed);
        let end = nanos(self.origin.elapsed() + self.runs_at_most);
        self.ends.store(end, Relaxed);
        self.writer.connection.set_last_insert_id(NO_ID);
        let changes = self.writer.connection.total_changes();
        let ran = self
            .writer
            .run(&sql, StatementKind::of(statement.sql()), statement.params());
        self.guarded.store(false, Relaxed);
        self.ends.store(0, Relaxed);
        let changed = self.writer.connection.total_changes() != changes;
        self.judge(ran, changed)
    }

    fn judge(&self, ran: Result<Executed, Failed>, changed: bool) -> Carried {
        if self.connection().is_autocommit() {
            return Carried::Spoiled;
        }
        match ran {
            Ok(done) => Carried::Done(done),
            // `FAIL` may keep what the statement, or a trigger, did before it failed: that
            // is for its owner's connection.
            Err(_) if changed => Carried::Home,
            Err(Failed { error, .. }) => match error {
                rusqlite::Error::SqliteFailure(code, text)
                    if code.code == ErrorCode::ConstraintViolation =>
                {
                    let code = code.extended_code;
                    Carried::Failed { code, text }
                }
                // Whatever it is, its owner is told by its own SQLite.
                _ => Carried::Home,
            },
        }
    }

    // ---- the table of batches ----------------------------------------------

    /// The number of the next batch. Only inside a transaction.
    pub(crate) fn next_sequence(&self) -> rusqlite::Result<i64> {
        let sql = format!("SELECT max(seq) FROM main.{TABLE}");
        let newest = self
            .connection()
            .prepare_cached(&sql)
            .and_then(|mut ask| ask.query_row([], |row| row.get::<_, Option<i64>>(0)));
        match newest {
            Ok(newest) => Ok(newest.unwrap_or(0).saturating_add(1)),
            Err(error) if is_missing(&error) => {
                self.step(&format!(
                    "CREATE TABLE IF NOT EXISTS main.{TABLE}(\
                     seq INTEGER PRIMARY KEY, id BLOB NOT NULL, carried BLOB NOT NULL)"
                ))?;
                Ok(1)
            }
            Err(error) => Err(error),
        }
    }

    /// Notes, in the transaction, what it carries.
    pub(crate) fn note_batch(
        &self,
        sequence: i64,
        batch: [u64; 2],
        carried: &[RequestId],
    ) -> rusqlite::Result<()> {
        let sql = format!("INSERT INTO main.{TABLE}(seq, id, carried) VALUES (?1, ?2, ?3)");
        let id: Vec<u8> = batch.iter().flat_map(|word| word.to_le_bytes()).collect();
        let ids: Vec<u8> = carried.iter().flat_map(|id| id.to_bytes()).collect();
        self.connection()
            .prepare_cached(&sql)?
            .execute((sequence, id, ids))?;
        if sequence % SPARE == 0 {
            let sql = format!("DELETE FROM main.{TABLE} WHERE seq <= ?1");
            self.connection()
                .prepare_cached(&sql)?
                .execute([sequence - KEPT])?;
        }
        Ok(())
    }

    /// Whether the batch of this number, or a later one, carried this request; `None` if
    /// that cannot be told any more. Only inside a transaction.
    ///
    /// A later one: the claim may have been read before somebody else made it anew.
    pub(crate) fn has_carried(
        &self,
        sequence: u64,
        id: RequestId,
    ) -> rusqlite::Result<Option<bool>> {
        let Ok(sequence) = i64::try_from(sequence) else {
            return Ok(Some(false));
        };
        let sql = format!("SELECT carried FROM main.{TABLE} WHERE seq >= ?1");
        let mut ask = match self.connection().prepare_cached(&sql) {
            Ok(ask) => ask,
            Err(error) if is_missing(&error) => return Ok(Some(false)),
            Err(error) => return Err(error),
        };
        let mut rows = ask.query([sequence])?;
        while let Some(row) = rows.next()? {
            if contains(&row.get::<_, Vec<u8>>(0)?, id) {
                return Ok(Some(true));
            }
        }
        let sql = format!("SELECT min(seq) FROM main.{TABLE}");
        let mut ask = self.connection().prepare_cached(&sql)?;
        let oldest: Option<i64> = ask.query_row([], |row| row.get(0))?;
        let reaches_back = oldest.is_none_or(|oldest| oldest <= sequence);
        Ok(reaches_back.then_some(false))
    }

    /// Whether any batch carried this request, which was made after the batch `since`;
    /// `None` if that cannot be told any more. Only inside a transaction.
    pub(crate) fn find_carried(&self, since: u64, id: RequestId) -> rusqlite::Result<Option<bool>> {
        let sql = format!("SELECT seq, carried FROM main.{TABLE} ORDER BY seq");
        let mut ask = match self.connection().prepare_cached(&sql) {
            Ok(ask) => ask,
            Err(error) if is_missing(&error) => return Ok(Some(false)),
            Err(error) => return Err(error),
        };
        let mut rows = ask.query([])?;
        let mut oldest = None;
        while let Some(row) = rows.next()? {
            oldest.get_or_insert(row.get::<_, i64>(0)?);
            if contains(&row.get::<_, Vec<u8>>(1)?, id) {
                return Ok(Some(true));
            }
        }
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        let reaches_back = oldest.is_none_or(|oldest| oldest <= since.saturating_add(1));
        Ok(reaches_back.then_some(false))
    }
}

fn contains(carried: &[u8], id: RequestId) -> bool {
    carried.chunks(16).any(|one| one == id.to_bytes())
}

fn is_missing(error: &rusqlite::Error) -> bool {
    error.to_string().contains("no such table")
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether a statement looks like one that may be carried out by another process;
/// the authorizer has the last word.
pub(crate) fn may_travel(sql: &str) -> bool {
    let is_with = || first_word(sql).eq_ignore_ascii_case(b"WITH");
    (StatementKind::of(sql) != StatementKind::Other || is_with()) && !sql.contains(TABLE)
}

/// Functions whose result depends on what the connection did before.
const OF_THE_CONNECTION: [&str; 3] = ["last_insert_rowid", "changes", "total_changes"];

/// Functions that reach out of the connection.
const HOME_FUNCTIONS: [&str; 5] = [
    "load_extension",
    "readfile",
    "writefile",
    "edit",
    "fts3_tokenizer",
];

/// Makes them fail wherever they are called: for those in a `CHECK` SQLite asks no
/// authorizer.
fn refuse_home_functions(connection: &Connection) -> rusqlite::Result<()> {
    for name in OF_THE_CONNECTION {
        connection.create_scalar_function(
            name,
            0,
            FunctionFlags::SQLITE_UTF8,
            |_| -> rusqlite::Result<i64> { Err(rusqlite::Error::InvalidQuery) },
        )?;
    }
    Ok(())
}

/// Lets a statement change rows of the main database, and nothing else.
fn authorize(context: &AuthContext<'_>) -> Authorization {
    let is_main = context.database_name.is_none_or(|name| name == "main");
    let allowed = match context.action {
        AuthAction::Select | AuthAction::Recursive | AuthAction::Read { .. } => true,
        AuthAction::Function { function_name } => {
            let is = |name: &&str| function_name.eq_ignore_ascii_case(name);
            !OF_THE_CONNECTION.iter().chain(&HOME_FUNCTIONS).any(is)
        }
        AuthAction::Insert { table_name }
        | AuthAction::Delete { table_name }
        | AuthAction::Update { table_name, .. } => {
            let ours = table_name.eq_ignore_ascii_case(TABLE);
            let schema = table_name
                .get(..7)
                .is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"));
            is_main && !ours && !schema
        }
        _ => false,
    };
    if allowed {
        Authorization::Allow
    } else {
        Authorization::Deny
    }
}

/// Settings that change what a statement means, what it returns, whether it may run, or
/// what its commit is worth.
const PRAGMAS: [&str; 18] = [
    "foreign_keys",
    "recursive_triggers",
    "ignore_check_constraints",
    "reverse_unordered_selects",
    "trusted_schema",
    "writable_schema",
    "legacy_alter_table",
    "defer_foreign_keys",
    "cell_size_check",
    "automatic_index",
    "query_only",
    "secure_delete",
    "synchronous",
    "fullfsync",
    "max_page_count",
    "count_changes",
    "full_column_names",
    "short_column_names",
];

/// What is too long, too many or too deep for a statement.
const LIMITS: [Limit; 10] = [
    Limit::SQLITE_LIMIT_LENGTH,
    Limit::SQLITE_LIMIT_SQL_LENGTH,
    Limit::SQLITE_LIMIT_COLUMN,
    Limit::SQLITE_LIMIT_EXPR_DEPTH,
    Limit::SQLITE_LIMIT_COMPOUND_SELECT,
    Limit::SQLITE_LIMIT_VDBE_OP,
    Limit::SQLITE_LIMIT_FUNCTION_ARG,
    Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH,
    Limit::SQLITE_LIMIT_VARIABLE_NUMBER,
    Limit::SQLITE_LIMIT_TRIGGER_DEPTH,
];

/// Switches that no pragma shows.
const SWITCHES: [DbConfig; 6] = [
    DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER,
    DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW,
    DbConfig::SQLITE_DBCONFIG_DEFENSIVE,
    DbConfig::SQLITE_DBCONFIG_DQS_DML,
    DbConfig::SQLITE_DBCONFIG_DQS_DDL,
    DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER,
];

/// All that decides what a statement means on a connection, as one number.
pub(crate) fn kind(connection: &Connection, location: &Location) -> rusqlite::Result<u64> {
    let mut kind = Kind(0x7065_6e68_6f6c_6465);
    LAYOUT.hash(&mut kind);
    env!("CARGO_PKG_VERSION").hash(&mut kind);
    let database = location.path.metadata();
    let id = database.and_then(|meta| sys::identity(&meta));
    // One that cannot be looked at is like no other.
    id.unwrap_or(Identity {
        device: u64::MAX,
        inode: penholder_lock::fork_generation(),
    })
    .hash(&mut kind);
    rusqlite::version().hash(&mut kind);
    time_zone(&mut kind);
    // How SQLite understands the time zone, what `LIKE` was told about case, and how
    // many digits a number is written with.
    let questions = [
        "SELECT sqlite_source_id()",
        "WITH RECURSIVE days(at) AS (SELECT 0 UNION ALL SELECT at + 8640000 FROM days \
         WHERE at < 2145916800) SELECT datetime(at, 'unixepoch', 'localtime') FROM days",
        "SELECT 'a' LIKE 'A'",
        "SELECT 1.0 / 3 || ''",
        "SELECT count(*) FROM temp.sqlite_schema",
    ];
    for sql in questions {
        answers(connection, sql, &mut kind)?;
    }
    for name in PRAGMAS {
        answers(connection, &format!("PRAGMA {name}"), &mut kind)?;
    }
    for list in [
        "compile_options",
        "database_list",
        "function_list",
        "collation_list",
    ] {
        answers(connection, &format!("PRAGMA {list}"), &mut kind)?;
    }
    modules(connection, &mut kind)?;
    for switch in SWITCHES {
        connection.db_config(switch)?.hash(&mut kind);
    }
    for limit in LIMITS {
        connection.limit(limit)?.hash(&mut kind);
    }
    Ok(kind.0)
}

/// What the time zone is read from. Two zones may differ on a few days of the year
/// only.
fn time_zone(kind: &mut Kind) {
    env::var_os("TZ").hash(kind);
    fs::read("/etc/localtime").ok().hash(kind);
}

/// Everything that a question is answered, in any order.
fn answers(connection: &Connection, sql: &str, kind: &mut Kind) -> rusqlite::Result<()> {
    let mut ask = connection.prepare(sql)?;
    let width = ask.column_count();
    let mut rows = ask.query([])?;
    let mut sum = 0_u64;
    while let Some(row) = rows.next()? {
        let mut one = Kind(1);
        for place in 0..width {
            format!("{:?}", row.get_ref(place)?).hash(&mut one);
        }
        sum = sum.wrapping_add(one.0);
    }
    sum.hash(kind);
    Ok(())
}

/// Virtual table modules. Those of the pragmas come by themselves as they are used.
fn modules(connection: &Connection, kind: &mut Kind) -> rusqlite::Result<()> {
    let mut ask = connection.prepare("PRAGMA module_list")?;
    let names = ask.query_map([], |row| row.get::<_, String>(0))?;
    let mut names: Vec<String> = names.collect::<rusqlite::Result<_>>()?;
    names.retain(|name| !name.starts_with("pragma_"));
    names.sort_unstable();
    names.hash(kind);
    Ok(())
}

/// A hash that is the same in every program: FNV-1a.
struct Kind(u64);

impl Hasher for Kind {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// The answer as it travels.
impl From<Carried> for Reply {
    fn from(carried: Carried) -> Self {
        match carried {
            Carried::Done(done) => Self::Done(vec![done]),
            Carried::Failed { code, text } => Self::Failed { code, text },
            Carried::Home | Carried::Spoiled => Self::Home,
        }
    }
}
