//! A cluster as a file: a backup, with all that it has, or a database for programs of one machine.

use std::path::Path;

use hiqlite::rusqlite::{self, Connection};
use penholder_core::{shell_path, shown_path};
use tempfile::{Builder, NamedTempFile};
use tokio::fs::File;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::source_table::quoted;
use crate::{migration, statement_kind};

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `cluster restore` puts it back.
    Backup,
    /// Programs open it.
    Dump,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Backup => "cluster backup",
            Self::Dump => "cluster dump",
        }
    }
}

/// Writes a file that must not exist yet, and returns its length. It is written under another name, and renamed
/// when it is complete and on the disk.
pub(crate) async fn write(
    cluster: &Cluster,
    path: &Path,
    purpose: Purpose,
    progress: impl Fn(u64, u64) + Send,
) -> Result<u64, Failure> {
    let failed =
        |why: String| Failure::new(format!("{}: {}: {why}", purpose.name(), shown_path(path)));
    check_free(path).map_err(failed)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let file = Builder::new()
        .prefix(".penholder-backup-")
        .tempfile_in(directory)
        .map_err(|error| failed(format!("{error}: choose another directory")))?;
    let reopened = file.reopen().map_err(|error| failed(error.to_string()))?;
    cluster
        .copy(&mut File::from_std(reopened), progress)
        .await?;
    check(file.path()).map_err(|why| failed(format!("the copy: {why}: try again")))?;
    if purpose == Purpose::Dump {
        strip(file.path()).map_err(|error| failed(error.to_string()))?;
    }
    publish(file, path).map_err(|error| failed(error.to_string()))
}

/// Refuses a path at which something is.
fn check_free(path: &Path) -> Result<(), String> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        if std::fs::symlink_metadata(&name).is_ok() {
            return Err(format!(
                "{} exists already: choose another name, or remove it first",
                shell_path(Path::new(&name))
            ));
        }
    }
    Ok(())
}

fn check(path: &Path) -> Result<(), String> {
    let checked = || -> rusqlite::Result<String> {
        let connection = Connection::open(path)?;
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
    };
    match checked() {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => Err(found),
        Err(error) => Err(error.to_string()),
    }
}

/// Removes what belongs to the cluster, and counts the steps of its migrations as a file does.
fn strip(path: &Path) -> rusqlite::Result<()> {
    let mut connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA journal_mode = DELETE; PRAGMA foreign_keys = OFF")?;
    let transaction = connection.transaction()?;
    for name in tables(&transaction)? {
        if statement_kind::is_reserved(&name.to_ascii_lowercase()) {
            transaction.execute_batch(&format!("DROP TABLE {}", quoted(&name)))?;
        }
        if name == migration::TABLE {
            let steps: i64 = transaction.query_row(
                &format!("SELECT count(*) FROM {}", migration::TABLE),
                [],
                |row| row.get(0),
            )?;
            transaction.pragma_update(None, "user_version", steps)?;
            transaction.execute_batch(&format!("DROP TABLE {}", migration::TABLE))?;
        }
    }
    transaction.commit()?;
    connection.execute_batch("PRAGMA incremental_vacuum; PRAGMA journal_mode = WAL")?;
    connection.close().map_err(|(_, error)| error)
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement =
        connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let found = statement.query_map([], |row| row.get(0))?;
    found.collect()
}

/// Gives the file its name, if nothing has it by now.
fn publish(file: NamedTempFile, path: &Path) -> std::io::Result<u64> {
    file.as_file().sync_all()?;
    let bytes = file.as_file().metadata()?.len();
    let directory = file.path().parent().map(Path::to_owned).unwrap_or_default();
    file.persist_noclobber(path).map_err(|error| error.error)?;
    std::fs::File::open(directory)?.sync_all()?;
    Ok(bytes)
}
