//! A table of a file that is loaded: how its rows are read, and how they are inserted.

use hiqlite::rusqlite::{Connection, Result};
use penholder::Value;
use penholder::sql_tokens::{Token, Tokens};

/// A table of a file.
#[derive(Debug, Clone)]
pub(crate) struct SourceTable {
    pub(crate) name: String,
    /// The statement that created it.
    pub(crate) sql: String,
    pub(crate) rows: Rows,
    pub(crate) foreign_keys: Vec<ForeignKey>,
    /// Those that take a value, in their order.
    columns: Vec<Column>,
    order: Order,
    is_virtual: bool,
    has_rowid: bool,
    is_autoincrement: bool,
}

/// Where the rows of a table come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// They are inserted.
    Own,
    /// An index of full text over another table makes them of that one's.
    OfOther,
    /// They are what another table has.
    None,
    /// An index of full text that keeps no texts: they cannot be read.
    NotReadable,
}

/// In which order the rows are read, which is also what identifies one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    /// The rowid, by a name that no column has; it is kept, as the table may be referred to by it.
    Rowid(&'static str),
    /// The primary key: of a table without rowids, or one that is the rowid.
    Key(Vec<String>),
    /// Columns have all names of the rowid: it is lost.
    Unnamed,
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    is_not_null: bool,
    /// Its place in the primary key, from 1 on.
    key: i64,
}

/// Columns that refer to another table, or to their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignKey {
    pub(crate) table: String,
    pub(crate) columns: Vec<String>,
    /// The columns of the other table, if they are named.
    pub(crate) parents: Vec<String>,
}

/// The names of the rowid.
const ROWIDS: [&str; 3] = ["rowid", "_rowid_", "oid"];

impl SourceTable {
    pub(crate) fn of(
        connection: &Connection,
        name: String,
        sql: String,
        is_virtual: bool,
        has_no_rowid: bool,
    ) -> Result<Self> {
        let mut statement = connection.prepare(
            "SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid",
        )?;
        let found = statement.query_map([&name], |row| {
            let column = Column {
                name: row.get(0)?,
                is_not_null: row.get(2)?,
                key: row.get(3)?,
            };
            Ok((column, row.get::<_, String>(1)?, row.get::<_, i64>(4)?))
        })?;
        let all: Vec<_> = found.collect::<Result<_>>()?;
        let key_columns = all.iter().filter(|(column, ..)| column.key > 0).count();
        let is_rowid = |(column, kind, _): &(Column, String, i64)| {
            key_columns == 1 && column.key == 1 && kind.eq_ignore_ascii_case("INTEGER")
        };
        let has_alias =
            !has_no_rowid && !is_virtual && all.iter().any(is_rowid) && !is_descending(&sql);
        let unused = ROWIDS.into_iter().find(|rowid| {
            all.iter()
                .all(|(column, ..)| !column.name.eq_ignore_ascii_case(rowid))
        });
        // Generated columns, and those of virtual tables that are only asked for, take no value.
        let columns: Vec<Column> = all
            .into_iter()
            .filter(|(.., hidden)| *hidden == 0)
            .map(|(column, ..)| column)
            .collect();
        let order = match unused {
            _ if has_no_rowid || has_alias => Order::Key(key_of(&columns)),
            Some(rowid) => Order::Rowid(rowid),
            None => Order::Unnamed,
        };
        let rows = if is_virtual { rows_of(&sql) } else { Rows::Own };
        // The first column of an R-tree is its rowid.
        let order = match rows {
            Rows::Own if is_virtual && module_of(&sql).starts_with("rtree") => Order::Key(
                columns
                    .first()
                    .map(|column| column.name.clone())
                    .into_iter()
                    .collect(),
            ),
            _ => order,
        };
        let is_autoincrement = Tokens::significant(&sql).any(|token| token.is("AUTOINCREMENT"));
        Ok(Self {
            is_virtual,
            has_rowid: !has_no_rowid,
            is_autoincrement,
            foreign_keys: foreign_keys(connection, &name)?,
            name,
            sql,
            rows,
            columns,
            order,
        })
    }

