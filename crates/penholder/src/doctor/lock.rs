//! The write lock: its holder, the queue file, leases, and the clock that their times come from.

use std::time::{Duration, SystemTime};

use penholder_core::{OTHER_DATABASE, remedy};
use penholder_lock::{Holder, Leases, ProcessState, QueueFileFault, QueueFileHeader, Status};

use super::report::{Check, Finding, Severity};
use super::subject::Subject;
use super::text::name_of;

/// By how much clocks may differ, and events may be recorded out of order.
const SLACK: Duration = Duration::from_secs(5);

pub(super) fn examine(subject: &Subject<'_>) -> Vec<Finding> {
    let header = subject.locker.queue_file_header();
    let built = header.as_ref().ok().copied().flatten();
    let mut findings = vec![match header {
        Ok(header) => queue_file(subject, header),
        Err(error) => Finding::of_error(Check::QueueFile, Severity::Warning, &error)
            .next("give every user of the database read and write permission on it, or remove it"),
    }];
    match subject.locker.status() {
        Ok(status) => {
            findings.push(holder(subject, &status));
            findings.push(leases(subject, &status.leases));
            findings.push(clock(&status, built, SystemTime::now()));
        }
        Err(error) => findings.push(
            Finding::of_error(Check::Holder, Severity::Error, &error)
                .next("repair the lock file as it says, then run this again"),
        ),
    }
    findings
}

fn queue_file(subject: &Subject<'_>, header: Option<QueueFileHeader>) -> Finding {
    let name = name_of(&subject.locker.queue_file());
    let fault = match header {
        Some(header) => header.fault,
        None => QueueFileFault::of_building(),
    };
    match (fault, header) {
        (None, None) => Finding::ok(
            Check::QueueFile,
            format!("no {name}: no process has created one yet"),
        ),
        (None, Some(_)) => Finding::ok(Check::QueueFile, format!("{name} is in use")),
        (Some(fault), _) => Finding::warning(Check::QueueFile, format!("{name} {fault}"))
            .next(fault.advice(&subject.locker.queue_file())),
    }
}

fn holder(subject: &Subject<'_>, status: &Status) -> Finding {
    let waiting = match status.queue.len() {
        0 => String::new(),
        waiting => format!("; {waiting} wait"),
    };
    let Some(holder) = &status.holder else {
        return Finding::ok(Check::Holder, format!("free{waiting}"));
    };
    let waiting = match status.outsider() {
        Some(outsider) => format!("{waiting}; it waits for {outsider}"),
        None => waiting,
    };
    let found = format!("held by {holder}{waiting}");
    if holder.state == ProcessState::Stopped {
        return Finding::error(Check::Holder, found).next(continue_or_end(holder));
    }
    let is_long = |held: Duration| held > subject.options.timeout;
    if holder.held.is_some_and(is_long) && status.has_other_database {
        let found = format!("held by {holder}, longer than others wait{waiting}");
        return Finding::warning(Check::Holder, found).next(OTHER_DATABASE);
    }
    if holder.held.is_some_and(is_long) {
        let next = "let it end; if it does this often, let it write in smaller batches, and look \
                    at what it does while it holds";
        let found = format!("held by {holder}, longer than others wait{waiting}");
        return Finding::warning(Check::Holder, found).next(next);
    }
    if holder.recorded {
        Finding::ok(Check::Holder, found)
    } else {
        let next = "nothing, if you know it; how long it has held is not known";
        Finding::info(Check::Holder, found).next(next)
    }
}

fn leases(subject: &Subject<'_>, leases: &Leases) -> Finding {
    if leases.count == 0 {
        return Finding::ok(Check::Leases, "none so far");
    }
    let writes = leases.writes / leases.count;
    let found = format!(
        "{} so far, with {writes} writes each on average",
        leases.count
    );
    if leases.gaps_used == 0 {
        return Finding::ok(Check::Leases, found);
    }
    let found = format!(
        "{found}; programs without the lock wrote in {} of the {} gaps that were left to them",
        leases.gaps_used, leases.gaps
    );
    Finding::info(Check::Leases, found).next(subject.use_the_lock("such a program"))
}

fn continue_or_end(holder: &Holder) -> String {
    match holder.pid {
        Some(pid) => format!(
            "{}, which frees the lock at once",
            remedy::continue_or_end(pid)
        ),
        None => "continue it, or end it, which frees the lock at once".to_owned(),
    }
}

fn clock(status: &Status, header: Option<QueueFileHeader>, now: SystemTime) -> Finding {
    let is_ahead = |time: SystemTime| time > now + SLACK;
    let since = status.holder.as_ref().and_then(|holder| holder.since);
    let built = header.and_then(|header| header.built);
    // The latest event is the first.
    let turns_back = status
        .events
        .windows(2)
        .any(|two| two[0].at + SLACK < two[1].at);
    let found = if since.is_some_and(is_ahead) {
        "the holder took the lock in the future"
    } else if built.is_some_and(is_ahead) {
        "the queue file was built in the future: the clock was set back"
    } else if status.events.iter().any(|event| is_ahead(event.at)) || turns_back {
        "events are out of order: the clock was set back"
    } else if header.is_some_and(|header| header.built_before_boot) {
        "the queue file is older than this boot of the machine: the clock was set forward"
    } else {
        return Finding::ok(Check::Clock, "no jump was found");
    };
    let next = if cfg!(target_os = "linux") {
        "check how the clock is set (`timedatectl`); restart the programs to correct their times"
    } else {
        "check how the clock is set; restart the programs to correct their times"
    };
    Finding::warning(Check::Clock, found).next(next)
}
