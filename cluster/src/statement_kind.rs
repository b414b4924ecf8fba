//! What a statement does, and whether every node would do the same.

use penholder::sql_tokens::{Token, TokenKind, Tokens};

use crate::wire::FailureKind;

/// What a statement does, by its verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatementKind {
    /// INSERT or REPLACE.
    Insert,
    /// INSERT that may change a row instead.
    Upsert,
    /// UPDATE or DELETE.
    UpdateOrDelete,
    /// CREATE, DROP, ALTER and the like.
    Schema,
    /// SELECT or VALUES.
    Read,
    /// A question about the schema.
    Explain,
    Other,
}

/// Why a statement is not run, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: FailureKind,
    pub(crate) why: String,
}

impl StatementKind {
    pub(crate) fn of(sql: &str) -> Self {
        let is_conflict = |token: Token<'_>| token.is("CONFLICT");
        match Self::of_statement(sql) {
            Self::Insert if Tokens::significant(sql).any(is_conflict) => Self::Upsert,
            kind => kind,
        }
    }

    fn of_statement(sql: &str) -> Self {
        let mut tokens = Tokens::significant(sql);
        let Some(first) = tokens.next() else {
            return Self::Other;
        };
        if !first.is("WITH") {
            return Self::of_verb(&first).unwrap_or(Self::Other);
        }
        // The verb stands after the tables, which are in brackets.
        let mut depth = 0_usize;
        for token in tokens {
            match token.text {
                "(" => depth += 1,
                ")" => depth = depth.saturating_sub(1),
                _ if depth == 0 => {
                    if let Some(kind) = Self::of_verb(&token) {
                        return kind;
                    }
                }
                _ => {}
            }
        }
        Self::Other
    }

    fn of_verb(token: &Token<'_>) -> Option<Self> {
        const VERBS: [(&str, StatementKind); 12] = [
            ("INSERT", StatementKind::Insert),
            ("REPLACE", StatementKind::Insert),
            ("UPDATE", StatementKind::UpdateOrDelete),
            ("DELETE", StatementKind::UpdateOrDelete),
            ("CREATE", StatementKind::Schema),
            ("DROP", StatementKind::Schema),
            ("ALTER", StatementKind::Schema),
            ("REINDEX", StatementKind::Schema),
            ("ANALYZE", StatementKind::Schema),
            ("SELECT", StatementKind::Read),
            ("VALUES", StatementKind::Read),
            ("EXPLAIN", StatementKind::Explain),
        ];
        let found = VERBS.iter().find(|(verb, _)| token.is(verb));
        found.map(|&(_, kind)| kind)
    }

    /// Whether it changes rows.
    pub(crate) fn changes_rows(self) -> bool {
        matches!(self, Self::Insert | Self::Upsert | Self::UpdateOrDelete)
    }
}

/// Functions whose value another node, or a later time, would not repeat; the engine has none of
/// those for dates, because some of their values are of that kind.
const DIFFERENT: [&str; 18] = [
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "julianday",
    "load_extension",
    "now",
    "random",
    "randomblob",
    "sqlite_log",
    "sqlite_source_id",
    "sqlite_version",
    "strftime",
    "time",
    "timediff",
    "total_changes",
    "unixepoch",
];
/// Tables that tell of one connection, or of where things are in one file; also all that begin with
/// `pragma_`.
const OF_ONE_NODE: [&str; 8] = [
    "dbstat",
    "sqlite_dbpage",
    "sqlite_master",
    "sqlite_schema",
    "sqlite_stmt",
    "sqlite_temp_master",
    "sqlite_temp_schema",
    "tables_used",
];
/// Words that stand for the time.
const TIMES: [&str; 3] = ["CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP"];
/// Modules of virtual tables that keep all that they have in the database.
const MODULES: [&str; 4] = ["fts5", "fts5vocab", "rtree", "rtree_i32"];
/// Names, and beginnings of names, of what belongs to this program and to the engine.
const RESERVED: [&str; 3] = ["_penholder_", "_metadata", "_migrations"];

/// Whether a name, in lower case, belongs to this program or to the engine.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|reserved| name.starts_with(reserved))
}