    /// Returns whether a row cannot be identified: its rowid has no name.
    pub(crate) fn loses_rowids(&self) -> bool {
        self.order == Order::Unnamed
    }

    /// Returns whether a column may be NULL.
    pub(crate) fn may_be_null(&self, name: &str) -> bool {
        let mut columns = self.columns.iter();
        let found = columns.find(|column| column.name.eq_ignore_ascii_case(name));
        found.is_some_and(|column| !column.is_not_null && column.key == 0)
    }

    /// Returns the query for its largest rowid, if a new row may get the next one.
    pub(crate) fn largest_rowid(&self) -> Option<String> {
        let rowid = match &self.order {
            Order::Rowid(rowid) => (*rowid).to_owned(),
            Order::Key(key) if self.has_rowid && key.len() == 1 => quoted(&key[0]),
            _ => return None,
        };
        let is_own = matches!(self.rows, Rows::Own) && !self.is_autoincrement;
        is_own.then(|| format!("SELECT max({rowid}) FROM {}", quoted(&self.name)))
    }

    /// Returns the query for the settings of an index of full text, which are in a table of its own, and the
    /// statement that sets one.
    pub(crate) fn settings(&self) -> Option<(String, String)> {
        if module_of(&self.sql) != "fts5" || !self.is_virtual {
            return None;
        }
        let name = quoted(&self.name);
        let settings = quoted(&format!("{}_config", self.name));
        Some((
            format!("SELECT k, v FROM {settings} WHERE k <> 'version' ORDER BY k"),
            format!("INSERT INTO {name}({name}, rank) VALUES (?1, ?2)"),
        ))
    }

    /// Returns the query for all its rows: the values that a row is inserted with.
    pub(crate) fn select(&self) -> String {
        format!(
            "SELECT {} FROM {} ORDER BY {}",
            self.inserted().join(", "),
            quoted(&self.name),
            self.ordered().join(", ")
        )
    }

    /// Returns the statement that inserts so many rows.
    pub(crate) fn insert(&self, rows: usize) -> String {
        let one = format!("({})", vec!["?"; self.width()].join(", "));
        format!(
            "INSERT INTO {}({}) VALUES {}",
            quoted(&self.name),
            self.inserted().join(", "),
            vec![one; rows].join(", ")
        )
    }

    /// How many values a row has.
    pub(crate) fn width(&self) -> usize {
        self.inserted().len()
    }

    /// Replaces the values of these columns by NULL.
    pub(crate) fn without(&self, mut row: Vec<Value>, columns: &[String]) -> Vec<Value> {
        for (name, value) in self.inserted().iter().zip(&mut row) {
            if columns
                .iter()
                .any(|column| quoted(column).eq_ignore_ascii_case(name))
            {
                *value = Value::Null;
            }
        }
        row
    }

    /// Returns the query for the rows in which one of these columns has a value, and the statement that
    /// sets them: the parameters of the statement are the values of a row of the query.
    pub(crate) fn later(&self, columns: &[String]) -> (String, String) {
        let columns: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
        let key = self.ordered();
        let is_set: Vec<String> = columns
            .iter()
            .map(|column| format!("{column} IS NOT NULL"))
            .collect();
        let select = format!(
            "SELECT {}, {} FROM {} WHERE {} ORDER BY {}",
            columns.join(", "),
            key.join(", "),
            quoted(&self.name),
            is_set.join(" OR "),
            key.join(", ")
        );
        let update = format!(
            "UPDATE {} SET {} WHERE {}",
            quoted(&self.name),
            columns
                .iter()
                .map(|column| format!("{column} = ?"))
                .collect::<Vec<_>>()
                .join(", "),
            key.iter()
                .map(|column| format!("{column} = ?"))
                .collect::<Vec<_>>()
                .join(" AND ")
        );
        (select, update)
    }

