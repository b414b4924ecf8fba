//! Building the queue file.

use std::fs;
use std::io;
use std::path::Path;

use super::layout::{
    AT_BOOT, AT_BUILT, AT_LENGTH, AT_MAGIC, AT_SLOTS, AT_VERSION, HEADER_LEN, LENGTH, MAGIC,
    VERSION, path_of,
};
use crate::sys::{clock, file, process};
use crate::turnstile::SLOTS;

/// Builds a queue file and gives it its name, unless another process was first. The file
/// has no name until it is complete.
pub(super) fn build(path: &Path, model: Option<&Path>) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let file = file::create_unnamed(directory, model)?;
    file::allocate(&file, LENGTH)?;
    file::write_at_start(&file, &header())?;
    match file::name(&file, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        named => named,
    }
}

fn header() -> [u8; HEADER_LEN] {
    let built = clock::monotonic().saturating_add(clock::wall_offset());
    let fields = [
        (AT_MAGIC, MAGIC),
        (AT_VERSION, VERSION),
        (AT_SLOTS, SLOTS as u64),
        (AT_LENGTH, LENGTH as u64),
        (AT_BOOT, process::boot()),
        (AT_BUILT, built),
    ];
    let mut header = [0; HEADER_LEN];
    for (at, value) in fields {
        header[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }
    header
}

/// Replaces a file that is not a valid queue file. The caller holds the lock, so that only
/// one of the processes that find it invalid replaces it.
pub(crate) fn rebuild(lock_file: &Path, model: Option<&Path>) -> io::Result<()> {
    let path = path_of(lock_file);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    crate::failpoint!("rebuilding");
    build(&path, model)
}
