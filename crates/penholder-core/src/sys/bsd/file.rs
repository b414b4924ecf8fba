//! The lock file, where a file has a name from the beginning.

use std::collections::hash_map::RandomState;
use std::fs::{self, File, Metadata, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::sys::file_facts::FileFacts;
pub(crate) use crate::sys::file_id::FileId;
use crate::sys::ownership::Ownership;
use crate::sys::unfinished::UNFINISHED_QUEUE_FILE;
pub(crate) use crate::sys::unix::file::*;

/// A file that is built completely before it gets its name. Until then it has another one in the same
/// directory, which is removed if the file is given up. It is left only by a process that is killed
/// while it builds the file.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: File,
    /// Empty once the file has its name.
    unfinished: PathBuf,
}

impl NewFile {
    /// Creates a file in this directory.
    ///
    /// # Errors
    ///
    /// Those of `open(2)`.
    pub(crate) fn create(directory: &Path, like: &Ownership) -> io::Result<Self> {
        let new = Self::private(directory)?;
        make_like(&new, like)?;
        Ok(new)
    }

    /// Creates a file that only this user may use.
    fn private(directory: &Path) -> io::Result<Self> {
        let random = RandomState::new().build_hasher().finish();
        let unfinished = directory.join(format!("{UNFINISHED_QUEUE_FILE}{random:016x}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&unfinished)?;
        Ok(Self { file, unfinished })
    }

    /// Gives the file its name.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the name is taken, and the others of `rename(2)`, also where the file system
    /// cannot rename a file without replacing another one.
    pub(crate) fn name(mut self, path: &Path) -> io::Result<()> {
        // Not `link` and `unlink`: for a moment the file would have two names, as a file has that
        // somebody has linked elsewhere.
        renameat_with(CWD, &self.unfinished, CWD, path, RenameFlags::NOREPLACE)?;
        self.unfinished.clear();
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.unfinished.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.unfinished);
        }
    }
}

impl Deref for NewFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

/// Returns whether a process has a lock on the file, without taking one.
pub(crate) fn is_locked(file: &File) -> io::Result<bool> {
    // Of length 0: to the end. With one table for all locks, this shows a `flock` too.
    are_bytes_locked(file, 0, 0)
}

/// Asks the kernel for identity, link count and length of an open file.
pub(crate) fn facts(file: &File) -> io::Result<FileFacts> {
    file.metadata().map(|meta| facts_in(&meta))
}

/// Does the same as [`facts`] for a path, without opening the file and without
/// following a symbolic link.
pub(crate) fn facts_of_path(path: &Path) -> io::Result<FileFacts> {
    path.symlink_metadata().map(|meta| facts_in(&meta))
}

/// Does the same, and follows symbolic links.
pub(crate) fn facts_of_target(path: &Path) -> io::Result<FileFacts> {
    path.metadata().map(|meta| facts_in(&meta))
}

fn facts_in(meta: &Metadata) -> FileFacts {
    FileFacts {
        id: id_in(meta),
        links: u32::try_from(meta.nlink()).unwrap_or(u32::MAX),
        len: meta.len(),
    }
}

/// Returns whether two changes of a file in this directory have different times if a process asks for
/// the time in between, as on APFS. A file is created there for a moment.
pub(crate) fn tells_changes_apart(directory: &Path) -> bool {
    NewFile::private(directory).is_ok_and(|new| has_fine_times(&new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = directory.read_dir().unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.collect()
    }

    #[test]
    fn a_new_file_replaces_no_other_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let like = ownership_of_path(directory).unwrap();
        let path = directory.join("db.lockq");
        let new = NewFile::create(directory, &like).unwrap();
        assert!(names(directory)[0].starts_with(UNFINISHED_QUEUE_FILE));
        let late = NewFile::create(directory, &like).unwrap();
        write_at_start(&new, b"first").unwrap();
        new.name(&path).unwrap();
        let error = late.name(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(names(directory), ["db.lockq"]);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(facts_of_path(&path).unwrap().links, 1);
        drop(NewFile::create(directory, &like).unwrap());
        tells_changes_apart(directory);
        assert_eq!(names(directory), ["db.lockq"]);
    }
}
