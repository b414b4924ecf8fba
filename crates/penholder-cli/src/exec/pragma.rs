//! Pragmas in a script: where each of them works, and what to do where it does not.

use penholder::rusqlite::{self, Connection};

use crate::advised_target::AdvisedTarget;
use crate::sql_text::{Token, Tokens, quoted};

/// A pragma as a statement of a script has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pragma {
    /// In lower case.
    pub(super) name: String,
    /// The name of the database that it is about.
    schema: Option<String>,
    pub(super) value: Option<String>,
    /// Whether it is only explained. SQLite sets many pragmas all the same.
    pub(super) is_explained: bool,
}

/// Where a pragma with a value has its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// It asks, also with a value.
    Asks,
    /// It does something now.
    Works,
    /// It changes the database.
    Database,
    /// It decides how a new database is laid out.
    Layout,
    /// It holds for the transaction.
    Transaction,
    /// It holds for the connection.
    Connection,
    /// It holds for the connection, and SQLite does not change it in a transaction.
    OutsideTransaction,
    /// It is refused, unless it has this value, which is what holds anyway.
    Refused { unless: &'static str },
}

/// How the values of a pragma are written.
#[derive(Debug, Clone, Copy)]
enum Values {
    Boolean,
    /// A number that is read back as it was set.
    Number,
    /// Words, and what is read back for them.
    Words(&'static [(&'static str, &'static str)]),
    /// What is read back may be something else, or nothing.
    Any,
}

/// What is known of a pragma.
#[derive(Debug)]
pub(super) struct Entry {
    name: &'static str,
    pub(super) effect: Effect,
    values: Values,
    /// Why it is refused, or fails to have an effect.
    pub(super) why: &'static str,
    /// What to do instead. `{db}` stands for the database as a word of a shell, `{value}` for the
    /// value.
    next: &'static str,
}

const fn entry(
    name: &'static str,
    effect: Effect,
    values: Values,
    why: &'static str,
    next: &'static str,
) -> Entry {
    Entry {
        name,
        effect,
        values,
        why,
        next,
    }
}

const fn asks(name: &'static str) -> Entry {
    entry(name, Effect::Asks, Values::Any, "", "")
}

/// A setting that needs no hint of its own.
const fn setting(name: &'static str, values: Values) -> Entry {
    const WHY: &str = "it holds only for its connection, which ends with this script";
    const NEXT: &str = "put the statements that it is for after it, in the same script";
    entry(name, Effect::Connection, values, WHY, NEXT)
}

const YES: [&str; 4] = ["1", "on", "yes", "true"];
const NO: [&str; 4] = ["0", "off", "no", "false"];

const SYNCHRONOUS: Values = Values::Words(&[
    ("0", "0"),
    ("off", "0"),
    ("no", "0"),
    ("false", "0"),
    ("1", "1"),
    ("normal", "1"),
    ("on", "1"),
    ("yes", "1"),
    ("true", "1"),
    ("2", "2"),
    ("full", "2"),
    ("3", "3"),
    ("extra", "3"),
]);
const AUTO_VACUUM: Values = Values::Words(&[
    ("0", "0"),
    ("none", "0"),
    ("1", "1"),
    ("full", "1"),
    ("2", "2"),
    ("incremental", "2"),
]);
const UTF_16: &str = if cfg!(target_endian = "big") {
    "UTF-16be"
} else {
    "UTF-16le"
};
const ENCODING: Values = Values::Words(&[
    ("utf8", "UTF-8"),
    ("utf-8", "UTF-8"),
    ("utf-16le", "UTF-16le"),
    ("utf16le", "UTF-16le"),
    ("utf-16be", "UTF-16be"),
    ("utf16be", "UTF-16be"),
    ("utf-16", UTF_16),
    ("utf16", UTF_16),
]);
/// PowerShell would convert the text in a pipe of its own.
const RECODE: &str = if cfg!(windows) {
    "make another database of its dump: sqlite3 {path} \".output '|penholder exec new.db -'\" \
     \"SELECT 'PRAGMA encoding=''{value}'';'\" .dump"
} else {
    "make another database of its dump: (echo \"PRAGMA encoding='{value}';\"; sqlite3 {path} .dump) \
     | penholder exec new.db -"
};
const TEMP_STORE: Values = Values::Words(&[
    ("0", "0"),
    ("default", "0"),
    ("1", "1"),
    ("file", "1"),
    ("2", "2"),
    ("memory", "2"),
]);
const SECURE_DELETE: Values = Values::Words(&[
    ("0", "0"),
    ("off", "0"),
    ("no", "0"),
    ("false", "0"),
    ("1", "1"),
    ("on", "1"),
    ("yes", "1"),
    ("true", "1"),
    ("2", "2"),
    ("fast", "2"),
]);
const JOURNAL_MODE: Values = Values::Words(&[
    ("wal", "wal"),
    ("delete", "delete"),
    ("truncate", "truncate"),
    ("persist", "persist"),
    ("memory", "memory"),
    ("off", "off"),
]);
const LOCKING_MODE: Values = Values::Words(&[("normal", "normal"), ("exclusive", "exclusive")]);
const WRITABLE_SCHEMA: Values = Values::Words(&[
    ("0", "0"),
    ("off", "0"),
    ("no", "0"),
    ("false", "0"),
    ("reset", "0"),
    ("1", "1"),
    ("on", "1"),
    ("yes", "1"),
    ("true", "1"),
]);

/// All pragmas of SQLite's documentation. One with a value that is not here, and that SQLite
/// knows, runs where it stands.
const TABLE: &[Entry] = &[
    asks("collation_list"),
    asks("compile_options"),
    asks("data_version"),
    asks("database_list"),
    asks("foreign_key_check"),
    asks("foreign_key_list"),
    asks("freelist_count"),
    asks("function_list"),
    asks("index_info"),
    asks("index_list"),
    asks("index_xinfo"),
    asks("integrity_check"),
    asks("module_list"),
    asks("page_count"),
    asks("pragma_list"),
    asks("quick_check"),
    asks("stats"),
    asks("table_info"),
    asks("table_list"),
    asks("table_xinfo"),
    entry(
        "application_id",
        Effect::Database,
        Values::Number,
        "SQLite did not store this number",
        "give a number of 32 bits, with its sign",
    ),
    entry(
        "default_cache_size",
        Effect::Database,
        Values::Number,
        "SQLite did not store this number",
        "give the number of pages, as a positive number",
    ),
    entry(
        "schema_version",
        Effect::Database,
        Values::Number,
        "SQLite did not store this number",
        "give a number of 32 bits, with its sign",
    ),
    entry(
        "user_version",
        Effect::Database,
        Values::Number,
        "SQLite did not store this number",
        "give a number of 32 bits, with its sign",
    ),
    entry(
        "auto_vacuum",
        Effect::Layout,
        AUTO_VACUUM,
        "a database that exists changes it only as it is rebuilt",
        "rebuild it, which others wait for: \
         penholder exec {db} 'PRAGMA auto_vacuum={value}; VACUUM'",
    ),
    entry(
        "page_size",
        Effect::Layout,
        Values::Number,
        "it is a power of two from 512 to 65536, and a database in WAL mode keeps the one that it has",
        "stop all programs that use the database, and rebuild it: penholder run {db} -- sqlite3 {path} \
         'PRAGMA journal_mode=DELETE; PRAGMA page_size={value}; VACUUM; PRAGMA journal_mode=WAL'",
    ),
    entry(
        "encoding",
        Effect::Layout,
        ENCODING,
        "a database that exists keeps the one that it has",
        RECODE,
    ),
    entry(
        "defer_foreign_keys",
        Effect::Transaction,
        Values::Boolean,
        "it holds until the transaction ends, and no statement follows it",
        "put it before the statements that it is for",
    ),
    entry(
        "foreign_keys",
        Effect::OutsideTransaction,
        Values::Boolean,
        "SQLite ignores it in a transaction, and it ends with its connection; exec has foreign keys \
         on",
        "leave it out, or put it first in the script that it is for, before BEGIN",
    ),
    entry(
        "synchronous",
        Effect::OutsideTransaction,
        SYNCHRONOUS,
        "SQLite changes it only outside a transaction, and it ends with its connection; exec \
         commits with NORMAL",
        "leave it out, or put it first in the script that it is for, before BEGIN",
    ),
    entry(
        "temp_store",
        Effect::OutsideTransaction,
        TEMP_STORE,
        "SQLite changes it only outside a transaction, and it ends with its connection",
        "leave it out, or put it first in the script that it is for, before BEGIN",
    ),
    setting("analysis_limit", Values::Any),
    setting("automatic_index", Values::Boolean),
    entry(
        "cache_size",
        Effect::Connection,
        Values::Number,
        "it holds only for its connection, which ends with this script",
        "put it before the statements that it is for; `default_cache_size` is stored in the database",
    ),
    setting("cache_spill", Values::Any),
    setting("case_sensitive_like", Values::Any),
    setting("cell_size_check", Values::Boolean),
    setting("checkpoint_fullfsync", Values::Boolean),
    setting("count_changes", Values::Boolean),
    setting("empty_result_callbacks", Values::Boolean),
    setting("full_column_names", Values::Boolean),
    setting("fullfsync", Values::Boolean),
    setting("hard_heap_limit", Values::Any),
    setting("ignore_check_constraints", Values::Boolean),
    entry(
        "journal_size_limit",
        Effect::Connection,
        Values::Any,
        "it holds only for its connection, which ends with this script",
        "leave it out: penholder bounds the WAL itself, and `penholder checkpoint {db}` empties it",
    ),
    setting("legacy_alter_table", Values::Boolean),
    entry(
        "max_page_count",
        Effect::Connection,
        Values::Any,
        "it holds only for its connection, which ends with this script",
        "set it in each program that writes",
    ),
    setting("mmap_size", Values::Any),
    setting("read_uncommitted", Values::Boolean),
    entry(
        "recursive_triggers",
        Effect::Connection,
        Values::Boolean,
        "it holds only for its connection, which ends with this script",
        "put the statements that it is for after it, and set it in each program that writes",
    ),
    setting("reverse_unordered_selects", Values::Boolean),
    entry(
        "secure_delete",
        Effect::Connection,
        SECURE_DELETE,
        "it holds only for its connection, which ends with this script",
        "put the statements that delete after it; `penholder vacuum {db}` removes what was deleted before",
    ),
    setting("short_column_names", Values::Boolean),
    setting("soft_heap_limit", Values::Any),
    setting("threads", Values::Any),
    setting("trusted_schema", Values::Boolean),
    setting("writable_schema", WRITABLE_SCHEMA),
    entry(
        "busy_timeout",
        Effect::Refused { unless: "" },
        Values::Any,
        "exec waits as long as its option says",
        "leave it out, and give exec `--timeout {value}ms`",
    ),
    entry(
        "data_store_directory",
        Effect::Refused { unless: "" },
        Values::Any,
        "it holds only for this process",
        "leave it out",
    ),
    entry(
        "journal_mode",
        Effect::Refused { unless: "wal" },
        JOURNAL_MODE,
        "penholder needs WAL, and the next program that opens the database with it sets that again",
        "leave it out; if no program uses penholder any more: \
         penholder run {db} -- sqlite3 {path} 'PRAGMA journal_mode={value}'",
    ),
    entry(
        "legacy_file_format",
        Effect::Refused { unless: "" },
        Values::Any,
        "SQLite ignores it",
        "leave it out",
    ),
    entry(
        "locking_mode",
        Effect::Refused { unless: "normal" },
        LOCKING_MODE,
        "the write lock is held already, and readers would be locked out too",
        "leave it out",
    ),
    entry(
        "query_only",
        Effect::Refused { unless: "0" },
        Values::Boolean,
        "the statements after it could not write",
        "leave it out, or use `penholder query`",
    ),
    entry(
        "temp_store_directory",
        Effect::Refused { unless: "" },
        Values::Any,
        "it holds only for this process",
        "set the environment variable SQLITE_TMPDIR instead",
    ),
    entry(
        "wal_autocheckpoint",
        Effect::Refused { unless: "" },
        Values::Any,
        "penholder runs the checkpoints itself, and not while others wait",
        "leave it out, or run `penholder checkpoint {db}`",
    ),
    entry(
        "incremental_vacuum",
        Effect::Works,
        Values::Any,
        "the database is not in incremental mode, and SQLite does nothing",
        "rebuild it, which others wait for: \
         penholder exec {db} 'PRAGMA auto_vacuum=INCREMENTAL; VACUUM'",
    ),
    entry("optimize", Effect::Works, Values::Any, "", ""),
    entry(
        "shrink_memory",
        Effect::Works,
        Values::Any,
        "it frees memory of this process, which ends now",
        "leave it out",
    ),
    entry(
        "wal_checkpoint",
        Effect::Refused { unless: "" },
        Values::Any,
        "SQLite runs no checkpoint in a transaction, and the statements run in one",
        "leave it out, and run `penholder checkpoint {db}`",
    ),
];

impl Pragma {
    /// The pragma that a statement is.
    pub(super) fn of(sql: &str) -> Option<Self> {
        let mut tokens = Tokens::significant(sql).peekable();
        let mut is_explained = false;
        while let Some(token) = tokens.next_if(|token| {
            ["EXPLAIN", "QUERY", "PLAN"]
                .iter()
                .any(|word| token.is(word))
        }) {
            is_explained |= token.is("EXPLAIN");
        }
        tokens.next_if(|token| token.is("PRAGMA"))?;
        let mut name = tokens.next()?.value().into_owned();
        let mut schema = None;
        if tokens.next_if(|token| token.text == ".").is_some() {
            schema = Some(name);
            name = tokens.next()?.value().into_owned();
        }
        name.make_ascii_lowercase();
        let has_value = tokens
            .next_if(|token| token.text == "=" || token.text == "(")
            .is_some();
        let text: String = tokens
            .filter(|token| token.text != ")")
            .map(|token: Token<'_>| token.value().into_owned())
            .collect();
        Some(Self {
            name,
            schema,
            value: has_value.then_some(text),
            is_explained,
        })
    }

    /// The pragma of this name, without a value.
    pub(super) fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            schema: None,
            value: None,
            is_explained: false,
        }
    }

