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

/// Whether there is nothing but white space, comments and semicolons.
pub(crate) fn is_blank(sql: &str) -> bool {
    let bare = without_comments(sql);
    bare.trim_matches(|c: char| c.is_whitespace() || c == ';')
        .is_empty()
}

/// An identifier in quotes.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_a_statement_is_recognised() {
        for sql in ["", " \n", ";", "-- a", "/* a */ ; ; -- b\n"] {
            assert!(is_blank(sql), "{sql}");
        }
        assert!(!is_blank("; SELECT 1 -- a") && !is_blank("SELECT '--'"));
    }
}
