#![expect(unsafe_code, reason = "the access list of a file, and this user's id")]
//! Who may use a file: its owner and its access list.

use std::fs::File;
use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_INSUFFICIENT_BUFFER, HANDLE};
use windows_sys::Win32::Security::{
    DACL_SECURITY_INFORMATION, GetKernelObjectSecurity, GetTokenInformation,
    OBJECT_SECURITY_INFORMATION, OWNER_SECURITY_INFORMATION, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_APPEND_DATA, FILE_WRITE_DATA, WRITE_DAC, WRITE_OWNER,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use super::error_code::has_code;
use super::handle;

/// What lets a user change the content of a file, or who may.
const WRITES: u32 = FILE_WRITE_DATA | FILE_APPEND_DATA | WRITE_DAC | WRITE_OWNER | DELETE | GENERIC;
/// The general rights to write, and to do everything.
const GENERIC: u32 = 0x5000_0000;
/// The kinds of entries that permit nothing.
const DENIES: [u8; 4] = [1, 6, 10, 12];
/// An entry that counts only for the files that are made in a directory.
const INHERIT_ONLY: u8 = 8;
/// The system (S-1-5-18), administrators (S-1-5-32-544) and the owner as such (S-1-3-4).
const MIGHTY: [&[u8]; 3] = [
    &[1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0],
    &[1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 32, 2, 0, 0],
    &[1, 1, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0],
];

/// Returns the access list of a file, as a security descriptor: it makes another object, of the same
/// rights, accessible to the same users.
pub(super) fn list_of(file: &File) -> io::Result<Vec<u8>> {
    security(file, DACL_SECURITY_INFORMATION)
}

/// Returns whether a file belongs to this user, and no other user may write it but those who may
/// everything.
pub(super) fn is_private(file: &File) -> io::Result<bool> {
    let found = security(file, OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION)?;
    let own = own_id()?;
    // What is not understood is not private.
    Ok(Descriptor(&found).is_private(&own).unwrap_or(false))
}

fn security(file: &File, wanted: OBJECT_SECURITY_INFORMATION) -> io::Result<Vec<u8>> {
    let handle: HANDLE = file.as_raw_handle();
    fill(|buffer, length, needed| {
        // SAFETY: the handle is open while `file` is borrowed; `fill` passes a buffer of this length.
        unsafe { GetKernelObjectSecurity(handle, wanted, buffer.cast(), length, needed) }
    })
}

/// Returns the id of the user that this process acts as.
fn own_id() -> io::Result<Vec<u8>> {
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: the pseudo handle of this process is always valid, and the result has room in `token`.
    let opened = unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) };
    if opened == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the handle is open, and it is ours.
    let token: OwnedHandle = unsafe { handle::owned(token) }?;
    let user = fill(|buffer, length, needed| {
        // SAFETY: the handle is open; `fill` passes a buffer of this length.
        unsafe {
            GetTokenInformation(
                token.as_raw_handle(),
                TokenUser,
                buffer.cast(),
                length,
                needed,
            )
        }
    })?;
    // The id follows the structure that points to it.
    let id = user.get(size_of::<TOKEN_USER>()..).unwrap_or_default();
    Ok(id_at_start(id).unwrap_or_default().to_owned())
}

/// Calls a function that says how much room it needs.
fn fill(mut call: impl FnMut(*mut u8, u32, *mut u32) -> i32) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0_u8; 1024];
    loop {
        let length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let mut needed = 0;
        if call(buffer.as_mut_ptr(), length, &raw mut needed) != 0 {
            return Ok(buffer);
        }
        let error = io::Error::last_os_error();
        if !has_code(&error, ERROR_INSUFFICIENT_BUFFER) || needed <= length {
            return Err(error);
        }
        buffer.resize(needed as usize, 0);
    }
}

/// A security descriptor whose parts follow it (`SECURITY_DESCRIPTOR_RELATIVE`).
struct Descriptor<'a>(&'a [u8]);

impl Descriptor<'_> {
    fn is_private(&self, own: &[u8]) -> Option<bool> {
        const OWNER: usize = 4;
        const LIST: usize = 16;
        let owner = id_at_start(self.part(OWNER)?)?;
        let is_allowed = |id: &[u8]| id == own || MIGHTY.contains(&id);
        let mut entries = entries(self.part(LIST)?)?.into_iter();
        let is_safe = entries.all(|entry| !entry.writes() || is_allowed(entry.id));
        Some(is_allowed(owner) && is_safe)
    }

    /// Returns what begins at the offset that stands here; `None` if there is nothing.
    fn part(&self, at: usize) -> Option<&[u8]> {
        let offset = usize::try_from(u32_at(self.0, at)?).ok()?;
        (offset > 0).then(|| self.0.get(offset..))?
    }
}

