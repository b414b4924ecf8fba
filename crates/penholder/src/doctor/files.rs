//! The database as a file: where it is, who may use it, and what is next to it. Looks at names,
//! owners and sizes. Of all files only a journal is opened, because SQLite has no locks on it.

use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use penholder_core::{Obstacle, OpenerElsewhere, remedy, shell_word};
use penholder_lock::{SqliteHolder, SqliteLock};

use super::report::{Check, Finding};
use super::subject::Subject;
use super::text::{name_of, size};
use crate::location::Location;
use crate::separate_files::{self, MOUNT_DIRECTORY, USE_ONE_NAME};
use crate::sys::{self, Ownership};

/// With less room than this, in bytes, the next checkpoint or commit may fail.
const ROOM_NEEDED: u64 = 16_000_000;
/// A vacuum or a backup needs as much room as the database, and the WAL needs some too.
const ROOM_WANTED: u64 = 64_000_000;
/// The first bytes of a journal that SQLite has to roll back.
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// Mode bit: users who are neither the owner nor in the group may write.
const OTHERS_WRITE: u32 = 0o002;
/// Mode bit of a directory: only its owner may remove a file.
const STICKY: u32 = 0o1000;
/// Mode bits of which one is set if any user may write.
const ANY_WRITE: u32 = 0o222;
/// Mode bits for reading and writing.
const READ_WRITE: u32 = 0o666;

pub(super) fn examine(subject: &Subject<'_>) -> Vec<Finding> {
    let elsewhere = separate_files::in_use(subject.location);
    let mut findings = vec![
        file_system(subject),
        mounts(subject),
        disk_space(subject),
        names(subject.location, elsewhere.as_ref()),
        journal(subject),
    ];
    findings.extend(permissions(subject));
    findings
}

/// Returns the name of the network file system that the database is on, if it is on one.
fn network(subject: &Subject<'_>) -> Option<String> {
    let found = penholder_lock::network_file_system(subject.location.directory());
    found.ok().flatten()
}

/// Returns whether penholder refuses to open the database; then it is not opened here either.
pub(super) fn is_refused(subject: &Subject<'_>) -> bool {
    (!subject.options.allow_network_fs && network(subject).is_some())
        || separate_files::refuse(subject.location, subject.options, "examine database").is_err()
}

fn file_system(subject: &Subject<'_>) -> Finding {
    judge_file_system(network(subject), subject.options.allow_network_fs)
}

fn judge_file_system(network: Option<String>, allowed: bool) -> Finding {
    let Some(name) = network else {
        return Finding::ok(Check::FileSystem, "local");
    };
    let found = format!("a network file system ({name})");
    if allowed {
        let next = "make sure that no other machine writes there, or move it to a local disk";
        return Finding::warning(Check::FileSystem, found + ", allowed").next(next);
    }
    let next = "move it to a local disk; use `--allow-network-fs` only if no other machine \
                writes there";
    Finding::error(Check::FileSystem, found + ": penholder refuses it").next(next)
}

/// Returns whether one of the files is mounted by itself.
fn mounts(subject: &Subject<'_>) -> Finding {
    let lock_file = subject.locker.lock_file();
    match separate_files::mounted(subject.location) {
        Ok(Some(file)) => mounted(&name_of(&file), subject.options.allow_file_mount),
        Ok(None) if separate_files::is_mounted(lock_file).unwrap_or(false) => {
            let found = format!("{} is mounted as a single file", name_of(lock_file));
            let next = "mount its directory instead: a process that has another lock file there \
                        does not queue with the others";
            Finding::warning(Check::Mounts, found).next(next)
        }
        Ok(None) => Finding::ok(Check::Mounts, "no file is mounted by itself"),
        Err(error) => {
            Finding::info(Check::Mounts, format!("unknown: {error}")).next("check with `findmnt`")
        }
    }
}

