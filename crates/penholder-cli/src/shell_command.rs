//! Commands of SQLite's shell, which are not SQL.

use penholder_core::shell_word;

use crate::advised_target::AdvisedTarget;
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
        let mut words = words_of(line).into_iter();
        let name = words.next()?.to_ascii_lowercase();
        let words = words.map(shell_word).collect();
        Some(Self { name, words })
    }

    /// Its first word that is no option.
    fn word(&self, index: usize) -> Option<&str> {
        let mut words = self.words.iter().filter(|word| !word.starts_with('-'));
        words.nth(index).map(String::as_str)
    }

    /// What to do instead.
    pub(crate) fn instead(&self, target: &AdvisedTarget) -> String {
        let AdvisedTarget { db, path } = target;
        let instead = match self.name.as_str() {
            ".read" => match self.word(0) {
                // PowerShell has no such redirection.
                Some(file) if cfg!(windows) => {
                    format!("give that file to exec: cmd /c \"penholder exec {db} - < {file}\"")
                }
                Some(file) => format!("give that file to exec: penholder exec {db} - < {file}"),
                None => "give a file to the standard input of exec".to_owned(),
            },
            ".import" => match (self.word(0), self.word(1)) {
                (Some(file), Some(table)) => format!("use penholder import {db} {table} {file}"),
                _ => "use penholder import".to_owned(),
            },
            ".tables" | ".schema" | ".indexes" | ".indices" | ".fullschema" => format!(
                "leave it out, and use penholder query {db} 'SELECT name, sql FROM sqlite_schema'"
            ),
            ".mode" | ".headers" | ".header" | ".separator" | ".nullvalue" | ".width" => {
                "leave it out: penholder query prints rows with --csv, --json or --table".to_owned()
            }
            ".once" | ".output" => {
                "leave it out, and redirect the standard output of penholder".to_owned()
            }
            ".dump" => format!("leave it out, and use sqlite3 {path} .dump"),
            ".backup" | ".save" => match self.words.last() {
                Some(file) => format!("use penholder backup {db} {file}"),
                None => "use penholder backup".to_owned(),
            },
            ".restore" => match self.words.last() {
                Some(file) => format!("use penholder restore {db} {file}"),
                None => "use penholder restore".to_owned(),
            },
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
                 penholder run {db} -- sqlite3 {path}"
            ),
        };
        let name = &self.name;
        format!(
            "{name}: it is a command of SQLite's shell, not SQL: nothing was written: {instead}"
        )
    }
}

/// The words of a line of SQLite's shell: quotes keep blanks in a word.
fn words_of(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '"' | '\'' => rest[1..].split_once(first).unwrap_or((&rest[1..], "")),
            _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
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
        let word = |word: &str| shell_word(word).to_string();
        let import = format!("penholder import 'a b.db' entry {}", word("$x.csv"));
        let save = format!("penholder backup 'a b.db' {}", word("my copy.db"));
        for (sql, expected) in [
            (
                ".read 'more.sql'\nSELECT 1;",
                if cfg!(windows) {
                    "cmd /c \"penholder exec 'a b.db' - < more.sql\""
                } else {
                    "penholder exec 'a b.db' - < more.sql"
                },
            ),
            (".read", "standard input of exec"),
            (".import --csv $x.csv entry", import.as_str()),
            (".backup main copy.db", "penholder backup 'a b.db' copy.db"),
            (".timeout 3000", "--timeout 3000ms"),
            (".save \"my copy.db\"", save.as_str()),
        ] {
            let instead = ShellCommand::of(sql)
                .unwrap()
                .instead(&AdvisedTarget::plain("'a b.db'"));
            assert!(instead.ends_with(expected), "{sql}: {instead}");
        }
    }
}
