//! What the rows that were printed do not show.

use penholder::Value;

use crate::failure::say;
use crate::number;

/// Counts such values, and warns of them at the end.
#[derive(Debug, Default)]
pub(crate) struct Caveats {
    /// Whether CSV was asked for, and not for a terminal: it may be for `penholder import`.
    pub(crate) is_export: bool,
    columns: usize,
    nulls: u64,
    empty_texts: u64,
    blobs: u64,
    /// What each column has.
    kinds: Vec<Kinds>,
    /// Whether a blob is printed where a text has no quotes.
    has_bare_blob: bool,
    /// Texts with bytes that are no UTF-8, and were replaced.
    replaced: u64,
    /// Texts with the character that replaces such bytes.
    perhaps_replaced: u64,
    /// Names of columns with that character.
    perhaps_replaced_names: u64,
}

/// What a column has that CSV shows alike.
#[derive(Debug, Clone, Copy, Default)]
struct Kinds {
    numbers: bool,
    texts_like_numbers: bool,
}

impl Caveats {
    /// Notes what CSV does not show.
    pub(crate) fn note_csv(&mut self, values: &[Value]) {
        self.columns = values.len();
        self.kinds.resize(values.len(), Kinds::default());
        for (value, kinds) in values.iter().zip(&mut self.kinds) {
            match value {
                Value::Null => self.nulls += 1,
                Value::Text(text) if text.is_empty() => self.empty_texts += 1,
                Value::Text(text) => {
                    kinds.texts_like_numbers = kinds.texts_like_numbers || number::is_number(text);
                }
                Value::Blob(_) => self.blobs += 1,
                Value::Integer(_) | Value::Real(_) => kinds.numbers = true,
            }
        }
    }

    /// Notes names of columns with the character that replaces bytes.
    pub(crate) fn note_names(&mut self, names: &[String]) {
        let is_replaced = |name: &&String| name.contains('\u{FFFD}');
        self.perhaps_replaced_names = names.iter().filter(is_replaced).count() as u64;
    }

    /// Notes a blob that is printed by itself, as a text is.
    pub(crate) fn note_bare_blob(&mut self) {
        self.has_bare_blob = true;
    }

    /// Notes a text in which bytes were replaced.
    pub(crate) fn note_replaced(&mut self) {
        self.replaced += 1;
    }

    /// Notes a text with the character that replaces bytes.
    pub(crate) fn note_perhaps_replaced(&mut self) {
        self.perhaps_replaced += 1;
    }

    /// Warns on standard error.
    pub(crate) fn say(&self) {
        if self.replaced > 0 {
            let texts = count(self.replaced, "text");
            say(format!(
                "{texts} not UTF-8: wrong bytes are shown as \u{FFFD}; hex() shows them"
            ));
        }
        if self.has_bare_blob {
            say("the value is a blob: it is shown as X'…', as a text of that form would be");
        }
        if self.perhaps_replaced > 0 {
            let texts = count(self.perhaps_replaced, "text");
            say(format!(
                "{texts} shown with \u{FFFD}, which may stand for bytes that are not UTF-8"
            ));
        }
        if self.perhaps_replaced_names > 0 {
            let names = count(self.perhaps_replaced_names, "column name");
            say(format!(
                "{names} shown with \u{FFFD}, which may stand for bytes that are not UTF-8"
            ));
        }
        if self.is_export && self.nulls > 0 {
            say(self.about_nulls());
        }
        let mixed = self
            .kinds
            .iter()
            .filter(|kinds| kinds.numbers && kinds.texts_like_numbers);
        let mixed = mixed.count() as u64;
        if self.is_export && mixed > 0 {
            let has = if mixed == 1 {
                "column has"
            } else {
                "columns have"
            };
            say(format!(
                "{mixed} {has} numbers and texts that look like numbers, which CSV shows alike: \
                 use --json to tell them apart"
            ));
        }
        if self.is_export && self.blobs > 0 {
            let blobs = count(self.blobs, "blob");
            say(format!(
                "{blobs} shown as X'…': `penholder import` needs --blobs literal, except for \
                 BLOB columns"
            ));
        }
    }

    fn about_nulls(&self) -> String {
        let nulls = count(self.nulls, "NULL");
        let shown = match self.nulls {
            1 => "shown as an empty field",
            _ => "shown as empty fields",
        };
        let next = match (self.empty_texts, self.columns) {
            (0, _) => "`penholder import` needs --empty-as-null",
            (_, 1) => "use --json to tell them from empty texts",
            _ => "`penholder import` needs --empty-as-null=unquoted",
        };
        format!("{nulls} {shown}: {next}")
    }
}

fn count(number: u64, noun: &str) -> String {
    match (number, noun.split_once(' ')) {
        (1, _) => format!("1 {noun} is"),
        (_, Some((noun, of))) => format!("{number} {noun}s {of} are"),
        (_, None) => format!("{number} {noun}s are"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_depends_on_what_else_is_empty() {
        let about = |values: &[Value]| {
            let mut caveats = Caveats::default();
            caveats.note_csv(values);
            caveats.about_nulls()
        };
        let nulls = about(&[Value::Null, Value::Null]);
        assert_eq!(
            nulls,
            "2 NULLs are shown as empty fields: `penholder import` needs --empty-as-null"
        );
        assert!(about(&[Value::Null, "".into()]).ends_with("--empty-as-null=unquoted"));
        let mut one_column = Caveats::default();
        one_column.note_csv(&[Value::Null]);
        one_column.note_csv(&["".into()]);
        assert!(one_column.about_nulls().contains("--json"));
    }
}
