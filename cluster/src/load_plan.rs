//! What of a file a cluster takes over, in which order, and what it cannot take over.

use std::collections::HashSet;

use hiqlite::rusqlite::types::ValueRef;
use hiqlite::rusqlite::{self, Connection, Row};

use crate::content::Content;
use crate::failure::Failure;
use crate::source::{SchemaObject, Source, Unreadable};
use crate::source_table::{ForeignKey, Rows, SourceTable, quoted};
use crate::statement_kind::{self, Refusal};
use crate::wire::REQUEST_MAX;
use crate::{migration, write_table};

/// How long a row is at most, in bytes: it is part of a request.
const ROW_MAX: usize = REQUEST_MAX - (128 << 10);
/// How many steps a migration has at most: a greater `user_version` counts something else.
const STEPS_MAX: i64 = 1000;
/// How many violations of one kind are listed.
const LISTED: usize = 20;

/// What of a file a cluster takes over.
#[derive(Debug)]
pub(crate) struct LoadPlan {
    /// In the order in which they are created and filled: what a table refers to is before it.
    pub(crate) tables: Vec<PlannedTable>,
    /// Indexes, views and triggers, which are created afterwards.
    pub(crate) objects: Vec<SchemaObject>,
    /// The last number of each table with AUTOINCREMENT.
    pub(crate) last_numbers: Vec<(String, i64)>,
    /// How many steps of a migration have run, by `user_version`.
    pub(crate) steps: i64,
    /// Because of these nothing is loaded.
    pub(crate) problems: Vec<String>,
    /// What is lost, and does no harm to the data.
    pub(crate) notes: Vec<String>,
}

/// A table, and how it is filled.
#[derive(Debug)]
pub(crate) struct PlannedTable {
    pub(crate) table: SourceTable,
    /// `None` if its rows are not its own.
    pub(crate) content: Option<Content>,
    /// Columns that refer to rows which are inserted later. They are set when all rows are there.
    pub(crate) later: Vec<String>,
}

impl LoadPlan {
    /// Looks at all of a file, except what is left out.
    pub(crate) fn of(source: &Source, left_out: &[String]) -> Result<Self, Failure> {
        let mut problems = unknown(source, left_out).map_err(|error| source.failed(&error))?;
        let found = Self::look(source, left_out, &mut problems);
        let mut plan = found.map_err(|error| source.failed(&error))?;
        plan.problems = problems;
        Ok(plan)
    }

    /// Whether a file is a backup of a cluster: it has the table of the writes.
    pub(crate) fn is_backup(source: &Source) -> Result<bool, Failure> {
        write_table::is_there(source.connection()).map_err(|error| source.failed(&error))
    }

    fn look(
        source: &Source,
        left_out: &[String],
        problems: &mut Vec<String>,
    ) -> rusqlite::Result<Self> {
        let is_backup = write_table::is_there(source.connection())?;
        let is_taken = |name: &str| {
            let is_left_out = left_out.iter().any(|one| one.eq_ignore_ascii_case(name));
            let is_of_cluster =
                is_backup && statement_kind::is_reserved(&name.to_ascii_lowercase());
            !is_left_out && !is_of_cluster
        };
        let mut tables = Vec::new();
        for table in source.tables()? {
            match table {
                Ok(table) if is_taken(&table.name) => tables.push(table),
                Err(Unreadable { name, error }) if is_taken(&name) => {
                    problems.push(format!("table {name}: {error}"));
                }
                _ => {}
            }
        }
        let mut objects = source.objects()?;
        objects.retain(|object| is_taken(&object.name) && is_taken(&object.table));
        let mut last_numbers = source.last_numbers()?;
        last_numbers.retain(|(name, _)| is_taken(name));
        check_statements(&tables, &objects, problems);
        check_trial(&tables, &objects, problems)?;
        for table in &tables {
            check_rows(source, table, problems);
        }
        let (steps, mut notes) = settings(source, &tables)?;
        notes.extend(
            tables
                .iter()
                .filter(|table| table.loses_rowids())
                .map(|table| {
                    format!(
                        "table {}: its rowids, which have no name because columns have all of them",
                        table.name
                    )
                }),
        );
        let mut planned = Vec::new();
        for (table, later) in in_order(tables, problems) {
            let content = content(source, &table, problems).unwrap_or_else(|error| {
                let text = format!("table {}: {error}", table.name);
                if !problems.contains(&text) {
                    problems.push(text);
                }
                None
            });
            planned.push(PlannedTable {
                table,
                content,
                later,
            });
        }
        Ok(Self {
            tables: planned,
            objects,
            last_numbers,
            steps,
            problems: Vec::new(),
            notes,
        })
    }

