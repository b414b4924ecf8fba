//! Commands of SQLite's shell, which are not SQL.

use std::path::Path;

use penholder_core::shell_word;

use crate::sql_text::{Token, TokenKind, Tokens};

/// A command of SQLite's shell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ShellCommand {
    /// With its dot, in lower case.
    name: String,
    /// What follows it on its line, as words of a shell.
    words: Vec<String>,
}

impl ShellCommand {
    /// The command that a statement begins with.
    pub(crate) fn of(sql: &str) -> Option<Self> {
        let mut tokens = Tokens::significant(sql);
        let is_name =
            |token: &Token<'_>| token.kind == TokenKind::Word && !token.text.starts_with(is_digit);
        let dot = tokens.next().filter(|token| token.text == ".")?;
        tokens.next().filter(is_name)?;
        let line = sql[dot.start..].lines().next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let name = words.next()?.to_ascii_lowercase();
        let bare = words.map(|word| word.trim_matches(['"', '\'']));
        let words = bare.map(|word| shell_word(Path::new(word))).collect();
        Some(Self { name, words })
    }

    /// Its first word that is no option.
    fn word(&self, index: usize) -> Option<&str> {
        let mut words = self.words.iter().filter(|word| !word.starts_with('-'));
        words.nth(index).map(String::as_str)
    }

    /// What to do instead. `db` is a word of a shell.
    pub(crate) fn instead(&self, db: &str) -> String {
        let first = self.word(0).unwrap_or("FILE");
        let instead = match self.name.as_str() {
            ".read" => format!("give that file to exec: penholder exec {db} - < {first}"),
            ".import" => {
                let table = self.word(1).unwrap_or("TABLE");
                format!("use penholder import {db} {table} {first}")
            }
            ".tables" | ".schema" | ".indexes" | ".indices" | ".fullschema" => format!(
                "leave it out, and use penholder query {db} 'SELECT name, sql FROM sqlite_schema'"
            ),
            ".mode" | ".headers" | ".header" | ".separator" | ".nullvalue" | ".width" => {
                "leave it out: penholder query prints rows with --csv, --json or --table".to_owned()
            }
            ".once" | ".output" => {
                "leave it out, and redirect the standard output of penholder".to_owned()
            }
            ".dump" => format!("leave it out, and use sqlite3 {db} .dump"),
            ".backup" | ".save" => {
                let target = self.words.last().map_or("FILE", String::as_str);
                format!("use penholder backup {db} {target}")
            }
            ".restore" => {
                let backup = self.words.last().map_or("FILE", String::as_str);
                format!("use penholder restore {db} {backup}")
            }
            ".open" => "leave it out, and give its database to exec".to_owned(),
            ".timeout" => {
                let time = self.word(0).unwrap_or("500");
                format!("leave it out, and give exec the option --timeout {time}ms")
            }
            ".bail" => {
                "leave it out: exec stops at the first error, and then writes nothing".to_owned()
            }
            ".quit" | ".exit" => "leave it out, with all that follows it".to_owned(),
            _ => format!(
                "leave it out, or use the shell, which reads the script from standard input: \
                 penholder run {db} -- sqlite3 {db}"
            ),
        };
        let name = &self.name;
        format!(
            "{name}: it is a command of SQLite's shell, not SQL: nothing was written: {instead}"
        )
    }
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_the_shell_is_recognised() {
        let name = |sql| ShellCommand::of(sql).map(|command| command.name);
        assert_eq!(
            name("/* a */ .Mode csv\nSELECT 1").as_deref(),
            Some(".mode")
        );
        assert_eq!(name("SELECT .5"), None);
        assert_eq!(name(".5"), None);
        assert_eq!(name("."), None);
    }

    #[test]
    fn what_to_do_instead_can_be_pasted() {
        for (sql, expected) in [
            (
                ".read 'more.sql'\nSELECT 1;",
                "penholder exec 'a b.db' - < more.sql",
            ),
            (".read", "penholder exec 'a b.db' - < FILE"),
            (
                ".import --csv $x.csv entry",
                "penholder import 'a b.db' entry '$x.csv'",
            ),
            (".backup main copy.db", "penholder backup 'a b.db' copy.db"),
            (".timeout 3000", "--timeout 3000ms"),
        ] {
            let instead = ShellCommand::of(sql).unwrap().instead("'a b.db'");
            assert!(instead.ends_with(expected), "{sql}: {instead}");
        }
    }
}
