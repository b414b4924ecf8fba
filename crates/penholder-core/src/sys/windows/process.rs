#![expect(unsafe_code, reason = "what the system says of a process")]
//! This process, and what the system says of other processes.

use std::io;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{ffi::OsString, thread};

use windows_sys::Wdk::System::Threading::{
    NtQueryInformationProcess, NtQueryInformationThread, ProcessCommandLineInformation,
    THREADINFOCLASS,
};
use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, FILETIME, UNICODE_STRING};
use windows_sys::Win32::System::ProcessStatus::{K32EnumProcessModules, K32GetModuleFileNameExW};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetProcessTimes, OpenProcess, OpenThread, PROCESS_ACCESS_RIGHTS,
    PROCESS_NAME_WIN32, PROCESS_QUERY_INFORMATION, PROCESS_QUERY_LIMITED_INFORMATION,
    PROCESS_SYNCHRONIZE, PROCESS_VM_READ, QueryFullProcessImageNameW, THREAD_QUERY_INFORMATION,
};

use super::error_code::has_code;
use super::handle;
use super::process_table::{self, Entry};
pub(crate) use crate::sys::identity::Identity;
use crate::sys::process_state::ProcessState;

/// Pids are those of the whole machine.
const ONLY_PIDNS: u64 = 1;
/// How many generations of parents are followed.
const ANCESTORS_MAX: usize = 64;
/// The same for the ancestors of this process, which may be a chain of programs that hold
/// the lock and of shells between them.
const OWN_ANCESTORS_MAX: usize = 4096;
/// The longest path and the longest command line, in units of UTF-16.
const TEXT_MAX: usize = 32 << 10;
/// How many files a process runs code from are looked at.
const MODULES_MAX: usize = 1024;

/// Returns whether this process may run on several processors.
pub(crate) fn has_several_processors() -> bool {
    thread::available_parallelism().is_ok_and(|processors| processors.get() > 1)
}

impl Identity {
    /// Asks the system; call it once per process.
    pub(crate) fn of_this_process() -> Self {
        let pid = std::process::id();
        let words: Vec<_> = std::env::args_os().collect();
        let line = words.join(" ".as_ref());
        let program = words.first().map(|program| program.to_string_lossy());
        let rest = line.to_string_lossy();
        let rest = rest.get(program.as_deref().map_or(0, str::len)..);
        Self {
            pid,
            start: own_id().map(|(_, start)| start),
            pidns: own_pidns(),
            cmd: command(program.as_deref().unwrap_or(""), rest.unwrap_or("")),
        }
    }
}

/// Returns the command line with the program named without its directory.
fn command(program: &str, rest: &str) -> String {
    let name = program.rsplit(['\\', '/']).next().unwrap_or(program);
    format!("{name}{rest}")
}

/// Returns a number that differs between boots of the machine; zero if there is none.
pub(crate) fn boot() -> u64 {
    static BOOT: AtomicU64 = AtomicU64::new(0);
    let known = BOOT.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let boot = process_table::boot_times().map_or(0, |times| times.as_it_was);
    BOOT.store(boot, Ordering::Relaxed);
    boot
}

/// Returns the namespace that all pids belong to.
pub(crate) fn own_pidns() -> Option<u64> {
    Some(ONLY_PIDNS)
}

/// Returns `true`: every process is visible.
pub(crate) fn is_in_first_pidns() -> bool {
    true
}

/// Returns the namespace that all pids belong to.
pub(crate) fn pidns(_pid: u32) -> Option<u64> {
    own_pidns()
}

/// What can be found out of a process with this pid.
enum Found {
    /// It lives, and can be asked about.
    Open(OwnedHandle),
    /// It lives, and this user may not ask about it.
    Closed,
    Gone,
}

fn find(pid: u32) -> Found {
    match open(pid, PROCESS_QUERY_LIMITED_INFORMATION | PROCESS_SYNCHRONIZE) {
        // One that has ended stays as long as a process has a handle of it.
        Ok(process) if handle::wait(&process, 0) => Found::Gone,
        Ok(process) => Found::Open(process),
        Err(error) if has_code(&error, ERROR_ACCESS_DENIED) => Found::Closed,
        Err(_) => Found::Gone,
    }
}

