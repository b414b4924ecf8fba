//! Writing the rows of a CSV or JSON file into a table of a cluster.
//!
//! `penholder import` reads the file, with all its options, into a staging file: a table that has the
//! same columns and no constraints. From there the rows are written in the order of the file.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hiqlite::rusqlite::{self, Connection};
use penholder::{Params, Store, StoreExt, Value};
use penholder_core::shown_path;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::failure::{FAILED, Failure, HALFWAY, NOT_FOUND, TIMEOUT};
use crate::load::{counted, length};
use crate::source::Source;
use crate::source_table::{SourceTable, quoted};

/// The command that reads files.
const PROGRAM: &str = "penholder";
/// What a column has in the staging file if the row does not have it: the cluster's default applies.
const ABSENT: &[u8] = b"penholder absent";
/// How many rows, values and bytes one call writes, about.
const BATCH_ROWS: usize = 500;
const BATCH_VALUES: usize = 30_000;
const BATCH_BYTES: usize = 64 << 10;

/// What is imported.
#[derive(Debug)]
pub(crate) struct Import<'a> {
    pub(crate) table: &'a str,
    pub(crate) file: &'a Path,
    /// How many rows of the file were imported before.
    pub(crate) skip: u64,
    /// Options of `penholder import`.
    pub(crate) options: Vec<String>,
}

/// A column of the table in the cluster.
struct Column {
    name: String,
    kind: String,
    is_not_null: bool,
}

/// Rows with values for the same columns.
struct Batch {
    columns: Vec<usize>,
    rows: Vec<Vec<Value>>,
    bytes: usize,
}

/// Reads the file into a staging file, and returns that.
pub(crate) async fn stage(cluster: &Cluster, import: &Import<'_>) -> Result<Staging, Failure> {
    let columns = columns(cluster, import.table).await?;
    let directory = tempfile::tempdir().map_err(|error| failed(import, &error.to_string()))?;
    let path = directory.path().join("import.db");
    create(&path, import.table, &columns).map_err(|error| failed(import, &error.to_string()))?;
    read_file(import, &path)?;
    let source = Source::open(&path)?;
    let tables = source.tables().map_err(|error| source.failed(&error))?;
    let table = tables.into_iter().flatten().next();
    let table = table.ok_or_else(|| failed(import, "the staging file has no table"))?;
    Ok(Staging {
        source,
        table,
        columns,
        _directory: directory,
    })
}

/// The rows of a file, as they will be written.
pub(crate) struct Staging {
    source: Source,
    table: SourceTable,
    columns: Vec<Column>,
    _directory: TempDir,
}

impl Staging {
    /// How many rows there are.
    pub(crate) fn rows(&self) -> Result<u64, Failure> {
        let sql = format!("SELECT count(*) FROM {}", quoted(&self.table.name));
        let count = self
            .source
            .connection()
            .query_row(&sql, [], |row| row.get::<_, i64>(0));
        count
            .map(|count| u64::try_from(count).unwrap_or(0))
            .map_err(|error| self.source.failed(&error))
    }

    /// Writes all rows. `progress` is told how many are there.
    pub(crate) async fn write(
        &self,
        cluster: &Cluster,
        import: &Import<'_>,
        progress: impl Fn(u64),
    ) -> Result<u64, Failure> {
        let mut done = 0;
        let connection = self.source.connection();
        let select = self.table.select();
        let mut statement = connection
            .prepare(&select)
            .map_err(|error| self.source.failed(&error))?;
        let mut found = statement
            .query([])
            .map_err(|error| self.source.failed(&error))?;
        let mut batch = Batch::new();
        loop {
            let row = found.next().map_err(|error| self.source.failed(&error))?;
            let row = row.map(|row| self.present(row)).transpose();
            let row = row.map_err(|error| self.source.failed(&error))?;
            if batch.is_complete(row.as_ref()) {
                let full = std::mem::replace(&mut batch, Batch::new());
                let rows = full.rows.len() as u64;
                self.insert(cluster, import, &full, done).await?;
                done += rows;
                progress(done);
            }
            let Some((columns, values)) = row else {
                return Ok(done);
            };
            batch.add(columns, values);
        }
    }