/// An entry of an access list.
struct Entry<'a> {
    kind: u8,
    flags: u8,
    rights: u32,
    id: &'a [u8],
}

impl Entry<'_> {
    fn writes(&self) -> bool {
        // Everything else may permit: conditions are not examined.
        let denies = DENIES.contains(&self.kind);
        !denies && self.flags & INHERIT_ONLY == 0 && self.rights & WRITES != 0
    }
}

fn entries(list: &[u8]) -> Option<Vec<Entry<'_>>> {
    const HEADER: usize = 8;
    let count = u16_at(list, 4)?;
    let mut rest = list.get(HEADER..)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let length = usize::from(u16_at(rest, 2)?);
        let (entry, after) = rest.split_at_checked(length)?;
        entries.push(Entry {
            kind: *entry.first()?,
            flags: *entry.get(1)?,
            rights: u32_at(entry, 4)?,
            id: entry.get(8..).and_then(id_at_start).unwrap_or_default(),
        });
        rest = after;
    }
    Some(entries)
}

/// Returns the id (SID) that the bytes begin with.
fn id_at_start(bytes: &[u8]) -> Option<&[u8]> {
    let parts = usize::from(*bytes.get(1)?);
    bytes.get(..8 + 4 * parts)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &[u8] = &[1, 1, 0, 0, 0, 0, 0, 5, 77, 0, 0, 0];
    /// `ACCESS_ALLOWED_CALLBACK_ACE_TYPE` and `ACCESS_DENIED_CALLBACK_ACE_TYPE`.
    const ALLOWS_IF: u8 = 9;
    const DENIES_IF: u8 = 10;
    const EVERYONE: &[u8] = &[1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];

    fn entry(kind: u8, rights: u32, id: &[u8]) -> Vec<u8> {
        let length = u16::try_from(8 + id.len()).unwrap();
        let mut entry = vec![kind, 0];
        entry.extend(length.to_le_bytes());
        entry.extend(rights.to_le_bytes());
        entry.extend(id);
        entry
    }

    fn descriptor(owner: &[u8], entries: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        bytes[4..8].copy_from_slice(&20_u32.to_le_bytes());
        bytes.extend(owner);
        let list = u32::try_from(bytes.len()).unwrap();
        bytes[16..20].copy_from_slice(&list.to_le_bytes());
        let count = u16::try_from(entries.len()).unwrap();
        bytes.extend([2, 0, 0, 0]);
        bytes.extend(count.to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(entries.concat());
        bytes
    }

    #[test]
    fn a_file_that_others_may_write_is_not_private() {
        let is_private = |owner, entries: &[Vec<u8>]| {
            let bytes = descriptor(owner, entries);
            Descriptor(&bytes).is_private(ME).unwrap_or(false)
        };
        let full = 0x001f_01ff;
        let read = 0x0012_0089;
        let mine = || vec![entry(0, full, ME), entry(0, full, MIGHTY[1])];
        let and = |more| [mine(), vec![more]].concat();
        assert!(is_private(ME, &mine()));
        assert!(is_private(ME, &and(entry(0, read, EVERYONE))));
        assert!(is_private(ME, &and(entry(1, full, EVERYONE))));
        assert!(!is_private(EVERYONE, &mine()));
        assert!(!is_private(ME, &and(entry(0, full, EVERYONE))));
        assert!(!is_private(ME, &and(entry(0, 2, EVERYONE))));
        assert!(!is_private(ME, &and(vec![0; 3])));
        // Its condition may hold.
        assert!(!is_private(ME, &and(entry(ALLOWS_IF, full, EVERYONE))));
        assert!(is_private(ME, &and(entry(ALLOWS_IF, read, EVERYONE))));
        assert!(is_private(ME, &and(entry(DENIES_IF, full, EVERYONE))));
    }

    #[test]
    fn a_file_of_this_process_is_private() {
        let file = tempfile::tempfile().unwrap();
        assert!(own_id().unwrap().len() >= 12);
        assert!(is_private(&file).unwrap());
        assert!(list_of(&file).unwrap().len() > 20);
    }
}
