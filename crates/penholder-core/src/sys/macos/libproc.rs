#![expect(unsafe_code, reason = "libproc has no safe wrapper")]
//! What `libproc` tells of processes and of their open files.

use std::ffi::{CStr, OsStr, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{ptr, slice};

/// What to ask for: the file of a descriptor, with its path. `libc` does not have it.
const PROC_PIDFDVNODEPATHINFO: c_int = 2;
/// `struct proc_fileinfo` of `sys/proc_info.h`.
#[repr(C)]
#[derive(Clone, Copy)]
struct FileInfo {
    open_flags: u32,
    status: u32,
    offset: libc::off_t,
    kind: i32,
    guard_flags: u32,
}
/// `struct vnode_fdinfowithpath`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct OpenVnode {
    file: FileInfo,
    vnode: libc::vnode_info_path,
}

/// How many processes and descriptors there may be more by the time that they are listed.
const SPARE: usize = 64;
/// How often a list is asked for that has become longer.
const READINGS_MAX: u32 = 5;

/// Lists the processes of the machine.
pub(super) fn processes() -> Vec<u32> {
    let count = |pids: *mut c_void, length: c_int| {
        // SAFETY: `list` passes a buffer of this length in bytes, or none.
        unsafe { libc::proc_listallpids(pids, length) }
    };
    // It returns how many there are, not how many bytes these take.
    let bytes = |pids, length| count(pids, length).saturating_mul(size_of::<c_int>() as c_int);
    let pids: Vec<c_int> = list(bytes).unwrap_or_default();
    pids.into_iter()
        .filter_map(|pid| u32::try_from(pid).ok())
        .collect()
}

/// Lists the descriptors of a process; `None` if they may not be read.
pub(super) fn descriptors(pid: u32) -> Option<Vec<libc::proc_fdinfo>> {
    let pid = c_int::try_from(pid).ok()?;
    list(|descriptors, length| {
        // SAFETY: `list` passes a buffer of this length in bytes, or none.
        unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDLISTFDS, 0, descriptors, length) }
    })
}

/// Returns a list that `ask` writes to a buffer of a length in bytes; without a buffer it returns the
/// length that is needed.
fn list<T: Copy>(ask: impl Fn(*mut c_void, c_int) -> c_int) -> Option<Vec<T>> {
    for _ in 0..READINGS_MAX {
        let needed = usize::try_from(ask(ptr::null_mut(), 0))
            .ok()
            .filter(|&bytes| bytes > 0)?;
        let mut found = Vec::<T>::with_capacity(needed / size_of::<T>() + SPARE);
        let room = c_int::try_from(found.capacity() * size_of::<T>()).ok()?;
        let written = usize::try_from(ask(found.as_mut_ptr().cast(), room)).ok()?;
        let count = written / size_of::<T>();
        if written > 0 && count < found.capacity() {
            // SAFETY: the call has written this many, each a plain C structure.
            unsafe { found.set_len(count) };
            return Some(found);
        }
        // There are more by now.
    }
    None
}

/// Returns what the table of processes says of one, also if it has ended and was not waited for.
pub(super) fn process(pid: u32) -> Option<libc::proc_bsdinfo> {
    let pid = c_int::try_from(pid).ok()?;
    // One that has ended too.
    const WITH_ZOMBIES: u64 = 1;
    let what = libc::PROC_PIDTBSDINFO;
    fill(|info, length| {
        // SAFETY: `fill` passes room of this length.
        unsafe { libc::proc_pidinfo(pid, what, WITH_ZOMBIES, info, length) }
    })
}

/// Returns the file that a descriptor of a process leads to.
pub(super) fn vnode(pid: u32, descriptor: i32) -> Option<OpenVnode> {
    let pid = c_int::try_from(pid).ok()?;
    fill(|info, length| {
        // SAFETY: `fill` passes room of this length.
        unsafe { libc::proc_pidfdinfo(pid, descriptor, PROC_PIDFDVNODEPATHINFO, info, length) }
    })
}

/// Returns a structure that `ask` fills in; `None` unless it fills in all of it.
fn fill<T: Copy>(ask: impl FnOnce(*mut c_void, c_int) -> c_int) -> Option<T> {
    let mut info = MaybeUninit::<T>::uninit();
    let length = c_int::try_from(size_of::<T>()).ok()?;
    if ask(info.as_mut_ptr().cast(), length) != length {
        return None;
    }
    // SAFETY: all of it was written, and it is a plain C structure.
    Some(unsafe { info.assume_init() })
}

/// Returns the path of the program that a process runs.
pub(super) fn program(pid: u32) -> Option<PathBuf> {
    let pid = c_int::try_from(pid).ok()?;
    let mut path = [0_u8; libc::PROC_PIDPATHINFO_MAXSIZE as usize];
    let room = u32::try_from(path.len()).ok()?;
    // SAFETY: the path has this much room.
    let length = unsafe { libc::proc_pidpath(pid, path.as_mut_ptr().cast(), room) };
    let length = usize::try_from(length).ok().filter(|&length| length > 0)?;
    Some(PathBuf::from(OsStr::from_bytes(path.get(..length)?)))
}

impl OpenVnode {
    pub(super) fn open_flags(&self) -> u32 {
        self.file.open_flags
    }

    pub(super) fn stat(&self) -> &libc::vinfo_stat {
        &self.vnode.vip_vi.vi_stat
    }

    /// Returns the path; empty if the kernel does not know it any more.
    pub(super) fn path(&self) -> &Path {
        let path = &raw const self.vnode.vip_path;
        let length = size_of_val(&self.vnode.vip_path);
        // SAFETY: the path is an array of this many bytes, borrowed from `self`.
        let bytes = unsafe { slice::from_raw_parts(path.cast::<u8>(), length) };
        let text = CStr::from_bytes_until_nul(bytes).map_or(&[][..], CStr::to_bytes);
        Path::new(OsStr::from_bytes(text))
    }
}
