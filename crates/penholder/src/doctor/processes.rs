//! Which processes have the database open, from the kernel's tables.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use penholder_core::{remedy, shown_name};
use penholder_lock::{Opener, Openers, Process, ProcessState, SqliteHolder, SqliteLock};

use super::detector::Detector;
use super::report::{Check, Finding};
use super::subject::Subject;
use super::text::listed;
use penholder_vfs::Version;

/// How long a search through all processes may take.
const SEARCH_MAX: Duration = Duration::from_secs(3);
/// How long after the first search a second one follows.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) fn examine(subject: &Subject<'_>) -> Vec<Finding> {
    let database = &subject.location.path;
    let openers = search_settled(subject);
    let (unlocked, attached): (Vec<&Opener>, Vec<_>) = openers
        .found
        .iter()
        .partition(|opener| is_unlocked(subject, opener));
    let mut findings = replaced(&openers.found, subject);
    findings.extend(unlocked_writers(
        subject,
        &attached,
        &unlocked,
        openers.complete,
    ));
    findings.extend(versions(&openers.found, &attached, database));
    findings
}

/// Does as [`search`], without processes that begin or end at this moment: one that has just
/// started opens the database first and the lock next, and the last one to close the database
/// deletes the WAL and its index while they are still open.
fn search_settled(subject: &Subject<'_>) -> Openers {
    let suspicions = |opener: &Opener| {
        [
            is_unlocked(subject, opener),
            has_former_file(opener, subject),
        ]
    };
    let is_settled = |opener: &Opener| suspicions(opener) == [false; 2];
    let mut openers = search(subject);
    if openers.found.iter().all(is_settled) {
        return openers;
    }
    thread::sleep(PAUSE);
    let again = search(subject);
    let is_same = |one: &Opener, opener: &Opener| {
        let mut both = suspicions(one).into_iter().zip(suspicions(opener));
        one.process.pid == opener.process.pid && both.any(|(now, before)| now && before)
    };
    openers.complete &= again.complete;
    openers.found.retain(|opener| {
        let mut again = again.found.iter();
        is_settled(opener) || again.any(|one| is_same(one, opener))
    });
    openers
}

/// Finds the other processes that have the database, its WAL or its lock open.
fn search(subject: &Subject<'_>) -> Openers {
    let files: Vec<PathBuf> = database_files(subject)
        .into_iter()
        .chain(locks(subject))
        .collect();
    let mut openers = Openers::of(&files, SEARCH_MAX);
    openers
        .found
        .retain(|opener| opener.process.pid != std::process::id());
    openers
}

/// Returns the files that are open together while a database is in use.
fn database_files(subject: &Subject<'_>) -> [PathBuf; 3] {
    let location = subject.location;
    [location.path.clone(), location.wal(), location.shm()]
}

fn locks(subject: &Subject<'_>) -> [PathBuf; 2] {
    let lock_file = subject.locker.lock_file().to_owned();
    [lock_file, subject.locker.queue_file()]
}

/// Returns whether it has the database open but not the lock.
fn is_unlocked(subject: &Subject<'_>, opener: &Opener) -> bool {
    !locks(subject).iter().any(|lock| has_open(opener, lock))
}

fn has_open(opener: &Opener, path: &Path) -> bool {
    let mut open = opener.open.iter();
    open.any(|open| open.path == path && !open.deleted)
}

/// Returns whether it has the database open for writing.
fn may_write(opener: &Opener, database: &Path) -> bool {
    let mut open = opener.open.iter();
    open.any(|open| open.path == database && open.writable && !open.deleted)
}

/// Finds processes that have a file open that is no longer part of this database.
fn replaced(openers: &[Opener], subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in database_files(subject) {
        let has_old = |opener: &&Opener| has_deleted(opener, &file);
        let old: Vec<_> = openers.iter().filter(has_old).collect();
        if !old.is_empty() {
            let name = shown_name(&file);
            let found = format!("an older {name}, which was deleted, is open in ");
            findings.push(found_replaced(found, &old));
        }
    }
    let has_other = |opener: &&Opener| has_wal_of_another(opener, subject);
    let other: Vec<_> = openers.iter().filter(has_other).collect();
    if !other.is_empty() {
        let wal = subject.location.wal();
        let name = shown_name(&wal);
        let found = format!("{name} is open, together with another database file, in ");
        findings.push(found_replaced(found, &other));
    }
    findings
}

