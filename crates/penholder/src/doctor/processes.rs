//! Who has the database open, from the kernel's tables.

use std::path::{Path, PathBuf};
use std::time::Duration;

use penholder_lock::{Opener, Openers, Process, ProcessState};

use super::version::{self, Detector, Version};
use super::{Check, Finding, Subject, listed};

/// How long a search through all processes may take.
const SEARCH_MAX: Duration = Duration::from_secs(3);
/// The byte of `-shm` that a writer locks in WAL mode.
const WRITE_LOCK: u64 = 120;

pub(super) fn examine(subject: &Subject<'_>) -> Vec<Finding> {
    let database = &subject.location.path;
    let locks = [
        subject.locker.lock_file().to_owned(),
        subject.locker.page_file(),
    ];
    let files: Vec<PathBuf> = std::iter::once(database.clone())
        .chain(locks.clone())
        .collect();
    let openers = Openers::of(&files, SEARCH_MAX);
    // A program knows of itself.
    let is_other = |opener: &&Opener| opener.process.pid != std::process::id();
    let others: Vec<&Opener> = openers.found.iter().filter(is_other).collect();
    let (attached, strangers): (Vec<&Opener>, _) = others
        .iter()
        .partition(|opener| locks.iter().any(|lock| has_open(opener, lock)));
    let mut findings = replaced(&others, database);
    findings.extend(outsiders(subject, &attached, &strangers, openers.complete));
    findings.extend(versions(&others, &attached, database));
    findings
}

fn has_open(opener: &Opener, path: &Path) -> bool {
    let mut open = opener.open.iter();
    open.any(|open| open.path == path && !open.deleted)
}

/// Whether it can write the database itself.
fn may_write(opener: &Opener, database: &Path) -> bool {
    let mut open = opener.open.iter();
    open.any(|open| open.path == database && open.writable && !open.deleted)
}

fn replaced(openers: &[&Opener], database: &Path) -> Vec<Finding> {
    let has_old = |opener: &&&Opener| {
        let mut open = opener.open.iter();
        open.any(|open| open.path == database && open.deleted)
    };
    let old: Vec<_> = openers
        .iter()
        .filter(has_old)
        .map(|one| &one.process)
        .collect();
    if old.is_empty() {
        return Vec::new();
    }
    let found = format!(
        "an older file of this name, which was deleted, is open in {}",
        listed(&old)
    );
    let next = "restart these processes; replace a database only while nobody has it open";
    vec![Finding::error(Check::Replaced, found).next(next)]
}

fn outsiders(
    subject: &Subject<'_>,
    attached: &[&Opener],
    strangers: &[&Opener],
    complete: bool,
) -> Vec<Finding> {
    let shm = subject.location.sidecar("-shm");
    let writer = Process::with_posix_lock(&shm, WRITE_LOCK).map(|process| process.pid);
    // Under `penholder run` or `flock`, an ancestor has the lock.
    let is_inside = |opener: &&&Opener| {
        let mut parents = attached.iter().map(|parent| parent.process.pid);
        parents.any(|pid| opener.ancestors.contains(&pid))
    };
    let writers = strangers
        .iter()
        .filter(|opener| may_write(opener, &subject.location.path))
        .filter(|opener| !is_inside(opener));
    let (at_it, others): (Vec<&Process>, Vec<_>) = writers
        .map(|opener| &opener.process)
        .partition(|process| writer == Some(process.pid));
    let next = "let it write through penholder, or under `penholder run DB -- …` or `flock \
                db.lock …`";
    let mut findings = Vec::new();
    for process in at_it {
        let found = format!("{process} writes this moment without the write lock");
        findings.push(if process.state == ProcessState::Stopped {
            let next = format!(
                "let it go on (`kill -CONT {0}`) or end it: nobody can write",
                process.pid
            );
            Finding::error(Check::Outsiders, found).next(next)
        } else {
            Finding::warning(Check::Outsiders, found).next(next)
        });
    }
    if !others.is_empty() {
        let found = format!(
            "open for writing, but not attached to the lock: {}",
            listed(&others)
        );
        let next =
            format!("{next}; a program of penholder that has not written yet looks the same");
        findings.push(Finding::warning(Check::Outsiders, found).next(next));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            Check::Outsiders,
            none_seen(attached.len(), complete),
        ));
    }
    findings
}

fn none_seen(attached: usize, complete: bool) -> String {
    let seen = match attached {
        0 => "no process has it open to write".to_owned(),
        attached => format!("none; {attached} attached to the lock"),
    };
    match complete {
        true => seen,
        false => seen + " (not every process may be looked at: root sees more)",
    }
}

/// Our own, and those of whoever may write the database.
fn versions(openers: &[&Opener], attached: &[&Opener], database: &Path) -> Vec<Finding> {
    let mut findings = vec![bundled(crate::sqlite_version())];
    let is_attached = |opener: &Opener| {
        let mut pids = attached.iter().map(|one| one.process.pid);
        pids.any(|pid| pid == opener.process.pid)
    };
    let mut detector = Detector::new();
    let mut groups: Vec<(Option<Version>, Vec<&Process>)> = Vec::new();
    for opener in openers {
        let writes = may_write(opener, database);
        // `flock(1)` and a shell have no SQLite in them.
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
    match version::parse(version.as_bytes()) {
        Some(version) if version::is_affected(version) => {
            let next = "build it with a newer one";
            Finding::warning(Check::SqliteVersion, found + ", which is affected").next(next)
        }
        _ => Finding::ok(Check::SqliteVersion, found),
    }
}

fn in_use(version: Option<Version>, processes: &[&Process]) -> Finding {
    let processes = listed(processes);
    let Some(version) = version else {
        let found = format!("unknown in {processes}");
        let next = "look for 3.51.3 or newer there (`SELECT sqlite_version()`)";
        return Finding::info(Check::SqliteVersion, found).next(next);
    };
    let found = format!("{version} in {processes}");
    if version::is_affected(version) {
        let next = "use 3.51.3 or newer there, unless its distributor has mended this one";
        return Finding::warning(Check::SqliteVersion, found + ", which is affected").next(next);
    }
    Finding::ok(Check::SqliteVersion, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity;

    #[test]
    fn the_bundled_version_is_judged() {
        assert_eq!(bundled("3.51.2").severity, Severity::Warning);
        assert_eq!(bundled("3.50.7").severity, Severity::Ok);
        assert_eq!(bundled(crate::sqlite_version()).severity, Severity::Ok);
        assert_eq!(in_use(None, &[]).severity, Severity::Info);
    }
}