    /// How many rows are inserted.
    pub(crate) fn rows(&self) -> u64 {
        let inserted = self
            .tables
            .iter()
            .filter(|planned| planned.table.rows == Rows::Own);
        inserted
            .filter_map(|planned| planned.content)
            .map(|content| content.rows)
            .sum()
    }
}

/// Names that are to be left out, and are not there.
fn unknown(source: &Source, left_out: &[String]) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE";
    let mut problems = Vec::new();
    for name in left_out {
        let count: i64 = source
            .connection()
            .query_row(sql, [name], |row| row.get(0))?;
        if count == 0 {
            problems.push(format!("--without {name}: there is nothing of that name"));
        }
    }
    Ok(problems)
}

/// What a cluster refuses by its text.
fn check_statements(tables: &[SourceTable], objects: &[SchemaObject], problems: &mut Vec<String>) {
    let tables = tables
        .iter()
        .map(|table| ("table", &table.name, &table.sql));
    let objects = objects
        .iter()
        .map(|object| (object.kind.as_str(), &object.name, &object.sql));
    for (kind, name, sql) in tables.chain(objects) {
        if let Err(Refusal { why, .. }) = statement_kind::check_write(sql) {
            problems.push(format!("{kind} {name}: {why}"));
        }
    }
}

/// Creates everything in a database in memory, which knows the functions, collations and modules that the
/// engine knows, and compiles statements that use them.
fn check_trial(
    tables: &[SourceTable],
    objects: &[SchemaObject],
    problems: &mut Vec<String>,
) -> rusqlite::Result<()> {
    let trial = Connection::open_in_memory()?;
    trial.execute_batch("PRAGMA foreign_keys = ON")?;
    for table in tables {
        if let Err(error) = trial.execute_batch(&table.sql) {
            problems.push(format!("table {}: {error}", table.name));
        }
    }
    for object in objects {
        if let Err(error) = trial.execute_batch(&object.sql) {
            problems.push(format!("{} {}: {error}", object.kind, object.name));
        }
    }
    let compiled = |sql: &String| trial.prepare(sql).map(drop).err();
    for table in tables {
        let error = table.probes().iter().find_map(compiled);
        if let Some(error) = error.filter(|_| is_there(&trial, &table.name)) {
            problems.push(format!("table {}, or a trigger of it: {error}", table.name));
        }
    }
    for view in objects.iter().filter(|object| object.kind == "view") {
        let select = format!("SELECT * FROM {}", quoted(&view.name));
        if let Some(error) = compiled(&select).filter(|_| is_there(&trial, &view.name)) {
            problems.push(format!("view {}: {error}", view.name));
        }
    }
    Ok(())
}

fn is_there(connection: &Connection, name: &str) -> bool {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = ?1";
    connection
        .query_row(sql, [name], |row| row.get::<_, i64>(0))
        .is_ok_and(|count| count > 0)
}

