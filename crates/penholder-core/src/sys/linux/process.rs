//! What `/proc` says of this process and of other processes.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::thread::sched_getaffinity;

pub(crate) use super::process_table::own_pidns;
use super::process_table::pidns_of;
pub(crate) use crate::sys::unix::process::*;

/// The pid namespace of the machine itself (`PROC_PID_INIT_INO` of the kernel).
const FIRST_PIDNS: u64 = 0xEFFF_FFFC;

/// Returns whether this process may run on several processors. Limits of its control group are
/// not asked for: that reads four files, and hundreds of processes may start at once.
pub(crate) fn has_several_processors() -> bool {
    sched_getaffinity(None).is_ok_and(|processors| processors.count() > 1)
}

/// Returns a number that differs between boots of the machine; zero if there is none.
pub(crate) fn boot() -> u64 {
    boot_once_read(read_boot)
}

fn read_boot() -> u64 {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let id = id.trim().replace('-', "");
    let (first, second) = id.split_at(id.len() / 2);
    let half = |text| u64::from_str_radix(text, 16).unwrap_or(0);
    half(first) ^ half(second)
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