fn mounted(name: &str, allowed: bool) -> Finding {
    let found = format!("{name} is mounted as a single file");
    if allowed {
        let next = format!("{MOUNT_DIRECTORY}, or make sure that no other process opens it");
        return Finding::warning(Check::Mounts, found + ", allowed").next(next);
    }
    let next = format!(
        "{MOUNT_DIRECTORY}; use `--allow-file-mount` only if no other process opens the database"
    );
    Finding::error(Check::Mounts, found + ": penholder refuses it").next(next)
}

fn disk_space(subject: &Subject<'_>) -> Finding {
    let length = subject
        .location
        .path
        .metadata()
        .map_or(0, |meta| meta.len());
    match sys::free_space(subject.location.directory()) {
        Ok(space) => judge_room(space.bytes, length, space.has_files),
        Err(error) => {
            let next = if cfg!(windows) {
                "look how much room the disk has"
            } else {
                "check with `df`"
            };
            Finding::info(Check::DiskSpace, format!("unknown: {error}")).next(next)
        }
    }
}

fn judge_room(free: u64, database: u64, has_files: bool) -> Finding {
    let found = format!("{} free", size(free));
    if !has_files {
        let next = "remove files: the file system has room for bytes, but not for another file";
        return Finding::error(Check::DiskSpace, found + ", but no file can be created").next(next);
    }
    if free < ROOM_NEEDED {
        let next = "make room, or move the database to a larger disk";
        return Finding::error(Check::DiskSpace, found).next(next);
    }
    if free < database.max(ROOM_WANTED) {
        let next = "make room: a vacuum, or a backup on the same disk, needs as much as the \
                    database has, and the WAL grows while others read";
        return Finding::warning(Check::DiskSpace, found).next(next);
    }
    Finding::ok(Check::DiskSpace, found)
}

/// Returns whether the database has other names, and whether a process uses one of them, or a
/// mount of the file elsewhere.
fn names(location: &Location, elsewhere: Option<&OpenerElsewhere>) -> Finding {
    match elsewhere {
        Some(opener) => {
            let found = separate_files::describe(opener);
            Finding::error(Check::HardLinks, found).next(USE_ONE_NAME)
        }
        None => hard_links(location),
    }
}

/// Returns whether the database has other names.
pub(crate) fn hard_links(location: &Location) -> Finding {
    let links = location.links;
    if links <= 1 {
        return Finding::ok(Check::HardLinks, "one name");
    }
    let next = separate_files::keep_one_name();
    Finding::warning(Check::HardLinks, format!("the file has {links} names")).next(next)
}

fn journal(subject: &Subject<'_>) -> Finding {
    let path = subject.location.journal();
    let name = name_of(&path);
    let mut magic = [0; 8];
    // Not through a link and not from a pipe; `permissions` reports those.
    if !fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
        return Finding::ok(Check::Journal, "none is left");
    }
    match File::open(&path).and_then(|mut file| file.read_exact(&mut magic)) {
        // Too short to be a journal with content.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
        Err(error) => {
            let found = format!("{name} cannot be read: {error}");
            let next = "give the users of the database read permission on it";
            return Finding::error(Check::Journal, found).next(next);
        }
        Ok(()) => {}
    }
    if magic != JOURNAL_MAGIC {
        let found = format!("{name} has nothing to roll back");
        return Finding::ok(Check::Journal, found);
    }
    let holder = subject.sqlite_holder();
    let holder = holder.filter(|holder| holder.lock != SqliteLock::Write);
    if let Some(SqliteHolder { process, .. }) = holder {
        let found = format!("{name} is in use by {process}");
        return Finding::info(Check::Journal, found).next("wait until it ends its transaction");
    }
    hot_journal(&name, has_content(&subject.location.wal()))
}

fn hot_journal(name: &str, has_wal: bool) -> Finding {
    if has_wal {
        let found =
            format!("{name} is hot, and there is a WAL too: one of them is from another database");
        let next = "stop all programs, copy all files of the database to another place, and find \
                    out which of the two came with a copy or a backup before a program opens it";
        return Finding::error(Check::Journal, found).next(next);
    }
    let found = format!("{name} is hot: a transaction was interrupted");
    let next = "copy all files to another place, then open the database with a program that may \
                write it, which rolls the transaction back; never delete it by hand";
    Finding::error(Check::Journal, found).next(next)
}

