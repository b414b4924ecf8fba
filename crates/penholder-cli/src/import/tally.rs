//! What became of rows, and of values in them that the table did not store as they are meant.

use penholder::Value;

use super::csv;
use super::row::{Cell, Row};
use super::table::Table;
use crate::number;

/// Rows that were written, and those of them that the table ignored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Those that were ignored included.
    pub(crate) rows: usize,
    pub(crate) ignored: usize,
    /// Where the first one that was ignored begins in the file.
    pub(crate) first_ignored: Option<u64>,
    /// Rows that took the place of others.
    pub(crate) replacing: usize,
    pub(crate) first_replacing: Option<u64>,
    /// Fields that are stored with the quotes around them.
    pub(crate) quoted_fields: Found,
    /// For each column, in their order.
    columns: Vec<ColumnTally>,
}

/// Such values of one column.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ColumnTally {
    /// Texts that are no numbers, in a column of numbers.
    pub(crate) words: Found,
    /// Empty fields that are texts, in a column of numbers.
    pub(crate) empty_fields: Found,
    /// NULLs for which the table has stored a default.
    pub(crate) replaced_nulls: Found,
}

/// How many there are, and where the row of the first one begins in the file.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Found {
    pub(crate) count: u64,
    pub(crate) first: u64,
}

/// What the table did with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Inserted,
    /// Inserted, and rows with the same key deleted.
    Replacing,
    Ignored,
}

impl Tally {
    pub(crate) fn add(&mut self, row: &Row, fate: Fate, table: &Table) {
        self.rows += 1;
        if fate != Fate::Ignored {
            self.add_values(row, table);
        }
        match fate {
            Fate::Inserted => {}
            Fate::Replacing => {
                self.replacing += 1;
                self.first_replacing = self.first_replacing.or(Some(row.start));
            }
            Fate::Ignored => {
                self.ignored += 1;
                self.first_ignored = self.first_ignored.or(Some(row.start));
            }
        }
    }

    fn add_values(&mut self, row: &Row, table: &Table) {
        for (number, cell) in row.columns.iter().zip(&row.values) {
            if let Cell::Field(field) = cell
                && row.keeps_quotes
                && csv::is_in_quotes(row.record.field(*field))
            {
                self.quoted_fields.add(row.start);
            }
            match cell {
                Cell::Field(field) if table.is_for_numbers(*number) => {
                    let word = row.record.field(*field);
                    if word.is_empty() {
                        self.column(*number).empty_fields.add(row.start);
                    } else if !number::is_number(word) {
                        self.column(*number).words.add(row.start);
                    }
                }
                Cell::Value(Value::Text(word))
                    if table.is_for_numbers(*number) && !number::is_number(word) =>
                {
                    self.column(*number).words.add(row.start);
                }
                Cell::Value(Value::Null) if table.replaces_null(*number) => {
                    self.column(*number).replaced_nulls.add(row.start);
                }
                _ => {}
            }
        }
    }

    fn column(&mut self, number: usize) -> &mut ColumnTally {
        if self.columns.len() <= number {
            self.columns.resize(number + 1, ColumnTally::default());
        }
        &mut self.columns[number]
    }

    /// What was found in each column, with its number.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (usize, ColumnTally)> {
        self.columns.iter().copied().enumerate()
    }

    /// These rows and the ones after them.
    pub(crate) fn and(&self, after: &Self) -> Self {
        let mut columns = self.columns.clone();
        for (number, column) in after.columns() {
            if columns.len() <= number {
                columns.push(column);
            } else {
                columns[number] = columns[number].and(column);
            }
        }
        Self {
            columns,
            quoted_fields: self.quoted_fields.and(after.quoted_fields),
            rows: self.rows + after.rows,
            ignored: self.ignored + after.ignored,
            first_ignored: self.first_ignored.or(after.first_ignored),
            replacing: self.replacing + after.replacing,
            first_replacing: self.first_replacing.or(after.first_replacing),
        }
    }

    pub(crate) fn inserted(&self) -> usize {
        self.rows - self.ignored
    }
}

impl ColumnTally {
    fn and(self, after: Self) -> Self {
        Self {
            words: self.words.and(after.words),
            empty_fields: self.empty_fields.and(after.empty_fields),
            replaced_nulls: self.replaced_nulls.and(after.replaced_nulls),
        }
    }
}

impl Found {
    fn add(&mut self, start: u64) {
        if self.count == 0 {
            self.first = start;
        }
        self.count += 1;
    }

    fn and(self, after: Self) -> Self {
        let first = if self.count > 0 {
            self.first
        } else {
            after.first
        };
        Self {
            count: self.count + after.count,
            first,
        }
    }
}
