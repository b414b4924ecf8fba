//! Child processes.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpgid, getpgrp, kill_process, wait, waitid,
    waitpid,
};
use signal_hook::consts::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag;

use super::pipe;
use super::signal::{Received, SignalThread, not_ignored};
use crate::sys::descent::{self, ChildHandle};

/// The others keep their meaning for this process.
const FORWARDED: [i32; 7] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM];

/// The program that runs a command line.
pub(crate) const SHELL: &str = "sh";

/// Returns the command that runs a command line in [`SHELL`].
pub(crate) fn shell(line: &OsStr) -> Command {
    let mut command = Command::new(SHELL);
    command.arg("-c").arg(line);
    command
}

/// Signals to this process that are meant for its child.
pub(crate) struct SignalForwarder(Arc<Mutex<Target>>);

/// Where signals go.
#[derive(Default)]
struct Target {
    child: Option<Recipient>,
    /// The signals that came before the child had started.
    early: Vec<Received>,
    has_ended: bool,
}

/// The child as a recipient of signals.
struct Recipient {
    pid: Pid,
    /// Names the child even after it is reaped, when another process may have its pid.
    handle: Option<ChildHandle>,
}

impl SignalForwarder {
    /// From now on signals are kept for the child. Watch before the child starts: then
    /// a signal in between is not lost.
    pub(crate) fn watch(signals: &SignalThread) -> io::Result<Self> {
        if not_ignored(&[SIGCHLD]).is_empty() {
            // A child whose parent ignores this signal leaves no exit code.
            flag::register(SIGCHLD, Arc::default())?;
        }
        let target = Arc::<Mutex<Target>>::default();
        let shared = Arc::clone(&target);
        signals.react(Box::new(move |received| lock(&shared).take(received)));
        signals.add(&FORWARDED)?;
        Ok(Self(target))
    }

    /// Starts the child. On Linux, its descendants stay below this process, even if their own parents
    /// end before them.
    pub(crate) fn start(self, command: &mut Command) -> io::Result<RunningChild> {
        descent::adopt_orphans();
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("its pid is none"))?;
        let handle = ChildHandle::open(pid);
        let can_reap_others = handle.is_some();
        let recipient = Recipient { pid, handle };
        lock(&self.0).start(recipient);
        Ok(RunningChild {
            pid,
            target: self.0,
            can_reap_others,
            status: None,
        })
    }
}

impl Target {
    fn take(&mut self, received: Received) {
        match &self.child {
            Some(child) => child.send(received),
            None if self.has_ended => {}
            None => self.early.push(received),
        }
    }

    fn start(&mut self, child: Recipient) {
        self.early
            .drain(..)
            .for_each(|received| child.send(received));
        self.child = Some(child);
    }

    fn end(&mut self) {
        self.child = None;
        self.has_ended = true;
    }
}

impl Recipient {
    fn send(&self, received: Received) {
        let Some(signal) = Signal::from_named_raw(received.number) else {
            return;
        };
        if self.has_it_already(received) {
            return;
        }
        let _ = match &self.handle {
            Some(handle) => handle.send(signal),
            None => kill_process(self.pid, signal),
        };
    }

    /// A signal from the terminal (Ctrl-C) goes to the whole foreground process group: to
    /// the child too, if it is still in our group. A hang-up goes to the session leader
    /// only.
    fn has_it_already(&self, received: Received) -> bool {
        received.is_from_kernel
            && received.number != SIGHUP
            && getpgid(Some(self.pid)).is_ok_and(|group| group == getpgrp())
    }
}

/// A child that runs. Dropping it waits for its end: what this process holds for the child
/// is not given up earlier, whatever fails meanwhile.
pub(crate) struct RunningChild {
    pid: Pid,
    target: Arc<Mutex<Target>>,
    /// Whether signals reach no other process even after the child is reaped.
    can_reap_others: bool,
    status: Option<ExitStatus>,
}

impl RunningChild {
    /// Waits until it has ended. Signals are forwarded to it meanwhile, and orphans that
    /// came to this process are reaped when they end.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        self.wait_until_ended()
    }

    fn wait_until_ended(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let ended = if self.can_reap_others {
            self.wait_among_others()
        } else {
            self.wait_alone()
        };
        lock(&self.target).end();
        let status = ended?;
        self.status = Some(status);
        Ok(status)
    }

    fn wait_among_others(&self) -> io::Result<ExitStatus> {
        loop {
            match wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) if pid == self.pid => {
                    return Ok(ExitStatus::from_raw(status.as_raw()));
                }
                // An orphan.
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reaps the child only when no signal is sent any more: until then the kernel gives
    /// its pid to no other process.
    fn wait_alone(&self) -> io::Result<ExitStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(error) = waitid(WaitId::Pid(self.pid), options) {
            if error != Errno::INTR {
                return Err(error.into());
            }
        }
        lock(&self.target).end();
        loop {
            match waitpid(Some(self.pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => return Ok(ExitStatus::from_raw(status.as_raw())),
                Ok(None) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for RunningChild {
    fn drop(&mut self) {
        let _ = self.wait_until_ended();
    }
}

fn lock(target: &Mutex<Target>) -> MutexGuard<'_, Target> {
    target.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends this process when its parent ends, and at once if it has ended already: then the
/// reader of standard output is gone.
pub(crate) fn end_with_parent() -> io::Result<()> {
    descent::watch_parent()?;
    if pipe::stdout_closes_within(Duration::ZERO)? {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(())
}

/// Runs a program in the place of this one.
pub(crate) fn run_instead(command: &mut Command) -> io::Result<ExitCode> {
    // It returns only if it fails.
    Err(command.exec())
}

/// Returns the exit code of a process, or 128 and the number of the signal that ended it.
pub(crate) fn exit_code(status: ExitStatus) -> Option<ExitCode> {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))?;
    u8::try_from(code).ok().map(ExitCode::from)
}
