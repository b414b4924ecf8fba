//! Which statements run as plain data: those that change or read the data and leave the
//! connection as it is.
//!
//! One writing connection serves all writes of a process, and a pool of others all its reads. What
//! a statement leaves on one of them would apply to later calls of other code, until the
//! connection is opened again, and to no other connection. So `execute`, `batch` and `query`
//! refuse it, before they wait for anything. A closure that is given a connection may do it, and
//! a connection hook does it on every connection.
//!
//! | statement | as plain data |
//! | --- | --- |
//! | a pragma that asks | runs |
//! | a pragma that changes the database, such as `user_version` | runs |
//! | a pragma that changes only how much memory is used, such as `cache_size` | runs |
//! | `defer_foreign_keys`, which holds until the transaction ends | runs |
//! | any other pragma with a value, also one that is not known | refused |
//! | `BEGIN`, `COMMIT`, `END`, `ROLLBACK` | refused |
//! | `SAVEPOINT`, `RELEASE`, `ROLLBACK TO` | runs in a batch; otherwise refused |
//! | `ATTACH`, `DETACH`, `CREATE TEMP …` | refused |
//! | everything else | runs |

use super::sql::{StatementKind, Words};
use crate::error::{Error, Result};

/// The call that a statement is given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Execute,
    Batch,
    Query,
}

/// Why a statement does not run as plain data, and what to do instead.
struct Refusal {
    why: String,
    next: &'static str,
}

const USE_HOOK: &str = "set it in `OpenOptions::connection_hook`, for every connection";
const USE_WRITE: &str = "`batch` runs several statements in one transaction, `write` a closure";
const USE_LOCK: &str = "use `with_write_lock`, or `OpenOptions::connection_hook`";
const USE_TEMPORARY: &str =
    "create it in a closure of `write` and drop it there, or in `OpenOptions::connection_hook`";

/// Pragmas that ask although they have an argument, and those that change the database or only the
/// use of memory.
const HARMLESS: [&str; 31] = [
    // They ask.
    "collation_list",
    "database_list",
    "foreign_key_check",
    "foreign_key_list",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "module_list",
    "pragma_list",
    "quick_check",
    "stats",
    "table_info",
    "table_list",
    "table_xinfo",
    // They change the database, now or with the next VACUUM.
    "application_id",
    "auto_vacuum",
    "default_cache_size",
    "incremental_vacuum",
    "optimize",
    "schema_version",
    "user_version",
    // They hold until the transaction ends.
    "defer_foreign_keys",
    // They change how much memory or disk space is used, and how fast a statement is.
    "analysis_limit",
    "cache_size",
    "cache_spill",
    "journal_size_limit",
    "mmap_size",
    "shrink_memory",
    "threads",
];

/// Pragmas whose refusal has a reason of its own.
const REFUSED: [(&str, &str, &str); 14] = [
    (
        "busy_timeout",
        "each call waits as long as its own timeout allows",
        "set `OpenOptions::timeout`",
    ),
    (
        "encoding",
        "a database keeps the encoding that it was created with, and SQLite ignores another one",
        "set it in `OpenOptions::connection_hook` before the database is created",
    ),
    (
        "foreign_keys",
        "SQLite ignores it in a transaction, and each call is one",
        USE_LOCK,
    ),
    (
        "hard_heap_limit",
        "it would hold for every database of this process",
        "set it where the process starts, in a closure of `with_write_lock`",
    ),
    (
        "journal_mode",
        "the database stays in WAL mode, so that readers and the writer do not wait for one another",
        "use `with_write_lock`, if no process uses the database now",
    ),
    (
        "locking_mode",
        "all other connections, also the readers of this process, would be locked out for as long \
         as the database is open",
        "use `write` or `with_write_lock`: no other process writes until the closure returns",
    ),
    (
        "page_size",
        "a database in WAL mode keeps the page size that it was created with",
        "set it in `OpenOptions::connection_hook` before the database is created",
    ),
    (
        "query_only",
        "all later writes of this process would fail",
        "use `query` or `read`, whose connections cannot write, or `OpenOptions::read_only`",
    ),
    (
        "soft_heap_limit",
        "it would hold for every database of this process",
        "set it where the process starts, in a closure of `with_write_lock`",
    ),
    (
        "synchronous",
        "SQLite does not change it in a transaction, and each call is one",
        "set `OpenOptions::synchronous`",
    ),
    (
        "temp_store",
        "SQLite does not change it in a transaction, and each call is one",
        USE_HOOK,
    ),
    (
        "wal_autocheckpoint",
        "penholder runs the checkpoints itself, and not while others wait",
        "leave it out, or call `checkpoint`",
    ),
    (
        "wal_checkpoint",
        "SQLite runs no checkpoint in a transaction, and each call is one",
        "use `checkpoint`",
    ),
    (
        "writable_schema",
        "later statements could damage the schema",
        "set it and reset it in one closure of `with_write_lock`",
    ),
];

