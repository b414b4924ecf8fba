//! Failures of a command: the message on standard error, and the exit code.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use penholder::Database;
use penholder_core::{Shortage, shown_path};
use penholder_rows::terminal_text::printable;

use crate::sys::pipe;

/// SQL failed, a check failed, or a file cannot be used.
pub(crate) const FAILED: u8 = 1;
/// The command line is invalid.
pub(crate) const USAGE: u8 = 2;
/// An import stopped halfway; earlier rows stay.
pub(crate) const HALFWAY: u8 = 3;
/// The worst finding of `doctor` is a warning.
pub(crate) const DOCTOR_WARNING: u8 = 3;
/// The worst finding of `doctor` is an error.
pub(crate) const DOCTOR_ERROR: u8 = 4;
/// The write lock was not free in time (`EX_TEMPFAIL` of sysexits.h).
pub(crate) const TIMEOUT: u8 = 75;
/// The command of `run` cannot be started; the code is that of a shell.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The command of `run` is not found; the code is that of a shell.
pub(crate) const NOT_FOUND: u8 = 127;

/// What to do about a timeout.
pub(crate) const WAIT_LONGER: &str = "wait longer with --timeout TIME, or set PENHOLDER_TIMEOUT";

/// Why a command fails.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Print this message and exit with this code.
    Said { message: String, code: u8 },
    /// Print nothing and exit with this code.
    Silent(u8),
    /// The reader of standard output is gone. This is no error.
    PipeClosed,
}

impl Failure {
    pub(crate) fn new(message: impl Display, code: u8) -> Self {
        let message = message.to_string();
        Self::Said { message, code }
    }

    /// An error of the operating system. If something has run out, the next step is to get more
    /// of it, and otherwise `next`.
    pub(crate) fn of_system(what: impl Display, error: &io::Error, next: &str) -> Self {
        let next = Shortage::of(error).map_or(next, |shortage| shortage.advice());
        Self::new(format!("{what}: {error}: {next}"), FAILED)
    }

    /// Says where it happened, for example at which place of a script.
    pub(crate) fn at(self, place: &str) -> Self {
        match self {
            Self::Said { message, code } => Self::new(format!("{place}: {message}"), code),
            other => other,
        }
    }

    /// Names a database by its path, and not by the one that it had when this happened.
    pub(crate) fn about(self, former: &Path, path: &Path) -> Self {
        match self {
            Self::Said { message, code } => {
                let former = shown_path(former).to_string();
                Self::new(
                    message.replace(&former, &shown_path(path).to_string()),
                    code,
                )
            }
            other => other,
        }
    }

    /// Lets the commands that it advises create the database, which is still missing.
    pub(crate) fn about_missing(self) -> Self {
        match self {
            Self::Said { message, code } => {
                let creates = message.replace("penholder run ", "penholder run --create ");
                Self::new(creates.replace("--create --create", "--create"), code)
            }
            other => other,
        }
    }

    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::PipeClosed => ExitCode::SUCCESS,
            Self::Silent(code) => ExitCode::from(code),
            Self::Said { message, code } => {
                say(message);
                ExitCode::from(code)
            }
        }
    }
}

/// Says what is unwise about a database that was opened.
pub(crate) fn say_warnings(db: &Database) {
    for warning in db.warnings() {
        say(format!("{}: {warning}", shown_path(db.path())));
    }
}

/// Prints a message on standard error. If that is closed, the message is lost. What could drive
/// a terminal is escaped here, in every message; line ends of what the message tells of are
/// escaped by [`one_line`](penholder_core::one_line) where it is put together.
pub(crate) fn say(message: impl Display) {
    let message = printable(&message.to_string());
    // One write, so that the messages of several processes do not mix.
    let line = format!("penholder: {message}\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

impl From<penholder::Error> for Failure {
    fn from(error: penholder::Error) -> Self {
        if error.is_timeout() {
            return Self::new(format!("{error}\n  {WAIT_LONGER}"), TIMEOUT);
        }
        Self::new(error, FAILED)
    }
}

impl From<penholder::rusqlite::Error> for Failure {
    fn from(error: penholder::rusqlite::Error) -> Self {
        penholder::Error::from(error).into()
    }
}

impl From<penholder::lock::LockError> for Failure {
    fn from(error: penholder::lock::LockError) -> Self {
        penholder::Error::from(error).into()
    }
}

impl From<io::Error> for Failure {
    /// An error of standard output.
    fn from(error: io::Error) -> Self {
        if pipe::is_closed(&error) {
            return Self::PipeClosed;
        }
        let next = "check where it leads";
        Self::of_system("write to standard output", &error, next)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        io::Error::from(error).into()
    }
}