    /// Returns the statements that SQLite compiles only if it knows all functions and collations which the
    /// table, its constraints and its triggers use.
    pub(crate) fn probes(&self) -> Vec<String> {
        let name = quoted(&self.name);
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| quoted(&column.name))
            .collect();
        let mut probes = vec![format!("SELECT * FROM {name}")];
        let Some(first) = columns.first() else {
            return probes;
        };
        if matches!(self.rows, Rows::Own) {
            probes.push(format!(
                "SELECT 1 FROM {name} ORDER BY {}",
                columns.join(", ")
            ));
            probes.push(self.insert(1));
            probes.push(format!("UPDATE {name} SET {first} = {first}"));
            probes.push(format!("DELETE FROM {name}"));
        }
        probes
    }

    fn inserted(&self) -> Vec<String> {
        let rowid = match self.order {
            Order::Rowid(rowid) => Some(rowid.to_owned()),
            _ => None,
        };
        let columns = self.columns.iter().map(|column| quoted(&column.name));
        rowid.into_iter().chain(columns).collect()
    }

    fn ordered(&self) -> Vec<String> {
        match &self.order {
            Order::Rowid(rowid) => vec![(*rowid).to_owned()],
            Order::Key(key) => key.iter().map(|column| quoted(column)).collect(),
            // In the order of the rowids, which have no name.
            Order::Unnamed => self.inserted(),
        }
    }
}

/// Returns a name as it stands in SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn key_of(columns: &[Column]) -> Vec<String> {
    let mut key: Vec<&Column> = columns.iter().filter(|column| column.key > 0).collect();
    key.sort_by_key(|column| column.key);
    key.into_iter().map(|column| column.name.clone()).collect()
}

/// `INTEGER PRIMARY KEY DESC` is no name of the rowid, by an old error of SQLite.
fn is_descending(sql: &str) -> bool {
    let tokens: Vec<Token<'_>> = Tokens::significant(sql).collect();
    tokens
        .windows(3)
        .any(|three| three[0].is("PRIMARY") && three[1].is("KEY") && three[2].is("DESC"))
}