/// Refuses a statement that does not run as plain data.
pub(crate) fn check(sql: &str, call: Call) -> Result<StatementKind> {
    let kind = StatementKind::of(sql);
    let what = match call {
        Call::Execute | Call::Batch => "write",
        Call::Query => "query",
    };
    match refusal(sql, kind, call) {
        Some(Refusal { why, next }) => {
            Err(Error::misuse(what, format!("{why}: nothing was run"), next))
        }
        None => Ok(kind),
    }
}

/// Returns why a statement does not run as plain data; `None` if it does.
fn refusal(sql: &str, kind: StatementKind, call: Call) -> Option<Refusal> {
    if kind != StatementKind::Other {
        return None;
    }
    let mut words = Words::of(sql);
    match words.next()?.to_ascii_uppercase().as_str() {
        "PRAGMA" => pragma(words),
        // Many pragmas take effect as they are compiled.
        "EXPLAIN" => match words.find(|word| !is_explain(word)) {
            Some(word) if word.eq_ignore_ascii_case("PRAGMA") => pragma(words),
            _ => None,
        },
        word @ ("BEGIN" | "COMMIT" | "END") => Some(transaction(word)),
        "ROLLBACK" if !words.any(|word| word.eq_ignore_ascii_case("TO")) => {
            Some(transaction("ROLLBACK"))
        }
        word @ ("SAVEPOINT" | "RELEASE" | "ROLLBACK") if call != Call::Batch => {
            let why = format!("{word}: each call is a transaction of its own, and would end it");
            Some(Refusal {
                why,
                next: USE_WRITE,
            })
        }
        word @ ("ATTACH" | "DETACH") => {
            let why = format!("{word}: it would hold for one connection of this process only");
            Some(Refusal {
                why,
                next: USE_LOCK,
            })
        }
        "CREATE" => temporary(words),
        _ => None,
    }
}

fn is_explain(word: &str) -> bool {
    ["QUERY", "PLAN"]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known))
}

fn transaction(word: &str) -> Refusal {
    Refusal {
        why: format!("{word}: each call is a transaction of its own"),
        next: USE_WRITE,
    }
}

/// Judges a pragma by what follows that word: `[schema .] name [= value | (value)]`.
fn pragma(mut words: Words<'_>) -> Option<Refusal> {
    let mut name = words.next()?.to_ascii_lowercase();
    let mut sign = words.next();
    if sign.as_deref() == Some(".") {
        name = words.next()?.to_ascii_lowercase();
        sign = words.next();
    }
    let has_value = sign.is_some_and(|sign| sign == "=" || sign == "(");
    if !has_value && name != "wal_checkpoint" || HARMLESS.contains(&name.as_str()) {
        return None;
    }
    // Scripts begin with it, and it changes nothing here.
    let mut is_wal = || {
        words
            .next()
            .is_some_and(|value| value.eq_ignore_ascii_case("wal"))
    };
    if name == "journal_mode" && is_wal() {
        return None;
    }
    let known = REFUSED.iter().find(|(known, ..)| *known == name);
    let (why, next) = known.map_or(
        (
            "it would stay set for later calls, on one connection of this process only",
            USE_HOOK,
        ),
        |(_, why, next)| (*why, *next),
    );
    let why = format!("PRAGMA {name}: {why}");
    Some(Refusal { why, next })
}

