//! Who holds a lock, from the kernel's own tables. Only looks: a probe by
//! `flock` would make somebody else's attempt fail.
//!
//! `/proc/locks` shows every lock whose taker is visible in our pid namespace.
//! The pid in it is whoever *took* the lock: a `flock(1)` of a shell idiom is
//! gone while the shell holds on. The processes that hold it are those whose
//! `/proc/<pid>/fdinfo` shows it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, StatxFlags, statx};

use super::process;

/// How long a search through all processes may take, or the look at one.
const SEARCH_MAX: Duration = Duration::from_millis(40);
/// So many descriptors of a process are looked at in any case: whether it holds
/// must not depend on how busy the machine is.
const ALWAYS: usize = 1024;

/// What the tables say of a `flock` on a file. A shared one (`flock -s`) counts:
/// it keeps us out as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Somebody holds it; `taker` is the process that took it, where visible.
    Held { taker: Option<u32> },
    /// Nobody visible holds it.
    NotHeld,
    /// The tables cannot be read.
    Unknown,
}

/// A file as the tables write it: `fe:00:524299`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableName(String);

/// The name of a file in the tables; the file is not opened (closing a database
/// file would drop SQLite's locks on it).
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

/// One line of `/proc/locks` or of an fdinfo's `lock:` lines.
#[derive(Debug, PartialEq, Eq)]
struct Lock<'a> {
    kind: &'a str,
    exclusive: bool,
    taker: i64,
    file: &'a str,
    first: u64,
    last: u64,
}

/// `12: POSIX  ADVISORY  WRITE 3437 fe:00:524299 120 120`; `None` for a waiter
/// (`12: -> …`) and for what is not understood.
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

/// The pid of the first lock in `/proc/locks` that matches, `None` if none does;
/// an error if the table cannot be read.
///
/// One read gives the table of one moment, about a page of it. A longer one
/// comes in pieces between which others lock and unlock, and the kernel goes on
/// by position: a lock that stands all the while can be passed over. So a long
/// table without a match is read again, a few times.
fn find(matches: impl Fn(&Lock<'_>) -> bool) -> io::Result<Option<i64>> {
    const LOOKS: u32 = 5;
    for _ in 0..LOOKS {
        let (table, in_one_piece) = read_table()?;
        if let Some(lock) = table.lines().filter_map(parse_lock).find(&matches) {
            return Ok(Some(lock.taker));
        }
        if in_one_piece {
            break;
        }
    }
    Ok(None)
}

/// The table, and whether one read gave all of it.
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

/// Whether anybody holds a `flock` on the file.
pub(crate) fn flock_on(file: &TableName) -> Seen {
    let found = find(|lock| lock.kind == "FLOCK" && lock.file == file.0);
    match found {
        Ok(Some(taker)) => Seen::Held {
            taker: u32::try_from(taker).ok().filter(|&pid| pid > 0),
        },
        Ok(None) => Seen::NotHeld,
        Err(_) => Seen::Unknown,
    }
}

/// The process with an exclusive POSIX lock on this byte of the file. For
/// these the pid in the table is the owner itself.
pub(crate) fn posix_owner(path: &Path, byte: u64) -> Option<u32> {
    let file = table_name(path)?;
    let found = find(|lock| {
        lock.kind == "POSIX"
            && lock.exclusive
            && lock.file == file.0
            && (lock.first..=lock.last).contains(&byte)
    });
    let owner = u32::try_from(found.ok()??).ok();
    owner.filter(|&pid| pid > 0)
}

/// The processes with a shared POSIX lock on one of these bytes of the file, as of
/// one look at the table.
pub(crate) fn posix_sharers(path: &Path, bytes: &RangeInclusive<u64>) -> Vec<u32> {
    let Some(file) = table_name(path) else {
        return Vec::new();
    };
    let (table, _in_one_piece) = read_table().unwrap_or_default();
    let mut pids: Vec<u32> = table
        .lines()
        .filter_map(parse_lock)
        .filter(|lock| lock.kind == "POSIX" && !lock.exclusive && lock.file == file.0)
        .filter(|lock| lock.first <= *bytes.end() && lock.last >= *bytes.start())
        .filter_map(|lock| u32::try_from(lock.taker).ok().filter(|&pid| pid > 0))
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Whether this process holds a `flock` on the file; `None` where we may not
/// look, or where it has too many descriptors to be looked at in time.
pub(crate) fn holds_flock(pid: u32, path: &Path, file: &TableName) -> Option<bool> {
    let end = Instant::now() + SEARCH_MAX;
    has_descriptor(pid, path, end, |info| shows(info, "FLOCK", file, None))
}

/// The processes that hold a `flock` on the file, as far as we may
/// look, within a bounded time.
pub(crate) fn flock_holders(path: &Path, file: &TableName) -> Vec<u32> {
    search(path, |info| shows(info, "FLOCK", file, None))
}

/// Whether this process holds the open-file-description lock on this byte;
/// `None` as for [`holds_flock`].
pub(crate) fn holds_byte(pid: u32, path: &Path, file: &TableName, byte: u64) -> Option<bool> {
    let end = Instant::now() + SEARCH_MAX;
    has_descriptor(pid, path, end, |info| {
        shows(info, "OFDLCK", file, Some(byte))
    })
}

/// The processes that hold the open-file-description lock on this byte.
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
    // The youngest first, which are the likeliest; the longest wait is bounded.
    for pid in process::all().into_iter().rev() {
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

/// Whether the fdinfo text of one of those descriptors of a process matches whose
/// file has the lock file's name; `None` where we may not look, or not at all of
/// them until `end`.
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
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let entries = fs::read_dir(folder.join("fd")).ok()?.flatten();
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
        let info = folder.join("fdinfo").join(entry.file_name());
        if fs::read_to_string(info).is_ok_and(|info| matches(&info)) {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file;

    #[test]
    fn lines_of_the_table_are_understood() {
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

    #[test]
    fn our_own_lock_is_seen_by_looking() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db.lock");
        let file = file::open_or_create(&path, None).unwrap();
        let name = table_name(&path).unwrap();
        assert_eq!(flock_on(&name), Seen::NotHeld);
        assert!(file::try_lock(&file).unwrap());
        let me = std::process::id();
        assert_eq!(flock_on(&name), Seen::Held { taker: Some(me) });
        assert_eq!(flock_holders(&path, &name), [me]);
        assert_eq!(holds_flock(me, &path, &name), Some(true));
        file::unlock(&file).unwrap();
        assert_eq!(holds_flock(me, &path, &name), Some(false));
        assert!(file::try_lock_byte(&file, 1 << 62).unwrap());
        assert_eq!(byte_holders(&path, &name, 1 << 62), [me]);
    }

    /// Nobody's timeout is late because somebody has a hundred thousand files open;
    /// and whoever has a thousand is seen, however busy the machine is.
    #[test]
    fn a_crowd_of_descriptors_is_not_searched_for_ever() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db.lock");
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        setrlimit(Resource::Nofile, raised).unwrap();
        let file = file::open_or_create(&path, None).unwrap();
        let (me, over) = (std::process::id(), Instant::now());
        assert_eq!(has_descriptor(me, &path, over, |_| true), Some(true));
        let crowd: Vec<_> = (0..2 * ALWAYS)
            .filter_map(|_| file.try_clone().ok())
            .collect();
        if crowd.len() < 2 * ALWAYS {
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
