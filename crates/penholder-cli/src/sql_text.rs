//! The text of SQL, as far as the command has to read it.

/// Removes comments from SQL without strings that contain `--` or `/*`, like a pragma.
pub(crate) fn without_comments(mut sql: &str) -> String {
    let mut bare = String::new();
    while let Some(start) = [sql.find("--"), sql.find("/*")].into_iter().flatten().min() {
        let (before, comment) = sql.split_at(start);
        bare.push_str(before);
        let end = if comment.starts_with("--") {
            "\n"
        } else {
            "*/"
        };
        sql = comment[2..].split_once(end).map_or("", |(_, rest)| rest);
    }
    bare + sql
}

/// An identifier in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