fn open(pid: u32, rights: PROCESS_ACCESS_RIGHTS) -> io::Result<OwnedHandle> {
    // SAFETY: the call reads nothing of ours.
    let process = unsafe { OpenProcess(rights, 0, pid) };
    // SAFETY: the call returned null, or an open handle that is ours.
    unsafe { handle::owned(process) }
}

fn start_of(process: &OwnedHandle) -> Option<u64> {
    let mut times = [FILETIME::default(); 4];
    let [created, ended, kernel, user] = &mut times;
    // SAFETY: the handle is open while it is borrowed, and the four results are ours.
    let done = unsafe { GetProcessTimes(process.as_raw_handle(), created, ended, kernel, user) };
    let [created, ..] = times;
    let start = u64::from(created.dwHighDateTime) << 32 | u64::from(created.dwLowDateTime);
    (done != 0).then_some(start)
}

/// Returns whether there is a process with this pid.
pub(crate) fn is_visible(pid: u32) -> bool {
    !matches!(find(pid), Found::Gone)
}

/// Returns when a process was created, in steps of 100 nanoseconds since 1601.
pub(crate) fn start(pid: u32) -> Option<u64> {
    match find(pid) {
        Found::Open(process) => start_of(&process),
        Found::Closed => entry(pid).map(|entry| entry.start),
        Found::Gone => None,
    }
}

fn entry(pid: u32) -> Option<Entry> {
    process_table::read()
        .into_iter()
        .find(|entry| entry.pid == pid)
}

/// Returns whether the process with this pid and this start lives, as far as that can be seen: without
/// reading the table of all processes, if this user may ask about it.
pub(crate) fn lives(pid: u32, start: u64) -> bool {
    let found = match find(pid) {
        Found::Open(process) => start_of(&process),
        Found::Closed => entry(pid).map(|entry| entry.start),
        Found::Gone => return false,
    };
    found.is_none_or(|found| found == start)
}

/// Returns the state of the process with this pid, and with this start if it is
/// known: another process may have the pid by now.
pub(crate) fn state(pid: u32, start: Option<u64>) -> ProcessState {
    let found = find(pid);
    let known = match &found {
        Found::Open(process) => start_of(process),
        Found::Closed => None,
        Found::Gone => return ProcessState::Gone,
    };
    let is_another = |found: Option<u64>| start.zip(found).is_some_and(|(one, two)| one != two);
    if is_another(known) {
        return ProcessState::Gone;
    }
    let Some(entry) = entry(pid) else {
        return ProcessState::Unknown;
    };
    if is_another(Some(entry.start)) {
        return ProcessState::Gone;
    }
    let threads = &entry.threads;
    if !threads.is_empty() && threads.iter().all(|thread| is_suspended(thread.id)) {
        ProcessState::Stopped
    } else if threads.iter().all(|thread| thread.waits) {
        ProcessState::Sleeping
    } else {
        ProcessState::Running
    }
}

/// Returns whether a thread is suspended; `false` if this user may not ask.
fn is_suspended(thread: u32) -> bool {
    /// `ThreadSuspendCount`, since Windows 8.1.
    const SUSPEND_COUNT: THREADINFOCLASS = 35;
    // SAFETY: the call reads nothing of ours.
    let thread = unsafe { OpenThread(THREAD_QUERY_INFORMATION, 0, thread) };
    // SAFETY: the call returned null, or an open handle that is ours.
    let Ok(thread) = (unsafe { handle::owned(thread) }) else {
        return false;
    };
    let (mut count, mut filled) = (0_u32, 0);
    let length = u32::try_from(size_of::<u32>()).unwrap_or(0);
    // SAFETY: the handle is open, and `count` has room for `length` bytes.
    let status = unsafe {
        NtQueryInformationThread(
            thread.as_raw_handle(),
            SUSPEND_COUNT,
            (&raw mut count).cast(),
            length,
            &raw mut filled,
        )
    };
    status >= 0 && count > 0
}