fn has_content(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.len() > 0)
}

fn permissions(subject: &Subject<'_>) -> Vec<Finding> {
    let location = subject.location;
    let mut findings = Vec::new();
    let directory = location.directory();
    if let Ok(meta) = directory.metadata() {
        findings.extend(of_directory(directory, sys::ownership(&meta)));
    }
    let mut files = 0;
    if let Ok(meta) = location.path.metadata() {
        let database = sys::ownership(&meta);
        findings.extend(of_database(&location.path, database));
        let queue_file = subject.locker.queue_file();
        // A foreign queue file is not used, and keeps nobody out: see `lock`.
        let in_the_way = neighbours(subject).into_iter();
        let in_the_way = in_the_way.filter(|path| *path != queue_file);
        let obstacle = Obstacle::find(&location.path, in_the_way);
        findings.extend(obstacle.as_ref().map(|obstacle| {
            Finding::error(Check::Permissions, obstacle.finding()).next(obstacle.advice())
        }));
        for path in neighbours(subject) {
            let Ok(meta) = fs::symlink_metadata(&path) else {
                continue;
            };
            files += 1;
            if obstacle.as_ref().is_some_and(|one| one.is_file(&path)) {
                continue;
            }
            let advice = Advice {
                database: &location.path,
                file: &path,
                is_disposable: path == queue_file,
            };
            findings.extend(of_neighbour(&advice, &meta, database));
        }
    }
    if findings.is_empty() {
        let found = format!("its directory and the {files} files next to it fit");
        findings.push(Finding::ok(Check::Permissions, found));
    }
    findings
}

/// Returns the paths of SQLite's files next to the database, of the lock file, of the queue file and
/// of the hold file.
fn neighbours(subject: &Subject<'_>) -> Vec<PathBuf> {
    let locks = [
        subject.locker.lock_file().to_owned(),
        subject.locker.queue_file(),
        subject.locker.hold_file(),
    ];
    subject
        .location
        .sidecars()
        .into_iter()
        .chain(locks)
        .collect()
}

fn of_directory(path: &Path, directory: Option<Ownership>) -> Option<Finding> {
    let described = describe(directory);
    if !sys::may_add_files(path) {
        let found = format!("this user may not write the directory{described}");
        let next = "give write permission on the directory to all users who write the database";
        return Some(Finding::warning(Check::Permissions, found).next(next));
    }
    if directory.is_some_and(|one| one.mode & OTHERS_WRITE != 0 && one.mode & STICKY == 0) {
        let found = format!("all users may write the directory{described}");
        let next = "remove that permission (`chmod o-w`): they may replace every file in it";
        return Some(Finding::warning(Check::Permissions, found).next(next));
    }
    None
}

fn of_database(path: &Path, database: Option<Ownership>) -> Vec<Finding> {
    let described = describe(database);
    if !sys::may_read(path) {
        let found = format!("this user may not read the database{described}");
        let next = "give this user read permission on it, and users who write it write permission";
        return vec![Finding::error(Check::Permissions, found).next(next)];
    }
    let mut findings = Vec::new();
    let mut warn = |found, next: &str| {
        findings.push(Finding::warning(Check::Permissions, found).next(next));
    };
    let to_writers = "give write permission on it to the users who write it";
    if database.is_some_and(|one| one.mode & ANY_WRITE == 0) {
        warn(
            format!("no user may write the database{described}"),
            to_writers,
        );
    } else if !sys::may_write(path) {
        warn(
            format!("this user may not write the database{described}"),
            to_writers,
        );
    }
    if database.is_some_and(|one| one.mode & OTHERS_WRITE != 0) {
        let found = format!("all users may write the database{described}");
        warn(
            found,
            "remove that permission (`chmod o-w`), or give it to a group",
        );
    }
    findings
}