/// What is wrong with the rows of a table: damage, and constraints that they violate. What cannot be checked is a
/// problem too, for example a constraint with a function that is not known.
fn check_rows(source: &Source, table: &SourceTable, problems: &mut Vec<String>) {
    let name = &table.name;
    let mut note = |found: rusqlite::Result<Vec<String>>| match found {
        Ok(found) => problems.extend(
            found
                .into_iter()
                .map(|found| format!("table {name}: {found}")),
        ),
        Err(error) => problems.push(format!("table {name}: {error}")),
    };
    note(damage(source, name));
    note(missing_parents(source, name));
    if let Some(largest) = table.largest_rowid() {
        note(last_rowid(source, &largest));
    }
}

fn damage(source: &Source, table: &str) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT quick_check FROM pragma_quick_check(?1) WHERE quick_check <> 'ok' LIMIT ?2";
    let mut statement = source.connection().prepare(sql)?;
    let found = statement.query_map((table, LISTED), |row| row.get(0))?;
    found.collect()
}

fn missing_parents(source: &Source, table: &str) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT parent, count(*) FROM pragma_foreign_key_check(?1) GROUP BY 1";
    let mut statement = source.connection().prepare(sql)?;
    let found = statement.query_map([table], |row| {
        let (parent, count): (String, i64) = (row.get(0)?, row.get(1)?);
        Ok(format!(
            "rows that refer to rows of {parent} which are missing: {count}; a cluster checks foreign keys: \
             `PRAGMA foreign_key_check` lists them"
        ))
    })?;
    found.collect()
}

/// SQLite chooses random rowids after the last one that there is, others on each node.
fn last_rowid(source: &Source, largest: &str) -> rusqlite::Result<Vec<String>> {
    let largest: Option<i64> = source
        .connection()
        .query_row(largest, [], |row| row.get(0))?;
    let problem = "it has the last rowid that there is, and each node would choose another one after it: give that row \
                   another number";
    Ok(match largest {
        Some(i64::MAX) => vec![problem.to_owned()],
        _ => Vec::new(),
    })
}

/// Returns the number of steps that have run, and which settings are lost.
fn settings(source: &Source, tables: &[SourceTable]) -> rusqlite::Result<(i64, Vec<String>)> {
    let version = source.pragma("user_version")?;
    let application = source.pragma("application_id")?;
    let mut notes = Vec::new();
    if application != 0 {
        notes.push(format!("the file: its application_id, {application}"));
    }
    let is_counted = tables.iter().any(|table| table.name == migration::TABLE);
    let is_of_steps = (1..=STEPS_MAX).contains(&version) && !is_counted;
    if version != 0 && !is_of_steps {
        notes.push(format!("the file: its user_version, {version}"));
    }
    Ok((if is_of_steps { version } else { 0 }, notes))
}

/// Returns what a table contains, and notes what of it cannot be taken over.
fn content(
    source: &Source,
    table: &SourceTable,
    problems: &mut Vec<String>,
) -> rusqlite::Result<Option<Content>> {
    match table.rows {
        Rows::Own | Rows::OfOther => {}
        Rows::None => return Ok(None),
        Rows::NotReadable => {
            problems.push(format!(
                "table {}: an index of full text with `content=''` has no texts that could be read",
                table.name
            ));
            return Ok(None);
        }
    }
    let (mut row_number, mut found) = (0_u64, Vec::new());
    let content = Content::of(source.connection(), &table.select(), |row| {
        row_number += 1;
        if let Some(why) = unfit(row, table.width())? {
            found.push(format!("table {}: row {row_number}: {why}", table.name));
        }
        Ok(())
    })?;
    let count = found.len();
    problems.extend(found.into_iter().take(LISTED));
    if count > LISTED {
        problems.push(format!(
            "table {}: {} more rows of that kind",
            table.name,
            count - LISTED
        ));
    }
    Ok(Some(content))
}

/// Returns why a row cannot be inserted.
fn unfit(row: &Row<'_>, width: usize) -> rusqlite::Result<Option<String>> {
    let mut bytes = 0;
    for column in 0..width {
        bytes += match row.get_ref(column)? {
            ValueRef::Text(text) if std::str::from_utf8(text).is_err() => {
                let why = "a text is no UTF-8: store it as a blob, or correct it";
                return Ok(Some(why.to_owned()));
            }
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
            _ => 8,
        };
    }
    let is_too_long = bytes > ROW_MAX;
    Ok(is_too_long.then(|| format!("it has {bytes} bytes, and a cluster takes {ROW_MAX} at most")))
}

