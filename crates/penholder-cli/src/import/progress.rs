//! How far it is: on standard error, and only if that is a terminal.

use std::fmt::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// A bar that goes away when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Bytes that are checked.
    pub(crate) fn of_check(bytes: u64) -> Self {
        Self::new(bytes, "checking {wide_bar} {percent}%  {eta} left")
    }

    /// Rows that are written.
    pub(crate) fn of_rows(rows: u64) -> Self {
        Self::new(
            rows,
            "{wide_bar} {pos}/{len} rows  {rate} a second  {eta} left",
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

/// Without the decimals of indicatif's own.
fn rate(state: &ProgressState, out: &mut dyn Write) {
    let _ = write!(out, "{:.0}", state.per_sec());
}