fn found_replaced(found: String, openers: &[&Opener]) -> Finding {
    let processes: Vec<_> = openers.iter().map(|one| &one.process).collect();
    let next = "restart these processes, and replace a database with `penholder restore` only";
    Finding::error(Check::Replaced, found + &listed(&processes)).next(next)
}

/// Returns whether it has a file open that is no longer part of this database.
fn has_former_file(opener: &Opener, subject: &Subject<'_>) -> bool {
    let files = database_files(subject);
    files.iter().any(|file| has_deleted(opener, file)) || has_wal_of_another(opener, subject)
}

/// Returns whether it has an older file of this name open, which was deleted.
fn has_deleted(opener: &Opener, file: &Path) -> bool {
    let mut open = opener.open.iter();
    open.any(|open| open.path == file && open.deleted)
}

/// Returns whether it writes the WAL of this database, but has another database file open: the
/// former one was moved aside.
fn has_wal_of_another(opener: &Opener, subject: &Subject<'_>) -> bool {
    let [database, wal, _] = database_files(subject);
    let mut open = opener.open.iter();
    open.any(|open| open.path == wal && open.writable && !open.deleted)
        && !opener.open.iter().any(|open| open.path == database)
}

/// Finds processes that can write the database and do not take the lock.
fn unlocked_writers(
    subject: &Subject<'_>,
    attached: &[&Opener],
    unlocked: &[&Opener],
    complete: bool,
) -> Vec<Finding> {
    let writer = subject.sqlite_holder();
    // Any process recovers the WAL when it finds that it has to.
    let writer = writer.filter(|one| one.lock != SqliteLock::Recovery);
    let is_writer = |process: &Process| is_of(writer.as_ref(), process.pid);
    let holder = subject.locker.holder().ok().flatten();
    let holder = holder.and_then(|holder| holder.pid);
    // A program under `penholder run` writes under its hold.
    let is_inside = |opener: &Opener| holder.is_some_and(|pid| opener.ancestors.contains(&pid));
    let (writing, idle): (Vec<_>, Vec<&Process>) = unlocked
        .iter()
        .filter(|opener| may_write(opener, &subject.location.path) && !is_inside(opener))
        .map(|opener| &opener.process)
        .partition(|process| is_writer(process));
    let is_awaited = is_awaited(subject);
    let is_seen = |process: &Process| {
        let mut seen = attached.iter().chain(unlocked);
        seen.any(|opener| opener.process.pid == process.pid)
    };
    let is_own = |process: &Process| process.pid == std::process::id();
    let hidden = writer
        .iter()
        .filter(|one| !complete && !is_seen(&one.process) && !is_own(&one.process))
        .filter(|one| holder != Some(one.process.pid));
    let mut findings = Vec::new();
    if let (false, Some(writer)) = (writing.is_empty(), &writer) {
        findings.push(writes(subject, writer, is_awaited));
    }
    findings.extend(hidden.map(|one| may_hold_the_lock(&one.process)));
    if !idle.is_empty() {
        findings.push(may_write_later(subject, &idle));
    }
    if findings.is_empty() {
        let found = none_seen(attached.len(), complete);
        findings.push(Finding::ok(Check::UnlockedWriters, found));
    }
    findings
}

fn is_of(holder: Option<&SqliteHolder>, pid: u32) -> bool {
    holder.is_some_and(|holder| holder.process.pid == pid)
}

/// Returns whether a process waits for the write lock, or has it. While another process writes
/// without it, that one waits too.
fn is_awaited(subject: &Subject<'_>) -> bool {
    let status = subject.locker.status();
    status.is_ok_and(|status| status.holder.is_some() || !status.queue.is_empty())
}

