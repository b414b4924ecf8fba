//! Where SQL comes from: the command line, or standard input.

use std::io::{self, Read};
use std::path::Path;

use penholder_core::shell_path;

use crate::encoding::{self, Detected};
use crate::failure::{FAILED, Failure};
use crate::file_kind;

/// Returns the SQL that a word stands for; `-` is standard input. `written` is the database that
/// it writes.
///
/// # Errors
///
/// It cannot be read as UTF-8 or UTF-16 with a byte order mark, or has a NUL byte, where SQLite
/// would end it.
pub(crate) fn read(command: &str, word: &str, written: Option<&Path>) -> Result<String, Failure> {
    let sql = match word {
        "-" => read_standard_input(command, written)?,
        sql => sql.to_owned(),
    };
    let Some(place) = sql.find('\0') else {
        return Ok(sql);
    };
    let why = format!("the SQL contains a NUL byte after {place} bytes");
    let message = format!("{command}: {why}: nothing was run: remove it");
    Err(Failure::new(message, FAILED))
}

fn read_standard_input(command: &str, written: Option<&Path>) -> Result<String, Failure> {
    let refused = |why: String| {
        let message = format!("{command}: standard input: {why}");
        Failure::new(message, FAILED)
    };
    let mut script = Vec::new();
    io::stdin().read_to_end(&mut script).map_err(|error| {
        let what = format!("{command}: standard input");
        Failure::of_system(what, &error, "check where it comes from")
    })?;
    if let Some(program) = file_kind::compression(&script) {
        return Err(refused(format!(
            "it is compressed with {program}: nothing was run: pipe it through `{program} -dc`"
        )));
    }
    if script.starts_with(b"SQLite format 3\0") {
        let next = "give SQL, or use `penholder restore` for a backup";
        return Err(refused(format!(
            "it is a database: nothing was run: {next}"
        )));
    }
    decode(&script, written).map_err(refused)
}

/// Decodes a script. PowerShell writes UTF-16 with a byte order mark.
fn decode(script: &[u8], written: Option<&Path>) -> Result<String, String> {
    let head = &script[..script.len().min(4096)];
    let is_utf_16 = match encoding::detect(head) {
        Detected::Marked(encoding) if encoding != encoding_rs::UTF_8 => Some(encoding),
        Detected::Utf32 => {
            let next = "convert it, for example with `iconv -f utf-32 -t utf-8`";
            return Err(format!("it is UTF-32: nothing was run: {next}"));
        }
        Detected::Probably(encoding) => Some(encoding),
        _ => None,
    };
    if let Some(encoding) = is_utf_16 {
        let decoded = encoding.decode_with_bom_removal(script);
        let (text, false) = decoded else {
            let name = encoding.name();
            return Err(format!("it is not {name}: nothing was run: write it again"));
        };
        return Ok(text.into_owned());
    }
    str::from_utf8(script).map(str::to_owned).map_err(|error| {
        let before = &script[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let shell = written.map_or_else(String::new, |db| {
            let db = shell_path(db);
            format!(
                "; or keep the bytes as they are with SQLite's shell, which reads the script from \
                 standard input: penholder run --create {db} -- sqlite3 {db}"
            )
        });
        format!(
            "line {line}: it is not UTF-8: nothing was run: convert it, for example with \
             `iconv -f windows-1252 -t utf-8`{shell}"
        )
    })
}
