//! The table to import into.

use penholder::Database;
use penholder::rusqlite::version_number;
use penholder_core::{one_line, shown_path};

use super::column_type::{self, ColumnType};
use crate::failure::{FAILED, Failure};
use crate::sql_text::{Tokens, quoted};

/// The names that SQLite has for the key of a row, unless a column has the same name.
const ROWIDS: [&str; 3] = ["rowid", "oid", "_rowid_"];

/// A table and its columns.
#[derive(Debug)]
pub(crate) struct Table {
    name: String,
    pub(crate) is_view: bool,
    /// Whether a conflict clause of it may replace rows.
    pub(crate) replaces_rows: bool,
    /// Whether rows of it refer to rows of other tables.
    pub(crate) has_foreign_keys: bool,
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    name: String,
    kind: ColumnType,
    /// The words that declare its type.
    declared: String,
    /// Whether it is meant for numbers, and takes texts too.
    is_for_numbers: bool,
    /// Whether a conflict clause of the table stores a default for NULL.
    replaces_null: bool,
    /// Whether the module of a virtual table has it for itself.
    is_hidden: bool,
    /// Whether rows may give it a value: it is neither computed nor hidden.
    is_writable: bool,
    /// The column that this is another name of.
    same_as: Option<usize>,
}

impl Table {
    /// Looks a table up; `main.t` is `t` if no table has that name. Returns `None` if there
    /// is no such table.
    pub(crate) fn find(db: &Database, name: &str) -> Result<Option<Self>, Failure> {
        if let Some(table) = Self::named(db, name)? {
            return Ok(Some(table));
        }
        match in_main(name) {
            Some(name) => Self::named(db, name),
            None => Ok(None),
        }
    }

    fn named(db: &Database, name: &str) -> Result<Option<Self>, Failure> {
        let sql = "SELECT type, sql FROM sqlite_schema \
                   WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE";
        let entry = db.query_as::<(String, String)>(sql, [name])?.pop();
        let (kind, sql) = entry.unwrap_or_default();
        let mut table = Self {
            name: name.to_owned(),
            is_view: kind == "view",
            replaces_rows: kind == "table" && has_replace_clause(&sql),
            has_foreign_keys: has_foreign_keys(db, name)?,
            columns: declared_columns(db, name)?,
        };
        if table.columns.is_empty() {
            return Ok(None);
        }
        let module = module(&sql);
        // What the trigger of a view or a module stores is not known here.
        if table.is_view || module.is_some() {
            for column in &mut table.columns {
                column.is_for_numbers = false;
            }
        }
        let key = match module {
            Some(module) => table.set_types_of_module(&module),
            None => key_column(db, name)?,
        };
        if let Some(column) = key.and_then(|number| table.columns.get_mut(number)) {
            column.kind = ColumnType::Key;
            // NULL is a new key.
            column.replaces_null = false;
        }
        if !table.is_view {
            table.add_rowid(db, key);
        }
        table.refuse_unwritable(db)?;
        Ok(Some(table))
    }

    /// A virtual table converts nothing by its declared types. An R-Tree takes 0 for what is
    /// no number, and its rowid is its first column, which is returned.
    fn set_types_of_module(&mut self, module: &str) -> Option<usize> {
        let coordinate = match module {
            "rtree" => ColumnType::Coordinate,
            "rtree_i32" => ColumnType::IntegerCoordinate,
            _ => {
                for column in &mut self.columns {
                    column.kind = ColumnType::Any;
                    // Rows may have a `docid` and a language; the column with the name of the
                    // table is for commands.
                    if matches!(module, "fts3" | "fts4") && column.is_hidden {
                        column.is_writable = !column.name.eq_ignore_ascii_case(&self.name);
                        if column.name.eq_ignore_ascii_case("docid") {
                            column.kind = ColumnType::Key;
                        }
                    }
                }
                return None;
            }
        };
        // Auxiliary columns have no type.
        for column in self.columns.iter_mut().skip(1) {
            if column.kind != ColumnType::Any {
                column.kind = coordinate;
            }
        }
        Some(0)
    }

    /// Adds the names of the rowid, if there is one. They name the column `key`, or else all
    /// the same column.
    fn add_rowid(&mut self, db: &Database, key: Option<usize>) {
        let table = quoted(&self.name);
        let has = |name: &str| {
            let sql = format!("SELECT {name} FROM {table}");
            db.read(|connection| Ok(connection.prepare(&sql).is_ok()))
        };
        let free = ROWIDS
            .into_iter()
            .filter(|name| self.position(name, 0).is_none());
        let names: Vec<&str> = free.filter(|name| has(name).unwrap_or(false)).collect();
        self.add_names(&names, key);
    }

