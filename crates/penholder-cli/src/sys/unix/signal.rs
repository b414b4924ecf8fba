//! Signals to this process.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::{Handle, SignalsInfo};
use signal_hook::low_level;
use signal_hook::low_level::siginfo::{Cause, Origin};

use crate::sys::ignored_signals;

pub(crate) use signal_hook::consts::{SIGQUIT, SIGWINCH};

/// The signals that ask a program to end.
pub(crate) const ENDS: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

/// Enough to print a message and to remove some files.
const STACK: usize = 256 << 10;

/// A signal that came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) number: i32,
    /// The kernel sent it, because of a key on the terminal for example, and no process.
    pub(crate) is_from_kernel: bool,
}

impl Received {
    fn new(origin: &Origin) -> Self {
        Self {
            number: origin.signal,
            is_from_kernel: matches!(origin.cause, Cause::Kernel),
        }
    }
}

/// What is done with each signal.
pub(crate) type Reaction = Box<dyn FnMut(Received) + Send>;

/// A thread that receives signals. A signal that this process ignores, because of
/// `nohup` or a shell's `&`, stays ignored.
#[derive(Debug)]
pub(crate) struct SignalThread {
    handle: Handle,
    reaction: Arc<Mutex<ReactionCell>>,
}

struct ReactionCell(Reaction);

impl std::fmt::Debug for ReactionCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReactionCell")
    }
}

impl SignalThread {
    /// From now on `reaction` is called for these signals, and they have no other effect.
    ///
    /// # Errors
    ///
    /// The process can have no more threads or descriptors.
    pub(crate) fn start(signals: &[i32], reaction: Reaction) -> io::Result<Self> {
        let mut signals = SignalsInfo::<WithOrigin>::new(not_ignored(signals))?;
        let handle = signals.handle();
        let reaction = Arc::new(Mutex::new(ReactionCell(reaction)));
        let shared = Arc::clone(&reaction);
        thread::Builder::new()
            .name("signals".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                for origin in &mut signals {
                    (lock(&shared).0)(Received::new(&origin));
                }
            })?;
        Ok(Self { handle, reaction })
    }

    /// Receives more signals.
    pub(crate) fn add(&self, signals: &[i32]) -> io::Result<()> {
        let signals = not_ignored(signals);
        signals
            .into_iter()
            .try_for_each(|number| self.handle.add_signal(number))
    }

    /// From now on `reaction` is called. When this returns, the former one has ended and
    /// is not called again.
    pub(crate) fn react(&self, reaction: Reaction) {
        lock(&self.reaction).0 = reaction;
    }
}

fn lock(reaction: &Mutex<ReactionCell>) -> MutexGuard<'_, ReactionCell> {
    reaction.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names a signal for people.
pub(crate) fn name(number: i32) -> String {
    format!("signal {number}")
}

/// What signals do without a thread that receives them. They end this process without a
/// message: handlers can do no more.
#[derive(Debug, Default)]
pub(crate) struct SignalFlags {
    ends: Arc<AtomicBool>,
    noted: Arc<AtomicUsize>,
}

impl SignalFlags {
    /// From now on the exit code is 128 and the number of the signal, also as the first
    /// process of a container, where the kernel discards a signal that nothing handles.
    pub(crate) fn watch(signals: &[i32]) -> io::Result<Self> {
        let flags = Self::default();
        flags.end(true);
        for number in not_ignored(signals) {
            // In this order: a signal that is noted does not end the process yet.
            flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&flags.ends))?;
            flag::register(number, Arc::clone(&flags.ends))?;
            let value = usize::try_from(number).unwrap_or_default();
            flag::register_usize(number, Arc::clone(&flags.noted), value)?;
        }
        Ok(flags)
    }

    /// Whether the next signal ends this process. Otherwise it is noted, and the one after
    /// it ends the process.
    pub(crate) fn end(&self, at_once: bool) {
        self.ends.store(at_once, SeqCst);
    }

    /// The number of the signal that was noted.
    pub(crate) fn noted(&self) -> Option<i32> {
        match self.noted.load(SeqCst) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }
}

/// Ends this process at once, whatever its other threads do.
pub(crate) fn exit(code: i32) -> ! {
    low_level::exit(code)
}

/// From now on a write past the limit on the size of files fails, and does not end this
/// process.
///
/// The signal is handled and not ignored: a program that this process starts has the
/// default again, or ignores the signal if this process did so from its start.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    for number in not_ignored(&[SIGXFSZ]) {
        flag::register(number, Arc::default())?;
    }
    Ok(())
}

/// The `signals` that this process does not ignore. What `nohup` or a shell's `&` has
/// switched off stays off.
pub(super) fn not_ignored(signals: &[i32]) -> Vec<i32> {
    let is_heard = |signal: &&i32| !ignored_signals::is_ignored(**signal);
    signals.iter().filter(is_heard).copied().collect()
}
