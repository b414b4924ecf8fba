//! Filling an empty cluster from a file, and comparing what is there then.

use std::path::Path;
use std::time::Duration;

use hiqlite::rusqlite::{self, Row};
use penholder::{AsyncDatabase, Params, Query, Store, StoreExt, Value};
use penholder_core::shown_path;
use tempfile::NamedTempFile;
use tokio::fs::File;

use crate::cluster::Cluster;
use crate::content::Content;
use crate::failure::{FAILED, Failure, TIMEOUT};
use crate::load_plan::{LoadPlan, PlannedTable};
use crate::migration;
use crate::source::Source;
use crate::source_table::{Rows, SourceTable, quoted};
use crate::statement_kind::is_reserved;

/// How many bytes of rows one call inserts, about; and how many rows and values at most.
const BATCH_BYTES: usize = 64 << 10;
const BATCH_ROWS: usize = 1000;
const BATCH_VALUES: usize = 30_000;
/// How many rows get their references by one call.
const BATCH_UPDATES: usize = 500;
/// How long one call may take: an index of a large table is created by one.
const CALL: Duration = Duration::from_secs(600);

/// Loads a file into an empty file on this machine, with the same statements, and compares. Returns why a
/// cluster would refuse something, or would not have the same then.
pub(crate) async fn rehearse(source: &Source, plan: &LoadPlan) -> Result<Vec<String>, Failure> {
    let directory = tempfile::tempdir().map_err(|error| temporary(&error))?;
    let path = directory.path().join("rehearsal.db");
    let database = AsyncDatabase::open(&path).await?;
    let loading = Loading {
        store: &database,
        source,
    };
    if let Err(failure) = loading.load(plan, |_| {}).await {
        return Ok(vec![failure.to_string()]);
    }
    drop(database);
    let rehearsed = Source::open(&path)?;
    differences(&rehearsed, plan).map_err(|error| rehearsed.failed(&error))
}