fn foreign_keys(connection: &Connection, table: &str) -> Result<Vec<ForeignKey>> {
    let sql =
        "SELECT id, \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?1) ORDER BY id, seq";
    let mut statement = connection.prepare(sql)?;
    let found = statement.query_map([table], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    let (mut keys, mut last) = (Vec::<ForeignKey>::new(), None);
    for row in found {
        let (id, table, column, parent): (i64, String, String, Option<String>) = row?;
        if last != Some(id) {
            keys.push(ForeignKey {
                table,
                columns: Vec::new(),
                parents: Vec::new(),
            });
        }
        if let Some(key) = keys.last_mut() {
            key.columns.push(column);
            key.parents.extend(parent);
        }
        last = Some(id);
    }
    Ok(keys)
}

/// Returns the module of a virtual table.
pub(crate) fn module_of(sql: &str) -> String {
    let module = Tokens::significant(sql)
        .skip_while(|token| !token.is("USING"))
        .nth(1);
    module.map_or_else(String::new, |token| token.value().to_ascii_lowercase())
}

/// Returns where the rows of a virtual table come from.
fn rows_of(sql: &str) -> Rows {
    match module_of(sql).as_str() {
        "fts5vocab" => Rows::None,
        "fts5" => match content_option(sql).as_deref() {
            None => Rows::Own,
            Some("") => Rows::NotReadable,
            Some(_) => Rows::OfOther,
        },
        _ => Rows::Own,
    }
}

/// Returns the value of the option `content` of an index of full text.
fn content_option(sql: &str) -> Option<String> {
    let tokens: Vec<Token<'_>> = Tokens::significant(sql).collect();
    let found = tokens
        .windows(3)
        .find(|three| three[0].value().eq_ignore_ascii_case("content") && three[1].text == "=");
    found.map(|three| three[2].value().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(schema: &str) -> SourceTable {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(schema).unwrap();
        let (sql, is_virtual, has_no_rowid) = connection
            .query_row(
                "SELECT s.sql, l.type = 'virtual', l.wr FROM sqlite_schema AS s \
                 JOIN pragma_table_list AS l ON l.name = s.name WHERE s.name = 't'",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .unwrap();
        SourceTable::of(&connection, "t".to_owned(), sql, is_virtual, has_no_rowid).unwrap()
    }

    #[test]
    fn rows_are_read_in_the_order_of_what_identifies_them() {
        for (schema, select) in [
            (
                "CREATE TABLE t(a, b)",
                "SELECT rowid, \"a\", \"b\" FROM \"t\" ORDER BY rowid",
            ),
            (
                "CREATE TABLE t(a, id INTEGER PRIMARY KEY)",
                "SELECT \"a\", \"id\" FROM \"t\" ORDER BY \"id\"",
            ),
            (
                "CREATE TABLE t(id INTEGER PRIMARY KEY DESC)",
                "SELECT rowid, \"id\" FROM \"t\" ORDER BY rowid",
            ),
            (
                "CREATE TABLE t(rowid, \"x\"\"y\", c AS (rowid + 1))",
                "SELECT _rowid_, \"rowid\", \"x\"\"y\" FROM \"t\" ORDER BY _rowid_",
            ),
            (
                "CREATE TABLE t(a, b, c, PRIMARY KEY (c, a)) WITHOUT ROWID",
                "SELECT \"a\", \"b\", \"c\" FROM \"t\" ORDER BY \"c\", \"a\"",
            ),
            (
                "CREATE TABLE t(rowid, oid, _rowid_)",
                "SELECT \"rowid\", \"oid\", \"_rowid_\" FROM \"t\" ORDER BY \"rowid\", \"oid\", \"_rowid_\"",
            ),
            (
                "CREATE VIRTUAL TABLE t USING fts5(a, b)",
                "SELECT rowid, \"a\", \"b\" FROM \"t\" ORDER BY rowid",
            ),
            (
                "CREATE VIRTUAL TABLE t USING rtree(i, x, y, +note)",
                "SELECT \"i\", \"x\", \"y\", \"note\" FROM \"t\" ORDER BY \"i\"",
            ),
        ] {
            assert_eq!(table(schema).select(), select, "{schema}");
        }
    }

    #[test]
    fn an_index_of_full_text_says_where_its_rows_are() {
        for (sql, rows) in [
            ("CREATE VIRTUAL TABLE t USING fts5(a)", Rows::Own),
            (
                "CREATE VIRTUAL TABLE t USING fts5(a, content='')",
                Rows::NotReadable,
            ),
            (
                "CREATE VIRTUAL TABLE t USING FTS5(a, content = u)",
                Rows::OfOther,
            ),
            (
                "CREATE VIRTUAL TABLE t USING fts5vocab(f, 'row')",
                Rows::None,
            ),
            ("CREATE VIRTUAL TABLE t USING rtree(i, a, b)", Rows::Own),
        ] {
            assert_eq!(rows_of(sql), rows, "{sql}");
        }
    }

    #[test]
    fn columns_that_are_set_later_are_found_again() {
        let table = table(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, up REFERENCES t, kind NOT NULL REFERENCES u)",
        );
        assert_eq!(table.foreign_keys.len(), 2);
        let up = ["up".to_owned()];
        assert!(table.may_be_null("UP") && !table.may_be_null("kind") && !table.may_be_null("id"));
        let row = vec![Value::from(1), Value::from(2), Value::from(3)];
        assert_eq!(table.without(row, &up)[1], Value::Null);
        let (select, update) = table.later(&up);
        assert_eq!(
            select,
            "SELECT \"up\", \"id\" FROM \"t\" WHERE \"up\" IS NOT NULL ORDER BY \"id\""
        );
        assert_eq!(update, "UPDATE \"t\" SET \"up\" = ? WHERE \"id\" = ?");
    }
}
