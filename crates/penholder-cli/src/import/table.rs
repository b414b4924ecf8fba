//! The table that rows are written into.

use penholder::Database;

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
    /// Its value is computed, or it belongs to a virtual table itself.
    given: bool,
}

impl Table {
    /// `None` if there is no such table.
    pub(crate) fn find(db: &Database, name: &str) -> Result<Option<Self>, Failure> {
        // 0: an ordinary column; others are computed or hidden.
        let sql = "SELECT name, hidden = 0 AS given FROM pragma_table_xinfo(?1)";
        let rows = db.query(sql, [name])?;
        let column = |row| {
            Ok(Column {
                name: rows.get(row, "name")?,
                given: rows.get(row, "given")?,
            })
        };
        let columns: penholder::Result<Vec<Column>> = (0..rows.len()).map(column).collect();
        let table = Self {
            name: name.to_owned(),
            columns: columns?,
        };
        if table.columns.is_empty() {
            return Ok(None);
        }
        table.refuse_unwritable(db)?;
        Ok(Some(table))
    }

    /// SQLite knows when it is asked to prepare: a view without a trigger, a table
    /// of its own.
    fn refuse_unwritable(&self, db: &Database) -> Result<(), Failure> {
        db.read(|connection| {
            let sql = self.insert(&[]);
            connection.prepare(&sql).map(drop).map_err(|error| {
                let db = db.path().display();
                let next = "give a table that takes rows";
                Failure::new(format!("import: {db}: {error}: {next}"), FAILED)
            })
        })
    }

    /// The number of the column with this name; capitals are as small letters, as
    /// in SQL. It is looked for at `likely` first.
    pub(crate) fn column(&self, name: &str, likely: usize) -> Result<usize, String> {
        let is_it = |column: &Column| column.name.eq_ignore_ascii_case(name);
        let found = match self.columns.get(likely) {
            Some(column) if is_it(column) => Some(likely),
            _ => self.columns.iter().position(is_it),
        };
        match found {
            Some(number) if self.columns[number].given => Ok(number),
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
        let column = |name: &str, given| Column {
            name: name.to_owned(),
            given,
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
