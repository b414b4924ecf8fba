//! What a connection asks for by the parameters of its URI.
//!
//! | parameter | means |
//! | --- | --- |
//! | `penholder_label=TEXT` | what the lock is taken for, shown to waiting processes |
//! | `penholder_lock=PATH` | the lock file, instead of `db.lock` in the directory of the database |
//! | `penholder_policy=time-sliced\|fifo` | in which order waiting processes are served |
//! | `penholder_allow_network=BOOLEAN` | whether the lock file may be on a network file system |

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use penholder_core::{
    LOCK_FILE_NAME, Locker, QueuePolicy, network_file_system, one_line, shown_path,
};

/// All that begin like this are for penholder.
const PREFIX: &str = "penholder_";
const KNOWN: &str = "penholder_label, penholder_lock, penholder_policy and penholder_allow_network";

/// What is asked for when the lock of a database is taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LockerOptions {
    /// What the lock is taken for.
    pub label: Option<String>,
    /// The lock file, instead of `db.lock` in the directory of the database.
    pub lock_file: Option<PathBuf>,
    /// In which order waiting processes are served.
    pub policy: QueuePolicy,
    /// Whether the lock file may be on a network file system.
    pub allow_network: bool,
}

impl LockerOptions {
    /// Makes the locker of a database.
    ///
    /// # Errors
    ///
    /// What failed, where, why, and what to do.
    pub fn locker(self, database: &Path) -> Result<Locker, String> {
        let failed = |why: String| format!("open: {}: {why}", shown_path(database));
        if !self.allow_network {
            refuse_network(database).map_err(failed)?;
        }
        let directory = database.parent().unwrap_or(Path::new("/"));
        let lock_file = self.lock_file;
        let lock_file = lock_file.unwrap_or_else(|| directory.join(LOCK_FILE_NAME));
        let locker = Locker::at(&lock_file).map_err(|error| failed(error.to_string()))?;
        if is_of_database(locker.lock_file(), database) {
            let why = "the lock file is the database or one of SQLite's files next to it; give it \
                       another name (penholder_lock=PATH)";
            return Err(failed(why.to_owned()));
        }
        Ok(locker.with(|to| {
            to.model = Some(database.to_owned());
            to.label = self.label;
            to.policy = self.policy;
            to.allow_network_fs = self.allow_network;
        }))
    }

    /// Reads the parameters of the URI that this database was opened with.
    ///
    /// # Errors
    ///
    /// One of them is not known, or its value is not.
    pub(crate) fn of_uri<'a>(
        database: &Path,
        parameters: impl Iterator<Item = (&'a CStr, &'a CStr)>,
    ) -> Result<Self, String> {
        let mut options = Self::default();
        for (key, value) in parameters {
            let key = key.to_string_lossy();
            if key.starts_with(PREFIX) {
                let set = options.set(&key, value);
                set.map_err(|why| format!("open: {}: {why}", shown_path(database)))?;
            }
        }
        Ok(options)
    }

    /// Sets what a parameter says.
    ///
    /// # Errors
    ///
    /// It is not known, or its value is not.
    pub fn set(&mut self, key: &str, value: &CStr) -> Result<(), String> {
        let text = value
            .to_str()
            .map_err(|_| format!("{key} is not valid UTF-8; write it as UTF-8"))?;
        match key {
            "penholder_label" => self.label = Some(text.to_owned()),
            "penholder_lock" if text.is_empty() => {
                return Err(format!("{key} is empty; give the path of a lock file"));
            }
            "penholder_lock" => self.lock_file = Some(PathBuf::from(text)),
            "penholder_policy" => self.policy = policy(text)?,
            "penholder_allow_network" => self.allow_network = boolean(key, text)?,
            _ => {
                let key = one_line(key);
                return Err(format!(
                    "there is no parameter {key}; those of penholder are {KNOWN}"
                ));
            }
        }
        Ok(())
    }
}

fn policy(text: &str) -> Result<QueuePolicy, String> {
    match text {
        "time-sliced" => Ok(QueuePolicy::TimeSliced),
        "fifo" => Ok(QueuePolicy::Fifo),
        _ => Err(format!(
            "there is no penholder_policy {}; take time-sliced or fifo",
            one_line(text)
        )),
    }
}

/// Reads a boolean as SQLite does in a URI.
fn boolean(key: &str, text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "0" | "no" | "false" | "off" => Ok(false),
        _ => Err(format!("{key} is {}; take 0 or 1", one_line(text))),
    }
}

/// Whether this is the database, or a file that SQLite keeps next to it: opening and closing it would
/// drop SQLite's locks.
fn is_of_database(lock_file: &Path, database: &Path) -> bool {
    ["", "-wal", "-shm", "-journal"].into_iter().any(|suffix| {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        lock_file.as_os_str() == name
    })
}

fn refuse_network(database: &Path) -> Result<(), String> {
    // What cannot be looked at, SQLite cannot open either.
    match network_file_system(database) {
        Ok(Some(kind)) => Err(format!(
            "it is on a network file system ({kind}), where a lock of this machine does not hold on \
             another; move it to a local one, or open it with penholder_allow_network=1 if only \
             this machine uses it"
        )),
        Ok(None) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parameters: &[(&CStr, &CStr)]) -> Result<LockerOptions, String> {
        LockerOptions::of_uri(Path::new("/app.db"), parameters.iter().copied())
    }

    #[test]
    fn known_parameters_are_read_and_those_of_others_left_alone() {
        let options = read(&[
            (c"mode", c"rwc"),
            (c"penholder_label", c"nightly import"),
            (c"penholder_lock", c"/run/app.lock"),
            (c"penholder_policy", c"fifo"),
            (c"penholder_allow_network", c"Yes"),
            (c"_penholder", c"x"),
        ]);
        let options = options.unwrap();
        assert_eq!(options.label.as_deref(), Some("nightly import"));
        assert_eq!(options.lock_file, Some(PathBuf::from("/run/app.lock")));
        assert_eq!(options.policy, QueuePolicy::Fifo);
        assert!(options.allow_network);
    }

    #[test]
    fn what_is_not_known_is_an_error_that_says_what_is() {
        for (key, value, said) in [
            (c"penholder_lable", c"x", "penholder_lable"),
            (c"penholder_", c"x", "penholder_label"),
            (c"penholder_policy", c"lifo", "time-sliced"),
            (c"penholder_allow_network", c"maybe", "0 or 1"),
            (c"penholder_lock", c"", "path"),
            (c"penholder_label", c"\xff", "UTF-8"),
        ] {
            let error = read(&[(key, value)]).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
