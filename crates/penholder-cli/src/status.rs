//! `penholder status`: who holds the write lock.

use std::process::ExitCode;
use std::time::Duration;

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
    let counted = &status.counters;
    if counted.acquisitions > 0 {
        lines.push(format!(
            "  taken {} times, {} waited for, {} timeouts, {} recoveries",
            counted.acquisitions, counted.contended, counted.timeouts, counted.recoveries
        ));
        lines.push(format!("  waits {}", took(&status.waits)));
    }
    if status.holds.count > 0 {
        lines.push(format!("  holds {}", took(&status.holds)));
    }
    if counted.batches > 0 {
        let size = &status.batches;
        lines.push(format!(
            "  {} writes in {} shared transactions, {} carried for others; p50 {}, p99 {}, most {}",
            counted.grouped, counted.batches, counted.carried, size.p50, size.p99, size.max
        ));
    }
    for event in status.events.iter().take(EVENTS) {
        lines.push(format!("  {event}"));
    }
    lines.join("\n") + "\n"
}

fn took(times: &lock::Percentiles) -> String {
    format!(
        "p50 {}, p90 {}, p99 {}, longest {}",
        us(times.p50),
        us(times.p90),
        us(times.p99),
        us(times.max)
    )
}

fn us(duration: Duration) -> String {
    output::time(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}
