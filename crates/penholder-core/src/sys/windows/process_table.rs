#![expect(unsafe_code, reason = "NtQuerySystemInformation")]
//! The system's table of all processes and their threads.
//!
//! Its layout is that of 64 bits; the fields that are used here have been the same since Windows XP.

use windows_sys::Wdk::System::SystemInformation::{
    NtQuerySystemInformation, SYSTEM_INFORMATION_CLASS, SystemProcessInformation,
    SystemTimeOfDayInformation,
};
use windows_sys::Win32::Foundation::{NTSTATUS, STATUS_INFO_LENGTH_MISMATCH};

#[cfg(not(target_pointer_width = "64"))]
compile_error!("penholder supports Windows with 64 bits only");

/// How long the table may become, in bytes: some ten thousand processes.
const TABLE_MAX: usize = 64 << 20;

/// A process, as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) pid: u32,
    /// The process that started it. It may have ended, and another one may have its pid by now.
    pub(super) parent: u32,
    /// When it was created, in steps of 100 nanoseconds since 1601.
    pub(super) start: u64,
    pub(super) threads: Vec<Thread>,
}

/// A thread of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Thread {
    pub(super) id: u32,
    /// Whether it waits for something, and is neither on a processor nor ready to run.
    pub(super) waits: bool,
}

/// Reads the table; empty if it cannot be read.
pub(super) fn read() -> Vec<Entry> {
    let mut length = 256 << 10;
    while length <= TABLE_MAX {
        match query(SystemProcessInformation, length) {
            Ok(table) => return parse(&table),
            Err(STATUS_INFO_LENGTH_MISMATCH) => length *= 2,
            Err(_) => break,
        }
    }
    Vec::new()
}

fn query(what: SYSTEM_INFORMATION_CLASS, length: usize) -> Result<Vec<u8>, NTSTATUS> {
    let mut buffer = vec![0_u8; length];
    let mut filled = 0;
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    // SAFETY: the buffer has room for `length` bytes, and `filled` is ours.
    let status = unsafe {
        NtQuerySystemInformation(what, buffer.as_mut_ptr().cast(), length, &raw mut filled)
    };
    if status < 0 {
        return Err(status);
    }
    buffer.truncate(filled as usize);
    Ok(buffer)
}

/// Parses the table: each entry says how far away the next one is; zero at the last.
fn parse(table: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut at = 0;
    while let Some(entry) = table.get(at..) {
        entries.extend(parse_entry(entry));
        match u32_at(entry, 0) {
            None | Some(0) => break,
            Some(next) => at += next as usize,
        }
    }
    entries
}

// Offsets in SYSTEM_PROCESS_INFORMATION, and where its threads begin.
const THREADS_AT: usize = 4;
const CREATED_AT: usize = 32;
const PID_AT: usize = 80;
const PARENT_AT: usize = 88;
const FIRST_THREAD_AT: usize = 256;
// Of SYSTEM_THREAD_INFORMATION: its length, and two offsets.
const THREAD_LEN: usize = 80;
const THREAD_ID_AT: usize = 48;
const STATE_AT: usize = 68;
/// The state of a thread that waits (`Waiting`).
const WAITS: u32 = 5;

fn parse_entry(entry: &[u8]) -> Option<Entry> {
    let threads = entry.get(FIRST_THREAD_AT..).unwrap_or_default();
    let count = u32_at(entry, THREADS_AT)? as usize;
    let threads = threads.chunks_exact(THREAD_LEN).take(count);
    Some(Entry {
        pid: small(u64_at(entry, PID_AT)?)?,
        parent: small(u64_at(entry, PARENT_AT)?)?,
        start: u64_at(entry, CREATED_AT)?,
        threads: threads.filter_map(parse_thread).collect(),
    })
}

fn parse_thread(thread: &[u8]) -> Option<Thread> {
    Some(Thread {
        id: small(u64_at(thread, THREAD_ID_AT)?)?,
        waits: u32_at(thread, STATE_AT)? == WAITS,
    })
}

/// When this boot of the machine began, in steps of 100 nanoseconds since 1601.
#[derive(Debug, Clone, Copy)]
pub(super) struct BootTimes {
    /// By the wall clock as it was set then: it never changes.
    pub(super) as_it_was: u64,
    /// By the wall clock as it is set now.
    pub(super) by_wall_clock: u64,
}

/// Returns when this boot of the machine began.
pub(super) fn boot_times() -> Option<BootTimes> {
    // SYSTEM_TIMEOFDAY_INFORMATION: its length, and the offsets of the time and of how far it has been
    // moved along with the clock.
    const LENGTH: usize = 48;
    const MOVED_AT: usize = 32;
    let found = query(SystemTimeOfDayInformation, LENGTH).ok()?;
    let by_wall_clock = u64_at(&found, 0)?;
    let moved = u64_at(&found, MOVED_AT).unwrap_or(0);
    Some(BootTimes {
        as_it_was: by_wall_clock.wrapping_sub(moved),
        by_wall_clock,
    })
}

fn small(number: u64) -> Option<u32> {
    u32::try_from(number).ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + 8)?;
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_the_table() {
        let own = std::process::id();
        let table = read();
        let entry = table.iter().find(|entry| entry.pid == own).unwrap();
        assert!(!entry.threads.is_empty());
        assert!(entry.start > boot_times().unwrap().as_it_was);
    }

    #[test]
    fn garbage_is_no_process() {
        assert!(parse(&[]).is_empty());
        assert!(parse(&[0; 50]).is_empty());
        assert!(parse(&[0xff; 400]).is_empty());
    }
}
