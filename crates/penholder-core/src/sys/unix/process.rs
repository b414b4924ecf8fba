//! This process, and other processes as their entries in the kernel's table of processes show them.

use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, test_kill_process};

pub(crate) use crate::sys::identity::Identity;
use crate::sys::process_state::ProcessState;
use crate::sys::process_table::{own_pidns, own_stat, stat};

/// How many generations of parents are followed.
const ANCESTORS_MAX: usize = 64;
/// The same for the ancestors of this process, which may be a chain of programs that hold
/// the lock and of shells between them.
const OWN_ANCESTORS_MAX: usize = 4096;
/// How often they are read again because a process has ended meanwhile.
const OWN_READINGS_MAX: u32 = 16;

impl Identity {
    /// Asks the kernel; call it once per process.
    pub(crate) fn of_this_process() -> Self {
        let pid = std::process::id();
        let words: Vec<_> = std::env::args_os().collect();
        Self {
            pid,
            // Not by the pid: `/proc` may show another pid namespace.
            start: own_stat().map(|stat| stat.start),
            pidns: own_pidns(),
            cmd: join(words.iter().map(|word| word.as_bytes())),
        }
    }
}

/// Returns the number that `read` finds for this boot, which is read once.
pub(in crate::sys) fn boot_once_read(read: fn() -> u64) -> u64 {
    // Zero until it is read. Not a `OnceLock`: a child forked while another thread fills it
    // would wait for that thread for ever.
    static BOOT: AtomicU64 = AtomicU64::new(0);
    let known = BOOT.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let boot = read();
    BOOT.store(boot, Ordering::Relaxed);
    boot
}

/// Returns whether a process with this pid is visible.
pub(crate) fn is_visible(pid: u32) -> bool {
    stat(pid).is_some()
}

/// Returns whether a process has ended, or is none.
pub(in crate::sys) fn has_ended(pid: u32) -> bool {
    stat(pid).is_none_or(|stat| stat.state == ProcessState::Gone)
}

/// Returns when a process started, in the unit of this platform.
pub(crate) fn start(pid: u32) -> Option<u64> {
    stat(pid).map(|stat| stat.start)
}

/// Returns the state of the process with this pid, and with this start if it is
/// known: another process may have the pid by now.
pub(crate) fn state(pid: u32, start: Option<u64>) -> ProcessState {
    match stat(pid) {
        Some(stat) if start.is_some_and(|start| start != stat.start) => ProcessState::Gone,
        Some(stat) => stat.state,
        None if exists(pid) => ProcessState::Unknown,
        None => ProcessState::Gone,
    }
}

/// Returns whether the process with this pid and this start lives, as far as that can be seen.
pub(crate) fn lives(pid: u32, start: u64) -> bool {
    state(pid, Some(start)) != ProcessState::Gone
}

/// Returns whether the process exists, by a signal 0: those of other users may be hidden.
fn exists(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// Joins the words with spaces, the first without its directory.
pub(in crate::sys) fn join<'a>(words: impl Iterator<Item = &'a [u8]>) -> String {
    let mut line = String::new();
    for (number, word) in words.enumerate() {
        let word = String::from_utf8_lossy(word);
        if number == 0 {
            line.push_str(word.rsplit('/').next().unwrap_or(&word));
        } else {
            line.push(' ');
            line.push_str(&word);
        }
    }
    line
}

/// Returns the parent of a process, its parent, and so on; bounded, because they may
/// change meanwhile.
pub(crate) fn ancestors(pid: u32) -> Vec<u32> {
    let parent = |pid: &u32| stat(*pid).map(|stat| stat.parent);
    std::iter::successors(parent(&pid), parent)
        .take_while(|&pid| pid > 0)
        .take(ANCESTORS_MAX)
        .collect()
}

/// Returns the pid of this process, as the table shows it, and its start.
pub(crate) fn own_id() -> Option<(u32, u64)> {
    own_stat().map(|stat| (stat.pid, stat.start))
}

/// Returns the ancestors of this process, pid and start, from its parent up to `last`, or as
/// far as the table shows them. Empty if processes end faster than they are read.
pub(crate) fn own_ancestors(last: (u32, u64)) -> Vec<(u32, u64)> {
    let mut readings = (0..OWN_READINGS_MAX).map(|_| read_own_ancestors(last));
    readings.find_map(|found| found).unwrap_or_default()
}

/// Returns `None` if a process ended meanwhile, and its children have another parent now.
fn read_own_ancestors(last: (u32, u64)) -> Option<Vec<(u32, u64)>> {
    let mut found = Vec::new();
    let mut child = own_stat()?;
    while child.parent > 0 && found.len() < OWN_ANCESTORS_MAX && found.last() != Some(&last) {
        let parent = stat(child.parent);
        // If it is the same parent before and after, its pid was no other process's.
        let again = stat(child.pid)?;
        if (again.parent, again.start) != (child.parent, child.start) {
            return None;
        }
        let Some(parent) = parent else {
            // It is hidden.
            break;
        };
        found.push((parent.pid, parent.start));
        child = parent;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::cmd;
    use crate::sys::process_table::all;

    #[test]
    fn this_process_is_alive() {
        let me = Identity::of_this_process();
        // The state is that of the first thread, which sleeps while the tests run.
        let alive = [ProcessState::Running, ProcessState::Sleeping];
        assert!(alive.contains(&state(me.pid, me.start)));
        assert_eq!(state(me.pid, Some(1)), ProcessState::Gone);
        assert!(all().contains(&me.pid));
        assert!(cmd(me.pid).is_some());
    }

    #[test]
    fn ancestors_begin_with_the_parent() {
        let own = ancestors(std::process::id());
        assert_eq!(own.first(), Some(&std::os::unix::process::parent_id()));
        assert!(ancestors(u32::MAX).is_empty());
    }

    #[test]
    fn own_ancestors_end_with_the_last_one() {
        let all = own_ancestors((0, 0));
        let pids: Vec<u32> = all.iter().map(|&(pid, _)| pid).collect();
        assert!(pids.starts_with(&ancestors(std::process::id())), "{pids:?}");
        for (number, &one) in all.iter().enumerate() {
            assert_eq!(own_ancestors(one), all[..=number]);
            assert_eq!(stat(one.0).unwrap().start, one.1);
        }
        assert_eq!(own_id().unwrap().0, std::process::id());
    }
}
