//! Commands of SQLite's shell, which are no SQL.

use crate::sql_text::{Token, TokenKind, Tokens};

/// Returns the command that a statement begins with, as `.mode`.
pub(super) fn shell_command(sql: &str) -> Option<String> {
    let mut tokens = Tokens::significant(sql);
    let is_word = |token: &Token<'_>| token.kind == TokenKind::Word;
    tokens.next().filter(|token| token.text == ".")?;
    let name = tokens.next().filter(is_word)?;
    Some(format!(".{}", name.text.to_ascii_lowercase()))
}

/// What to do instead of a command of the shell. `db` is a word of a shell.
pub(super) fn instead(command: &str, db: &str) -> String {
    let instead = match command {
        ".read" => format!("give that file to exec: penholder exec {db} - < FILE"),
        ".import" => format!("use `penholder import {db} TABLE FILE`"),
        ".mode" | ".headers" | ".header" | ".separator" | ".nullvalue" | ".width" | ".once"
        | ".output" => {
            format!("leave it out; `penholder query {db} SQL` prints with --json, --csv or --table")
        }
        ".tables" | ".schema" | ".indexes" | ".indices" | ".fullschema" => format!(
            "leave it out; penholder query {db} 'SELECT name, sql FROM sqlite_schema' shows the same"
        ),
        ".dump" => format!("leave it out; sqlite3 {db} .dump prints it"),
        ".backup" | ".save" => format!("use `penholder backup {db} FILE`"),
        ".restore" => format!("use `penholder restore {db} FILE`"),
        ".open" => "leave it out, and give its database to exec".to_owned(),
        ".timeout" => "leave it out, and give exec --timeout".to_owned(),
        ".bail" => {
            "leave it out: exec stops at the first error, and then writes nothing".to_owned()
        }
        ".quit" | ".exit" => "leave it out, with all that follows it".to_owned(),
        _ => format!(
            "leave it out, or give the script to the shell: penholder run {db} -- sqlite3 {db}"
        ),
    };
    format!("it is a command of SQLite's shell and no SQL: nothing was written: {instead}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_the_shell_is_recognised() {
        assert_eq!(
            shell_command("/* a */ .Mode csv\nSELECT 1").as_deref(),
            Some(".mode")
        );
        assert_eq!(shell_command("SELECT .5"), None);
        assert_eq!(shell_command(".5"), Some(".5".to_owned()));
        assert!(instead(".read", "'a b.db'").contains("exec 'a b.db' - < FILE"));
    }
}