/// Orders the tables so that what a table refers to is before it. Columns that refer to a row which may be
/// inserted later are set later.
fn in_order(
    tables: Vec<SourceTable>,
    problems: &mut Vec<String>,
) -> Vec<(SourceTable, Vec<String>)> {
    let name = |table: &SourceTable| table.name.to_ascii_lowercase();
    let known: HashSet<String> = tables.iter().map(name).collect();
    for table in &tables {
        let missing = table
            .foreign_keys
            .iter()
            .find(|key| !known.contains(&key.table.to_ascii_lowercase()));
        if let Some(key) = missing {
            problems.push(format!(
                "table {}: it refers to the table {}, which is not loaded",
                table.name, key.table
            ));
        }
    }
    let referred = referred_columns(&tables);
    // Others make their rows.
    let (mut waiting, last): (Vec<_>, Vec<_>) = tables
        .into_iter()
        .partition(|table| table.rows == Rows::Own);
    let mut ordered = Vec::new();
    while !waiting.is_empty() {
        let names: HashSet<String> = waiting.iter().map(name).collect();
        let refers_on = |table: &SourceTable| {
            let own = name(table);
            table.foreign_keys.iter().any(|key| {
                let parent = key.table.to_ascii_lowercase();
                parent != own && names.contains(&parent)
            })
        };
        let next = waiting.iter().position(|table| !refers_on(table));
        // The tables that are left refer to each other in a circle.
        let next = next.or_else(|| {
            waiting
                .iter()
                .position(|table| later(table, &names, &referred).is_ok())
        });
        let table = waiting.remove(next.unwrap_or(0));
        let later = later(&table, &names, &referred).unwrap_or_else(|key| {
            problems.push(format!(
                "table {}: {} refers to rows of {} that may be inserted later, and must not be NULL until then",
                table.name,
                key.columns.join(", "),
                key.table
            ));
            Vec::new()
        });
        ordered.push((table, later));
    }
    ordered.extend(last.into_iter().map(|table| (table, Vec::new())));
    ordered
}

/// Returns the columns that are set later because they refer to one of the tables that wait, of which the table
/// itself is one; or the foreign key of which no column may be NULL until then. One column that is NULL is enough; best
/// one to which no key refers in its turn.
fn later<'a>(
    table: &'a SourceTable,
    waiting: &HashSet<String>,
    referred: &HashSet<(String, String)>,
) -> Result<Vec<String>, &'a ForeignKey> {
    let mut later = Vec::new();
    let own = table.name.to_ascii_lowercase();
    let is_referred = |column: &str| referred.contains(&(own.clone(), column.to_ascii_lowercase()));
    let keys = table.foreign_keys.iter();
    for key in keys.filter(|key| waiting.contains(&key.table.to_ascii_lowercase())) {
        let nullable = || {
            key.columns
                .iter()
                .filter(|column| table.may_be_null(column))
        };
        let chosen = nullable().find(|column| !is_referred(column));
        match chosen.or_else(|| nullable().next()) {
            Some(column) if !table.loses_rowids() => later.push(column.clone()),
            _ => return Err(key),
        }
    }
    later.sort();
    later.dedup();
    Ok(later)
}

/// Returns the columns to which a foreign key refers, with their tables.
fn referred_columns(tables: &[SourceTable]) -> HashSet<(String, String)> {
    let lower = str::to_ascii_lowercase;
    let keys = tables.iter().flat_map(|table| &table.foreign_keys);
    keys.flat_map(|key| {
        key.parents
            .iter()
            .map(move |parent| (lower(&key.table), lower(parent)))
    })
    .collect()
}