/// What to do about a file next to the database.
struct Advice<'a> {
    database: &'a Path,
    file: &'a Path,
    /// Whether the file is built again if it is removed.
    is_disposable: bool,
}

impl Advice<'_> {
    fn on_owner(&self, database: Ownership) -> String {
        if self.is_disposable {
            let remove = remedy::remove_file(self.file);
            return format!("remove it ({remove}): another is built");
        }
        let ids = [database.user, database.group];
        let own = remedy::own_as(self.database, ids, &shell_word(self.file));
        format!("give it to the database's owner ({own})")
    }

    fn on_mode(&self, database: Ownership) -> String {
        let permit = remedy::permit_as(self.database, database.mode, &shell_word(self.file));
        format!("give it the database's mode ({permit})")
    }
}

fn of_neighbour(advice: &Advice<'_>, meta: &Metadata, database: Option<Ownership>) -> Vec<Finding> {
    let path = advice.file;
    let name = name_of(path);
    if meta.file_type().is_symlink() {
        let found = format!("{name} is a symbolic link");
        let next = "stop the programs that use the database, and remove the link";
        return vec![Finding::error(Check::Permissions, found).next(next)];
    }
    if !meta.is_file() {
        let found = format!("{name} is not a regular file");
        let next = "stop the programs that use the database, and move it to another place";
        return vec![Finding::error(Check::Permissions, found).next(next)];
    }
    let mut findings = Vec::new();
    let own = sys::ownership(meta);
    let mut warn = |found, next: &str| {
        findings.push(Finding::warning(Check::Permissions, found).next(next));
    };
    let both = own.zip(database);
    let other_owner = both.filter(|(own, db)| (own.user, own.group) != (db.user, db.group));
    if let Some((own, database)) = other_owner {
        let found = format!(
            "{name} belongs to {}, the database to {}",
            owner(own),
            owner(database)
        );
        warn(found, &advice.on_owner(database));
    }
    // Execute permission does not matter.
    let other_mode = both.filter(|(own, db)| own.mode & READ_WRITE != db.mode & READ_WRITE);
    if let Some((own, database)) = other_mode {
        let modes = (mode(own), mode(database));
        let found = format!("{name} has mode {}, the database {}", modes.0, modes.1);
        warn(found, &advice.on_mode(database));
    } else if !sys::may_write(path) && !sys::may_read(path) {
        let described = describe(own);
        let found = format!("this user may neither read nor write {name}{described}");
        warn(found, "give the same permissions on it as on the database");
    }
    findings
}

/// Says in parentheses who owns a file; nothing where files have no owner of this kind.
fn describe(file: Option<Ownership>) -> String {
    file.map_or_else(String::new, |file| {
        format!(" (mode {}, {})", mode(file), owner(file))
    })
}

fn mode(file: Ownership) -> String {
    format!("{:04o}", file.mode)
}

fn owner(file: Ownership) -> String {
    format!("user {} and group {}", file.user, file.group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Severity;

    #[test]
    fn a_network_is_judged_by_what_was_allowed() {
        let nfs = || Some("NFS".to_owned());
        assert_eq!(judge_file_system(None, false).severity, Severity::Ok);
        assert_eq!(judge_file_system(nfs(), true).severity, Severity::Warning);
        let refused = judge_file_system(nfs(), false);
        assert_eq!(refused.severity, Severity::Error);
        assert!(refused.finding.contains("NFS") && refused.next.is_some());
    }

    #[test]
    fn room_is_compared_with_the_size_of_the_database() {
        for (free, database, has_files, severity) in [
            (1_000_000_000, 4096, true, Severity::Ok),
            (1_000_000_000, 4096, false, Severity::Error),
            (63_000_000, 4096, true, Severity::Warning),
            (1_000_000_000, 2_000_000_000, true, Severity::Warning),
            (15_000_000, 4096, true, Severity::Error),
            (0, 0, true, Severity::Error),
        ] {
            assert_eq!(judge_room(free, database, has_files).severity, severity);
        }
    }
}