/// Checks a statement that writes.
pub(crate) fn check_write(sql: &str) -> Result<StatementKind, Refusal> {
    let misuse = |why: &str| refusal(FailureKind::Misuse, why);
    if sql.contains('\u{b}') {
        return Err(misuse(
            "it contains a vertical tab: write a space, or bind the text as a parameter",
        ));
    }
    if has_variable_with_bracket(sql) {
        return Err(misuse(
            "SQLite reads a parameter that a bracket follows as one word: write a space",
        ));
    }
    let statements = penholder::sql_script::statements(sql).len();
    if statements != 1 {
        return Err(match statements {
            0 => misuse("it is empty: give a statement"),
            _ => misuse("it is more than one statement: give each by itself, in a batch"),
        });
    }
    let kind = StatementKind::of(sql);
    match kind {
        StatementKind::Insert
        | StatementKind::Upsert
        | StatementKind::UpdateOrDelete
        | StatementKind::Schema => {}
        StatementKind::Read | StatementKind::Explain => {
            return Err(misuse("it only reads: use `query`"));
        }
        StatementKind::Other => {
            return Err(refusal(
                FailureKind::Refused,
                "a cluster runs INSERT, UPDATE, DELETE, REPLACE, CREATE, DROP, ALTER, REINDEX and \
                 ANALYZE, and each call is one transaction: leave it out",
            ));
        }
    }
    if kind == StatementKind::Schema {
        check_schema(sql)?;
    }
    if kind.changes_rows() && Tokens::significant(sql).any(|token| token.is("RETURNING")) {
        return Err(refusal(
            FailureKind::Refused,
            "a cluster returns no rows from a write: leave RETURNING out, and query the rows \
             afterwards, by `last_insert_rowid` or a key of your own",
        ));
    }
    check_values(sql)?;
    Ok(kind)
}

/// Checks a statement that reads.
pub(crate) fn check_read(sql: &str) -> Result<(), Refusal> {
    let misuse = |why: &str| refusal(FailureKind::Misuse, why);
    if penholder::sql_script::statements(sql).len() != 1 {
        return Err(misuse("it is not one statement: give each by itself"));
    }
    match StatementKind::of(sql) {
        StatementKind::Read | StatementKind::Explain => Ok(()),
        kind if kind.changes_rows() || kind == StatementKind::Schema => {
            Err(misuse("it writes: use `execute`"))
        }
        _ => Err(refusal(
            FailureKind::Refused,
            "a cluster reads by SELECT, VALUES, WITH and EXPLAIN: instead of a pragma use its \
             table, as in `SELECT * FROM pragma_table_info('t')`",
        )),
    }
}

/// Refuses what would not be in the database itself.
fn check_schema(sql: &str) -> Result<(), Refusal> {
    let mut tokens = Tokens::significant(sql).skip(1);
    let Some(second) = tokens.next() else {
        return Ok(());
    };
    if second.is("TEMP") || second.is("TEMPORARY") {
        let why = "what is temporary belongs to one connection: create it without TEMP";
        return Err(refusal(FailureKind::Refused, why));
    }
    if second.is("VIRTUAL") {
        let module = tokens.skip_while(|token| !token.is("USING")).nth(1);
        let module = module.map(|token| token.value().to_ascii_lowercase());
        if !module
            .as_deref()
            .is_some_and(|name| MODULES.contains(&name))
        {
            let why = format!(
                "the module {} may read what other nodes do not have: a cluster has {}",
                module.unwrap_or_default(),
                MODULES.join(", ")
            );
            return Err(refusal(FailureKind::Refused, why));
        }
    }
    Ok(())
}

