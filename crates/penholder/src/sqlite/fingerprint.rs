//! The fingerprint of a connection: what decides what a statement means on it.
//!
//! A statement may run on another connection than the one that it was meant for only if both
//! have the same fingerprint.

use std::env;
use std::fs;
use std::hash::{Hash, Hasher};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;

use crate::location::Location;
use crate::sys::{self, FileId};

/// The fingerprint of a connection; never compared across versions of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(crate) u64);

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

/// Limits on the size and the depth of a statement.
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

/// Returns the fingerprint of a connection to this database. `layout` is the version of the
/// wire format.
pub(crate) fn of(
    connection: &Connection,
    location: &Location,
    layout: u64,
) -> rusqlite::Result<Fingerprint> {
    let mut sum = Fnv(0x7065_6e68_6f6c_6465);
    layout.hash(&mut sum);
    env!("CARGO_PKG_VERSION").hash(&mut sum);
    let id = sys::file_id(&location.path);
    // A file that cannot be looked at is like no other.
    id.unwrap_or(FileId {
        device: u64::MAX,
        inode: penholder_core::fork_generation().into(),
    })
    .hash(&mut sum);
    rusqlite::version().hash(&mut sum);
    time_zone(&mut sum);
    // How SQLite understands the time zone, whether `LIKE` heeds case, and with how many
    // digits a number is written.
    let questions = [
        "SELECT sqlite_source_id()",
        "WITH RECURSIVE days(at) AS (SELECT 0 UNION ALL SELECT at + 8640000 FROM days \
         WHERE at < 2145916800) SELECT datetime(at, 'unixepoch', 'localtime') FROM days",
        "SELECT 'a' LIKE 'A'",
        "SELECT 1.0 / 3 || ''",
        "SELECT count(*) FROM temp.sqlite_schema",
    ];
    for sql in questions {
        answers(connection, sql, &mut sum)?;
    }
    for name in PRAGMAS {
        answers(connection, &format!("PRAGMA {name}"), &mut sum)?;
    }
    for list in [
        "compile_options",
        "database_list",
        "function_list",
        "collation_list",
    ] {
        answers(connection, &format!("PRAGMA {list}"), &mut sum)?;
    }
    modules(connection, &mut sum)?;
    for switch in SWITCHES {
        connection.db_config(switch)?.hash(&mut sum);
    }
    for limit in LIMITS {
        connection.limit(limit)?.hash(&mut sum);
    }
    Ok(Fingerprint(sum.0))
}

/// Adds what the time zone is read from: two zones may differ on a few days of the year only.
fn time_zone(sum: &mut Fnv) {
    env::var_os("TZ").hash(sum);
    fs::read("/etc/localtime").ok().hash(sum);
}

/// Adds all rows that a query returns, in any order.
fn answers(connection: &Connection, sql: &str, sum: &mut Fnv) -> rusqlite::Result<()> {
    let mut ask = connection.prepare(sql)?;
    let width = ask.column_count();
    let mut rows = ask.query([])?;
    // Added up, because the order of the rows means nothing.
    let mut total = 0_u64;
    while let Some(row) = rows.next()? {
        let mut one = Fnv(1);
        for column in 0..width {
            format!("{:?}", row.get_ref(column)?).hash(&mut one);
        }
        total = total.wrapping_add(one.0);
    }
    total.hash(sum);
    Ok(())
}

/// Adds the virtual table modules. Those of the pragmas appear when they are first used.
fn modules(connection: &Connection, sum: &mut Fnv) -> rusqlite::Result<()> {
    let mut ask = connection.prepare("PRAGMA module_list")?;
    let names = ask.query_map([], |row| row.get::<_, String>(0))?;
    let mut names: Vec<String> = names.collect::<rusqlite::Result<_>>()?;
    names.retain(|name| !name.starts_with("pragma_"));
    names.sort_unstable();
    names.hash(sum);
    Ok(())
}

/// FNV-1a, which gives the same hash in every program.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