/// Fills a cluster that has no tables. `progress` is told how many rows are there.
pub(crate) async fn load(
    cluster: &Cluster,
    source: &Source,
    plan: &LoadPlan,
    progress: impl Fn(u64),
) -> Result<(), Failure> {
    let cluster = &cluster.with_timeout(CALL);
    check_empty(cluster).await?;
    let loading = Loading {
        store: cluster,
        source,
    };
    let loaded = loading.load(plan, progress).await;
    loaded.map_err(|failure| {
        let code = failure.code;
        let text = format!(
            "{failure}\n  a part is in the cluster, which is of no use: make a new one with `penholder cluster init`, or \
             end all of its nodes, remove all of their data directories, make an empty file node-1.new next to \
             node-1.toml, which lets node 1 begin again, and start them"
        );
        Failure::with_code(text, code)
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
struct Loading<'a, S: Store> {
    store: &'a S,
    source: &'a Source,
}

impl<S: Store> Loading<'_, S> {
    async fn load(&self, plan: &LoadPlan, progress: impl Fn(u64)) -> Result<(), Failure> {
        for planned in &plan.tables {
            self.run(&planned.table.sql, &planned.table.name).await?;
        }
        // A foreign key may refer to what only an index makes unique.
        let (unique, others): (Vec<_>, Vec<_>) = plan
            .objects
            .iter()
            .partition(|object| object.is_unique_index());
        for object in unique {
            self.run(&object.sql, &object.name).await?;
        }
        let mut rows = 0;
        for planned in &plan.tables {
            match planned.table.rows {
                Rows::Own => self.fill(planned, &mut rows, &progress).await?,
                Rows::OfOther => self.rebuild(&planned.table).await?,
                Rows::None | Rows::NotReadable => {}
            }
            self.set_up(&planned.table).await?;
        }
        for planned in plan
            .tables
            .iter()
            .filter(|planned| !planned.later.is_empty())
        {
            self.refer(planned).await?;
        }
        self.set_last_numbers(&plan.last_numbers).await?;
        for object in others {
            self.run(&object.sql, &object.name).await?;
        }
        self.note_steps(plan.steps).await
    }

    async fn run(&self, sql: &str, what: &str) -> Result<(), Failure> {
        let done = self.store.execute(sql, ()).await;
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
        let mut batch = Batch::default();
        let mut statement = self.of_source(self.source.connection().prepare(&table.select()))?;
        let mut found = self.of_source(statement.query([]))?;
        while let Some(row) = self.of_source(found.next())? {
            let values = self.of_source(values(row, table.width()))?;
            let values = table.without(values, &planned.later);
            if batch.is_full_with(&values) {
                *inserted += batch.rows as u64;
                self.insert(table, std::mem::take(&mut batch)).await?;
                progress(*inserted);
            }
            batch.add(values);
        }
        if batch.rows > 0 {
            *inserted += batch.rows as u64;
            self.insert(table, batch).await?;
            progress(*inserted);
        }
        Ok(())
    }

    async fn insert(&self, table: &SourceTable, batch: Batch) -> Result<(), Failure> {
        let params: Params = batch.values.into_iter().collect();
        let done = self.store.execute(table.insert(batch.rows), params).await;
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
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(row) = self.of_source(found.next())? {
            let values = self.of_source(values(row, width))?;
            if batch.len() >= BATCH_UPDATES || bytes >= BATCH_BYTES {
                self.update(&planned.table, std::mem::take(&mut batch))
                    .await?;
                bytes = 0;
            }
            bytes += update.len() + length(&values);
            let params: Params = values.into_iter().collect();
            batch.push(Query::new(update.as_str(), params));
        }
        self.update(&planned.table, batch).await
    }

    async fn update(&self, table: &SourceTable, batch: Vec<Query>) -> Result<(), Failure> {
        let done = self.store.batch(batch).await;
        done.map(drop).map_err(|error| at(&table.name, &error))
    }

    /// Sets what an index of full text is set to.
    async fn set_up(&self, table: &SourceTable) -> Result<(), Failure> {
        let Some((select, set)) = table.settings() else {
            return Ok(());
        };
        let mut statement = self.of_source(self.source.connection().prepare(&select))?;
        let mut found = self.of_source(statement.query([]))?;
        while let Some(row) = self.of_source(found.next())? {
            let params: Params = self.of_source(values(row, 2))?.into_iter().collect();
            let done = self.store.execute(set.as_str(), params).await;
            done.map_err(|error| at(&table.name, &error))?;
        }
        Ok(())
    }

    async fn set_last_numbers(&self, numbers: &[(String, i64)]) -> Result<(), Failure> {
        for (table, number) in numbers {
            let set = "UPDATE sqlite_sequence SET seq = ?2 WHERE name = ?1";
            let add = "INSERT INTO sqlite_sequence(name, seq) SELECT ?1, ?2 WHERE changes() = 0";
            let batch = [set, add].map(|sql| Query::new(sql, (table.as_str(), *number)));
            let done = self.store.batch(batch).await;
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
        let done = self.store.batch(batch).await;
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
    /// Whether it is written before this row is added.
    fn is_full_with(&self, row: &[Value]) -> bool {
        let most = (BATCH_VALUES / row.len().max(1)).clamp(1, BATCH_ROWS);
        self.rows > 0 && (self.rows >= most || self.bytes + length(row) > BATCH_BYTES)
    }

    fn add(&mut self, row: Vec<Value>) {
        self.bytes += length(&row);
        self.rows += 1;
        self.values.extend(row);
    }
}

/// How many bytes values have, about.
pub(crate) fn length(values: &[Value]) -> usize {
    let length = |value: &Value| match value {
        Value::Text(text) => text.len(),
        Value::Blob(bytes) => bytes.len(),
        _ => 8,
    };
    values.iter().map(length).sum()
}

fn values(row: &Row<'_>, width: usize) -> rusqlite::Result<Vec<Value>> {
    (0..width).map(|column| row.get(column)).collect()
}

/// Compares what is in a cluster with what was planned.
pub(crate) async fn verify(cluster: &Cluster, plan: &LoadPlan) -> Result<(), Failure> {
    let not_compared = |failure: Failure| {
        let code = failure.code;
        let text = format!("{failure}\n  everything is loaded, and was not compared with the file");
        Failure::with_code(text, code)
    };
    let file = NamedTempFile::new().map_err(|error| not_compared(temporary(&error)))?;
    let writer = file
        .reopen()
        .map_err(|error| not_compared(temporary(&error)))?;
    let cluster = cluster.with_timeout(CALL);
    let copied = cluster.copy(&mut File::from_std(writer), |_, _| {}).await;
    copied.map_err(|error| not_compared(error.into()))?;
    let copy = Source::open(file.path()).map_err(not_compared)?;
    let differences =
        differences(&copy, plan).map_err(|error| not_compared(copy.failed(&error)))?;
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
    let tables: Vec<SourceTable> = copy.tables()?.into_iter().flatten().collect();
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
    let code = if error.is_timeout() { TIMEOUT } else { FAILED };
    Failure::with_code(format!("load: {what}: {error}"), code)
}

fn temporary(error: &std::io::Error) -> Failure {
    Failure::new(format!(
        "load: a temporary file: {error}: make room, or set TMPDIR to another directory"
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