    /// Returns which columns a row has, and their values.
    fn present(&self, row: &rusqlite::Row<'_>) -> rusqlite::Result<(Vec<usize>, Vec<Value>)> {
        // The rowid comes first, unless columns have all its names.
        let first = self.table.width() - self.columns.len();
        let (mut columns, mut values) = (Vec::new(), Vec::new());
        for column in 0..self.columns.len() {
            let value: Value = row.get(first + column)?;
            if !matches!(&value, Value::Blob(bytes) if bytes == ABSENT) {
                columns.push(column);
                values.push(value);
            }
        }
        Ok((columns, values))
    }

    /// Writes a batch. If it is refused, its rows are written one by one up to the one that is.
    async fn insert(
        &self,
        cluster: &Cluster,
        import: &Import<'_>,
        batch: &Batch,
        done: u64,
    ) -> Result<(), Failure> {
        let sql = |rows: usize| self.insert_sql(&batch.columns, rows);
        let all: Params = batch.rows.iter().flatten().cloned().collect();
        let error = match cluster.execute(sql(batch.rows.len()), all).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if error.is_timeout() || error.is_outcome_unknown() || batch.rows.len() == 1 {
            return Err(stopped(import, &error, done, batch.rows.len() as u64));
        }
        for (row, number) in batch.rows.iter().zip(done..) {
            let params: Params = row.iter().cloned().collect();
            let written = cluster.execute(sql(1), params).await;
            written.map_err(|error| stopped(import, &error, number, 1))?;
        }
        Ok(())
    }

    fn insert_sql(&self, columns: &[usize], rows: usize) -> String {
        let table = quoted(&self.table.name);
        if columns.is_empty() {
            return format!("INSERT INTO {table} DEFAULT VALUES");
        }
        let names: Vec<String> = columns
            .iter()
            .map(|&column| quoted(&self.columns[column].name))
            .collect();
        let one = format!("({})", vec!["?"; columns.len()].join(", "));
        format!(
            "INSERT INTO {table}({}) VALUES {}",
            names.join(", "),
            vec![one; rows].join(", ")
        )
    }
}

impl Batch {
    fn new() -> Self {
        Self {
            columns: Vec::new(),
            rows: Vec::new(),
            bytes: 0,
        }
    }

    /// Whether it is written before this row, or at the end, is added.
    fn is_complete(&self, next: Option<&(Vec<usize>, Vec<Value>)>) -> bool {
        let Some((columns, values)) = next else {
            return !self.rows.is_empty();
        };
        let most = (BATCH_VALUES / columns.len().max(1)).clamp(1, BATCH_ROWS);
        let is_full = self.rows.len() >= most || self.bytes + length(values) > BATCH_BYTES;
        // A statement for rows without any value has one row.
        !self.rows.is_empty() && (is_full || self.columns != *columns || columns.is_empty())
    }

    fn add(&mut self, columns: Vec<usize>, values: Vec<Value>) {
        self.columns = columns;
        self.bytes += length(&values);
        self.rows.push(values);
    }
}

/// Returns the columns of a table of the cluster that take values.
async fn columns(cluster: &Cluster, table: &str) -> Result<Vec<Column>, Failure> {
    let sql = "SELECT x.name, x.type, x.\"notnull\", coalesce(l.strict, 0) FROM pragma_table_xinfo(?1) AS x \
               LEFT JOIN pragma_table_list AS l ON l.schema = 'main' AND l.name = ?1 COLLATE NOCASE \
               WHERE x.hidden = 0 ORDER BY x.cid";
    let found: Vec<(String, String, bool, bool)> = cluster.query_as(sql, [table]).await?;
    if found.is_empty() {
        return Err(Failure::new(format!(
            "import: {}: no such table: {table}: create it with `penholder exec` first",
            cluster.address()
        )));
    }
    let column = |(name, kind, is_not_null, is_strict): (String, String, bool, bool)| Column {
        name,
        // Outside of a strict table, ANY would turn texts into numbers.
        kind: match is_strict && kind.eq_ignore_ascii_case("ANY") {
            true => String::new(),
            false => kind,
        },
        is_not_null,
    };
    Ok(found.into_iter().map(column).collect())
}