    /// Adds columns that are all the same one: the column `key`, or else the first of them.
    fn add_names(&mut self, names: &[&str], key: Option<usize>) {
        let first = self.columns.len();
        for name in names {
            let is_first = key.is_none() && self.columns.len() == first;
            self.columns.push(Column {
                name: (*name).to_owned(),
                kind: ColumnType::Key,
                declared: String::new(),
                is_for_numbers: false,
                replaces_null: false,
                is_hidden: false,
                is_writable: true,
                same_as: (!is_first).then_some(key.unwrap_or(first)),
            });
        }
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

    /// The number of the column with this name; `None` if there is none that rows may give a
    /// value. As in SQL, case does not matter. The search begins at `likely`.
    pub(crate) fn column(&self, name: &str, likely: usize) -> Option<usize> {
        let number = self.position(name, likely)?;
        let column = &self.columns[number];
        column.is_writable.then(|| column.same_as.unwrap_or(number))
    }

    /// Whether it has a column with this name, also one that rows may give no value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.position(name, 0).is_some()
    }

    /// Why there is no number for a name.
    pub(crate) fn no_column(&self, name: &str) -> String {
        match self.position(name, 0).map(|number| &self.columns[number]) {
            Some(column) if column.is_hidden => {
                format!("the column {name:?} is hidden and no part of the rows")
            }
            Some(_) => format!("the column {name:?} is computed by the table"),
            None => format!("the table {} has no column {name:?}", self.name),
        }
    }

    /// What to do about a name that is no column.
    pub(crate) fn instead(&self, name: &str) -> String {
        let letters = |name: &str| -> String {
            let letters = name.chars().filter(|c| c.is_alphanumeric());
            letters.flat_map(char::to_lowercase).collect()
        };
        let wanted = letters(name);
        let alike = |column: &&Column| column.is_writable && letters(&column.name) == wanted;
        match self.columns.iter().find(alike) {
            Some(column) if !wanted.is_empty() => {
                format!("if {:?} is meant, write that in the file", column.name)
            }
            _ => "give --ignore-unknown to leave it out".to_owned(),
        }
    }

    /// The names of its columns that rows may give a value.
    pub(crate) fn names(&self) -> String {
        let own = self.columns.iter();
        let own = own.filter(|column| column.is_writable && !ROWIDS.contains(&&*column.name));
        let names: Vec<String> = own.map(|column| format!("{:?}", column.name)).collect();
        names.join(", ")
    }

    fn position(&self, name: &str, likely: usize) -> Option<usize> {
        let matches = |column: &Column| column.name.eq_ignore_ascii_case(name);
        match self.columns.get(likely) {
            Some(column) if matches(column) => Some(likely),
            _ => self.columns.iter().position(matches),
        }
    }

