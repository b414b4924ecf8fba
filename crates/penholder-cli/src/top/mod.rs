//! `penholder top`: who holds the write lock and who waits, live.

mod chart;
mod content;
mod entry;
mod help;
mod keys;
mod layout;
mod popup;
mod question;
mod screen;
mod trend;
mod view;
mod watch;
mod wrap;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use content::Content;
use screen::{Input, Screen};
use view::View;
use watch::Watch;

use crate::args::Top;
use crate::failure::Failure;
use crate::interruption::Interruption;
use crate::{output, summary, text};

/// The default of `--interval`.
const INTERVAL: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &Top, interruption: &Interruption) -> Result<ExitCode, Failure> {
    let watch = Watch::of(&args.target)?;
    let interval = args.interval.unwrap_or(INTERVAL);
    if args.once || !can_draw() {
        let repeat = args.interval.is_some() && !args.once;
        return print(watch, interval, repeat);
    }
    let failed = |error: io::Error| {
        let next = "use --once for plain text";
        Failure::of_system("top: use the terminal", &error, next)
    };
    let signals = interruption.receiver("top")?;
    let mut screen = Screen::open(signals).map_err(failed)?;
    let ended = show(&mut screen, watch, interval);
    let closed = screen.close();
    if let Input::Signal(signal) = ended.map_err(failed)? {
        return Err(screen::ended_by(signal));
    }
    closed.map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn can_draw() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Prints plain text after each interval: the rates are those of the interval.
fn print(mut watch: Watch, interval: Duration, repeat: bool) -> Result<ExitCode, Failure> {
    loop {
        output::pause(interval)?;
        watch.update()?;
        output::print_text(&describe(&watch))?;
        if !repeat {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// The text of `status`, as far as the queue file has it, and the latest rates.
fn describe(watch: &Watch) -> String {
    let status = &watch.snapshot().status;
    let mut lines = summary::holder_and_queue(status);
    let sample = watch.trend().latest().map(|sample| {
        format!(
            "lately acquired {} times per second, {} after a wait, waits p99 {}, longest {}",
            sample.acquired,
            sample.contended,
            text::duration(sample.p99),
            text::duration(sample.longest)
        )
    });
    let details = sample.into_iter().chain(watch.figures());
    let details = details.chain(summary::events(status));
    lines.extend(details.map(|line| format!("  {line}")));
    lines.join("\n") + "\n"
}

/// Draws on the terminal until a key or a signal ends it.
fn show(screen: &mut Screen, mut watch: Watch, interval: Duration) -> io::Result<Input> {
    let mut view = View::new(interval);
    let mut content = Content::of(&watch);
    let mut next = Instant::now() + interval;
    loop {
        screen.draw(|frame| view.draw(frame, &content))?;
        match screen.wait(next)? {
            Input::Key(key) if view.ends_by(key) => return Ok(Input::Key(key)),
            Input::Key(key) => {
                penholder_core::failpoint!("top_key");
                let is_alone = !screen.has_more_keys()?;
                let was_asking = view.is_asking();
                view.press(key, is_alone, &content);
                if view.is_asking() != was_asking {
                    // What was typed before the question is no answer to it, and what came
                    // together with the answer no command.
                    screen.discard_keys()?;
                }
            }
            Input::Resized => {}
            Input::Timeout => {
                if !view.is_paused() {
                    let error = watch.update().err();
                    content = Content::of(&watch);
                    view.update(&content, error);
                }
                next = Instant::now() + interval;
            }
            Input::Signal(signal) => return Ok(Input::Signal(signal)),
        }
    }
}