/// Makes the staging file.
fn create(path: &Path, table: &str, columns: &[Column]) -> rusqlite::Result<()> {
    let absent: String = ABSENT.iter().map(|byte| format!("{byte:02x}")).collect();
    let columns: Vec<String> = columns
        .iter()
        .map(|column| {
            let not_null = if column.is_not_null { " NOT NULL" } else { "" };
            let kind = &column.kind;
            format!(
                "{} {kind}{not_null} DEFAULT (x'{absent}')",
                quoted(&column.name)
            )
        })
        .collect();
    let connection = Connection::open(path)?;
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; CREATE TABLE {}({})",
        quoted(table),
        columns.join(", ")
    ))
}

/// Has `penholder import` read the file.
fn read_file(import: &Import<'_>, staging: &Path) -> Result<(), Failure> {
    let mut command = Command::new(program());
    command
        .arg("import")
        .arg(staging)
        .arg(import.table)
        .arg(import.file)
        .arg("--quiet")
        // Otherwise it would say that rows were imported, which are in the staging file only.
        .arg("--atomic")
        .arg("--skip")
        .arg(import.skip.to_string())
        .args(&import.options)
        .stdout(Stdio::null());
    let status = command.status().map_err(|error| {
        let next =
            "in the directory of the source, run `cargo install --path crates/penholder-cli`";
        let text = format!("import: start {PROGRAM}, which reads the file: {error}: {next}");
        Failure::with_code(text, NOT_FOUND)
    })?;
    match status.code() {
        Some(0) => Ok(()),
        // It has said why. Nothing was written to the cluster.
        Some(code) => Err(Failure::silent(match u8::try_from(code) {
            Ok(HALFWAY) | Err(_) => FAILED,
            Ok(code) => code,
        })),
        None => {
            let why = format!("{PROGRAM}, which reads it, was ended: {status}: try again");
            Err(failed(import, &why))
        }
    }
}

/// Returns where the command is: in the directory of this one, or in PATH.
fn program() -> PathBuf {
    let own = env::current_exe().ok();
    let next_to_it = own.map(|own| own.with_file_name(PROGRAM));
    next_to_it
        .filter(|program| program.is_file())
        .unwrap_or_else(|| PROGRAM.into())
}

fn failed(import: &Import<'_>, why: &str) -> Failure {
    Failure::new(format!("import: {}: {why}", shown_path(import.file)))
}

/// Says at which row it stopped, after this number of rows, and how to go on.
fn stopped(import: &Import<'_>, error: &penholder::Error, done: u64, rows: u64) -> Failure {
    let before = import.skip + done;
    let place = match rows {
        1 => format!("row {}", before + 1),
        _ => format!("rows {} to {}", before + 1, before + rows),
    };
    let next = match error.is_outcome_unknown() {
        true => format!(
            "look whether {place} are there, and continue with --skip and the number of the last one"
        ),
        false => format!(
            "correct it and continue with --skip {before}, or leave it out with --skip {}",
            before + rows
        ),
    };
    let text = format!(
        "import: {}: {place}: {error}\n  before it, {} of this run were written: {next}",
        shown_path(import.file),
        counted(done, "row")
    );
    let code = match done {
        0 if error.is_timeout() => TIMEOUT,
        0 => FAILED,
        _ => HALFWAY,
    };
    Failure::with_code(text, code)
}
