#![expect(unsafe_code, reason = "sysctl has no safe wrapper")]
//! What `sysctl` tells of the machine and of a process.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ptr;

/// How much the command line of a process and its environment may have together, in bytes: more than
/// the kernel allows (`ARG_MAX`).
const ARGUMENTS_MAX: usize = 2 << 20;

/// Returns when the machine was started, by the wall clock: seconds and microseconds since 1970.
pub(super) fn boot_time() -> Option<(i64, i64)> {
    let mut time = MaybeUninit::<libc::timeval>::uninit();
    let mut length = size_of::<libc::timeval>();
    // SAFETY: the name is C text, and the answer has `length` bytes of room.
    let done = unsafe {
        libc::sysctlbyname(
            c"kern.boottime".as_ptr(),
            time.as_mut_ptr().cast(),
            &raw mut length,
            ptr::null_mut(),
            0,
        )
    };
    if done != 0 || length != size_of::<libc::timeval>() {
        return None;
    }
    // SAFETY: the call succeeded and filled in all of it.
    let time = unsafe { time.assume_init() };
    Some((time.tv_sec, time.tv_usec.into()))
}

/// Returns a text by its name.
pub(super) fn text(name: &CStr) -> Option<String> {
    let mut bytes = [0_u8; 128];
    let mut length = bytes.len();
    // SAFETY: the name is C text, and the answer has `length` bytes of room.
    let done = unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            bytes.as_mut_ptr().cast(),
            &raw mut length,
            ptr::null_mut(),
            0,
        )
    };
    let text = CStr::from_bytes_until_nul(&bytes)
        .ok()
        .filter(|_| done == 0)?;
    Some(text.to_string_lossy().into_owned())
}

/// Returns what a process was started with: the number of its arguments, the path of its program, the
/// arguments, the environment. `None` if it may not be read.
pub(super) fn arguments(pid: u32) -> Option<Vec<u8>> {
    let mut name = [
        libc::CTL_KERN,
        libc::KERN_PROCARGS2,
        i32::try_from(pid).ok()?,
    ];
    let mut bytes = vec![0_u8; ARGUMENTS_MAX];
    let mut length = bytes.len();
    // SAFETY: the name has three numbers, and the answer has `length` bytes of room.
    let done = unsafe {
        libc::sysctl(
            name.as_mut_ptr(),
            3,
            bytes.as_mut_ptr().cast(),
            &raw mut length,
            ptr::null_mut(),
            0,
        )
    };
    bytes.truncate(length);
    (done == 0).then_some(bytes)
}
