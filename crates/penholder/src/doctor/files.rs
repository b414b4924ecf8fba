//! The database as a file among files. Looks at names, owners and sizes; of all
//! files, only a journal is opened, on which SQLite has no locks.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use penholder_lock::Process;
use rustix::fs::{Access, access, statvfs};

use super::report::{Check, Finding, Subject, name_of, size};
use crate::sqlite::lock_bytes;

/// With less room than this the next checkpoint or commit may fail.
const ROOM_NEEDED: u64 = 16_000_000;
/// A vacuum or a backup needs as much room as the database, and the log some.
const ROOM_WANTED: u64 = 64_000_000;
/// How a journal begins that is to be rolled back.
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

pub(super) fn examine(subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings = vec![
        file_system(subject),
        disk_space(subject),
        hard_links(subject),
        journal(subject),
    ];
    findings.extend(permissions(subject));
    findings
}

/// The network file system that it is on, if it is on one.
fn network(subject: &Subject<'_>) -> Option<String> {
    let found = penholder_lock::network_file_system(subject.location.folder());
    found.ok().flatten()
}

/// Whether penholder would not open it: then we do not either.
pub(super) fn is_refused(subject: &Subject<'_>) -> bool {
    !subject.options.allow_network_fs && network(subject).is_some()
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
    let next = "move it to a local disk; `--allow-network-fs` is right only if no other machine \
                writes there";
    Finding::error(Check::FileSystem, found + ": penholder refuses it").next(next)
}

fn disk_space(subject: &Subject<'_>) -> Finding {
    let length = subject
        .location
        .path
        .metadata()
        .map_or(0, |meta| meta.len());
    match statvfs(subject.location.folder()) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            // Some file systems do not count files.
            judge_room(free, length, disk.f_files == 0 || disk.f_favail > 0)
        }
        Err(error) => {
            Finding::info(Check::DiskSpace, format!("unknown: {error}")).next("look with `df`")
        }
    }
}

fn judge_room(free: u64, database: u64, has_files: bool) -> Finding {
    let found = format!("{} free", size(free));
    if !has_files {
        let next = "remove files: the file system has room for bytes, but for no more files";
        return Finding::error(Check::DiskSpace, found + ", but no file can be made").next(next);
    }
    if free < ROOM_NEEDED {
        let next = "make room, or move the database to a larger disk";
        return Finding::error(Check::DiskSpace, found).next(next);
    }
    if free < database.max(ROOM_WANTED) {
        let next = "make room: a vacuum or a backup beside it needs as much as the database has, \
                    and the log grows while others read";
        return Finding::warning(Check::DiskSpace, found).next(next);
    }
    Finding::ok(Check::DiskSpace, found)
}

fn hard_links(subject: &Subject<'_>) -> Finding {
    let links = subject.location.links;
    if links <= 1 {
        return Finding::ok(Check::HardLinks, "one name");
    }
    Finding::warning(Check::HardLinks, format!("the file has {links} names"))
        .next("keep one name (`find / -xdev -samefile DB` shows all); a symbolic link is harmless")
}

fn journal(subject: &Subject<'_>) -> Finding {
    let path = subject.location.sidecar("-journal");
    let name = name_of(&path);
    let mut magic = [0; 8];
    // Neither through a link nor from a pipe; what else stands there is found with the
    // permissions.
    if !fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
        return Finding::ok(Check::Journal, "none is left");
    }
    match File::open(&path).and_then(|mut file| file.read_exact(&mut magic)) {
        // Shorter than its beginning.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
        Err(error) => {
            let found = format!("{name} cannot be read: {error}");
            return Finding::error(Check::Journal, found).next("make it readable for its users");
        }
        Ok(()) => {}
    }
    if magic != JOURNAL_MAGIC {
        return Finding::ok(
            Check::Journal,
            format!("{name} holds nothing to be rolled back"),
        );
    }
    if let Some(writer) = Process::with_posix_lock(&subject.location.path, lock_bytes::RESERVED) {
        let found = format!("{name} is in use by {writer}");
        return Finding::info(Check::Journal, found).next("let it end its transaction");
    }
    hot_journal(&name, has_content(&subject.location.sidecar("-wal")))
}

fn hot_journal(name: &str, beside_log: bool) -> Finding {
    if beside_log {
        let found = format!("{name} is hot, and there is a log (-wal) too: one is not its own");
        let next = "stop all programs, copy all files of the database aside, and find out which \
                    of the two came with a copy or a backup before anything opens it";
        return Finding::error(Check::Journal, found).next(next);
    }
    let found = format!("{name} is hot: a transaction was cut off");
    let next = "copy all files aside, then open it with a program that may write it, which rolls \
                it back; never delete it by hand";
    Finding::error(Check::Journal, found).next(next)
}

fn has_content(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.len() > 0)
}

