//! `penholder run`: hold the write lock while a command runs.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use penholder::lock::{WriteGuard, WriteLocker};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpgid, getpgrp, kill_process, waitid};
use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};

use crate::args::Run;
use crate::failure::{FAILED, Failure, NOT_EXECUTABLE, NOT_FOUND, say};
use crate::signals;

/// What is passed on. The others keep their meaning for penholder itself.
const PASSED_ON: [i32; 7] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM];
/// Waiting longer than this is worth a word.
const SILENCE: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &Run) -> Result<ExitCode, Failure> {
    let mut options = args.target.options();
    if let Some(label) = &args.label {
        options = options.label(label);
    }
    let locker = options.locker(&args.target.db)?;
    let wait = if args.nonblock {
        Duration::ZERO
    } else {
        args.wait
    };
    let guard = acquire(&locker, wait, &args.target.db).map_err(|error| {
        let timeout = error
            .lock_error()
            .is_some_and(penholder::lock::LockError::is_timeout);
        if timeout {
            Failure::new(error, args.conflict_exit_code)
        } else {
            error.into()
        }
    })?;
    let status = run_under(&guard, args)?;
    // The command is done, whatever becomes of the record.
    if let Err(error) = guard.release() {
        say(error);
    }
    Ok(exit_code(status))
}

/// Waits for the lock, and says so when it takes a while.
fn acquire(locker: &WriteLocker, wait: Duration, db: &Path) -> penholder::Result<WriteGuard> {
    thread::scope(|scope| {
        let (done, ended) = channel::<()>();
        scope.spawn(move || {
            // Said once, as soon as a holder is seen.
            while ended.recv_timeout(SILENCE) == Err(RecvTimeoutError::Timeout) {
                if let Ok(Some(holder)) = locker.holder() {
                    let db = db.display();
                    say(format!(
                        "waiting for the write lock of {db}: held by {holder}"
                    ));
                    break;
                }
            }
        });
        let guard = locker.acquire(wait);
        drop(done);
        Ok(guard?)
    })
}

fn run_under(guard: &WriteGuard, args: &Run) -> Result<ExitStatus, Failure> {
    let Some((program, words)) = args.command.split_first() else {
        return Err(Failure::new(
            "run: give a command after --",
            crate::failure::USAGE,
        ));
    };
    // Before the command starts: a signal in between is passed on, not lost.
    let failed = |error| Failure::new(format!("run: watch for signals: {error}"), FAILED);
    let mut signals = SignalsInfo::<WithOrigin>::new(passed_on()).map_err(failed)?;
    let mut command = Command::new(program);
    command.args(words);
    guard.lend_to(&mut command);
    let mut child = command
        .spawn()
        .map_err(|error| cannot_start(Path::new(program), &error))?;
    let handle = signals.handle();
    let target = pid(&child);
    let passing_on = thread::spawn(move || {
        for origin in &mut signals {
            if let (Some(pid), Some(signal)) = (target, Signal::from_named_raw(origin.signal))
                && !has_it_already(&origin, pid)
            {
                let _ = kill_process(pid, signal);
            }
        }
    });
    let ended = wait_without_reaping(&child);
    // Only then reaped: until now the pid is the child's for sure.
    handle.close();
    let _ = passing_on.join();
    ended
        .and_then(|()| child.wait())
        .map_err(|error| Failure::new(format!("run: wait for the command: {error}"), FAILED))
}

/// As a shell says it: 127 if there is no such program, 126 if it cannot be run.
fn cannot_start(program: &Path, error: &io::Error) -> Failure {
    // The kernel says "permission denied" as well if a folder of the PATH may
    // not be searched and no other has the program.
    let missing = match error.kind() {
        io::ErrorKind::NotFound => true,
        io::ErrorKind::PermissionDenied => !is_in_path(program),
        _ => false,
    };
    let name = program.display();
    if missing {
        let message = format!("run: {name}: not found: check its name and the PATH");
        return Failure::new(message, NOT_FOUND);
    }
    let next = "check that it is a program that you may run";
    Failure::new(format!("run: {name}: {error}: {next}"), NOT_EXECUTABLE)
}

fn is_in_path(program: &Path) -> bool {
    if program.components().count() > 1 {
        return true;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// Those that are not ignored: what `nohup` or a shell's `&` has switched off
/// stays so for the command too.
fn passed_on() -> Vec<i32> {
    signals::not_ignored(&PASSED_ON)
}

/// A signal from the terminal (Ctrl-C) goes to the whole foreground group, the
/// command included, if it is still of our group. A hang-up comes to the
/// session's leader alone.
fn has_it_already(origin: &Origin, child: Pid) -> bool {
    matches!(origin.cause, Cause::Kernel)
        && origin.signal != SIGHUP
        && getpgid(Some(child)).is_ok_and(|group| group == getpgrp())
}

fn wait_without_reaping(child: &Child) -> io::Result<()> {
    let Some(pid) = pid(child) else {
        return Ok(());
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(pid), options) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// The command's own code, or 128 and the number of the signal that ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(FAILED))
}
