//! This process, and what the kernel says of other processes.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, test_kill_process};
use rustix::thread::sched_getaffinity;

pub(crate) use crate::sys::identity::Identity;
use crate::sys::process_state::ProcessState;

/// The pid namespace of the machine itself (`PROC_PID_INIT_INO` of the kernel).
const FIRST_PIDNS: u64 = 0xEFFF_FFFC;

/// How many generations of parents are followed.
const ANCESTORS_MAX: usize = 64;
/// The same for the ancestors of this process, which may be a chain of programs that hold
/// the lock and of shells between them.
const OWN_ANCESTORS_MAX: usize = 4096;
/// How often they are read again because a process has ended meanwhile.
const OWN_READINGS_MAX: u32 = 16;

/// Returns whether this process may run on several processors. Limits of its control group are
/// not asked for: that reads four files, and hundreds of processes may start at once.
pub(crate) fn has_several_processors() -> bool {
    sched_getaffinity(None).is_ok_and(|processors| processors.count() > 1)
}

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

/// Returns a number that differs between boots of the machine; zero if there is none.
pub(crate) fn boot() -> u64 {
    // Zero until it is read. Not a `OnceLock`: a child forked while another thread fills it
    // would wait for that thread for ever.
    static BOOT: AtomicU64 = AtomicU64::new(0);
    let known = BOOT.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let boot = read_boot();
    BOOT.store(boot, Ordering::Relaxed);
    boot
}

fn read_boot() -> u64 {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id = id.trim().replace('-', "");
    let (first, second) = id.split_at(id.len() / 2);
    let half = |text| u64::from_str_radix(text, 16).unwrap_or(0);
    half(first) ^ half(second)
}

/// Returns the pid namespace of this process.
pub(crate) fn own_pidns() -> Option<u64> {
    pidns_of("self")
}

/// Returns whether this process is in the pid namespace of the machine itself, from
/// which every process is visible.
pub(crate) fn is_in_first_pidns() -> bool {
    own_pidns() == Some(FIRST_PIDNS)
}

/// Returns the pid namespace of a process, if it may be read.
pub(crate) fn pidns(pid: u32) -> Option<u64> {
    pidns_of(&pid.to_string())
}

fn pidns_of(process: &str) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{process}/ns/pid")).ok()?;
    let text = link.to_str()?;
    text.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// What `/proc/<pid>/stat` says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    pid: u32,
    pub(super) state: char,
    parent: u32,
    start: u64,
}

/// Reads `/proc/<pid>/stat`; `None` if there is no such process, or it is hidden.
pub(super) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads the line of this process, with the pids of the namespace that `/proc` shows.
fn own_stat() -> Option<Stat> {
    parse_stat(&fs::read("/proc/self/stat").ok()?)
}

/// Parses the line. Its second field is the program's name in parentheses, which may
/// contain spaces and parentheses: the other fields follow the *last* one.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let text = String::from_utf8_lossy(bytes);
    let (pid, _) = text.split_once(' ')?;
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    // `start` is field 22, `parent` field 4.
    let start = fields.nth(17)?.parse().ok()?;
    Some(Stat {
        pid: pid.parse().ok()?,
        state,
        parent,
        start,
    })
}

/// Returns whether a process with this pid is visible.
pub(crate) fn is_visible(pid: u32) -> bool {
    stat(pid).is_some()
}

/// Returns when a process started, in clock ticks since boot.
pub(crate) fn start(pid: u32) -> Option<u64> {
    stat(pid).map(|stat| stat.start)
}

/// Returns the state of the process with this pid, and with this start if it is
/// known: another process may have the pid by now.
pub(crate) fn state(pid: u32, start: Option<u64>) -> ProcessState {
    match stat(pid) {
        Some(stat) if start.is_some_and(|start| start != stat.start) => ProcessState::Gone,
        Some(stat) => match stat.state {
            'R' => ProcessState::Running,
            'T' | 't' => ProcessState::Stopped,
            'Z' | 'X' | 'x' => ProcessState::Gone,
            _ => ProcessState::Sleeping,
        },
        None if exists(pid) => ProcessState::Unknown,
        None => ProcessState::Gone,
    }
}

