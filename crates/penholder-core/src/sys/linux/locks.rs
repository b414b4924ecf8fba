//! Which process holds a lock, from the kernel's own tables. Nothing here takes a
//! lock: a probe by `flock` would make another process's attempt fail.
//!
//! `/proc/locks` shows every lock whose taker is visible in our pid namespace. The
//! pid in it is of the process that *took* the lock: the `flock(1)` of the shell
//! idiom has ended while the shell still holds. The processes that hold the lock are
//! those whose `/proc/<pid>/fdinfo` shows it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, StatxFlags, statx};

use super::process_table;
pub(crate) use crate::sys::lock_seen::{LockSeen, Seen};

/// Whether the kernel tells exactly which process holds a lock.
pub(crate) const TELL_WHO_HOLDS: bool = true;

/// How long the search through all processes, or through one, may take.
const SEARCH_MAX: Duration = Duration::from_millis(40);
/// How often a table is read that the kernel gives in pieces.
const READINGS_MAX: u32 = 5;
/// The same where hundreds of processes may look at the same time.
const SHARER_READINGS: u32 = 3;
/// How many descriptors of a process are examined even after that time: whether a
/// process holds must not depend on how busy the machine is.
const ALWAYS: usize = 1024;

/// A file as the tables write it: `fe:00:524299`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableName(String);

impl TableName {
    /// Returns the lock of a line, if it is on this file. A table of thousands of lines is mostly
    /// about other files: only what may match is parsed.
    fn lock_in<'a>(&self, line: &'a str) -> Option<Lock<'a>> {
        let lock = line.contains(&self.0).then(|| parse_lock(line))??;
        (lock.file == self.0).then_some(lock)
    }
}

/// Returns the name of a file in the tables. The file is not opened, because closing
/// a database file would drop SQLite's locks on it.
pub(crate) fn table_name(path: &Path) -> Option<TableName> {
    let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
    let stat = statx(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW, wanted).ok()?;
    // btrfs and overlayfs give `stat` another device number than the tables
    // use; the mount table has the one of the tables.
    let device = fs::read_to_string("/proc/self/mountinfo")
        .ok()
        .and_then(|table| device_of_mount(&table, stat.stx_mnt_id))
        .unwrap_or((stat.stx_dev_major, stat.stx_dev_minor));
    Some(TableName(format!(
        "{:02x}:{:02x}:{}",
        device.0, device.1, stat.stx_ino
    )))
}

fn device_of_mount(table: &str, mount: u64) -> Option<(u32, u32)> {
    let line = table
        .lines()
        .find(|line| line.split(' ').next().and_then(|id| id.parse().ok()) == Some(mount))?;
    let (major, minor) = line.split(' ').nth(2)?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// A line of `/proc/locks`, or a `lock:` line of an fdinfo.
#[derive(Debug, PartialEq, Eq)]
struct Lock<'a> {
    kind: &'a str,
    exclusive: bool,
    taker: i64,
    file: &'a str,
    first: u64,
    last: u64,
}

/// Parses `12: POSIX  ADVISORY  WRITE 3437 fe:00:524299 120 120`; `None` for a waiter
/// (`12: -> …`) and for a line that is not understood.
fn parse_lock(line: &str) -> Option<Lock<'_>> {
    let mut fields = line.split_ascii_whitespace();
    fields.next()?.strip_suffix(':')?;
    let kind = fields.next().filter(|&kind| kind != "->")?;
    let _advisory = fields.next()?;
    let exclusive = fields.next()? == "WRITE";
    let taker = fields.next()?.parse().ok()?;
    let file = fields.next()?;
    let first = fields.next()?.parse().ok()?;
    let last = match fields.next()? {
        "EOF" => u64::MAX,
        last => last.parse().ok()?,
    };
    Some(Lock {
        kind,
        exclusive,
        taker,
        file,
        first,
        last,
    })
}

