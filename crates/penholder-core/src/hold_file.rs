//! The file whose bytes processes lock that work under an ancestor's hold: the path of the lock file
//! with `h` appended.
//!
//! It is a file of its own, because on some systems a lock on a byte and the `flock` of the ancestor
//! would exclude each other in one file. It is empty, it is created when a process first works under
//! a hold, and nothing ever replaces or deletes it: a process that does so lets the next one in beside the
//! one that has the former file.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::lock_options::LockOptions;
use crate::sys::descriptor::Descriptor;
use crate::sys::file::{self, FileId};

/// How many replacements of the file one attempt follows.
const REPLACEMENTS_MAX: u32 = 16;

/// Returns the path of the hold file of a lock file.
pub(crate) fn path_of(lock_file: &Path) -> PathBuf {
    let mut name = OsString::from(lock_file);
    name.push("h");
    name.into()
}

/// Returns the file whose permission bits it gets: the model of the lock file, or that itself.
fn model(options: &LockOptions) -> &Path {
    let models = [options.stand_in.as_deref(), options.model.as_deref()];
    let model = models.into_iter().flatten().find(|path| path.exists());
    model.unwrap_or(&options.path)
}

/// An open hold file.
#[derive(Debug)]
pub(crate) struct HoldFile {
    descriptor: Descriptor,
    id: FileId,
}

impl HoldFile {
    /// Opens it, or creates it with the permission bits and the group of its model.
    fn open(path: &Path, options: &LockOptions) -> io::Result<Self> {
        let model = model(options);
        let descriptor = Descriptor::open(|| file::open_or_create(path, Some(model)))?;
        if !descriptor.metadata()?.is_file() {
            let why = "it is not a regular file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let id = file::facts(&descriptor)?.id;
        Ok(Self { descriptor, id })
    }

    /// Takes the lock on a byte of the hold file, if it is free: the open file is kept in `opened`, and
    /// used again while its path names it.
    pub(crate) fn try_lock(
        opened: &mut Option<Self>,
        options: &LockOptions,
        byte: i64,
    ) -> io::Result<bool> {
        let path = &path_of(&options.path);
        for _ in 0..REPLACEMENTS_MAX {
            let hold_file = match opened {
                Some(open) => open,
                None => opened.insert(Self::open(path, options)?),
            };
            let is_locked = file::try_lock_byte(&hold_file.descriptor, byte)?;
            if hold_file.is_current(path) {
                return Ok(is_locked);
            }
            // Closing the former one releases the lock.
            *opened = None;
        }
        Err(io::Error::other("it is replaced again and again"))
    }

    /// Releases the lock on a byte.
    pub(crate) fn unlock(&self, byte: i64) -> io::Result<()> {
        file::unlock_byte(&self.descriptor, byte)
    }

    /// Returns the open file.
    pub(crate) fn file(&self) -> &File {
        &self.descriptor
    }

    fn is_current(&self, path: &Path) -> bool {
        file::facts_of_path(path).is_ok_and(|facts| facts.id == self.id)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_replaced_file_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let lock_file = directory.path().join("db.lock");
        fs::write(&lock_file, "").unwrap();
        let path = path_of(&lock_file);
        let options = LockOptions::new(lock_file);
        let (mut one, mut other) = (None, None);
        let lock = |opened: &mut Option<HoldFile>| HoldFile::try_lock(opened, &options, 5).unwrap();
        assert!(lock(&mut one) && !lock(&mut other));
        file::remove(&path).unwrap();
        assert!(lock(&mut other) && !lock(&mut one));
        other.unwrap().unlock(5).unwrap();
        assert!(lock(&mut one));
    }

    #[cfg(unix)]
    #[test]
    fn it_gets_the_permission_bits_of_the_model_and_is_no_link() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let lock_file = directory.path().join("db.lock");
        fs::write(&lock_file, "").unwrap();
        fs::set_permissions(&lock_file, fs::Permissions::from_mode(0o660)).unwrap();
        let path = path_of(&lock_file);
        let options = LockOptions::new(lock_file);
        let mut opened = None;
        assert!(HoldFile::try_lock(&mut opened, &options, 5).unwrap());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        let error = HoldFile::try_lock(&mut None, &options, 5).unwrap_err();
        assert!(file::is_symbolic_link(&error), "{error}");
        assert!(!directory.path().join("elsewhere").exists());
    }
}
