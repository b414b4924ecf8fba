#![expect(unsafe_code, reason = "what kind of drive a path is on")]
//! File systems on which a lock on this machine does not hold on another.

use std::io;
use std::path::Path;

use windows_sys::Win32::Storage::FileSystem::{GetDriveTypeW, GetVolumePathNameW};
use windows_sys::Win32::System::WindowsProgramming::DRIVE_REMOTE;

use super::file::wide;

/// How long a path of a volume may be, in units of UTF-16.
const VOLUME_PATH_MAX: usize = 32 << 10;

/// Returns the name of the network file system that `path` is on, or `None` on a local one.
///
/// A network drive with a letter and a path that begins with the name of a server are the same to
/// Windows.
///
/// # Errors
///
/// Those of `GetVolumePathNameW`.
pub(crate) fn network(path: &Path) -> io::Result<Option<String>> {
    // A path that leads through a link is on the volume that the link leads to.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let path = wide(&path)?;
    let mut volume = vec![0; VOLUME_PATH_MAX];
    let length = u32::try_from(volume.len()).unwrap_or(0);
    // SAFETY: `path` ends with a zero, and `volume` has room for `length` units.
    let found = unsafe { GetVolumePathNameW(path.as_ptr(), volume.as_mut_ptr(), length) };
    if found == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above succeeded, so `volume` holds a path that ends with a zero.
    let kind = unsafe { GetDriveTypeW(volume.as_ptr()) };
    Ok((kind == DRIVE_REMOTE).then(|| "a network drive".to_owned()))
}