/// Judges a CREATE by what follows that word: `TEMP …`, or `TABLE … temp.name`.
fn temporary(mut words: Words<'_>) -> Option<Refusal> {
    let is_temporary = |word: &str| {
        ["TEMP", "TEMPORARY"]
            .iter()
            .any(|known| word.eq_ignore_ascii_case(known))
    };
    let mut word = words.next()?;
    let is_prefix = |word: &str| {
        [
            "UNIQUE", "VIRTUAL", "TABLE", "INDEX", "VIEW", "TRIGGER", "IF", "NOT", "EXISTS",
        ]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known))
    };
    let is_declared = is_temporary(&word);
    while is_prefix(&word) {
        word = words.next()?;
    }
    let mut is_in_temp =
        || word.eq_ignore_ascii_case("temp") && words.next().as_deref() == Some(".");
    (is_declared || is_in_temp()).then(|| Refusal {
        why: "CREATE TEMP: it would stay for later calls, hide what has the same name in the \
              database from them, and be gone with the connection"
            .to_owned(),
        next: USE_TEMPORARY,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(sql: &str, call: Call) -> bool {
        refusal(sql, StatementKind::of(sql), call).is_some()
    }

    #[test]
    fn what_stays_on_a_connection_is_refused() {
        for sql in [
            "PRAGMA query_only=1",
            "pragma main . \"query_only\" ( on )",
            "/* a */ ;; -- b\n\u{feff}PRAGMA[query_only]=1",
            "EXPLAIN PRAGMA query_only=1",
            "explain query plan pragma query_only=1",
            "PRAGMA locking_mode=EXCLUSIVE",
            "PRAGMA journal_mode=delete",
            "PRAGMA wal_checkpoint",
            "PRAGMA wal_checkpoint(TRUNCATE)",
            "PRAGMA 'case_sensitive_like'=1",
            "PRAGMA unheard_of=1",
            "BEGIN IMMEDIATE",
            "end",
            "COMMIT",
            "ROLLBACK TRANSACTION",
            "ATTACH 'a' AS a",
            "detach a",
            "CREATE TEMP TABLE a(a)",
            "create/**/temporary trigger a",
            "CREATE TABLE temp.a(a)",
            "CREATE TABLE IF NOT EXISTS \"TEMP\" . a(a)",
            "CREATE VIRTUAL TABLE temp.a USING fts5(a)",
        ] {
            for call in [Call::Execute, Call::Batch, Call::Query] {
                assert!(is_refused(sql, call), "{sql}");
            }
        }
        for sql in ["SAVEPOINT a", "RELEASE a", "ROLLBACK TRANSACTION TO a"] {
            assert!(is_refused(sql, Call::Execute), "{sql}");
            assert!(is_refused(sql, Call::Query), "{sql}");
            assert!(!is_refused(sql, Call::Batch), "{sql}");
        }
    }

    #[test]
    fn what_leaves_the_connection_as_it_is_runs() {
        for sql in [
            "",
            "PRAGMA",
            "PRAGMA query_only",
            "PRAGMA main.foreign_keys; -- = 1",
            "PRAGMA user_version = 3",
            "PRAGMA main.application_id(7)",
            "PRAGMA journal_mode = WAL",
            "PRAGMA table_info(query_only)",
            "PRAGMA integrity_check(1)",
            "PRAGMA defer_foreign_keys = ON",
            "PRAGMA cache_size = -2000",
            "EXPLAIN SELECT 1",
            "EXPLAIN",
            "CREATE TABLE temp(a)",
            "CREATE TABLE temporary_things(a)",
            "CREATE TABLE a AS SELECT * FROM temp.b",
            "CREATE UNIQUE INDEX temp ON a(a)",
            "DROP TABLE temp.a",
            "WITH a AS (SELECT 1) INSERT INTO b SELECT * FROM a",
            "INSERT INTO a VALUES ('PRAGMA query_only=1')",
            "VACUUM",
            "ANALYZE",
            "REINDEX",
        ] {
            for call in [Call::Execute, Call::Batch, Call::Query] {
                assert!(!is_refused(sql, call), "{sql}");
            }
        }
    }
}
