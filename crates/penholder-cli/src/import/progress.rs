//! How far it is: on standard error, and only if that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that goes away when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Bytes that are checked.
    pub(crate) fn of_check(bytes: u64) -> Self {
        Self::new(bytes, "checking {bar:32} {percent}%  {eta} left")
    }

    /// Rows that are written.
    pub(crate) fn of_rows(rows: u64) -> Self {
        Self::new(rows, "{bar:32} {pos}/{len} rows  {per_sec}  {eta} left")
    }

    fn new(length: u64, template: &str) -> Self {
        let bar = ProgressBar::new(length);
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
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
