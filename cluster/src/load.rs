//! Filling an empty cluster from a file, and comparing what is there then.

use std::path::Path;
use std::time::Duration;

use hiqlite::rusqlite::{self, Row};
use penholder::{Params, Query, Store, StoreExt, Value};
use penholder_core::shown_path;
use tempfile::NamedTempFile;
use tokio::fs::File;

use crate::cluster::Cluster;
use crate::content::Content;
use crate::failure::Failure;
use crate::load_plan::{LoadPlan, PlannedTable};
use crate::migration;
use crate::source::Source;
use crate::source_table::{Rows, SourceTable, quoted};
use crate::statement_kind::is_reserved;

/// How many bytes of rows one call inserts, about; and how many rows and values at most.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_ROWS: usize = 1000;
const BATCH_VALUES: usize = 30_000;
/// How many rows get their references by one call.
const BATCH_UPDATES: usize = 500;
/// How long one call may take: an index of a large table is created by one.
const CALL: Duration = Duration::from_secs(600);

/// Fills a cluster that has no tables. `progress` is told how many rows are there.
pub(crate) async fn load(
    cluster: &Cluster,
    source: &Source,
    plan: &LoadPlan,
    progress: impl Fn(u64),
) -> Result<(), Failure> {
    let cluster = &cluster.with_timeout(CALL);
    check_empty(cluster).await?;
    let loading = Loading { cluster, source };
    let loaded = loading.load(plan, progress).await;
    loaded.map_err(|failure| {
        Failure::new(format!(
            "{failure}\n  a part is in the cluster: before another load, end its nodes, remove their data \
             directories, put node-1.new back next to node-1.toml, and start them; or make a new one with \
             `penholder cluster init`"
        ))
    })
}

/// Refuses a cluster in which something is.
async fn check_empty(cluster: &Cluster) -> Result<(), Failure> {
    let sql = "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let names: Vec<(String,)> = cluster.query_as(sql, ()).await?;
    let found = names
        .iter()
        .find(|(name,)| !is_reserved(&name.to_ascii_lowercase()));
    match found {
        None => Ok(()),
        Some((name,)) => Err(Failure::new(format!(
            "load: {}: it has {name} already: load into a new cluster, or drop what it has",
            cluster.address()
        ))),
    }
}

/// A load under way.
struct Loading<'a> {
    cluster: &'a Cluster,
    source: &'a Source,
}

impl Loading<'_> {
    async fn load(&self, plan: &LoadPlan, progress: impl Fn(u64)) -> Result<(), Failure> {
        for planned in &plan.tables {
            self.run(&planned.table.sql, &planned.table.name).await?;
        }
        let mut rows = 0;
        for planned in &plan.tables {
            match planned.table.rows {
                Rows::Own => self.fill(planned, &mut rows, &progress).await?,
                Rows::OfOther => self.rebuild(&planned.table).await?,
                Rows::None | Rows::NotReadable => {}
            }
        }
        for planned in plan
            .tables
            .iter()
            .filter(|planned| !planned.later.is_empty())
        {
            self.refer(planned).await?;
        }
        self.set_last_numbers(&plan.last_numbers).await?;
        for object in &plan.objects {
            self.run(&object.sql, &object.name).await?;
        }
        self.note_steps(plan.steps).await
    }

    async fn run(&self, sql: &str, what: &str) -> Result<(), Failure> {
        let done = self.cluster.execute(sql, ()).await;
        done.map(drop).map_err(|error| at(what, &error))
    }

    /// Inserts all rows of a table.
    async fn fill(
        &self,
        planned: &PlannedTable,
        inserted: &mut u64,
        progress: &impl Fn(u64),
    ) -> Result<(), Failure> {
        let table = &planned.table;
        let most = (BATCH_VALUES / table.width().max(1)).clamp(1, BATCH_ROWS);
        let mut batch = Batch::default();
        let mut statement = self.of_source(self.source.connection().prepare(&table.select()))?;
        let mut found = self.of_source(statement.query([]))?;
        loop {
            let row = self.of_source(found.next())?;
            let is_end = row.is_none();
            if let Some(row) = row {
                let values = self.of_source(values(row, table.width()))?;
                batch.add(table.without(values, &planned.later));
            }
            let is_full = batch.rows >= most || batch.bytes >= BATCH_BYTES;
            if batch.rows > 0 && (is_end || is_full) {
                *inserted += batch.rows as u64;
                self.insert(table, std::mem::take(&mut batch)).await?;
                progress(*inserted);
            }
            if is_end {
                return Ok(());
            }
        }
    }

    async fn insert(&self, table: &SourceTable, batch: Batch) -> Result<(), Failure> {
        let params: Params = batch.values.into_iter().collect();
        let done = self.cluster.execute(table.insert(batch.rows), params).await;
        done.map(drop).map_err(|error| at(&table.name, &error))
    }

    /// Makes the rows of an index over another table.
    async fn rebuild(&self, table: &SourceTable) -> Result<(), Failure> {
        let name = quoted(&table.name);
        let sql = format!("INSERT INTO {name}({name}) VALUES ('rebuild')");
        self.run(&sql, &table.name).await
    }

    /// Sets the references that could not be set before all rows were there.
    async fn refer(&self, planned: &PlannedTable) -> Result<(), Failure> {
        let (select, update) = planned.table.later(&planned.later);
        let mut statement = self.of_source(self.source.connection().prepare(&select))?;
        let width = statement.column_count();
        let mut found = self.of_source(statement.query([]))?;
        loop {
            let mut batch = Vec::new();
            while batch.len() < BATCH_UPDATES {
                let Some(row) = self.of_source(found.next())? else {
                    break;
                };
                let params: Params = self.of_source(values(row, width))?.into_iter().collect();
                batch.push(Query::new(update.as_str(), params));
            }
            if batch.is_empty() {
                return Ok(());
            }
            let done = self.cluster.batch(batch).await;
            done.map_err(|error| at(&planned.table.name, &error))?;
        }
    }

    async fn set_last_numbers(&self, numbers: &[(String, i64)]) -> Result<(), Failure> {
        for (table, number) in numbers {
            let set = "UPDATE sqlite_sequence SET seq = ?2 WHERE name = ?1";
            let add = "INSERT INTO sqlite_sequence(name, seq) SELECT ?1, ?2 WHERE changes() = 0";
            let batch = [set, add].map(|sql| Query::new(sql, (table.as_str(), *number)));
            let done = self.cluster.batch(batch).await;
            done.map_err(|error| at(table, &error))?;
        }
        Ok(())
    }

    /// Notes the steps of a migration that have run on the file, so that none runs again.
    async fn note_steps(&self, steps: i64) -> Result<(), Failure> {
        if steps == 0 {
            return Ok(());
        }
        let notes =
            (1..=steps).map(|number| Query::new(migration::INSERT, (number, migration::UNKNOWN)));
        let batch = std::iter::once(Query::from(migration::CREATE)).chain(notes);
        let done = self.cluster.batch(batch).await;
        done.map(drop).map_err(|error| at(migration::TABLE, &error))
    }

    fn of_source<T>(&self, result: rusqlite::Result<T>) -> Result<T, Failure> {
        result.map_err(|error| self.source.failed(&error))
    }
}

