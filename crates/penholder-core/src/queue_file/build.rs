//! Building the queue file.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::Path;

use super::header;
use super::layout::{
    self, AT_BOOT, AT_BUILT, AT_ID, AT_LENGTH, AT_MAGIC, AT_SLOTS, AT_VERSION, BLOCK_SLOTS,
    HEADER_LEN, LIVENESS_FIRST_BYTE, MAGIC, path_of, version,
};
use super::trust::Authority;
use crate::sys::file::NewFile;
use crate::sys::{clock, file, process};

/// Builds a queue file with one block of slots and gives it its name, unless another process was
/// first. The file has no name until it is complete.
pub(super) fn build(path: &Path, authority: &Authority) -> io::Result<()> {
    name(without_name(path, authority)?, path)
}

/// Builds a complete queue file for this path.
fn without_name(path: &Path, authority: &Authority) -> io::Result<NewFile> {
    if !authority.may_build() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    let file = NewFile::create(directory, authority.ownership())?;
    file::allocate(&file, layout::length(1))?;
    file::write_at_start(&file, &header())?;
    Ok(file)
}

fn name(file: NewFile, path: &Path) -> io::Result<()> {
    match file.name(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        named => named,
    }
}

fn header() -> [u8; HEADER_LEN] {
    let built = clock::monotonic().saturating_add(clock::wall_offset());
    let fields = [
        (AT_MAGIC, MAGIC),
        (AT_VERSION, version()),
        (AT_SLOTS, BLOCK_SLOTS as u64),
        (AT_LENGTH, layout::length(1) as u64),
        (AT_BOOT, process::boot()),
        (AT_BUILT, built),
        (AT_ID, random_id()),
    ];
    let mut header = [0; HEADER_LEN];
    for (at, value) in fields {
        header[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }
    header
}

fn random_id() -> u64 {
    // The lowest bit keeps it from being zero.
    RandomState::new().build_hasher().finish() | 1
}

/// Replaces a file that is not a valid queue file. The caller holds the lock, so that only
/// one of the processes that find it invalid replaces it.
///
/// # Errors
///
/// Those of the file system. `PermissionDenied` for a file that this process would not use even
/// if it were valid, and for a database of this name, and `ResourceBusy` for one that processes of another version use: what is
/// of no use here is left to those whose it is, or two users would replace each other's file in
/// turns.
pub(crate) fn rebuild(lock_file: &Path, model: Option<&Path>) -> io::Result<()> {
    let path = path_of(lock_file);
    let authority = Authority::of(lock_file, model);
    let found = match file::open_existing(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        found => Some(found?),
    };
    // Where others queue, this happens again and again, and costs nothing more.
    if let Some(found) = &found {
        refuse_foreign(found, &authority)?;
    }
    // First: nothing is removed that cannot be replaced.
    let built = without_name(&path, &authority)?;
    if let Some(found) = found {
        // Processes of another version may have come meanwhile.
        refuse_foreign(&found, &authority)?;
        // It may have been deleted meanwhile, and another one built.
        if file::facts(&found)?.id != file::facts_of_path(&path)?.id {
            return Ok(());
        }
        file::remove(&path)?;
    }
    crate::failpoint!("rebuilding");
    name(built, &path)
}

/// Refuses to replace a file that is not ours to replace.
fn refuse_foreign(found: &File, authority: &Authority) -> io::Result<()> {
    if authority.fault_of(&file::ownership(found)?).is_some() || header::is_database(found)? {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    if header::is_of_others(found)? && is_occupied(found)? {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    Ok(())
}

/// Whether living processes have slots in the file, of whichever version.
fn is_occupied(queue_file: &File) -> io::Result<bool> {
    // All bytes from the first slot's on.
    file::are_bytes_locked(queue_file, LIVENESS_FIRST_BYTE, LIVENESS_FIRST_BYTE)
}