/// Returns the command line of a process, if it may be read; otherwise the name of its program.
pub(crate) fn cmd(pid: u32) -> Option<String> {
    let Found::Open(process) = find(pid) else {
        return None;
    };
    let program = || program(&process).map(|path| command(&path.to_string_lossy(), ""));
    command_line(&process)
        .map(|line| without_directory(&line))
        .or_else(program)
}

/// Returns the command line of a process as it was given to it.
fn command_line(process: &OwnedHandle) -> Option<String> {
    // A structure that says how long the text is, and the text.
    const HEADER: usize = size_of::<UNICODE_STRING>();
    let mut buffer = vec![0_u16; (HEADER / 2) + TEXT_MAX];
    let length = u32::try_from(buffer.len() * 2).ok()?;
    let mut needed = 0;
    // SAFETY: the handle is open while it is borrowed; the buffer has room for `length` bytes.
    let status = unsafe {
        NtQueryInformationProcess(
            process.as_raw_handle(),
            ProcessCommandLineInformation,
            buffer.as_mut_ptr().cast(),
            length,
            &raw mut needed,
        )
    };
    let units = usize::from(*buffer.first()?) / 2;
    let text = buffer.get(HEADER / 2..HEADER / 2 + units)?;
    (status >= 0 && units > 0).then(|| String::from_utf16_lossy(text))
}

/// Leaves the directory of the program out of a command line.
fn without_directory(line: &str) -> String {
    let line = line.trim_start();
    let (program, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
        None => line.split_at(line.find([' ', '\t']).unwrap_or(line.len())),
    };
    command(program, rest.trim_end())
}

fn program(process: &OwnedHandle) -> Option<PathBuf> {
    let mut path = vec![0_u16; TEXT_MAX];
    let mut length = u32::try_from(path.len()).ok()?;
    // SAFETY: the handle is open while it is borrowed; the path has room for `length` units.
    let done = unsafe {
        QueryFullProcessImageNameW(
            process.as_raw_handle(),
            PROCESS_NAME_WIN32,
            path.as_mut_ptr(),
            &raw mut length,
        )
    };
    let path = path.get(..length as usize)?;
    (done != 0).then(|| OsString::from_wide(path).into())
}

/// Returns the parent of a process, its parent, and so on; bounded, because they may
/// change meanwhile.
pub(crate) fn ancestors(pid: u32) -> Vec<u32> {
    let table = process_table::read();
    let all = above(&table, pid).take(ANCESTORS_MAX);
    all.map(|entry| entry.pid).collect()
}

/// Follows the parents of a process. One that was created later has the pid of a parent that ended.
fn above(table: &[Entry], pid: u32) -> impl Iterator<Item = &Entry> {
    let find = |pid| table.iter().find(move |entry| entry.pid == pid);
    let parent = move |child: &&Entry| {
        let is_older = |parent: &&Entry| parent.start <= child.start && parent.pid != child.pid;
        find(child.parent).filter(is_older)
    };
    std::iter::successors(find(pid).as_ref().and_then(parent), parent)
}

/// Returns the pid of this process, and its start.
pub(crate) fn own_id() -> Option<(u32, u64)> {
    let mut times = [FILETIME::default(); 4];
    let [created, ended, kernel, user] = &mut times;
    // SAFETY: the pseudo handle of this process is always valid, and the four results are ours.
    let done = unsafe { GetProcessTimes(GetCurrentProcess(), created, ended, kernel, user) };
    let [created, ..] = times;
    let start = u64::from(created.dwHighDateTime) << 32 | u64::from(created.dwLowDateTime);
    (done != 0).then(|| (std::process::id(), start))
}

