//! How rows are written in a file.

use std::path::Path;

use penholder_core::shown_path;

use crate::args::{Import, ImportFormat};
use crate::failure::{Failure, USAGE};

/// The format of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Format {
    Csv(Dialect),
    JsonLines,
}

/// How fields are separated, and what an empty one means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    pub(crate) delimiter: u8,
    pub(crate) empty_as_null: bool,
}

impl Format {
    /// The format that the options name, or else the extension of the file.
    pub(crate) fn of(args: &Import) -> Result<Self, Failure> {
        let (format, delimiter) = match (args.format, by_extension(&args.file)) {
            (Some(format), Some((_, delimiter))) => (format, delimiter),
            (Some(format), None) => (format, b','),
            (None, Some(named)) => named,
            (None, None) => return Err(unknown(&args.file)),
        };
        Ok(match format {
            ImportFormat::Jsonl => Self::JsonLines,
            ImportFormat::Csv => Self::Csv(Dialect {
                delimiter: args.delimiter.unwrap_or(delimiter),
                empty_as_null: args.empty_as_null,
            }),
        })
    }
}

fn unknown(file: &Path) -> Failure {
    let message = format!(
        "import: {}: the format is unknown: give --format csv or --format jsonl",
        shown_path(file)
    );
    Failure::new(message, USAGE)
}

/// The format that an extension stands for, with its usual delimiter.
fn by_extension(file: &Path) -> Option<(ImportFormat, u8)> {
    let extension = file.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "csv" => Some((ImportFormat::Csv, b',')),
        "tsv" => Some((ImportFormat::Csv, b'\t')),
        "jsonl" | "ndjson" | "json" => Some((ImportFormat::Jsonl, b',')),
        _ => None,
    }
}
