//! Signals to this process.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// The signals that ask a program on a terminal to end.
const ENDS: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];

/// A request to end, by Ctrl-C or `kill`. A second one ends this process at once.
#[derive(Debug)]
pub(crate) struct Interrupt {
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// From now on the first request is noted instead of ending this process.
    pub(crate) fn watch() -> io::Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        let again = Arc::new(AtomicBool::new(false));
        for number in not_ignored(&[SIGINT, SIGTERM]) {
            // In this order: the first signal finds `again` unset.
            flag::register_conditional_default(number, Arc::clone(&again))?;
            flag::register(number, Arc::clone(&again))?;
            let value = usize::try_from(number).unwrap_or_default();
            flag::register_usize(number, Arc::clone(&signal), value)?;
        }
        Ok(Self { signal })
    }

    /// The number of the signal that came.
    pub(crate) fn signal(&self) -> Option<u8> {
        match self.signal.load(SeqCst) {
            0 => None,
            number => u8::try_from(number).ok(),
        }
    }
}

/// A signal that concerns a program which draws on the whole terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScreenSignal {
    /// The terminal has another size.
    Resized,
    /// The signal of this number asks the program to end.
    End(i32),
}

/// From now on `notice` is called for these signals, on a thread of its own, and they
/// have no other effect.
pub(crate) fn watch_screen(
    mut notice: impl FnMut(ScreenSignal) + Send + 'static,
) -> io::Result<()> {
    let mut signals = Signals::new(ENDS.iter().chain(&[SIGWINCH]))?;
    thread::spawn(move || {
        for signal in &mut signals {
            notice(match signal {
                SIGWINCH => ScreenSignal::Resized,
                signal => ScreenSignal::End(signal),
            });
        }
    });
    Ok(())
}

/// From now on `clean_up` runs before a signal that asks this process to end ends it.
pub(crate) fn before_end(clean_up: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new(not_ignored(&ENDS))?;
    thread::spawn(move || {
        for signal in &mut signals {
            clean_up();
            end_by(signal);
        }
    });
    Ok(())
}

/// Ends this process as the signal would have, so that its parent sees why it ended.
/// Returns if that is not possible.
pub(crate) fn end_by(signal: i32) {
    let _ = emulate_default_handler(signal);
}

/// The `signals` that this process does not ignore. What `nohup` or a shell's `&` has
/// switched off stays off.
pub(super) fn not_ignored(signals: &[i32]) -> Vec<i32> {
    let ignored = ignored().unwrap_or(0);
    let is_heard = |signal: &&i32| ignored & (1 << (**signal - 1)) == 0;
    signals.iter().filter(is_heard).copied().collect()
}

/// The mask of signals that this process ignores, the lowest bit for signal 1.
fn ignored() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}
