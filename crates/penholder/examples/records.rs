//! Stores named values in a table `records`, which any number of processes
//! may write.
//!
//! ```text
//! records DB write NAME VALUE   create a record, print its id
//! records DB update ID VALUE    change it; exit 1 if there is none
//! records DB get ID             print its name and value; exit 1 if there is none
//! records DB list               print all of them
//! records DB count              print how many there are
//! ```
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints"
)]

use std::process::ExitCode;
use std::time::Duration;

use penholder::{Database, OpenOptions, Result, Row, params};

const USAGE: &str = "usage: records DB write NAME VALUE | update ID VALUE | get ID | list | count";

/// One record.
#[derive(serde::Deserialize)]
struct Record {
    id: i64,
    name: String,
    value: String,
}

/// The storage of the application, with all of its SQL.
struct Records {
    db: Database,
}

impl Records {
    fn open(path: &str) -> Result<Self> {
        let db = OpenOptions::new()
            .timeout(Duration::from_secs(10))
            .label("records")
            .open(path)?;
        db.migrate(&[
            "CREATE TABLE records(id INTEGER PRIMARY KEY, name TEXT NOT NULL, value TEXT NOT NULL)",
        ])?;
        Ok(Self { db })
    }

    fn create_record(&self, name: &str, value: &str) -> Result<i64> {
        let sql = "INSERT INTO records(name, value) VALUES (?1, ?2) RETURNING id";
        self.db.execute(sql, (name, value))?.returned[0].get("id")
    }

    /// Changes a record. Returns whether it exists.
    fn update_record(&self, id: i64, value: &str) -> Result<bool> {
        let sql = "UPDATE records SET value = ?2 WHERE id = ?1";
        Ok(self.db.execute(sql, params![id, value])?.rows_changed > 0)
    }

    fn get_record(&self, id: i64) -> Result<Option<Record>> {
        let sql = "SELECT * FROM records WHERE id = ?1";
        self.db.query_optional(sql, [id], Row::deserialize)
    }

    fn all_records(&self) -> Result<Vec<Record>> {
        self.db.query_as("SELECT * FROM records ORDER BY id", [])
    }

    fn count(&self) -> Result<i64> {
        self.db.query_scalar("SELECT count(*) FROM records", [])
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some((path, command)) = words.split_first() else {
        return misused();
    };
    match run(path, command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(if error.is_timeout() { 75 } else { 1 })
        }
    }
}

fn run(path: &str, command: &[&str]) -> Result<ExitCode> {
    match command {
        ["write", name, value] => println!("{}", Records::open(path)?.create_record(name, value)?),
        ["update", number, value] => {
            let Ok(id) = number.parse() else {
                return Ok(misused());
            };
            if !Records::open(path)?.update_record(id, value)? {
                return Ok(missing(id));
            }
        }
        ["get", number] => {
            let Ok(id) = number.parse() else {
                return Ok(misused());
            };
            match Records::open(path)?.get_record(id)? {
                Some(record) => println!("{}={}", record.name, record.value),
                None => return Ok(missing(id)),
            }
        }
        ["list"] => {
            for record in Records::open(path)?.all_records()? {
                println!("{} {}={}", record.id, record.name, record.value);
            }
        }
        ["count"] => println!("{}", Records::open(path)?.count()?),
        _ => return Ok(misused()),
    }
    Ok(ExitCode::SUCCESS)
}

fn misused() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn missing(id: i64) -> ExitCode {
    eprintln!("there is no record {id}");
    ExitCode::from(1)
}
