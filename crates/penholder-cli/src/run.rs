//! `penholder run`: hold the write lock while a command runs.

use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use penholder::lock::{LockError, WriteGuard, WriteLocker};
use penholder_core::{Shortage, shown_path};

use crate::args::{Run, TIMEOUT, timeout_in_environment};
use crate::failure::{FAILED, Failure, NOT_EXECUTABLE, NOT_FOUND, USAGE, say};
use crate::interruption::{Interruption, RAISE_LIMIT};
use crate::sys::process::{self, SignalForwarder};
use crate::sys::signal::SignalThread;

/// A wait that takes longer is reported.
const SILENCE: Duration = Duration::from_secs(1);
/// How long to wait unless something else is asked for.
const WAIT: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &Run, interruption: &Interruption) -> Result<ExitCode, Failure> {
    interruption.set_outcome(": the command was not started");
    // Comes before the lock: with the lock held, nothing fails for want of a thread.
    let signals = interruption.receiver("run")?;
    let mut options = args.target.options();
    if let Some(label) = &args.label {
        options = options.label(label);
    }
    let locker = options.locker(&args.target.db)?;
    if !args.create && !args.target.db.exists() {
        let next = "check the name, or give --create if the command creates it";
        return Err(args.target.missing("run", next));
    }
    let guard = acquire(&locker, wait(args)?, args).map_err(|error| {
        if error.lock_error().is_some_and(LockError::is_timeout) {
            if args.nonblock {
                return Failure::Silent(args.conflict_exit_code);
            }
            let next = format!("wait longer with -w TIME, or set {TIMEOUT}");
            Failure::new(format!("{error}\n  {next}"), args.conflict_exit_code)
        } else {
            error.into()
        }
    })?;
    let status = run_under(&guard, args, signals)?;
    // The command has run, even if the record cannot be cleared.
    if let Err(error) = guard.release() {
        say(error);
    }
    Ok(process::exit_code(status).unwrap_or(FAILED.into()))
}

/// How long to wait for the lock.
fn wait(args: &Run) -> Result<Duration, Failure> {
    if args.nonblock {
        return Ok(Duration::ZERO);
    }
    let wait = match args.wait {
        None => timeout_in_environment()?,
        given => given,
    };
    Ok(wait.unwrap_or(WAIT))
}

/// Waits for the lock, and says so if that takes long.
fn acquire(locker: &WriteLocker, wait: Duration, args: &Run) -> penholder::Result<WriteGuard> {
    // Without a thread: for a moment after its end, one still counts as a process of the user, and
    // the command might be the one too many.
    if let Some(guard) = locker.try_acquire()? {
        return Ok(guard);
    }
    thread::scope(|scope| {
        let (done, ended) = channel::<()>();
        let announce = move || {
            // Once, as soon as there is a holder.
            while ended.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) {
                if let Ok(Some(holder)) = locker.holder() {
                    let db = shown_path(&args.target.db);
                    args.quiet.say(format!(
                        "waiting for the write lock of {db}: held by {holder}"
                    ));
                    break;
                }
            }
        };
        // Without a thread the wait is silent.
        let _ = thread::Builder::new().spawn_scoped(scope, announce);
        let guard = locker.acquire(wait);
        drop(done);
        Ok(guard?)
    })
}

/// Runs the command. The lock is held until it has ended, whatever fails meanwhile: see
/// [`RunningChild`](process::RunningChild).
fn run_under(
    guard: &WriteGuard,
    args: &Run,
    signals: &SignalThread,
) -> Result<ExitStatus, Failure> {
    let mut command = command(args).ok_or_else(|| Failure::new("run: give a command", USAGE))?;
    let failed =
        |error: io::Error| Failure::of_system("run: watch for signals", &error, "try again");
    let forwarder = SignalForwarder::watch(signals).map_err(failed)?;
    guard.lend_to(&mut command);
    let child = forwarder
        .start(&mut command)
        .map_err(|error| cannot_start(Path::new(command.get_program()), &error))?;
    child
        .wait()
        .map_err(|error| Failure::new(format!("run: wait for the command: {error}"), FAILED))
}

/// Returns the command with its words, or the shell with its line.
fn command(args: &Run) -> Option<Command> {
    if let Some(line) = &args.line {
        let mut command = process::shell(line);
        command.args(&args.command);
        return Some(command);
    }
    let (program, words) = args.command.split_first()?;
    let mut command = Command::new(program);
    command.args(words);
    Some(command)
}

/// The exit code is that of a shell: 127 if there is no such program, 126 if it cannot
/// be started.
fn cannot_start(program: &Path, error: &io::Error) -> Failure {
    // The kernel also reports "permission denied" if a directory in the PATH may not be
    // searched and no other one has the program.
    let missing = match error.kind() {
        io::ErrorKind::NotFound => true,
        io::ErrorKind::PermissionDenied => !is_in_path(program),
        _ => false,
    };
    let name = match program.as_os_str().is_empty() {
        true => "''".to_owned(),
        false => shown_path(program).to_string(),
    };
    if missing {
        let message = format!("run: {name}: not found: check its name and the PATH");
        return Failure::new(message, NOT_FOUND);
    }
    let next = match (error.kind(), Shortage::of(error)) {
        (io::ErrorKind::WouldBlock, _) => RAISE_LIMIT,
        (_, Some(shortage)) => shortage.advice(),
        _ => "check that it is a program that you may run",
    };
    Failure::new(format!("run: {name}: {error}: {next}"), NOT_EXECUTABLE)
}

fn is_in_path(program: &Path) -> bool {
    if program.components().count() > 1 {
        return true;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).exists())
}
