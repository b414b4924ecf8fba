//! Console control events, as signals to this process.
//!
//! | event | number | exit code |
//! | --- | --- | --- |
//! | Ctrl-C | that of SIGINT | 130 |
//! | Ctrl-Break | that of SIGBREAK in the C library | 149 |
//! | the console is closed | that of SIGHUP | 129 |
//! | the user logs off, the system shuts down | that of SIGTERM | 143 |
//!
//! Windows calls the handler in a thread of its own for each event. After the last three it ends the
//! process within some seconds, or as soon as the handler returns.
//!
//! Ctrl-C stays ignored if the parent has switched it off, as `start /b` does.

use std::io;
use std::process;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT,
    SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, TerminateProcess};

use super::succeeded;

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGBREAK: i32 = 21;

/// The events that ask a program to end.
pub(crate) const ENDS: [i32; 4] = [SIGHUP, SIGINT, SIGTERM, SIGBREAK];
/// Ctrl-Break, which is the nearest to Ctrl-\.
pub(crate) const SIGQUIT: i32 = SIGBREAK;
/// No event has this number: a new size of the terminal is read with its keys.
pub(crate) const SIGWINCH: i32 = -1;

/// Longer than Windows lets a process live after its last event.
const LAST: Duration = Duration::from_secs(60);

/// An event that came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) number: i32,
}

/// What is done with each event.
pub(crate) type Reaction = Box<dyn FnMut(Received) + Send>;

/// Who receives the events of this process.
static RECEIVER: Mutex<Option<Receiver>> = Mutex::new(None);

struct Receiver {
    signals: Vec<i32>,
    reaction: Reaction,
}

/// The handler of console control events. There is one for the process.
#[derive(Debug)]
pub(crate) struct SignalThread(());

impl SignalThread {
    /// From now on `reaction` is called for these signals, and they have no other effect.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub(crate) fn start(signals: &[i32], reaction: Reaction) -> io::Result<Self> {
        let signals = signals.to_vec();
        *lock() = Some(Receiver { signals, reaction });
        // SAFETY: the function has the signature that is asked for, and is always there.
        succeeded(unsafe { SetConsoleCtrlHandler(Some(handle), 1) })?;
        Ok(Self(()))
    }

    /// Receives more signals.
    #[expect(clippy::unnecessary_wraps, reason = "as on other platforms")]
    #[expect(clippy::unused_self, reason = "as on other platforms")]
    pub(crate) fn add(&self, signals: &[i32]) -> io::Result<()> {
        if let Some(receiver) = lock().as_mut() {
            receiver.signals.extend(signals);
        }
        Ok(())
    }

    /// From now on `reaction` is called. When this returns, the former one has ended and
    /// is not called again.
    #[expect(clippy::unused_self, reason = "as on other platforms")]
    pub(crate) fn react(&self, reaction: Reaction) {
        react(reaction);
    }
}

/// Does the same for the one handler of the process.
pub(super) fn react(reaction: Reaction) {
    if let Some(receiver) = lock().as_mut() {
        receiver.reaction = reaction;
    }
}

fn lock() -> MutexGuard<'static, Option<Receiver>> {
    RECEIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns whether the event needs no other handler. The last handler ends the process.
unsafe extern "system" fn handle(event: u32) -> i32 {
    let Some(number) = number_of(event) else {
        return 0;
    };
    let is_received = lock().as_mut().is_some_and(|receiver| {
        let is_wanted = receiver.signals.contains(&number);
        if is_wanted {
            (receiver.reaction)(Received { number });
        }
        is_wanted
    });
    if is_received && number != SIGINT && number != SIGBREAK {
        // When this returns, the process ends at once: it may have something to finish.
        thread::sleep(LAST);
    }
    is_received.into()
}

fn number_of(event: u32) -> Option<i32> {
    match event {
        CTRL_C_EVENT => Some(SIGINT),
        CTRL_BREAK_EVENT => Some(SIGBREAK),
        CTRL_CLOSE_EVENT => Some(SIGHUP),
        CTRL_LOGOFF_EVENT | CTRL_SHUTDOWN_EVENT => Some(SIGTERM),
        _ => None,
    }
}

/// Names a signal for people.
pub(crate) fn name(number: i32) -> String {
    let name = match number {
        SIGINT => "Ctrl-C",
        SIGBREAK => "Ctrl-Break",
        SIGHUP => "the console, which was closed",
        SIGTERM => "the end of the session",
        _ => return format!("signal {number}"),
    };
    name.to_owned()
}

/// What events do without a handler: Windows ends this process.
#[derive(Debug, Default)]
pub(crate) struct SignalFlags;

impl SignalFlags {
    /// Changes nothing.
    #[expect(clippy::unnecessary_wraps, reason = "as on other platforms")]
    pub(crate) fn watch(_signals: &[i32]) -> io::Result<Self> {
        Ok(Self)
    }

    /// Changes nothing: each event ends the process.
    #[expect(clippy::unused_self, reason = "as on other platforms")]
    pub(crate) fn end(&self, _at_once: bool) {}

    /// Always `None`.
    #[expect(clippy::unused_self, reason = "as on other platforms")]
    pub(crate) fn noted(&self) -> Option<i32> {
        None
    }
}

/// Ends this process at once, whatever its other threads do: `process::exit` waits for locks that
/// they may hold.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: the handle of this process is always valid.
    unsafe { TerminateProcess(GetCurrentProcess(), code.cast_unsigned()) };
    process::abort()
}

/// Does nothing: there is no limit on the size of files.
#[expect(clippy::unnecessary_wraps, reason = "as on other platforms")]
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

    use super::*;

    #[test]
    fn events_reach_the_reaction_that_was_set_last() {
        let seen = Arc::new(AtomicI32::new(0));
        let note = |seen: &Arc<AtomicI32>, add: i32| -> Reaction {
            let seen = Arc::clone(seen);
            Box::new(move |received| seen.store(received.number + add, SeqCst))
        };
        let thread = SignalThread::start(&[SIGINT], note(&seen, 0)).unwrap();
        // SAFETY: it may be called with every number.
        let send = |event| unsafe { handle(event) };
        assert_eq!((send(CTRL_C_EVENT), seen.load(SeqCst)), (1, SIGINT));
        assert_eq!(send(CTRL_BREAK_EVENT), 0, "it was not asked for");
        assert_eq!(send(77), 0, "an event of a later Windows");
        thread.add(&[SIGQUIT]).unwrap();
        thread.react(note(&seen, 100));
        assert_eq!(send(CTRL_BREAK_EVENT), 1);
        assert_eq!(seen.load(SeqCst), 100 + SIGBREAK);
    }
}
