//! Files next to a database that keep this user from writing it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::printable::{printable, user_text};
use crate::remedy;
use crate::shell_word::shell_word;
use crate::sys::file;
use crate::sys::ownership::Ownership;

/// Files next to a database that this user may not write, although it may write the database:
/// another user left them, or their permission bits are narrower.
///
/// The text names each with its owner and its mode, and ends in a command that gives it to the
/// owner of the database. It loses nothing, also if the file has content or is open; to
/// remove a WAL could lose what was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    database: PathBuf,
    owner: Ownership,
    files: Vec<(PathBuf, Ownership)>,
}

impl Obstacle {
    /// Looks whether any of these files is one. The files are not opened.
    #[must_use]
    pub fn find(database: &Path, files: impl IntoIterator<Item = PathBuf>) -> Option<Self> {
        let owner = file::ownership_of_path(database).ok()?;
        if !file::may_write(database) {
            return None;
        }
        let blocked = |path: PathBuf| {
            let found = file::ownership_of_path(&path).ok()?;
            (found.is_regular && !file::may_write(&path)).then_some((path, found))
        };
        let files: Vec<_> = files.into_iter().filter_map(blocked).collect();
        (!files.is_empty()).then(|| Self {
            database: database.to_owned(),
            owner,
            files,
        })
    }

    /// Whether this file is one of them.
    #[must_use]
    pub fn is_file(&self, path: &Path) -> bool {
        self.files.iter().any(|(file, _)| file == path)
    }

    /// Returns which files are in the way, and whose they are.
    #[must_use]
    pub fn finding(&self) -> String {
        let described = self.files.iter().map(|(path, found)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let (name, owner) = (printable(&name, 255), user_text(found.user));
            format!("{name} ({owner}, mode {:04o})", found.mode)
        });
        let described: Vec<_> = described.collect();
        format!("this user may not write {}", described.join(" and "))
    }

    /// Returns what to do, as commands.
    #[must_use]
    pub fn advice(&self) -> String {
        let owner = &self.owner;
        let foreign = self.words(|found| (found.user, found.group) != (owner.user, owner.group));
        let narrow = self.words(|found| found.mode & 0o666 != owner.mode & 0o666);
        let mut steps = Vec::new();
        if !foreign.is_empty() {
            let ids = [owner.user, owner.group];
            let own = remedy::own_as(&self.database, ids, &foreign);
            steps.push(format!("as {} {own}", remedy::SUPERUSER));
        }
        if !narrow.is_empty() {
            let permit = remedy::permit_as(&self.database, owner.mode, &narrow);
            steps.push(format!("as {} {permit}", user_text(owner.user)));
        }
        if steps.is_empty() {
            // An access list.
            return "give this user the permissions on it that it has on the database".to_owned();
        }
        format!("run {}", steps.join(", then "))
    }

    fn words(&self, is_meant: impl Fn(&Ownership) -> bool) -> String {
        let files = self.files.iter().filter(|(_, found)| is_meant(found));
        let words: Vec<_> = files.map(|(path, _)| shell_word(path)).collect();
        words.join(" ")
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.finding(), self.advice())
    }
}
