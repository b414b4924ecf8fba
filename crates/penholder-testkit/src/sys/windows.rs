#![expect(unsafe_code, reason = "suspending and ending other processes")]
//! Windows.

use std::fs::File;
use std::io;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::Path;
use std::process::ExitStatus;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use windows_sys::Win32::Foundation::{HANDLE, INVALID_HANDLE_VALUE, NTSTATUS, WAIT_OBJECT_0};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_FIRST_PIPE_INSTANCE,
    FILE_FLAGS_AND_ATTRIBUTES, GetFileInformationByHandle, LOCKFILE_EXCLUSIVE_LOCK,
    LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, PIPE_ACCESS_INBOUND, PIPE_ACCESS_OUTBOUND, UnlockFileEx,
};
use windows_sys::Win32::System::Diagnostics::ToolHelp::{
    CREATE_TOOLHELP_SNAPSHOT_FLAGS, CreateToolhelp32Snapshot, PROCESSENTRY32W, Process32FirstW,
    Process32NextW, TH32CS_SNAPPROCESS, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First,
    Thread32Next,
};
use windows_sys::Win32::System::IO::OVERLAPPED;
use windows_sys::Win32::System::Pipes::{ConnectNamedPipe, CreateNamedPipeW, PIPE_TYPE_BYTE};
use windows_sys::Win32::System::Threading::{
    OpenProcess, OpenThread, PROCESS_SUSPEND_RESUME, PROCESS_SYNCHRONIZE, PROCESS_TERMINATE,
    ResumeThread, SuspendThread, THREAD_SUSPEND_RESUME, TerminateProcess, WaitForSingleObject,
};

/// An end of a pipe.
pub(crate) type PipeEnd = OwnedHandle;

/// A pipe whose other end another process opens by a path.
pub(crate) struct NamedPipe {
    ours: PipeEnd,
    path: String,
}

impl NamedPipe {
    /// Of which this process has the end to write to.
    pub(crate) fn to_write() -> Self {
        Self::new(PIPE_ACCESS_OUTBOUND)
    }

    /// Of which this process has the end to read from.
    pub(crate) fn to_read() -> Self {
        Self::new(PIPE_ACCESS_INBOUND)
    }

    fn new(mode: FILE_FLAGS_AND_ATTRIBUTES) -> Self {
        const BUFFER: u32 = 64 << 10;
        static PIPES: AtomicU32 = AtomicU32::new(0);
        let number = PIPES.fetch_add(1, Ordering::Relaxed);
        let path = format!(r"\\.\pipe\penholder-test-{}-{number}", std::process::id());
        let name: Vec<u16> = path.encode_utf16().chain([0]).collect();
        let (mode, kind) = (mode | FILE_FLAG_FIRST_PIPE_INSTANCE, PIPE_TYPE_BYTE);
        // SAFETY: the name ends with a zero and lives until the call returns.
        let ours = unsafe {
            CreateNamedPipeW(name.as_ptr(), mode, kind, 1, BUFFER, BUFFER, 0, ptr::null())
        };
        assert_ne!(ours, INVALID_HANDLE_VALUE);
        // SAFETY: the call returned an open handle that is ours.
        let ours = unsafe { OwnedHandle::from_raw_handle(ours) };
        Self { ours, path }
    }

    /// Returns the path of the other end.
    pub(crate) fn path(&self) -> String {
        self.path.clone()
    }

    /// Returns this process's end, after the other process has opened its own.
    pub(crate) fn connect(self) -> PipeEnd {
        // It says that the other end is open already.
        // SAFETY: the handle is open, and the call is not an overlapped one.
        unsafe { ConnectNamedPipe(self.ours.as_raw_handle(), ptr::null_mut()) };
        self.ours
    }
}

#[link(name = "ntdll")]
unsafe extern "system" {
    fn NtSuspendProcess(process: HANDLE) -> NTSTATUS;
    fn NtResumeProcess(process: HANDLE) -> NTSTATUS;
}

/// Does what the signal of this name does on Unix.
pub(crate) fn signal(pid: u32, name: &str) {
    let rights = PROCESS_SUSPEND_RESUME | PROCESS_TERMINATE;
    let process = open(pid, rights).expect("the process lives");
    let handle = process.as_raw_handle();
    let is_done = match name {
        // SAFETY: the handle is open, and has the right that each call needs.
        "KILL" => unsafe { TerminateProcess(handle, 1) != 0 },
        // SAFETY: as above.
        "STOP" => unsafe { NtSuspendProcess(handle) == 0 },
        // SAFETY: as above.
        "CONT" => unsafe { NtResumeProcess(handle) == 0 },
        _ => panic!("Windows has no signal {name}"),
    };
    assert!(is_done, "{name} {pid}: {}", std::io::Error::last_os_error());
}

/// Returns whether every thread of a process is stopped, which they are when [`signal`] returns.
pub(crate) fn is_stopped(pid: u32) -> bool {
    has_stopped(pid)
}

/// Returns whether a thread of a process is suspended: the number of times is told only by suspending
/// it once more.
pub(crate) fn has_stopped(pid: u32) -> bool {
    let snapshot = snapshot(TH32CS_SNAPTHREAD);
    let mut entry = THREADENTRY32 {
        dwSize: u32::try_from(size_of::<THREADENTRY32>()).unwrap(),
        ..THREADENTRY32::default()
    };
    // SAFETY: the handle is open, and the entry says how long it is.
    let mut found = unsafe { Thread32First(snapshot.as_raw_handle(), &raw mut entry) };
    while found != 0 {
        if entry.th32OwnerProcessID == pid && is_suspended(entry.th32ThreadID) {
            return true;
        }
        // SAFETY: as above.
        found = unsafe { Thread32Next(snapshot.as_raw_handle(), &raw mut entry) };
    }
    false
}