/// Refuses what would have another value on each node, and what belongs to this program.
///
/// What stands in quotes is looked at whichever quotes they are: SQLite takes some texts for names.
fn check_values(sql: &str) -> Result<(), Refusal> {
    let mut tokens = Tokens::significant(sql).peekable();
    // Whether there was an ORDER, for each pair of brackets that is open.
    let mut orders = vec![false];
    while let Some(token) = tokens.next() {
        if TIMES.iter().any(|time| token.is(time)) {
            return Err(differs(&token.text.to_ascii_uppercase()));
        }
        match token.text {
            "(" => orders.push(false),
            ")" if orders.len() > 1 => drop(orders.pop()),
            _ => {}
        }
        if let Some(has_order) = orders.last_mut() {
            *has_order |= token.is("ORDER");
            if token.is("LIMIT") && !*has_order {
                let why = "LIMIT without ORDER BY may choose other rows on each node: add an order that is \
                           unique";
                return Err(refusal(FailureKind::Refused, why));
            }
        }
        if !matches!(token.kind, TokenKind::Word | TokenKind::Quoted) {
            continue;
        }
        let name = token.value().to_ascii_lowercase();
        let next = tokens.peek().map_or("", |next| next.text);
        if is_reserved(&name) {
            let why = format!("{name} belongs to the cluster itself: use another name");
            return Err(refusal(FailureKind::Refused, why));
        }
        if matches!(name.as_str(), "temp" | "temporary") && next == "." {
            let why = "what is temporary belongs to one connection: leave `temp.` out";
            return Err(refusal(FailureKind::Refused, why));
        }
        let is_of_one_node = OF_ONE_NODE.contains(&name.as_str());
        if is_of_one_node || name.starts_with("pragma_") || name.starts_with("sqlite_stat") {
            let why = format!(
                "{name} differs between nodes: query it first, and bind what you need as a parameter"
            );
            return Err(refusal(FailureKind::Refused, why));
        }
        if next == "(" && DIFFERENT.contains(&name.as_str()) {
            return Err(differs(&format!("{name}()")));
        }
    }
    Ok(())
}

/// Whether there is a parameter with a name and a bracket right after it, as `$a(`. SQLite takes what
/// follows up to the closing bracket for a part of the name, also quotes.
fn has_variable_with_bracket(sql: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | ':');
    let mut rest = sql;
    // Each character is passed once, however long a name is.
    while let Some(at) = rest.find(['$', '@', ':', '#']) {
        let name = rest[at + 1..].trim_start_matches(is_name);
        let is_named = name.len() < rest.len() - at - 1;
        if is_named && name.starts_with('(') {
            return true;
        }
        rest = name;
    }
    false
}

fn differs(what: &str) -> Refusal {
    let why = format!(
        "{what} would have another value on each node: compute it in the program, and bind it as a \
         parameter (a table of that name needs another one)"
    );
    refusal(FailureKind::Refused, why)
}