    pub(super) fn entry(&self) -> Option<&'static Entry> {
        TABLE.iter().find(|entry| entry.name == self.name)
    }

    /// Where this statement has its effect; `None` if only SQLite may know the pragma.
    pub(super) fn effect(&self) -> Option<Effect> {
        let effect = self.entry()?.effect;
        let acts_alone = effect == Effect::Works || self.name == "wal_checkpoint";
        Some(if self.value.is_none() && !acts_alone {
            Effect::Asks
        } else {
            effect
        })
    }

    /// Whether SQLite has a pragma with this name. It ignores others without an error.
    pub(super) fn is_known(&self) -> rusqlite::Result<bool> {
        let ask = "SELECT count(*) FROM pragma_pragma_list WHERE name = ?1";
        let found: i64 =
            Connection::open_in_memory()?.query_row(ask, [&self.name], |row| row.get(0))?;
        Ok(found > 0)
    }

    /// Whether it is about the main database, or about none.
    pub(super) fn is_about_main(&self) -> bool {
        let schema = self.schema.as_deref().unwrap_or("main");
        ["main", "temp"]
            .iter()
            .any(|name| schema.eq_ignore_ascii_case(name))
    }

    /// Whether its value is none that this pragma has.
    pub(super) fn has_wrong_value(&self) -> bool {
        let strict = self
            .entry()
            .is_some_and(|entry| !matches!(entry.values, Values::Any));
        strict && self.value.is_some() && self.expected().is_none()
    }

    /// What is read back once it has its effect; `None` if that is not known.
    pub(super) fn expected(&self) -> Option<String> {
        let value = self.value.as_deref()?;
        let has = |words: &[&str]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
        match self.entry()?.values {
            Values::Boolean if has(&YES) => Some("1".to_owned()),
            Values::Boolean if has(&NO) => Some("0".to_owned()),
            Values::Boolean => number(value).map(|value| u8::from(value != 0).to_string()),
            Values::Number => number(value).map(|value| value.to_string()),
            Values::Words(words) => words
                .iter()
                .find(|(word, _)| value.eq_ignore_ascii_case(word))
                .map(|(_, read)| (*read).to_owned()),
            Values::Any => None,
        }
    }

    /// What the pragma is on a connection now.
    pub(super) fn current(&self, connection: &Connection) -> rusqlite::Result<Option<String>> {
        let name = match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.name)),
            None => quoted(&self.name),
        };
        let mut ask = connection.prepare(&format!("PRAGMA {name}"))?;
        let mut rows = ask.query([])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let value: rusqlite::types::Value = row.get(0)?;
        Ok(match value {
            rusqlite::types::Value::Integer(number) => Some(number.to_string()),
            rusqlite::types::Value::Text(text) => Some(text),
            _ => None,
        })
    }

    /// What to do instead.
    pub(super) fn next_step(&self, target: &AdvisedTarget) -> String {
        let next = self.entry().map_or("", |entry| entry.next);
        let value = self.value.as_deref().unwrap_or_default();
        // A value is a name or a number; anything else is not pasted.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let value = if value.chars().all(is_plain) {
            value
        } else {
            ""
        };
        target.fill(next).replace("{value}", value)
    }
}

