//! A child process, and the signals that it gets from us.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpgid, getpgrp, kill_process, waitid};
use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};

use super::signal::not_ignored;

/// The others keep their meaning for this process.
const FORWARDED: [i32; 7] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM];

/// Signals to this process that are meant for its child.
pub(crate) struct SignalForwarder {
    signals: SignalsInfo<WithOrigin>,
}

impl SignalForwarder {
    /// From now on signals are kept for the child. Watch before the child starts: then
    /// a signal in between is not lost.
    pub(crate) fn watch() -> io::Result<Self> {
        let signals = SignalsInfo::new(not_ignored(&FORWARDED))?;
        Ok(Self { signals })
    }

    /// Forwards signals to the child until it ends.
    pub(crate) fn wait(self, mut child: Child) -> io::Result<ExitStatus> {
        let mut signals = self.signals;
        let handle = signals.handle();
        let target = pid(&child);
        let forwarding = thread::spawn(move || {
            for origin in &mut signals {
                forward(&origin, target);
            }
        });
        let ended = wait_without_reaping(target);
        // Reap the child only when no signal is sent any more: until then the kernel
        // gives its pid to no other process.
        handle.close();
        let _ = forwarding.join();
        ended?;
        child.wait()
    }
}

fn forward(origin: &Origin, child: Option<Pid>) {
    if let (Some(child), Some(signal)) = (child, Signal::from_named_raw(origin.signal))
        && !has_it_already(origin, child)
    {
        let _ = kill_process(child, signal);
    }
}

/// A signal from the terminal (Ctrl-C) goes to the whole foreground process group: to
/// the child too, if it is still in our group. A hang-up goes to the session leader only.
fn has_it_already(origin: &Origin, child: Pid) -> bool {
    matches!(origin.cause, Cause::Kernel)
        && origin.signal != SIGHUP
        && getpgid(Some(child)).is_ok_and(|group| group == getpgrp())
}

fn wait_without_reaping(child: Option<Pid>) -> io::Result<()> {
    let Some(pid) = child else {
        return Ok(());
    };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(pid), options) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
}

fn pid(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// The exit code of a process, or 128 and the number of the signal that ended it.
pub(crate) fn exit_code(status: ExitStatus) -> Option<u8> {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))?;
    u8::try_from(code).ok()
}