fn is_suspended(thread: u32) -> bool {
    // SAFETY: the call reads nothing of ours.
    let thread = unsafe { OpenThread(THREAD_SUSPEND_RESUME, 0, thread) };
    if thread.is_null() {
        return false;
    }
    // SAFETY: the call returned an open handle that is ours.
    let thread = unsafe { OwnedHandle::from_raw_handle(thread) };
    // SAFETY: the handle is open, and has the right that the call needs.
    let before = unsafe { SuspendThread(thread.as_raw_handle()) };
    if before == u32::MAX {
        return false;
    }
    // SAFETY: as above.
    unsafe { ResumeThread(thread.as_raw_handle()) };
    before > 0
}

/// Returns whether a process lives.
pub(crate) fn is_alive(pid: u32) -> bool {
    open(pid, PROCESS_SYNCHRONIZE).is_some_and(|process| {
        // SAFETY: the handle is open, and has the right that the call needs.
        let waited = unsafe { WaitForSingleObject(process.as_raw_handle(), 0) };
        waited != WAIT_OBJECT_0
    })
}

fn open(pid: u32, rights: u32) -> Option<OwnedHandle> {
    // SAFETY: the call reads nothing of ours.
    let process = unsafe { OpenProcess(rights, 0, pid) };
    // SAFETY: the call returned null, or an open handle that is ours.
    (!process.is_null()).then(|| unsafe { OwnedHandle::from_raw_handle(process) })
}

fn snapshot(of: CREATE_TOOLHELP_SNAPSHOT_FLAGS) -> OwnedHandle {
    // SAFETY: the call reads nothing of ours.
    let snapshot = unsafe { CreateToolhelp32Snapshot(of, 0) };
    assert_ne!(snapshot, INVALID_HANDLE_VALUE);
    // SAFETY: the call returned an open handle that is ours.
    unsafe { OwnedHandle::from_raw_handle(snapshot) }
}

/// Returns the processes that a process has started.
#[cfg(feature = "command")]
pub(crate) fn children(of: u32) -> Vec<u32> {
    let mut found = Vec::new();
    visit_processes(|pid, parent| {
        if parent == of {
            found.push(pid);
        }
    });
    found
}

/// Returns the parent of a process.
pub(crate) fn parent(of: u32) -> u32 {
    let mut found = None;
    visit_processes(|pid, parent| {
        if pid == of {
            found = Some(parent);
        }
    });
    found.unwrap_or_else(|| panic!("process {of} lives"))
}

/// Calls a function with the pid and the parent of each process.
fn visit_processes(mut visit: impl FnMut(u32, u32)) {
    let snapshot = snapshot(TH32CS_SNAPPROCESS);
    let mut entry = PROCESSENTRY32W {
        dwSize: u32::try_from(size_of::<PROCESSENTRY32W>()).unwrap(),
        ..PROCESSENTRY32W::default()
    };
    // SAFETY: the handle is open, and the entry says how long it is.
    let mut found = unsafe { Process32FirstW(snapshot.as_raw_handle(), &raw mut entry) };
    while found != 0 {
        visit(entry.th32ProcessID, entry.th32ParentProcessID);
        // SAFETY: as above.
        found = unsafe { Process32NextW(snapshot.as_raw_handle(), &raw mut entry) };
    }
}

/// Returns whether a process was ended by [`signal`] with `KILL`, or ended itself so at a failpoint.
pub(crate) fn was_killed(status: ExitStatus) -> bool {
    status.code() == Some(1)
}

/// Returns `None`: a process ends with a code.
pub(crate) fn signal_of(_status: ExitStatus) -> Option<i32> {
    None
}

/// Returns the number of a file on its volume.
pub(crate) fn file_number(path: &Path) -> u64 {
    let file = File::options()
        .access_mode(0)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
        .open(path);
    let file = file.unwrap();
    let mut found = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open, and the result is ours.
    let done = unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut found) };
    assert_ne!(done, 0);
    u64::from(found.nFileIndexHigh) << 32 | u64::from(found.nFileIndexLow)
}

pub(crate) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    match file.seek_read(bytes, offset)? {
        length if length == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    match file.seek_write(bytes, offset)? {
        length if length == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Locks these bytes, each by itself, for as long as the file is open, if they are free.
pub(crate) fn try_lock(file: &File, first: i64, length: i64) -> bool {
    let flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
    (first..first + length).all(|byte| {
        let mut at = overlapped(byte);
        // SAFETY: the handle is open, and the call has ended with `at` when it returns.
        unsafe { LockFileEx(file.as_raw_handle(), flags, 0, 1, 0, &raw mut at) != 0 }
    })
}

/// Returns whether another open file has a lock on any of these bytes.
pub(crate) fn is_locked(file: &File, first: i64, length: i64) -> bool {
    let (mut at, flags) = (overlapped(first), LOCKFILE_FAIL_IMMEDIATELY);
    let (low, high) = halves(length);
    // SAFETY: as above.
    let free = unsafe { LockFileEx(file.as_raw_handle(), flags, 0, low, high, &raw mut at) != 0 };
    if free {
        // SAFETY: as above.
        unsafe { UnlockFileEx(file.as_raw_handle(), 0, low, high, &raw mut at) };
    }
    !free
}

fn overlapped(first: i64) -> OVERLAPPED {
    let (low, high) = halves(first);
    let mut at = OVERLAPPED::default();
    at.Anonymous.Anonymous.Offset = low;
    at.Anonymous.Anonymous.OffsetHigh = high;
    at
}

fn halves(number: i64) -> (u32, u32) {
    let half = |number: i64| u32::try_from(number & 0xffff_ffff).unwrap();
    (half(number), half(number >> 32))
}
