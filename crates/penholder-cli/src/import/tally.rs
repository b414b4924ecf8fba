//! What became of rows.

use super::row::Row;

/// Rows that were written, and those of them that the table ignored.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// Those that were ignored included.
    pub(crate) rows: usize,
    pub(crate) ignored: usize,
    /// Where the first one that was ignored begins in the file.
    pub(crate) first_ignored: Option<u64>,
    /// Rows that took the place of others.
    pub(crate) replacing: usize,
    pub(crate) first_replacing: Option<u64>,
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
    pub(crate) fn add(&mut self, row: &Row, fate: Fate) {
        self.rows += 1;
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

    /// These rows and the ones after them.
    pub(crate) fn and(self, after: Self) -> Self {
        Self {
            rows: self.rows + after.rows,
            ignored: self.ignored + after.ignored,
            first_ignored: self.first_ignored.or(after.first_ignored),
            replacing: self.replacing + after.replacing,
            first_replacing: self.first_replacing.or(after.first_replacing),
        }
    }

    pub(crate) fn inserted(self) -> usize {
        self.rows - self.ignored
    }
}
