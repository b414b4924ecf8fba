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
}

impl Tally {
    pub(crate) fn add(&mut self, row: &Row, is_inserted: bool) {
        self.rows += 1;
        if !is_inserted {
            self.ignored += 1;
            self.first_ignored = self.first_ignored.or(Some(row.start));
        }
    }

    /// These rows and the ones after them.
    pub(crate) fn and(self, after: Self) -> Self {
        Self {
            rows: self.rows + after.rows,
            ignored: self.ignored + after.ignored,
            first_ignored: self.first_ignored.or(after.first_ignored),
        }
    }

    pub(crate) fn inserted(self) -> usize {
        self.rows - self.ignored
    }
}
