//! A progress bar on standard error, if that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar that disappears when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Counts rows.
    pub(crate) fn of_rows(rows: u64, is_quiet: bool) -> Self {
        let template = "{wide_bar} {pos}/{len} rows  {per_sec}  {eta} left";
        Self::new(rows, template, is_quiet)
    }

    /// Counts bytes.
    pub(crate) fn of_bytes(is_quiet: bool) -> Self {
        let template = "{wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
        Self::new(0, template, is_quiet)
    }

    fn new(length: u64, template: &str, is_quiet: bool) -> Self {
        let bar = ProgressBar::new(length);
        if is_quiet {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template(template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    pub(crate) fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    /// Sets how much there is of how much.
    pub(crate) fn set_of(&self, done: u64, length: u64) {
        self.0.set_length(length);
        self.0.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
