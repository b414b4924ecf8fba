//! `penholder history`: what was notable lately.

use std::process::ExitCode;
use std::time::Duration;

use penholder::lock::{Event, EventKind, Glance, PageState, WriteLocker};

use crate::args::History;
use crate::failure::{Failure, say};
use crate::{output, status};

/// How often the page is looked at for further events.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) fn run(args: &History) -> Result<ExitCode, Failure> {
    let locker = status::locker("history", &args.target)?;
    let glance = locker.glance()?;
    let filter = Filter::of(args);
    let mut events: Vec<&Event> = glance.status.events.iter().collect();
    events.retain(|event| filter.lets(event));
    events.truncate(args.limit.unwrap_or(usize::MAX));
    if args.follow {
        events.reverse();
        print(&events, args.json)?;
        return follow(args, &locker, &filter, glance);
    }
    if events.is_empty() {
        say(nothing(&glance));
    }
    print(&events, args.json)
}

/// Prints what happens, until somebody ends it or nobody reads it.
fn follow(
    args: &History,
    locker: &WriteLocker,
    filter: &Filter,
    mut seen: Glance,
) -> Result<ExitCode, Failure> {
    loop {
        output::pause(PAUSE)?;
        let now = locker.glance()?;
        // Deleted, and not yet built anew.
        if now.status.page != PageState::InUse {
            continue;
        }
        let news = now.news_since(&seen);
        if news.missed > 0 {
            let missed = news.missed;
            say(format!("history: {missed} events came and went unseen"));
        }
        let mut events: Vec<&Event> = news.events.iter().collect();
        events.retain(|event| filter.lets(event));
        print(&events, args.json)?;
        seen = now;
    }
}

/// Which events are wanted.
struct Filter {
    pid: Option<u32>,
    kinds: Vec<EventKind>,
    longer: Duration,
}

impl Filter {
    fn of(args: &History) -> Self {
        Self {
            pid: args.pid,
            kinds: args.kind.iter().copied().map(EventKind::from).collect(),
            longer: args.longer,
        }
    }

    fn lets(&self, event: &Event) -> bool {
        let about = |pid| event.pid == pid || event.other == Some(pid);
        self.pid.is_none_or(about)
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && event.duration >= self.longer
    }
}

fn print(events: &[&Event], json: bool) -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    for event in events {
        if json {
            serde_json::to_writer(&mut text, event)?;
        } else {
            text.extend_from_slice(event.to_string().as_bytes());
        }
        text.push(b'\n');
    }
    output::print(&text)
}

/// Why nothing is printed, for a person who wonders.
fn nothing(glance: &Glance) -> &'static str {
    match glance.status.page {
        PageState::InUse if glance.status.events.is_empty() => "history: nothing notable happened",
        PageState::InUse => "history: none of the events kept is like that",
        PageState::None => "history: nothing is kept: no process has queued here yet, or none can",
        _ => {
            "history: nothing is kept: what stands in the queue's place is none, or may not be read"
        }
    }
}
