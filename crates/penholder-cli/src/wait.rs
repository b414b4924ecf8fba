//! `penholder wait`: wait for a commit, of any process.

use std::ffi::OsStr;
use std::process::ExitCode;
use std::time::Duration;

use penholder::{CommitToken, Commits, Database};
use penholder_core::shown_path;

use crate::args::Wait;
use crate::failure::{FAILED, Failure, TIMEOUT};
use crate::interruption::Interruption;
use crate::output;
use crate::sys::process;

/// The variable in which a command finds the token of the commit.
const COMMIT: &str = "PENHOLDER_COMMIT";

/// What a second signal means while a command runs.
const CUT_OFF: &str = ": the command that it had started runs on";

pub(crate) fn run(args: &Wait, interruption: &Interruption) -> Result<ExitCode, Failure> {
    args.target.existing_locker("wait")?;
    let db = args
        .target
        .options()
        .read_only(true)
        .open(&args.target.db)?;
    let mut commits = begin(&db, args.since)?;
    if args.now {
        return print(commits.token());
    }
    let Some(line) = &args.exec else {
        return print(next(&mut commits, args)?);
    };
    loop {
        let token = next(&mut commits, args)?;
        if let Some(code) = execute(line, token, interruption)? {
            return Ok(code);
        }
    }
}

fn begin(db: &Database, since: Option<CommitToken>) -> penholder::Result<Commits> {
    match since {
        Some(token) => db.commits_since(token),
        None => db.commits(),
    }
}

fn print(token: CommitToken) -> Result<ExitCode, Failure> {
    output::print_text(&format!("{token}\n"))
}

fn next(commits: &mut Commits, args: &Wait) -> Result<CommitToken, Failure> {
    let timeout = args.timeout.unwrap_or(Duration::MAX);
    commits.wait(timeout)?.ok_or_else(|| {
        if args.quiet {
            return Failure::Silent(TIMEOUT);
        }
        let db = shown_path(&args.target.db);
        Failure::new(format!("wait: {db}: no commit within {timeout:?}"), TIMEOUT)
    })
}

/// Runs a command line. Returns the exit code of this command if it is to end: that of the command
/// line if that failed, or of a signal that came meanwhile.
fn execute(
    line: &OsStr,
    token: CommitToken,
    interruption: &Interruption,
) -> Result<Option<ExitCode>, Failure> {
    interruption.set_cut_off(CUT_OFF);
    if let Err(signal) = interruption.begin_work() {
        return Ok(Some(code_of(signal)));
    }
    let mut command = process::shell(line);
    command.env(COMMIT, token.to_string());
    let status = command.status().map_err(|error| {
        let what = format!("wait: run the command with {}", process::SHELL);
        Failure::of_system(&what, &error, "check the PATH")
    })?;
    interruption.end_work();
    if let Some(signal) = interruption.noted() {
        return Ok(Some(code_of(signal)));
    }
    if status.success() {
        return Ok(None);
    }
    Ok(Some(process::exit_code(status).unwrap_or(FAILED.into())))
}

/// Returns the exit code for a signal, as a shell has it.
fn code_of(signal: i32) -> ExitCode {
    u8::try_from(128 + signal).unwrap_or(FAILED).into()
}
