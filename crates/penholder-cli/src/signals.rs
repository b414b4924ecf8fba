//! Signals: which of them this process is to notice, and being asked to end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Those of `signals` that are not ignored: what `nohup` or a shell's `&` has
/// switched off stays so.
pub(crate) fn not_ignored(signals: &[i32]) -> Vec<i32> {
    let ignored = ignored().unwrap_or(0);
    let is_heard = |signal: &&i32| ignored & (1 << (**signal - 1)) == 0;
    signals.iter().filter(is_heard).copied().collect()
}

/// The mask of signals that this process ignores, the lowest bit for signal 1.
fn ignored() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Whether this process was asked to end by Ctrl-C or `kill`: to be looked at
/// where it is a good moment to end. A second signal ends it at once.
#[derive(Debug)]
pub(crate) struct Asked {
    signal: Arc<AtomicUsize>,
}

impl Asked {
    /// From now on such a signal is noted instead of ending the process.
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
    pub(crate) fn to_end(&self) -> Option<u8> {
        match self.signal.load(SeqCst) {
            0 => None,
            number => u8::try_from(number).ok(),
        }
    }
}
