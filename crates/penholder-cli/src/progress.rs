//! Progress bars. indicatif draws them on standard error, if that is a terminal.

use std::fmt::Write;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::args::Quiet;

/// A bar is drawn at least this often.
const TICK: Duration = Duration::from_millis(100);

/// A bar that disappears when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// The thread that draws ends with it.
    _ticking: Option<Sender<()>>,
}

impl Progress {
    /// Counts bytes that were checked.
    pub(crate) fn of_check(bytes: u64, quiet: &Quiet) -> Self {
        let bar = bar(bytes, quiet);
        Self::new(bar, "checking {wide_bar} {percent}%  {eta} left")
    }

    /// Counts rows that were written.
    pub(crate) fn of_rows(rows: u64, quiet: &Quiet) -> Self {
        let bar = bar(rows, quiet);
        let template = "{wide_bar} {pos}/{len} rows  {rate} per second  {eta} left";
        Self::new(bar, template)
    }

    /// Counts writes, all of this number if it is known.
    pub(crate) fn of_writes(writes: Option<u64>) -> Self {
        match writes {
            Some(writes) => {
                let template = "{bar:40} {pos}/{len} writes  {per_sec}  {eta} left";
                Self::new(ProgressBar::new(writes), template)
            }
            None => {
                let template = "{pos} writes  {per_sec}  {elapsed}";
                Self::new(ProgressBar::no_length(), template)
            }
        }
    }

    fn new(bar: ProgressBar, template: &str) -> Self {
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.with_key("rate", rate));
        let ticking = tick(&bar);
        Self {
            bar,
            _ticking: ticking,
        }
    }

    pub(crate) fn set(&self, done: u64) {
        self.bar.set_position(done);
    }

    pub(crate) fn add(&self, done: u64) {
        self.bar.inc(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn bar(length: u64, quiet: &Quiet) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if quiet.quiet {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

/// Draws the bar now and then, as long as the returned value lives. indicatif's own thread
/// panics if it cannot be started. Without one, the bar is drawn only when it changes.
fn tick(bar: &ProgressBar) -> Option<Sender<()>> {
    if bar.is_hidden() {
        return None;
    }
    let (ticking, ended) = channel();
    let bar = bar.clone();
    let draw = move || {
        while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            bar.tick();
        }
    };
    let thread = thread::Builder::new().name("progress".to_owned());
    thread.spawn(draw).ok().map(|_| ticking)
}

/// The rate without decimals, which indicatif's own has.
fn rate(state: &ProgressState, out: &mut dyn Write) {
    let _ = write!(out, "{:.0}", state.per_sec());
}
