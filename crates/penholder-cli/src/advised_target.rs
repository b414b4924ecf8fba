//! A database in the commands that a message advises.

use penholder_core::{shell_path, shell_word};

use crate::args::Target;

/// A database as words of a shell.
#[derive(Debug, Clone)]
pub(crate) struct AdvisedTarget {
    /// For commands of penholder: the options that say how it is locked, and its path.
    pub(crate) db: String,
    /// For other programs.
    pub(crate) path: String,
}

impl AdvisedTarget {
    pub(crate) fn of(target: &Target) -> Self {
        let path = shell_path(&target.db);
        let mut words = Vec::new();
        if let Some(file) = &target.lock_file {
            words.push(format!("--lock-file={}", shell_word(file)));
        }
        if target.allow_network_fs {
            words.push("--allow-network-fs".to_owned());
        }
        if target.allow_file_mount {
            words.push("--allow-file-mount".to_owned());
        }
        words.push(path.clone());
        let db = words.join(" ");
        Self { db, path }
    }

    /// Puts the words in the place of `{db}` and `{path}`.
    pub(crate) fn fill(&self, advice: &str) -> String {
        // The path of a database may have these words in it.
        let parts = advice.split("{db}");
        let parts: Vec<_> = parts
            .map(|part| part.replace("{path}", &self.path))
            .collect();
        parts.join(&self.db)
    }
}

#[cfg(test)]
impl AdvisedTarget {
    /// A database without options.
    pub(crate) fn plain(path: &str) -> Self {
        Self {
            db: path.to_owned(),
            path: path.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_not_filled_itself() {
        let target = AdvisedTarget {
            db: "--lock-file=l '{path}{db}'".to_owned(),
            path: "'{path}{db}'".to_owned(),
        };
        let advice = target.fill("penholder run {db} -- sqlite3 {path}");
        let filled = "penholder run --lock-file=l '{path}{db}' -- sqlite3 '{path}{db}'";
        assert_eq!(advice, filled);
    }
}