/// Returns the ancestors of this process, pid and start, from its parent up to `last`, or as
/// far as they still live.
pub(crate) fn own_ancestors(last: (u32, u64)) -> Vec<(u32, u64)> {
    let table = process_table::read();
    let mut found = Vec::new();
    for entry in above(&table, std::process::id()).take(OWN_ANCESTORS_MAX) {
        found.push((entry.pid, entry.start));
        if found.last() == Some(&last) {
            break;
        }
    }
    found
}

/// Returns the files that a process runs code from: its program first, each file once. Empty if they
/// may not be read.
pub(crate) fn code_files(pid: u32) -> Vec<PathBuf> {
    let rights = PROCESS_QUERY_INFORMATION | PROCESS_VM_READ;
    let Ok(process) = open(pid, rights) else {
        return Vec::new();
    };
    let mut modules = vec![std::ptr::null_mut(); MODULES_MAX];
    let length = u32::try_from(size_of_val(modules.as_slice())).unwrap_or(0);
    let mut needed = 0;
    // SAFETY: the handle is open; `modules` has room for `length` bytes, and `needed` is ours.
    let done = unsafe {
        K32EnumProcessModules(
            process.as_raw_handle(),
            modules.as_mut_ptr(),
            length,
            &raw mut needed,
        )
    };
    let count = if done == 0 { 0 } else { needed as usize };
    modules.truncate(count / size_of::<usize>());
    let path = |module| {
        let mut path = vec![0_u16; TEXT_MAX];
        let length = u32::try_from(path.len()).ok()?;
        // SAFETY: the handle is open; the path has room for `length` units. A module that is gone is
        // an error.
        let length = unsafe {
            K32GetModuleFileNameExW(process.as_raw_handle(), module, path.as_mut_ptr(), length)
        };
        let path = path.get(..length as usize)?;
        (length > 0).then(|| PathBuf::from(OsString::from_wide(path)))
    };
    modules.into_iter().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive() {
        let me = Identity::of_this_process();
        let alive = [ProcessState::Running, ProcessState::Sleeping];
        assert!(alive.contains(&state(me.pid, me.start)));
        assert_eq!(state(me.pid, Some(1)), ProcessState::Gone);
        assert_eq!(start(me.pid), me.start);
        let program = std::env::current_exe().unwrap();
        let name = program.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(me.cmd.starts_with(&name), "{}", me.cmd);
        let found = cmd(me.pid).unwrap();
        assert!(found.starts_with(&name), "{found}");
        assert!(code_files(me.pid)[0].ends_with(&name));
    }

    #[test]
    fn a_process_that_was_waited_for_is_gone() {
        let mut child = std::process::Command::new("cmd");
        let mut child = child.args(["/c", "exit"]).spawn().unwrap();
        child.wait().unwrap();
        // Its handle is still open.
        assert_eq!(state(child.id(), None), ProcessState::Gone);
        assert_eq!(start(child.id()), None);
    }

    #[test]
    fn the_program_is_named_without_its_directory() {
        for (line, expected) in [
            (r#""C:\a b\x.exe" run "c d" "#, r#"x.exe run "c d""#),
            (r"C:\bin\x.exe run", "x.exe run"),
            ("x", "x"),
            (r#""C:\x.exe"#, "x.exe"),
            ("", ""),
        ] {
            assert_eq!(without_directory(line), expected);
        }
    }

    #[test]
    fn a_younger_process_is_no_ancestor() {
        let entry = |pid, parent, start| Entry {
            pid,
            parent,
            start,
            threads: Vec::new(),
        };
        let table = [
            entry(1, 0, 10),
            entry(2, 1, 20),
            entry(3, 2, 15),
            entry(4, 2, 30),
        ];
        let of = |pid| above(&table, pid).map(|one| one.pid).collect::<Vec<_>>();
        assert_eq!(of(4), [2, 1]);
        assert_eq!(of(3), []);
        assert_eq!(of(9), []);
    }

    #[test]
    fn own_ancestors_end_with_the_last_one() {
        let all = own_ancestors((0, 0));
        for (number, &one) in all.iter().enumerate() {
            assert_eq!(own_ancestors(one), all[..=number]);
        }
    }
}