/// A number as SQLite reads it.
fn number(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    match digits.get(..2) {
        Some("0x" | "0X") => i64::from_str_radix(&digits[2..], 16).ok(),
        _ => digits.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pragma_is_read_as_sqlite_reads_it() {
        for (sql, name, value) in [
            ("PRAGMA foreign_keys=OFF", "foreign_keys", Some("OFF")),
            ("pragma\nForeign_Keys ( 1 );", "foreign_keys", Some("1")),
            ("PRAGMA main.foreign_keys = on", "foreign_keys", Some("on")),
            (
                "/* a */ -- b\n PRAGMA /* c */ \"foreign_keys\" = '0'",
                "foreign_keys",
                Some("0"),
            ),
            (
                "EXPLAIN QUERY PLAN PRAGMA query_only(1)",
                "query_only",
                Some("1"),
            ),
            (
                "; pragma [main].LOCKING_MODE = -1",
                "locking_mode",
                Some("-1"),
            ),
            ("PRAGMA foreign_keys; -- = 1", "foreign_keys", None),
        ] {
            let pragma = Pragma::of(sql).unwrap();
            assert_eq!(
                (&*pragma.name, pragma.value.as_deref()),
                (name, value),
                "{sql}"
            );
        }
        for sql in [
            "INSERT INTO t VALUES ('PRAGMA a=1')",
            "-- PRAGMA a=1",
            "/*",
            "",
            "PRAGMA",
        ] {
            assert_eq!(Pragma::of(sql), None, "{sql}");
        }
    }

    #[test]
    fn what_is_read_back_is_known() {
        for (sql, expected) in [
            ("PRAGMA foreign_keys=true", Some("1")),
            ("PRAGMA foreign_keys=banana", None),
            ("PRAGMA synchronous=FULL", Some("2")),
            ("PRAGMA user_version=0x10", Some("16")),
            ("PRAGMA user_version=-3", Some("-3")),
            ("PRAGMA encoding='UTF-16'", Some(UTF_16)),
        ] {
            let pragma = Pragma::of(sql).unwrap();
            assert_eq!(pragma.expected().as_deref(), expected, "{sql}");
        }
    }

    /// Every name of the table is one that SQLite knows, and every pragma that SQLite knows is
    /// in the table, but for those of debugging builds.
    #[test]
    fn the_table_has_the_pragmas_of_sqlite() {
        let connection = Connection::open_in_memory().unwrap();
        let mut ask = connection.prepare("PRAGMA pragma_list").unwrap();
        let known: Vec<String> = ask
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let missing: Vec<_> = known
            .iter()
            .filter(|name| !TABLE.iter().any(|entry| entry.name == **name))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
        // SQLite has these only in some versions and builds.
        let rare = ["stats", "data_store_directory", "legacy_file_format"];
        let unknown: Vec<_> = TABLE
            .iter()
            .map(|entry| entry.name)
            .filter(|name| !rare.contains(name) && !known.iter().any(|known| known == name))
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
