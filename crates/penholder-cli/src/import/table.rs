//! The table to import into.

use penholder::Database;
use penholder_core::{one_line, shown_path};

use crate::failure::{FAILED, Failure};

/// A table and its columns.
#[derive(Debug)]
pub(crate) struct Table {
    name: String,
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    name: String,
    /// Whether rows may give it a value: it is neither computed nor hidden.
    is_writable: bool,
}

impl Table {
    /// Looks a table up. Returns `None` if there is no such table.
    pub(crate) fn find(db: &Database, name: &str) -> Result<Option<Self>, Failure> {
        // 0: an ordinary column; others are computed or hidden.
        let sql = "SELECT name, hidden = 0 AS is_writable FROM pragma_table_xinfo(?1)";
        let columns = db.query_as::<(String, bool)>(sql, [name])?.into_iter();
        let columns = columns.map(|(name, is_writable)| Column { name, is_writable });
        let table = Self {
            name: name.to_owned(),
            columns: columns.collect(),
        };
        if table.columns.is_empty() {
            return Ok(None);
        }
        table.refuse_unwritable(db)?;
        Ok(Some(table))
    }

    /// Lets SQLite prepare an insert. That fails for a view without a trigger, and for
    /// a table of SQLite itself.
    fn refuse_unwritable(&self, db: &Database) -> Result<(), Failure> {
        db.try_read(|connection| {
            let sql = self.insert(&[]);
            connection.prepare(&sql).map(drop).map_err(|error| {
                let db = shown_path(db.path());
                let next = "choose a table that accepts rows";
                let error = one_line(error);
                Failure::new(format!("import: {db}: {error}: {next}"), FAILED)
            })
        })
    }

    /// The number of the column with this name. As in SQL, case does not matter. The
    /// search begins at `likely`.
    pub(crate) fn column(&self, name: &str, likely: usize) -> Result<usize, String> {
        let matches = |column: &Column| column.name.eq_ignore_ascii_case(name);
        let found = match self.columns.get(likely) {
            Some(column) if matches(column) => Some(likely),
            _ => self.columns.iter().position(matches),
        };
        match found {
            Some(number) if self.columns[number].is_writable => Ok(number),
            Some(_) => Err(format!("the column {name:?} is computed by the table")),
            None => Err(format!("the table {} has no column {name:?}", self.name)),
        }
    }

    /// The name of the column with this number.
    pub(crate) fn name(&self, number: usize) -> &str {
        self.columns.get(number).map_or("", |column| &column.name)
    }

    /// The statement that inserts a row of these columns.
    pub(crate) fn insert(&self, columns: &[usize]) -> String {
        let table = quoted(&self.name);
        if columns.is_empty() {
            return format!("INSERT INTO {table} DEFAULT VALUES");
        }
        let names: Vec<String> = columns
            .iter()
            .map(|number| quoted(self.name(*number)))
            .collect();
        let marks = vec!["?"; columns.len()].join(", ");
        format!(
            "INSERT INTO {table} ({}) VALUES ({marks})",
            names.join(", ")
        )
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let column = |name: &str, is_writable| Column {
            name: name.to_owned(),
            is_writable,
        };
        Table {
            name: "odd \"name\"".to_owned(),
            columns: vec![column("a", true), column("B b", true), column("c", false)],
        }
    }

    #[test]
    fn columns_are_found_as_sql_finds_them() {
        for likely in 0..4 {
            assert_eq!(table().column("A", likely), Ok(0));
            assert_eq!(table().column("b B", likely), Ok(1));
            assert!(table().column("c", likely).is_err());
            assert!(table().column("d", likely).is_err());
        }
    }

    #[test]
    fn names_are_quoted() {
        let sql = "INSERT INTO \"odd \"\"name\"\"\" (\"B b\", \"a\") VALUES (?, ?)";
        assert_eq!(table().insert(&[1, 0]), sql);
        assert!(table().insert(&[]).ends_with("DEFAULT VALUES"));
    }
}