/// Rows that one call inserts.
#[derive(Default)]
struct Batch {
    values: Vec<Value>,
    rows: usize,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, row: Vec<Value>) {
        let length = |value: &Value| match value {
            Value::Text(text) => text.len(),
            Value::Blob(bytes) => bytes.len(),
            _ => 8,
        };
        self.bytes += row.iter().map(length).sum::<usize>();
        self.rows += 1;
        self.values.extend(row);
    }
}

fn values(row: &Row<'_>, width: usize) -> rusqlite::Result<Vec<Value>> {
    (0..width).map(|column| row.get(column)).collect()
}

/// Compares what is in a cluster with what was planned.
pub(crate) async fn verify(cluster: &Cluster, plan: &LoadPlan) -> Result<(), Failure> {
    let file = NamedTempFile::new().map_err(|error| temporary(&error))?;
    let mut writer = File::from_std(file.reopen().map_err(|error| temporary(&error))?);
    cluster.copy(&mut writer, |_, _| {}).await?;
    let copy = Source::open(file.path())?;
    let differences = differences(&copy, plan).map_err(|error| copy.failed(&error))?;
    if differences.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "load: {}: it differs from the file; do not use it:\n  {}",
        cluster.address(),
        differences.join("\n  ")
    )))
}

fn differences(copy: &Source, plan: &LoadPlan) -> rusqlite::Result<Vec<String>> {
    let mut differences = Vec::new();
    let tables = copy.tables()?;
    for PlannedTable { table, content, .. } in &plan.tables {
        let is_same = |found: &SourceTable| found.name == table.name && found.sql == table.sql;
        if !tables.iter().any(is_same) {
            differences.push(format!("table {}: it is not there", table.name));
            continue;
        }
        let Some(content) = content else { continue };
        let found = Content::of(copy.connection(), &table.select(), |_| Ok(()))?;
        if found != *content {
            differences.push(format!(
                "table {}: {content}; in the cluster {found}",
                table.name
            ));
        }
    }
    let objects = copy.objects()?;
    for object in plan
        .objects
        .iter()
        .filter(|object| !objects.contains(object))
    {
        differences.push(format!("{} {}: it is not there", object.kind, object.name));
    }
    let numbers = copy.last_numbers()?;
    for number in plan
        .last_numbers
        .iter()
        .filter(|number| !numbers.contains(number))
    {
        differences.push(format!(
            "table {}: its last number is not {}",
            number.0, number.1
        ));
    }
    Ok(differences)
}

fn at(what: &str, error: &penholder::Error) -> Failure {
    Failure::new(format!("load: {what}: {error}"))
}

fn temporary(error: &std::io::Error) -> Failure {
    Failure::new(format!(
        "load: a temporary file for the comparison: {error}: make room, or set TMPDIR to another directory \
         (what was loaded is in the cluster, and was not compared)"
    ))
}

/// Returns what a plan says, for people.
pub(crate) fn text(path: &Path, plan: &LoadPlan) -> String {
    let mut text = format!(
        "{}: {}, {}; indexes, views and triggers: {}\n",
        shown_path(path),
        counted(plan.tables.len() as u64, "table"),
        counted(plan.rows(), "row"),
        plan.objects.len()
    );
    for PlannedTable { table, content, .. } in &plan.tables {
        text += &match content {
            Some(content) => format!("  {}: {content}\n", table.name),
            None => format!("  {}\n", table.name),
        };
    }
    for note in &plan.notes {
        text += &format!("not taken over: {note}\n");
    }
    text
}

/// A number, and the word for one or for more of them.
pub(crate) fn counted(count: u64, word: &str) -> String {
    match count {
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    }
}
