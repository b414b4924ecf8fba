//! How rows are written in a file.

use std::path::Path;

use penholder_core::shown_path;

use crate::args::{Blobs, EmptyFields, EmptyLines, Import, ImportFormat};
use crate::failure::{Failure, USAGE};

/// The format of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Format {
    Csv(Dialect),
    Json,
}

/// How fields are separated and quoted, and what they mean.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    /// The delimiter that an option gives.
    pub(crate) delimiter: Option<u8>,
    /// The delimiter if neither an option nor the file gives one.
    pub(crate) usual_delimiter: u8,
    pub(crate) quote: Option<u8>,
    /// Whether quotes are ordinary characters though no option says so.
    pub(crate) keeps_quotes: bool,
    pub(crate) empty_as_null: Option<EmptyFields>,
    pub(crate) blobs: Option<Blobs>,
    pub(crate) accepts_ragged: bool,
    pub(crate) empty_lines: Option<EmptyLines>,
}

impl Dialect {
    #[cfg(test)]
    pub(crate) const TEST: Self = Self {
        delimiter: None,
        usual_delimiter: b',',
        quote: Some(b'"'),
        keeps_quotes: false,
        empty_as_null: None,
        blobs: None,
        accepts_ragged: false,
        empty_lines: None,
    };
}

impl Format {
    /// The format that the options name, or else the extension of the file.
    pub(crate) fn of(args: &Import) -> Result<Self, Failure> {
        let by_extension = by_extension(&args.file);
        let (format, usual_delimiter) = match (args.format, by_extension) {
            (Some(format), Some((_, delimiter))) => (format, delimiter),
            (Some(format), None) => (format, b','),
            (None, Some(named)) => named,
            (None, None) => return Err(unknown(&args.file)),
        };
        // Programs that write tab-separated values do not quote.
        let usual_quote = (usual_delimiter != b'\t').then_some(b'"');
        let quote = args.quote.map_or(usual_quote, |quote| quote.0);
        if quote == Some(args.delimiter.unwrap_or(usual_delimiter)) {
            let message = "import: --quote and --delimiter are the same character: change one";
            return Err(Failure::new(message, USAGE));
        }
        Ok(match format {
            ImportFormat::Jsonl => Self::Json,
            ImportFormat::Csv => Self::Csv(Dialect {
                delimiter: args.delimiter,
                usual_delimiter,
                quote,
                keeps_quotes: quote.is_none() && args.quote.is_none(),
                empty_as_null: args.empty_as_null,
                blobs: args.blobs,
                accepts_ragged: args.ragged,
                empty_lines: args.empty_lines,
            }),
        })
    }
}

/// What to do if this character separates fields, and not `delimiter`. `None` if it does not
/// look like that.
pub(crate) fn other_delimiter(character: char, delimiter: u8) -> Option<String> {
    let option = match character {
        ';' => "';'",
        '\t' => "tab",
        '|' => "'|'",
        ',' => "','",
        _ => return None,
    };
    (character != char::from(delimiter))
        .then(|| format!("if {character:?} separates the fields, give --delimiter {option}"))
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