    /// Whether SQLite calls a key of this table so: `t.a, t.b`, or an index on an expression, which
    /// may be that of another table.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        let (table, rest) = key.split_at_checked(self.name.len()).unwrap_or((key, ""));
        let is_named = table.eq_ignore_ascii_case(&self.name) && rest.starts_with('.');
        is_named || key.starts_with("index '")
    }

    /// The name of the column with this number.
    pub(crate) fn name(&self, number: usize) -> &str {
        self.columns.get(number).map_or("", |column| &column.name)
    }

    /// The words that declare the type of the column with this number.
    pub(crate) fn declared_type(&self, number: usize) -> &str {
        let column = self.columns.get(number);
        column.map_or("", |column| &column.declared)
    }

    /// Whether the column with this number is meant for numbers, and takes texts too.
    pub(crate) fn is_for_numbers(&self, number: usize) -> bool {
        let column = self.columns.get(number);
        column.is_some_and(|column| column.is_for_numbers)
    }

    /// Whether the column with this number stores a default for NULL.
    pub(crate) fn replaces_null(&self, number: usize) -> bool {
        let column = self.columns.get(number);
        self.replaces_rows && column.is_some_and(|column| column.replaces_null)
    }

    /// The type of the column with this number.
    pub(crate) fn column_type(&self, number: usize) -> ColumnType {
        let column = self.columns.get(number);
        column.map_or(ColumnType::Any, |column| column.kind)
    }

    /// Its name in the database.
    pub(crate) fn sql_name(&self) -> &str {
        &self.name
    }

    /// The statement that reads a value of a row, as SQL writes it. Its parameter is the rowid.
    pub(crate) fn select_quoted(&self, column: &str) -> String {
        let (column, table) = (quoted(column), quoted(&self.name));
        let mut columns = self.columns.iter();
        let rowid = columns.find(|column| column.kind == ColumnType::Key);
        let rowid = quoted(rowid.map_or(ROWIDS[0], |column| &column.name));
        format!("SELECT substr(quote({column}), 1, 60) FROM {table} WHERE {rowid} = ?1")
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

/// The name without the schema `main`.
pub(super) fn in_main(name: &str) -> Option<&str> {
    let (schema, name) = name.split_once('.')?;
    schema.eq_ignore_ascii_case("main").then_some(name)
}

fn declared_columns(db: &Database, table: &str) -> Result<Vec<Column>, Failure> {
    let is_strict = is_strict(db, table)?;
    // 0: an ordinary column; others are computed or hidden.
    // A column that refuses NULL accepts it only by a conflict clause.
    let sql = "SELECT name, type, \"notnull\" AND dflt_value IS NOT NULL, hidden = 1, hidden = 0 \
               FROM pragma_table_xinfo(?1)";
    let columns = db.query_as::<(String, String, bool, bool, bool)>(sql, [table])?;
    let columns = columns.into_iter();
    let columns = columns.map(
        |(name, declared, replaces_null, is_hidden, is_writable)| Column {
            name,
            kind: ColumnType::declared(&declared, is_strict),
            is_for_numbers: !is_strict && column_type::promises_numbers(&declared),
            declared,
            replaces_null,
            is_hidden,
            is_writable,
            same_as: None,
        },
    );
    Ok(columns.collect())
}

fn has_foreign_keys(db: &Database, table: &str) -> Result<bool, Failure> {
    let sql = "SELECT count(*) > 0 FROM pragma_foreign_key_list(?1)";
    let found = db.query_as::<(bool,)>(sql, [table])?.pop();
    Ok(found.is_some_and(|(has_foreign_keys,)| has_foreign_keys))
}

/// Whether the table is `STRICT`, which there is since SQLite 3.37.
fn is_strict(db: &Database, table: &str) -> Result<bool, Failure> {
    if version_number() < 3_037_000 {
        return Ok(false);
    }
    let sql = "SELECT strict FROM pragma_table_list \
               WHERE schema = 'main' AND name = ?1 COLLATE NOCASE";
    let strict = db.query_as::<(bool,)>(sql, [table])?.pop();
    Ok(strict.is_some_and(|(is_strict,)| is_strict))
}

/// The column that is the rowid: a primary key of one column without an index.
fn key_column(db: &Database, table: &str) -> Result<Option<usize>, Failure> {
    let sql = "SELECT min(cid) FROM pragma_table_xinfo(?1) WHERE pk \
               AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk') \
               HAVING count(*) = 1";
    let key = db.query_as::<(i64,)>(sql, [table])?.pop();
    Ok(key.and_then(|(number,)| usize::try_from(number).ok()))
}

/// Whether this SQL may have the clause: a comment may have it too.
fn has_replace_clause(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    sql.contains("conflict") && sql.contains("replace")
}

/// The module of a virtual table, in lower case. `None` if this SQL creates another one.
fn module(sql: &str) -> Option<String> {
    let mut tokens = Tokens::significant(sql);
    if !tokens.next()?.is("CREATE") || !tokens.next()?.is("VIRTUAL") {
        return None;
    }
    tokens.find(|token| token.is("USING"))?;
    Some(tokens.next()?.value().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let column = |name: &str, is_writable| Column {
            name: name.to_owned(),
            kind: ColumnType::Any,
            declared: String::new(),
            is_for_numbers: false,
            replaces_null: false,
            is_hidden: false,
            is_writable,
            same_as: None,
        };
        Table {
            name: "odd \"name\"".to_owned(),
            is_view: false,
            replaces_rows: false,
            has_foreign_keys: false,
            columns: vec![column("a", true), column("B b", true), column("c", false)],
        }
    }

    #[test]
    fn columns_are_found_as_sql_finds_them() {
        for likely in 0..4 {
            assert_eq!(table().column("A", likely), Some(0));
            assert_eq!(table().column("b B", likely), Some(1));
            assert_eq!(table().column("c", likely), None);
            assert_eq!(table().column("d", likely), None);
        }
    }

    #[test]
    fn all_names_of_a_rowid_are_one_column() {
        let mut with_key = table();
        with_key.add_names(&ROWIDS, Some(0));
        let mut without = table();
        without.add_names(&ROWIDS, None);
        for name in ["rowid", "_ROWID_", "oid"] {
            assert_eq!(with_key.column(name, 0), Some(0));
            assert_eq!(without.column(name, 0), Some(3));
        }
    }

    #[test]
    fn the_module_of_a_virtual_table_is_found() {
        for (sql, expected) in [
            ("CREATE VIRTUAL TABLE t USING fts5(a)", Some("fts5")),
            (
                "create  virtual\ntable \"t\" using\t\"RTree\" (id, a, b)",
                Some("rtree"),
            ),
            (
                "CREATE VIRTUAL TABLE \"now using fts5\" USING/* a */rtree(id, a, b)",
                Some("rtree"),
            ),
            ("CREATE TABLE t(a)", None),
            ("", None),
        ] {
            assert_eq!(module(sql).as_deref(), expected, "{sql}");
        }
    }

    #[test]
    fn names_are_quoted() {
        let sql = "INSERT INTO \"odd \"\"name\"\"\" (\"B b\", \"a\") VALUES (?, ?)";
        assert_eq!(table().insert(&[1, 0]), sql);
        assert!(table().insert(&[]).ends_with("DEFAULT VALUES"));
    }
}