fn refusal(kind: FailureKind, why: impl Into<String>) -> Refusal {
    let why = why.into();
    Refusal { kind, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verb_of_a_statement_is_found() {
        use StatementKind::{Explain, Insert, Other, Read, Schema, UpdateOrDelete};
        for (sql, kind) in [
            ("/* a */ insert into t values (1);", Insert),
            ("replace into t select 1", Insert),
            (
                "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
                StatementKind::Upsert,
            ),
            (
                "WITH a(b) AS (SELECT 1), c AS (VALUES (2)) UPDATE t SET x = 1",
                UpdateOrDelete,
            ),
            ("WITH a AS MATERIALIZED (DELETE) SELECT 1", Read),
            ("VALUES (1)", Read),
            ("EXPLAIN QUERY PLAN DELETE FROM t", Explain),
            ("create table t(a)", Schema),
            ("PRAGMA user_version", Other),
            ("", Other),
            ("COMMIT", Other),
        ] {
            assert_eq!(StatementKind::of(sql), kind, "{sql}");
        }
    }

    #[test]
    fn what_would_differ_between_nodes_is_refused() {
        for sql in [
            "INSERT INTO t VALUES (random())",
            "INSERT INTO t VALUES (\"Random\" /* x */ ())",
            "INSERT INTO t VALUES ([datetime]('now'))",
            "UPDATE t SET a = current_timestamp",
            "CREATE TABLE t(a DEFAULT CURRENT_TIMESTAMP)",
            "CREATE TABLE t(a DEFAULT (unixepoch()))",
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN UPDATE t SET a = `date`('now'); END",
            "CREATE VIEW v AS SELECT strftime('%s', 'now')",
            "DELETE FROM t WHERE a = total_changes()",
            "CREATE TEMP TABLE t(a)",
            "CREATE VIRTUAL TABLE t USING csv(filename='/etc/passwd')",
            "INSERT INTO t SELECT rootpage FROM sqlite_schema",
            "INSERT INTO t SELECT * FROM pragma_cache_size",
            "INSERT INTO t SELECT * FROM sqlite_stat1",
            "INSERT INTO t VALUES (\"current_timestamp\"())",
            "CREATE TABLE temp.t(a)",
            "INSERT INTO \"Temp\" . t VALUES (1)",
            "DELETE FROM '_penholder_write'",
            "DROP TABLE _metadata",
            "DELETE FROM t WHERE id IN (SELECT id FROM t LIMIT 1)",
            "INSERT INTO t SELECT a FROM (SELECT a FROM u LIMIT 1) ORDER BY a",
            "INSERT INTO t VALUES (sqlite_log(11, 'x'))",
            "DROP TABLE _penholder_write",
            "UPDATE \"_PENHOLDER_write\" SET a = 1",
            "INSERT INTO t VALUES (1) RETURNING a",
            "COMMIT",
            "VACUUM",
            "PRAGMA user_version = 7",
            "ATTACH 'a' AS b",
        ] {
            let refused = check_write(sql).unwrap_err();
            assert_eq!(refused.kind, FailureKind::Refused, "{sql}: {}", refused.why);
        }
        for sql in [
            "",
            "; -- x",
            "DELETE FROM t; DELETE FROM t",
            "SELECT 1",
            "INSERT INTO t VALUES ($a('), random(), '')",
            "INSERT INTO t VALUES (@a::b(x))",
            "INSERT INTO t VALUES (1 \u{b})",
        ] {
            assert_eq!(
                check_write(sql).unwrap_err().kind,
                FailureKind::Misuse,
                "{sql}"
            );
        }
        for sql in [
            "INSERT INTO t(date, \"time\") VALUES ('random()', 'CURRENT_TIMESTAMP')",
            "INSERT INTO log SELECT changes(), last_insert_rowid() WHERE changes() > 0;",
            "CREATE VIRTUAL TABLE f USING fts5(a)",
            "DELETE FROM t WHERE id IN (SELECT id FROM t ORDER BY id LIMIT 1)",
            "INSERT INTO temp VALUES (1)",
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM u; UPDATE t SET a = 1; END;",
            "ALTER TABLE t RENAME COLUMN now TO later",
        ] {
            assert!(check_write(sql).is_ok(), "{sql}");
        }
    }

    proptest::proptest! {
        /// What a client sends is checked before anything else reads it.
        #[test]
        fn any_text_is_checked(sql: String, words in "([A-Za-z(),;'\"$:? ]|RETURNING|LIMIT|random){0,40}") {
            for sql in [&sql, &words] {
                let _ = check_write(sql);
                let _ = check_read(sql);
            }
        }
    }

    /// A search for each character would take minutes.
    #[test]
    fn a_long_statement_is_checked_at_once() {
        for one in ["a", "$", ":", "(", "'"] {
            let long = format!("INSERT INTO t VALUES (x'{}')", one.repeat(1 << 20));
            let _ = check_write(&long);
            let _ = check_read(&long);
        }
    }

    #[test]
    fn only_what_reads_is_read() {
        for sql in [
            "SELECT random()",
            "values (1);",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "EXPLAIN DELETE FROM t",
        ] {
            assert_eq!(check_read(sql), Ok(()), "{sql}");
        }
        for sql in [
            "DELETE FROM t",
            "CREATE TABLE t(a)",
            "SELECT 1; SELECT 2",
            "",
        ] {
            assert_eq!(
                check_read(sql).unwrap_err().kind,
                FailureKind::Misuse,
                "{sql}"
            );
        }
        for sql in ["PRAGMA journal_mode", "ATTACH 'a' AS b", "BEGIN"] {
            assert_eq!(
                check_read(sql).unwrap_err().kind,
                FailureKind::Refused,
                "{sql}"
            );
        }
    }
}