/// A process that has SQLite's lock, and not the write lock.
fn writes(subject: &Subject<'_>, holder: &SqliteHolder, is_awaited: bool) -> Finding {
    let process = &holder.process;
    let found = match holder.lock {
        SqliteLock::Exclusive => holder.to_string(),
        _ => format!("{process} is writing now without the write lock"),
    };
    if process.state == ProcessState::Stopped {
        let continue_or_end = remedy::continue_or_end(process.pid);
        let next = format!("{continue_or_end}: no other process can write");
        return Finding::error(Check::UnlockedWriters, found).next(next);
    }
    if is_awaited {
        let found = format!("{found}, and others wait for it");
        return Finding::error(Check::UnlockedWriters, found).next(subject.use_the_lock("it"));
    }
    Finding::warning(Check::UnlockedWriters, found).next(subject.use_the_lock("it"))
}

/// A process of another user: the kernel names it, but does not show what it has open.
fn may_hold_the_lock(process: &Process) -> Finding {
    let found = format!("{process} is writing now; whether it holds the lock is not visible");
    Finding::info(Check::UnlockedWriters, found)
        .next(format!("run this again as {}", remedy::SUPERUSER))
}

fn may_write_later(subject: &Subject<'_>, processes: &[&Process]) -> Finding {
    let processes = listed(processes);
    let found = format!("open for writing, but not attached to the lock: {processes}");
    let next = format!(
        "{}; a program that uses penholder and has not written yet looks the same",
        subject.use_the_lock("it")
    );
    Finding::warning(Check::UnlockedWriters, found).next(next)
}

fn none_seen(attached: usize, complete: bool) -> String {
    let seen = match attached {
        0 => "no process has it open for writing".to_owned(),
        attached => format!("none; {attached} attached to the lock"),
    };
    match complete {
        true => seen,
        false => format!(
            "{seen} (not every process is visible: {} sees more)",
            remedy::SUPERUSER
        ),
    }
}

/// Judges our own version of SQLite, and those of the processes that may write the database.
fn versions(openers: &[Opener], attached: &[&Opener], database: &Path) -> Vec<Finding> {
    let mut findings = vec![bundled(rusqlite::version())];
    let is_attached = |opener: &Opener| {
        let mut pids = attached.iter().map(|one| one.process.pid);
        pids.any(|pid| pid == opener.process.pid)
    };
    let mut detector = Detector::new();
    let mut groups: Vec<(Option<Version>, Vec<&Process>)> = Vec::new();
    for opener in openers {
        let writes = may_write(opener, database);
        // `flock(1)` and a shell contain no SQLite.
        if !writes && !is_attached(opener) {
            continue;
        }
        let version = detector.version_of(&opener.process.code_files());
        if version.is_none() && !writes {
            continue;
        }
        match groups.iter_mut().find(|(known, _)| *known == version) {
            Some((_, processes)) => processes.push(&opener.process),
            None => groups.push((version, vec![&opener.process])),
        }
    }
    findings.extend(
        groups
            .iter()
            .map(|(version, processes)| in_use(*version, processes)),
    );
    findings
}

fn bundled(version: &str) -> Finding {
    let found = format!("{version} in this program");
    match Version::parse(version.as_bytes()) {
        Some(version) if version.has_wal_reset_bug() => {
            let next = "build it with a newer version";
            Finding::warning(Check::SqliteVersion, found + ", which is affected").next(next)
        }
        _ => Finding::ok(Check::SqliteVersion, found),
    }
}

fn in_use(version: Option<Version>, processes: &[&Process]) -> Finding {
    let processes = listed(processes);
    let Some(version) = version else {
        let found = format!("unknown in {processes}");
        let next = "make sure that it is 3.51.3 or newer (`SELECT sqlite_version()`)";
        return Finding::info(Check::SqliteVersion, found).next(next);
    };
    let found = format!("{version} in {processes}");
    if version.has_wal_reset_bug() {
        let next = "use 3.51.3 or newer there, unless its distributor has repaired this version";
        return Finding::warning(Check::SqliteVersion, found + ", which is affected").next(next);
    }
    Finding::ok(Check::SqliteVersion, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Severity;

    #[test]
    fn versions_are_judged() {
        assert_eq!(bundled("3.51.2").severity, Severity::Warning);
        assert_eq!(bundled("3.50.7").severity, Severity::Ok);
        #[cfg(feature = "bundled")]
        assert_eq!(bundled(rusqlite::version()).severity, Severity::Ok);
        assert_eq!(in_use(None, &[]).severity, Severity::Info);
    }
}
