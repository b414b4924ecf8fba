//! The write lock: its holder, the page that processes queue in, and the clock that
//! their times are of.

use std::time::{Duration, SystemTime};

use penholder_lock::{Holder, PageFault, PageHeader, ProcessState, Status};

use super::report::{Check, Finding};
use super::subject::Subject;
use super::text::name_of;

/// Clocks may differ, and events be noted out of order, by so much.
const SLACK: Duration = Duration::from_secs(5);

pub(super) fn examine(subject: &Subject<'_>) -> Vec<Finding> {
    let header = subject.locker.page_header();
    let built = header.as_ref().ok().copied().flatten();
    let mut findings = vec![match header {
        Ok(header) => page(subject, header),
        Err(error) => Finding::warning(Check::QueueFile, error.to_string())
            .next("let every user of the database read and write it, or remove it"),
    }];
    match subject.locker.status() {
        Ok(status) => {
            findings.push(holder(subject, &status));
            findings.push(clock(&status, built, SystemTime::now()));
        }
        Err(error) => findings.push(
            Finding::error(Check::Holder, error.to_string())
                .next("mend the lock file as it says, then ask again"),
        ),
    }
    findings
}

fn page(subject: &Subject<'_>, header: Option<PageHeader>) -> Finding {
    let name = name_of(&subject.locker.page_file());
    match header.map(|header| header.fault) {
        None => Finding::ok(
            Check::QueueFile,
            format!("no {name}: no process has made one yet"),
        ),
        Some(None) => Finding::ok(Check::QueueFile, format!("{name} is in use")),
        Some(Some(fault)) => {
            let next = match fault {
                PageFault::OtherVersion(_) => {
                    "let all programs use one version of penholder: each builds its own anew"
                }
                _ => "nothing: the next to take the lock builds another; if it stays, remove it",
            };
            Finding::warning(Check::QueueFile, format!("{name} {fault}")).next(next)
        }
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
    let found = format!("held by {holder}{waiting}");
    if holder.state == ProcessState::Stopped {
        return Finding::error(Check::Holder, found).next(let_go(holder));
    }
    let is_long = |held: Duration| held > subject.options.timeout;
    if holder.held.is_some_and(is_long) {
        let next = "let it end; if it does this often, let it write in smaller batches, and look \
                    at what it does while it holds";
        let found = format!("held by {holder}, longer than others wait{waiting}");
        return Finding::warning(Check::Holder, found).next(next);
    }
    if holder.recorded {
        Finding::ok(Check::Holder, found)
    } else {
        let next = "nothing, if you know it (`flock db.lock …`); since when it holds is not known";
        Finding::info(Check::Holder, found).next(next)
    }
}

fn let_go(holder: &Holder) -> String {
    match holder.pid {
        Some(pid) => format!(
            "let it go on (`kill -CONT {pid}`) or end it (`kill -9 {pid}`): then the lock is free \
             at once"
        ),
        None => "let it go on, or end it: then the lock is free at once".to_owned(),
    }
}

fn clock(status: &Status, page: Option<PageHeader>, now: SystemTime) -> Finding {
    let is_ahead = |time: SystemTime| time > now + SLACK;
    let since = status.holder.as_ref().and_then(|holder| holder.since);
    let built = page.and_then(|page| page.built);
    // The latest stand first.
    let turns_back = status
        .events
        .windows(2)
        .any(|two| two[0].at + SLACK < two[1].at);
    let found = if since.is_some_and(is_ahead) {
        "the holder took the lock in the future"
    } else if built.is_some_and(is_ahead) {
        "the page was built in the future: the clock was set back"
    } else if status.events.iter().any(|event| is_ahead(event.at)) || turns_back {
        "events are out of order: the clock was set back"
    } else if page.is_some_and(|page| page.built_before_boot) {
        "the page is older than this boot of the machine: the clock was set forward"
    } else {
        return Finding::ok(Check::Clock, "no jump is seen");
    };
    let next = "look at how the clock is set (`timedatectl`); restart the programs for right times";
    Finding::warning(Check::Clock, found).next(next)
}