fn permissions(subject: &Subject<'_>) -> Vec<Finding> {
    let database = &subject.location.path;
    let mut findings = Vec::new();
    let mut say = |finding: Finding| findings.push(finding);
    if let Ok(folder) = subject.location.folder().metadata() {
        of_folder(subject.location.folder(), &folder).map(&mut say);
    }
    let mut files = 0;
    if let Ok(own) = database.metadata() {
        of_database(database, &own).into_iter().for_each(&mut say);
        for path in sidecars(subject) {
            let Ok(meta) = fs::symlink_metadata(&path) else {
                continue;
            };
            files += 1;
            of_sidecar(&path, &meta, &own)
                .into_iter()
                .for_each(&mut say);
        }
    }
    if findings.is_empty() {
        let found = format!("its folder and the {files} files beside it fit");
        findings.push(Finding::ok(Check::Permissions, found));
    }
    findings
}

fn sidecars(subject: &Subject<'_>) -> Vec<PathBuf> {
    let own = ["-wal", "-shm", "-journal"].map(|suffix| subject.location.sidecar(suffix));
    let locks = [
        subject.locker.lock_file().to_owned(),
        subject.locker.page_file(),
    ];
    own.into_iter().chain(locks).collect()
}

fn of_folder(path: &Path, meta: &Metadata) -> Option<Finding> {
    const STICKY: u32 = 0o1000;
    if access(path, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let found = format!("this user may not write the folder ({})", told(meta));
        let next = "give write permission on the folder to whoever writes the database";
        return Some(Finding::warning(Check::Permissions, found).next(next));
    }
    if meta.mode() & 0o002 != 0 && meta.mode() & STICKY == 0 {
        let found = format!("anybody may write the folder ({})", told(meta));
        let next = "take that from others (`chmod o-w`): they may replace every file in it";
        return Some(Finding::warning(Check::Permissions, found).next(next));
    }
    None
}

fn of_database(path: &Path, meta: &Metadata) -> Vec<Finding> {
    let told = told(meta);
    if access(path, Access::READ_OK).is_err() {
        let found = format!("this user may not read the database ({told})");
        let next = "give read permission on it, and write permission to whoever writes";
        return vec![Finding::error(Check::Permissions, found).next(next)];
    }
    let mut findings = Vec::new();
    if meta.mode() & 0o222 == 0 || access(path, Access::WRITE_OK).is_err() {
        let whom = if meta.mode() & 0o222 == 0 {
            "nobody"
        } else {
            "not this user"
        };
        let found = format!("the database may be written by {whom} ({told})");
        let next = "give write permission on it to whoever writes";
        findings.push(Finding::warning(Check::Permissions, found).next(next));
    }
    if meta.mode() & 0o002 != 0 {
        let found = format!("anybody may write the database ({told})");
        let next = "take that from others (`chmod o-w`), or give it to a group";
        findings.push(Finding::warning(Check::Permissions, found).next(next));
    }
    findings
}

fn of_sidecar(path: &Path, meta: &Metadata, own: &Metadata) -> Vec<Finding> {
    let name = name_of(path);
    if meta.file_type().is_symlink() {
        let found = format!("{name} is a symbolic link");
        let next = "stop the programs that use the database, and remove the link";
        return vec![Finding::error(Check::Permissions, found).next(next)];
    }
    if !meta.is_file() {
        let found = format!("{name} is no file");
        let next = "stop the programs that use the database, and move away what stands there";
        return vec![Finding::error(Check::Permissions, found).next(next)];
    }
    let mut findings = Vec::new();
    let mut warn = |found, next: &str| {
        findings.push(Finding::warning(Check::Permissions, found).next(next));
    };
    if (meta.uid(), meta.gid()) != (own.uid(), own.gid()) {
        let theirs = format!("{name} belongs to {}", owner(meta));
        let found = format!("{theirs}, the database to {}", owner(own));
        warn(
            found,
            "give it to the database's owner (`chown --reference=DB FILE`)",
        );
    }
    // What may be executed is not meant.
    if meta.mode() & 0o666 != own.mode() & 0o666 {
        let found = format!("{name} has mode {}, the database {}", mode(meta), mode(own));
        warn(
            found,
            "give it the database's mode (`chmod --reference=DB FILE`)",
        );
    } else if access(path, Access::WRITE_OK).is_err() && access(path, Access::READ_OK).is_err() {
        let found = format!(
            "this user may neither read nor write {name} ({})",
            told(meta)
        );
        warn(found, "give the same permissions on it as on the database");
    }
    findings
}

fn told(meta: &Metadata) -> String {
    format!("mode {}, {}", mode(meta), owner(meta))
}

fn mode(meta: &Metadata) -> String {
    format!("{:04o}", meta.mode() & 0o7777)
}

fn owner(meta: &Metadata) -> String {
    format!("user {} and group {}", meta.uid(), meta.gid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity;

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
    fn room_is_judged_beside_the_database() {
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