/// Returns whether the process exists, by a signal 0: `/proc` may hide the processes of
/// other users.
fn exists(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// Returns the command line of a process, if it may be read; for a process without
/// one its name.
pub(crate) fn cmd(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = line.strip_suffix(b"\0").unwrap_or(&line);
    if words.is_empty() {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        return Some(name.trim_end().to_owned());
    }
    Some(join(words.split(|&byte| byte == 0)))
}

/// Joins the words with spaces, the first without its directory.
fn join<'a>(words: impl Iterator<Item = &'a [u8]>) -> String {
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

/// Returns the pid of this process, as `/proc` shows it, and its start.
pub(crate) fn own_id() -> Option<(u32, u64)> {
    own_stat().map(|stat| (stat.pid, stat.start))
}

/// Returns the ancestors of this process, pid and start, from its parent up to `last`, or as
/// far as `/proc` shows them. Empty if processes end faster than they are read.
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

/// Returns the files that a process runs code from, as paths that can be opened: its
/// program first, each file once. Empty if they may not be read.
pub(crate) fn code_files(pid: u32) -> Vec<PathBuf> {
    let directory = PathBuf::from(format!("/proc/{pid}"));
    let maps = fs::read(directory.join("maps")).unwrap_or_default();
    let mut seen = HashSet::new();
    let program = directory.join("exe");
    let mut files = Vec::new();
    if let Ok(meta) = program.metadata() {
        seen.insert(meta.ino());
        files.push(program);
    }
    for mapping in maps.split(|&byte| byte == b'\n').filter_map(parse_mapping) {
        if seen.insert(mapping.inode) {
            files.extend(openable(&directory, &mapping));
        }
    }
    files
}

/// A line of `/proc/<pid>/maps` for a file with code in it.
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'a> {
    range: &'a str,
    inode: u64,
    path: &'a [u8],
}

/// Parses `7f10-7f20 r-xp 00001000 fe:00 524299     /usr/lib/libx.so`.
fn parse_mapping(line: &[u8]) -> Option<Mapping<'_>> {
    let at = line.iter().position(|&byte| byte == b'/')?;
    let (facts, path) = line.split_at(at);
    let mut facts = std::str::from_utf8(facts).ok()?.split_ascii_whitespace();
    let range = facts.next()?;
    facts.next().filter(|allowed| allowed.contains('x'))?;
    let inode = facts.nth(2)?.parse().ok()?;
    Some(Mapping { range, inode, path })
}

/// Finds a path by which the file of a mapping can be opened: it may be in another
/// mount namespace, or no longer under its name.
fn openable(directory: &Path, mapping: &Mapping<'_>) -> Option<PathBuf> {
    let mut named = directory.join("root").into_os_string();
    named.push(OsStr::from_bytes(mapping.path));
    let by_range = directory.join("map_files").join(mapping.range);
    [PathBuf::from(named), by_range].into_iter().find(|path| {
        path.metadata()
            .is_ok_and(|meta| meta.ino() == mapping.inode)
    })
}

/// Lists every process that `/proc` shows.
pub(super) fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn name_with_parentheses_is_parsed() {
        let line = b"7 (a) b) T 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 991 5 6";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.pid, stat.state), (7, 'T'));
        assert_eq!((stat.parent, stat.start), (1, 991));
        assert!(parse_stat(b"garbage").is_none());
    }

    #[test]
    fn mappings_of_code_are_parsed() {
        let line = b"7f1-7f2 r-xp 00001000 fe:00 524299          /usr/lib/a b.so";
        let mapping = parse_mapping(line).unwrap();
        assert_eq!((mapping.range, mapping.inode), ("7f1-7f2", 524_299));
        assert_eq!(mapping.path, b"/usr/lib/a b.so");
        for other in [
            &b"7f1-7f2 r--p 00001000 fe:00 524299          /usr/lib/a.so"[..],
            b"7f1-7f2 r-xp 00000000 00:00 0          [vdso]",
            b"7f1-7f2 r-xp 00000000 00:00 0",
            b"/",
            b"",
        ] {
            assert_eq!(parse_mapping(other), None);
        }
        let own = code_files(std::process::id());
        let program = std::env::current_exe().unwrap().metadata().unwrap();
        assert_eq!(own[0].metadata().unwrap().ino(), program.ino());
        assert!(
            own.iter().any(|path| path.ends_with("libc.so.6")),
            "{own:?}"
        );
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
