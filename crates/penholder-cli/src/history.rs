//! `penholder history`: recent events.

use std::process::ExitCode;
use std::time::Duration;

use penholder::lock::{Event, EventKind, QueueFileState, Snapshot, WriteLocker};

use crate::args::History;
use crate::failure::{Failure, say};
use crate::text::count;
use crate::{output, summary};

/// The queue file is read this often for new events.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) fn run(args: &History) -> Result<ExitCode, Failure> {
    let locker = args.target.existing_locker("history")?;
    let snapshot = locker.snapshot()?;
    let filter = Filter::of(args);
    let mut events = filter.apply(&snapshot.status.events);
    events.truncate(args.limit.unwrap_or(usize::MAX));
    if args.follow {
        events.reverse();
        print(&events, args.json)?;
        return follow(args, &locker, &filter, snapshot);
    }
    if events.is_empty() {
        say(why_empty(&snapshot));
    }
    print(&events, args.json)
}

/// Prints events as they happen, until this process is ended or its reader is gone.
fn follow(
    args: &History,
    locker: &WriteLocker,
    filter: &Filter,
    mut earlier: Snapshot,
) -> Result<ExitCode, Failure> {
    loop {
        output::pause(PAUSE)?;
        let snapshot = locker.snapshot()?;
        // The queue file was deleted, and is not yet created again.
        if snapshot.status.queue_file != QueueFileState::InUse {
            continue;
        }
        let new = snapshot.events_since(&earlier);
        if new.missed > 0 {
            let missed = count(new.missed, "event");
            say(format!(
                "history: missed {missed}: later ones took their places"
            ));
        }
        print(&filter.apply(&new.events), args.json)?;
        earlier = snapshot;
    }
}

/// Which events to print.
struct Filter {
    pid: Option<u32>,
    kinds: Vec<EventKind>,
    longer: Duration,
}

impl Filter {
    fn of(args: &History) -> Self {
        Self {
            pid: args.pid,
            kinds: args.kind.iter().map(|kind| kind.event).collect(),
            longer: args.longer,
        }
    }

    fn apply<'e>(&self, events: &'e [Event]) -> Vec<&'e Event> {
        events.iter().filter(|event| self.accepts(event)).collect()
    }

    fn accepts(&self, event: &Event) -> bool {
        let is_about = |pid| event.pid == pid || event.other == Some(pid);
        self.pid.is_none_or(is_about)
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && event.duration >= self.longer
    }
}

fn print(events: &[&Event], json: bool) -> Result<ExitCode, Failure> {
    if json {
        let mut lines = Vec::new();
        for event in events {
            serde_json::to_writer(&mut lines, event)?;
            lines.push(b'\n');
        }
        return output::print(&lines);
    }
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    output::print_text(&lines)
}

/// Why there are no events to print.
fn why_empty(snapshot: &Snapshot) -> String {
    let why = match snapshot.status.queue_file {
        QueueFileState::InUse if snapshot.status.events.is_empty() => "no events so far",
        QueueFileState::InUse => "none of the kept events matches",
        QueueFileState::None => "no events are kept: no process has queued here yet, or none can",
        _ => {
            let why = summary::why_no_queue(&snapshot.status).unwrap_or_default();
            return format!("history: no events are kept: {why}");
        }
    };
    format!("history: {why}")
}
