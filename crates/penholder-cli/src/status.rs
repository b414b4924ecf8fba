//! `penholder status`: who holds the write lock.

use std::process::ExitCode;

use penholder::lock::{self, PageState, WriteLocker};

use crate::args::{Status, Target};
use crate::failure::{FAILED, Failure};
use crate::output;

/// How many events are shown to people; `--json` has all of them.
const EVENTS: usize = 8;

pub(crate) fn run(args: &Status) -> Result<ExitCode, Failure> {
    let status = locker("status", &args.target)?.status()?;
    if args.json {
        return output::print_json(&status);
    }
    output::print(describe(&status).as_bytes())
}

/// The lock of a database that is there, for a command that only looks.
pub(crate) fn locker(command: &str, target: &Target) -> Result<WriteLocker, Failure> {
    let db = &target.db;
    let locker = target.options().locker(db)?;
    if db.exists() || locker.lock_file().exists() {
        return Ok(locker);
    }
    let message = format!(
        "{command}: {}: there is no such database and no lock file: check the name",
        db.display()
    );
    Err(Failure::new(message, FAILED))
}

/// For people: the holder, the queue, and what was notable lately.
fn describe(status: &lock::Status) -> String {
    let mut lines = people(status);
    lines.extend(figures(status).map(|line| format!("  {line}")));
    lines.extend(events(status).map(|line| format!("  {line}")));
    lines.join("\n") + "\n"
}

/// The holder and the queue.
pub(crate) fn people(status: &lock::Status) -> Vec<String> {
    let mut lines = vec![match &status.holder {
        None => "free".to_owned(),
        Some(holder) => format!("held by {holder}"),
    }];
    lines.push(format!("  lock file: {}", status.lock_file.display()));
    match status.page {
        PageState::InUse => {}
        PageState::None => {
            lines.push("  no queue: no process has made one, or none can be made here".to_owned());
        }
        _ => lines
            .push("  no queue: what stands in its place is none, or may not be read".to_owned()),
    }
    for (place, waiter) in status.queue.iter().enumerate() {
        lines.push(format!("  {}. in line: {waiter}", place + 1));
    }
    lines
}

/// What was counted and measured since the page was built: a line each, which
/// `top` shows too.
pub(crate) fn figures(status: &lock::Status) -> impl Iterator<Item = String> + use<> {
    let counted = &status.counters;
    let taken = (counted.acquisitions > 0).then(|| {
        format!(
            "taken {} times, {} waited for, {} timeouts, {} recoveries",
            counted.acquisitions, counted.contended, counted.timeouts, counted.recoveries
        )
    });
    let waits = (counted.acquisitions > 0).then(|| format!("waits {}", took(&status.waits)));
    let holds = (status.holds.count > 0).then(|| format!("holds {}", took(&status.holds)));
    let shared = (counted.batches > 0).then(|| {
        let size = &status.batches;
        format!(
            "{} writes in {} shared transactions, {} carried for others; p50 {}, p99 {}, most {}",
            counted.grouped, counted.batches, counted.carried, size.p50, size.p99, size.max
        )
    });
    [taken, waits, holds, shared].into_iter().flatten()
}

/// The latest events.
pub(crate) fn events(status: &lock::Status) -> impl Iterator<Item = String> + '_ {
    status.events.iter().take(EVENTS).map(ToString::to_string)
}

fn took(times: &lock::Percentiles) -> String {
    format!(
        "p50 {}, p90 {}, p99 {}, longest {}",
        output::duration(times.p50),
        output::duration(times.p90),
        output::duration(times.p99),
        output::duration(times.max)
    )
}
