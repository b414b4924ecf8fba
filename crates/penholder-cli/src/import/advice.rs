//! What to do if the table does not exist: a command that creates it.

use penholder::Database;
use penholder_core::{one_line, shell_word, shown_path};

use super::format::Format;
use super::row::ReadError;
use super::source::Source;
use super::table::in_main;
use super::{csv, json, message};
use crate::args::{Import, Target};
use crate::failure::{FAILED, Failure};
use crate::sql_text::quoted;

/// The table is missing. The advice has the columns of the file.
pub(super) fn no_table(args: &Import, db: &Database, source: &Source, format: Format) -> Failure {
    let names = match columns(source, format) {
        Ok(names) => names,
        Err(error) => return message::malformed(source, error),
    };
    let (table, path) = (one_line(&args.table), shown_path(db.path()));
    let next = match create(args, db, &names) {
        Ok(command) => format!("create it: {command}"),
        Err(next) => next,
    };
    let message = format!("import: {path}: there is no table {table}: {next}");
    Failure::new(message, FAILED)
}

fn columns(source: &Source, format: Format) -> Result<Vec<String>, ReadError> {
    match format {
        Format::Csv(dialect) => csv::header(source, dialect),
        Format::Json => json::names(source),
    }
}

/// The command that creates the table. The error says what to do if there is none.
fn create(args: &Import, db: &Database, names: &[String]) -> Result<String, String> {
    let (schema, table) = match in_main(&args.table) {
        Some(table) => ("main.", table),
        None => ("", args.table.as_str()),
    };
    if names.is_empty() {
        return Err("create it first: the file names no columns".to_owned());
    }
    if table.to_ascii_lowercase().starts_with("sqlite_") {
        return Err("choose another name: those that begin with sqlite_ are reserved".to_owned());
    }
    if [table]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .any(|name| name.contains('\0'))
    {
        return Err("create it first: a name in the file has a NUL character".to_owned());
    }
    let columns: Vec<String> = names.iter().map(|name| identifier(db, name)).collect();
    let (table, columns) = (identifier(db, table), columns.join(", "));
    let sql = format!("CREATE TABLE {schema}{table}({columns})");
    Ok(format!(
        "penholder exec{} {}",
        target(&args.target),
        shell_word(sql)
    ))
}

/// The database, and the options that say how it is locked.
fn target(target: &Target) -> String {
    let mut words = String::new();
    if let Some(file) = &target.lock_file {
        words += &format!(" --lock-file={}", shell_word(file));
    }
    if target.allow_network_fs {
        words += " --allow-network-fs";
    }
    if target.allow_file_mount {
        words += " --allow-file-mount";
    }
    format!("{words} {}", target.db_word())
}

/// A name as SQL takes it: in quotes, unless it is plain and SQLite reads it as a name.
fn identifier(db: &Database, name: &str) -> String {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_plain =
        name.starts_with(is_letter) && name.chars().all(|c| is_letter(c) || c.is_ascii_digit());
    // A reserved word is no name without quotes.
    let is_name = || {
        db.read(|connection| Ok(connection.prepare(&format!("SELECT 1 AS {name}")).is_ok()))
            .unwrap_or(false)
    };
    match is_plain && is_name() {
        true => name.to_owned(),
        false => quoted(name),
    }
}
