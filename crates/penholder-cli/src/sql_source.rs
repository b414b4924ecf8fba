//! Where SQL comes from: the command line, or standard input.

use std::io::{self, Read};

use crate::failure::{FAILED, Failure};

/// Returns the SQL that a word stands for; `-` is standard input.
///
/// # Errors
///
/// It cannot be read as UTF-8, or has a NUL byte, where SQLite would end it.
pub(crate) fn read(command: &str, word: &str) -> Result<String, Failure> {
    let sql = match word {
        "-" => read_standard_input()?,
        sql => sql.to_owned(),
    };
    let Some(place) = sql.find('\0') else {
        return Ok(sql);
    };
    let why = format!("the SQL contains a NUL byte after {place} bytes");
    let message = format!("{command}: {why}: nothing was run: remove it");
    Err(Failure::new(message, FAILED))
}

fn read_standard_input() -> Result<String, Failure> {
    let mut script = String::new();
    io::stdin().read_to_string(&mut script).map_err(|error| {
        let next = "give SQL as UTF-8 text";
        Failure::new(format!("read standard input: {error}: {next}"), FAILED)
    })?;
    Ok(script)
}
