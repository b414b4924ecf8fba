//! `penholder top`: the write lock, live.

mod keys;
#[cfg(test)]
mod panic;
mod screen;
mod trend;
mod view;
mod watch;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use screen::{Input, Screen};
use view::View;
use watch::Watch;

use crate::args::Top;
use crate::failure::{FAILED, Failure};
use crate::{output, status};

/// How often it looks, if it is not told.
const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &Top) -> Result<ExitCode, Failure> {
    let watch = Watch::of(&args.target)?;
    let interval = args.interval.unwrap_or(INTERVAL);
    if args.once || !can_draw() {
        let again = args.interval.is_some() && !args.once;
        return print(watch, interval, again);
    }
    let failed = |error| {
        let next = "use --once for plain text";
        Failure::new(format!("top: use the terminal: {error}: {next}"), FAILED)
    };
    let mut screen = Screen::open().map_err(failed)?;
    let ended = show(&mut screen, watch, interval);
    let closed = screen.close();
    if let Input::Signal(signal) = ended.map_err(failed)? {
        return Err(screen::end_by(signal));
    }
    closed.map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn can_draw() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// As plain text, each after an interval, of which it tells the rates.
fn print(mut watch: Watch, interval: Duration, again: bool) -> Result<ExitCode, Failure> {
    loop {
        output::pause(interval)?;
        watch.look()?;
        output::print(text(&watch).as_bytes())?;
        if !again {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// What `status` says, as far as the page knows it, and how busy it was.
fn text(watch: &Watch) -> String {
    let status = &watch.glance().status;
    let mut lines = status::people(status);
    let sample = watch.trend().latest().map(|sample| {
        format!(
            "lately taken {} times a second, {} waited for, waits p99 {}, longest {}",
            sample.taken,
            sample.waited,
            output::duration(sample.p99),
            output::duration(sample.longest)
        )
    });
    let more = sample.into_iter().chain(watch.figures());
    let more = more.chain(status::events(status));
    lines.extend(more.map(|line| format!("  {line}")));
    lines.join("\n") + "\n"
}

/// On the screen, until somebody ends it.
fn show(screen: &mut Screen, mut watch: Watch, interval: Duration) -> io::Result<Input> {
    let mut view = View::new(interval);
    let mut next = Instant::now() + interval;
    loop {
        screen.draw(|frame| view.draw(frame, &watch))?;
        match screen.wait(next)? {
            Input::Key(key) if view.is_end(key) => return Ok(Input::Key(key)),
            Input::Key(key) => view.press(key, &watch),
            Input::Resized => {}
            Input::Timeout => {
                if !view.is_paused() {
                    view.tell(watch.look().err());
                }
                next = Instant::now() + interval;
            }
            Input::Signal(signal) => return Ok(Input::Signal(signal)),
        }
    }
}
