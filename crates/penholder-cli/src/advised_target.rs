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
        advice
            .replace("{db}", &self.db)
            .replace("{path}", &self.path)
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