/// Returns the pid of the first lock on a file in `/proc/locks` that matches, if there is one.
///
/// One read returns the table of one moment, about 4 KB of it. A longer table comes
/// in pieces, between which other processes lock and unlock, and the kernel continues
/// by position: a lock that is held all the time can be skipped. So a long table
/// without a match is read a few more times.
///
/// # Errors
///
/// The table cannot be read.
fn find(file: &TableName, matches: impl Fn(&Lock<'_>) -> bool) -> io::Result<Option<i64>> {
    for _ in 0..READINGS_MAX {
        let (table, in_one_piece) = read_table()?;
        let mut locks = table.lines().filter_map(|line| file.lock_in(line));
        if let Some(lock) = locks.find(&matches) {
            return Ok(Some(lock.taker));
        }
        if in_one_piece {
            break;
        }
    }
    Ok(None)
}

/// Reads the table, and tells whether one read returned all of it.
fn read_table() -> io::Result<(String, bool)> {
    let mut file = File::open("/proc/locks")?;
    let mut table = Vec::new();
    let mut piece = vec![0; 64 << 10];
    let mut pieces = 0;
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => {
                table.extend_from_slice(&piece[..length]);
                pieces += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok((String::from_utf8_lossy(&table).into_owned(), pieces <= 1))
}

/// Returns whether a process holds a `flock` on the file.
pub(crate) fn flock_on(file: &TableName) -> Seen {
    let found = find(file, |lock| lock.kind == "FLOCK");
    match found {
        Ok(Some(taker)) => Seen::Held {
            taker: u32::try_from(taker).ok().filter(|&pid| pid > 0),
        },
        Ok(None) => Seen::NotHeld,
        Err(_) => Seen::Unknown,
    }
}

/// Finds the process with an exclusive POSIX lock on this byte of the file. For these
/// locks the pid in the table is the owner's.
pub(crate) fn posix_owner(path: &Path, byte: u64) -> Option<u32> {
    let file = table_name(path)?;
    let found = find(&file, |lock| {
        lock.kind == "POSIX" && lock.exclusive && (lock.first..=lock.last).contains(&byte)
    });
    let owner = u32::try_from(found.ok()??).ok();
    owner.filter(|&pid| pid > 0)
}

/// Finds the POSIX locks and `flock`s on each of these files, as they were together at one moment.
/// The kernel gives a long table in pieces and may skip a lock; such a table is read a few times,
/// and what was seen in any reading counts.
pub(crate) fn locks_on<const N: usize>(files: [&Path; N]) -> [Vec<LockSeen>; N] {
    let names = files.map(table_name);
    let mut found = files.map(|_| Vec::new());
    for _ in 0..READINGS_MAX {
        let Ok((table, in_one_piece)) = read_table() else {
            break;
        };
        for (name, found) in names.iter().zip(&mut found) {
            let Some(name) = name else { continue };
            let locks = table.lines().filter_map(|line| name.lock_in(line));
            for seen in locks.filter_map(|lock| seen(&lock)) {
                if !found.contains(&seen) {
                    found.push(seen);
                }
            }
        }
        if in_one_piece {
            break;
        }
    }
    found
}

fn seen(lock: &Lock<'_>) -> Option<LockSeen> {
    let is_posix = lock.kind == "POSIX";
    let pid = u32::try_from(lock.taker).unwrap_or(0);
    let is_known = (is_posix && pid > 0) || lock.kind == "FLOCK";
    is_known.then_some(LockSeen {
        is_posix,
        pid,
        exclusive: lock.exclusive,
        first: lock.first,
        last: lock.last,
    })
}

/// Finds, for each file, the processes with a shared POSIX lock on one of these bytes of it. A long
/// table is read a few times, as by [`locks_on`]. `None` if it cannot be read.
pub(crate) fn posix_sharers<const N: usize>(
    files: [(&Path, &RangeInclusive<u64>); N],
) -> Option<[Vec<u32>; N]> {
    let names = files.map(|(path, _)| table_name(path));
    let mut pids = files.map(|_| Vec::new());
    if names.iter().all(Option::is_none) {
        return Some(pids);
    }
    for _ in 0..SHARER_READINGS {
        let (table, in_one_piece) = read_table().ok()?;
        add_sharers(&table, &names, files, &mut pids);
        if in_one_piece {
            break;
        }
    }
    for pids in &mut pids {
        pids.sort_unstable();
        pids.dedup();
    }
    Some(pids)
}

/// Finds, for each file, the processes that use it as SQLite does: see [`posix_sharers`].
pub(crate) fn users<const N: usize>(
    files: [(&Path, &RangeInclusive<u64>); N],
) -> Option<[Vec<u32>; N]> {
    posix_sharers(files)
}

fn add_sharers<const N: usize>(
    table: &str,
    names: &[Option<TableName>; N],
    files: [(&Path, &RangeInclusive<u64>); N],
    pids: &mut [Vec<u32>; N],
) {
    for line in table.lines() {
        for ((name, (_, bytes)), pids) in names.iter().zip(files).zip(pids.iter_mut()) {
            let lock = name.as_ref().and_then(|name| name.lock_in(line));
            let shares = |lock: &Lock<'_>| {
                let overlaps = lock.first <= *bytes.end() && lock.last >= *bytes.start();
                lock.kind == "POSIX" && !lock.exclusive && overlaps
            };
            let taker = lock.filter(shares).map(|lock| lock.taker);
            pids.extend(taker.and_then(|taker| u32::try_from(taker).ok().filter(|&pid| pid > 0)));
        }
    }
}

/// Returns whether this process holds a `flock` on the file; `None` if its descriptors
/// may not be read, or are too many to read in time.
pub(crate) fn holds_flock(pid: u32, path: &Path, file: &TableName) -> Option<bool> {
    let end = Instant::now() + SEARCH_MAX;
    has_descriptor(pid, path, end, |info| shows(info, "FLOCK", file, None))
}

/// Finds the processes that hold a `flock` on the file, among those whose descriptors
/// may be read, within a bounded time.
pub(crate) fn flock_holders(path: &Path, file: &TableName) -> Vec<u32> {
    search(path, |info| shows(info, "FLOCK", file, None))
}

/// Returns whether this process holds the open-file-description lock on this byte;
/// `None` as for [`holds_flock`].
pub(crate) fn holds_byte(pid: u32, path: &Path, file: &TableName, byte: u64) -> Option<bool> {
    let end = Instant::now() + SEARCH_MAX;
    has_descriptor(pid, path, end, |info| {
        shows(info, "OFDLCK", file, Some(byte))
    })
}

/// Finds the processes that hold the open-file-description lock on this byte.
pub(crate) fn byte_holders(path: &Path, file: &TableName, byte: u64) -> Vec<u32> {
    search(path, |info| shows(info, "OFDLCK", file, Some(byte)))
}

fn shows(info: &str, kind: &str, file: &TableName, byte: Option<u64>) -> bool {
    info.lines()
        .filter_map(|line| parse_lock(line.strip_prefix("lock:")?))
        .any(|lock| {
            lock.kind == kind
                && lock.file == file.0
                && byte.is_none_or(|byte| (lock.first..=lock.last).contains(&byte))
        })
}

fn search(path: &Path, matches: impl Fn(&str) -> bool) -> Vec<u32> {
    let end = Instant::now() + SEARCH_MAX;
    let mut found = Vec::new();
    // The youngest first, because they are the most likely holders.
    for pid in process_table::all().into_iter().rev() {
        if Instant::now() > end {
            break;
        }
        if has_descriptor(pid, path, end, &matches) == Some(true) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}

/// Returns whether a process has a descriptor whose file has the lock file's name and
/// whose fdinfo text matches; `None` if the descriptors may not be read, or not all
/// of them before `end`.
fn has_descriptor(
    pid: u32,
    path: &Path,
    end: Instant,
    matches: impl Fn(&str) -> bool,
) -> Option<bool> {
    let name = path.file_name()?;
    let deleted = {
        let mut text = name.to_owned();
        text.push(" (deleted)");
        text
    };
    let directory = PathBuf::from(format!("/proc/{pid}"));
    let entries = fs::read_dir(directory.join("fd")).ok()?.flatten();
    for (number, entry) in entries.enumerate() {
        if number >= ALWAYS && Instant::now() > end {
            return None;
        }
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        let is_named = |found| found == name || found == &*deleted;
        if !target.file_name().is_some_and(is_named) {
            continue;
        }
        let info = directory.join("fdinfo").join(entry.file_name());
        if fs::read_to_string(info).is_ok_and(|info| matches(&info)) {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;
    use crate::sys::file;

    /// Held by tests that search the descriptors of this process, or open so many that the
    /// search of another test would end early.
    static DESCRIPTORS: Mutex<()> = Mutex::new(());

    #[test]
    fn lines_of_the_table_are_parsed() {
        let line = "12: POSIX  ADVISORY  WRITE 3437 fe:00:524299 120 127";
        let lock = parse_lock(line).unwrap();
        assert_eq!(
            (lock.kind, lock.exclusive, lock.taker),
            ("POSIX", true, 3437)
        );
        assert_eq!(
            (lock.file, lock.first, lock.last),
            ("fe:00:524299", 120, 127)
        );
        let flock = parse_lock("1: FLOCK  ADVISORY  READ 5 00:2f:9 0 EOF").unwrap();
        assert_eq!((flock.exclusive, flock.last), (false, u64::MAX));
        assert_eq!(
            parse_lock("1: -> FLOCK  ADVISORY  WRITE 5 00:2f:9 0 EOF"),
            None
        );
        assert_eq!(parse_lock("nonsense"), None);
    }

    /// Searches until this process is found: each search ends after a while, found or not.
    fn assert_finds_this_process(search: impl Fn() -> Vec<u32>) {
        let found = || search() == [std::process::id()];
        assert!((0..100).any(|_| found()), "{:?}", search());
    }

    #[test]
    fn own_lock_is_found_in_the_tables() {
        let _alone = DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db.lock");
        let file = file::open_or_create(&path, None).unwrap();
        let name = table_name(&path).unwrap();
        assert_eq!(flock_on(&name), Seen::NotHeld);
        assert!(file::try_lock(&file).unwrap());
        let me = std::process::id();
        assert_eq!(flock_on(&name), Seen::Held { taker: Some(me) });
        assert_finds_this_process(|| flock_holders(&path, &name));
        assert_eq!(holds_flock(me, &path, &name), Some(true));
        file::unlock(&file).unwrap();
        assert_eq!(holds_flock(me, &path, &name), Some(false));
        assert!(file::try_lock_byte(&file, 1 << 62).unwrap());
        assert_finds_this_process(|| byte_holders(&path, &name, 1 << 62));
    }

    /// No timeout is late because a process has a hundred thousand files open, and a
    /// holder with a thousand is found even on a busy machine.
    #[test]
    fn search_through_many_descriptors_ends_in_time() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

        let _alone = DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db.lock");
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        setrlimit(Resource::Nofile, raised).unwrap();
        let file = file::open_or_create(&path, None).unwrap();
        let (me, over) = (std::process::id(), Instant::now());
        assert_eq!(has_descriptor(me, &path, over, |_| true), Some(true));
        let many: Vec<_> = (0..2 * ALWAYS)
            .filter_map(|_| file.try_clone().ok())
            .collect();
        if many.len() < 2 * ALWAYS {
            eprintln!(
                "SKIPPED: this test needs {} descriptors, {current:?} are allowed",
                2 * ALWAYS
            );
            return;
        }
        assert_eq!(has_descriptor(me, &path, over, |_| false), None);
        let later = Instant::now() + Duration::from_secs(60);
        assert_eq!(has_descriptor(me, &path, later, |_| false), Some(false));
    }
}
