//! Standard output.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use ratatui::crossterm::terminal;
use serde::Serialize;

use crate::failure::Failure;
use crate::sys::pipe;
use penholder_rows::terminal_text::printable;

/// Prints text for people; the exit code is that of success. What could drive a terminal is
/// escaped here, in all of it; line ends of what the text tells of are escaped by
/// [`one_line`](penholder_core::one_line) where it is put together.
pub(crate) fn print_text(text: &str) -> Result<ExitCode, Failure> {
    print(printable(text).as_bytes())
}

/// Prints data for programs, as it is. The exit code is that of success.
pub(crate) fn print(bytes: &[u8]) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a value as one line of JSON.
pub(crate) fn print_json(value: &impl Serialize) -> Result<ExitCode, Failure> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    print(&text)
}

/// Returns how many characters a line of the terminal has; `None` if the output is none.
pub(crate) fn terminal_width() -> Option<usize> {
    let (columns, _lines) = io::stdout().is_terminal().then(terminal::size)?.ok()?;
    (columns > 0).then_some(columns.into())
}

/// Waits for this time, unless the reader of our output goes away first.
pub(crate) fn pause(time: Duration) -> Result<(), Failure> {
    if pipe::stdout_closes_within(time)? {
        return Err(Failure::PipeClosed);
    }
    Ok(())
}
