//! Progress bars. indicatif draws them on standard error, if that is a terminal.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// A bar that disappears when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Counts bytes that were checked.
    pub(crate) fn of_check(bytes: u64) -> Self {
        Self::new(bytes, "checking {wide_bar} {percent}%  {eta} left")
    }

    /// Counts rows that were written.
    pub(crate) fn of_rows(rows: u64) -> Self {
        Self::new(
            rows,
            "{wide_bar} {pos}/{len} rows  {rate} per second  {eta} left",
        )
    }

    fn new(length: u64, template: &str) -> Self {
        let bar = ProgressBar::new(length);
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.with_key("rate", rate));
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
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

/// The rate without decimals, which indicatif's own has.
fn rate(state: &ProgressState, out: &mut dyn Write) {
    let _ = write!(out, "{:.0}", state.per_sec());
}
