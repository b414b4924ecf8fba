//! The terminal: taken over, and restored on every way out.

use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI32};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::terminal::disable_raw_mode;
use ratatui::{DefaultTerminal, Frame};

use super::keys::{Key, Keyboard};
use crate::failure::{FAILED, Failure};
use crate::sys::signal::{self, SIGQUIT, SIGWINCH, SignalThread};

/// A signal is noticed within this time.
const NOTICED: Duration = Duration::from_millis(50);
/// Restoring the terminal may take this long after a signal. A terminal that accepts
/// nothing more would block the write for ever.
const GRACE: Duration = Duration::from_secs(1);

/// What happened while the screen waited.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input {
    Key(Key),
    Resized,
    Signal(i32),
    /// The time is up.
    Timeout,
}

/// The signals that came.
#[derive(Default)]
struct Pending {
    /// The signal that asks this process to end, or zero.
    end: AtomicI32,
    resized: AtomicBool,
}

/// The terminal while this process draws on it.
pub(crate) struct Screen {
    /// Is never dropped: that would panic if the terminal is gone.
    terminal: ManuallyDrop<DefaultTerminal>,
    keyboard: Keyboard,
    pending: Arc<Pending>,
    is_open: bool,
}

impl Screen {
    /// Takes the terminal over. A panic restores it too.
    pub(crate) fn open(signals: &SignalThread) -> io::Result<Self> {
        // Comes first: then no signal ends this process without restoring the terminal.
        let pending = watch_for_signals(signals)?;
        let keyboard = Keyboard::open()?;
        let terminal = ratatui::try_init().inspect_err(|_| {
            let _ = ratatui::try_restore();
        })?;
        Ok(Self {
            terminal: ManuallyDrop::new(terminal),
            keyboard,
            pending,
            is_open: true,
        })
    }

    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(|_| ())
    }

    /// Waits for the next input, until this moment at most.
    pub(crate) fn wait(&mut self, until: Instant) -> io::Result<Input> {
        loop {
            let signal = self.pending.end.load(SeqCst);
            if signal != 0 {
                return Ok(Input::Signal(signal));
            }
            if self.pending.resized.swap(false, SeqCst) {
                return Ok(Input::Resized);
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.keyboard.wait(left.min(NOTICED))? {
                Some(key) => return Ok(Input::Key(key)),
                None if left.is_zero() => return Ok(Input::Timeout),
                None => {}
            }
        }
    }

    /// Whether more was typed than the last key.
    pub(crate) fn has_more_keys(&mut self) -> io::Result<bool> {
        self.keyboard.has_more()
    }

    /// Forgets what was typed so far: it was no answer to what is drawn next.
    pub(crate) fn discard_keys(&mut self) -> io::Result<()> {
        self.keyboard.discard()
    }

    pub(crate) fn close(mut self) -> io::Result<()> {
        self.is_open = false;
        let shown = self.terminal.show_cursor();
        ratatui::try_restore().and(shown)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let _ = self.terminal.show_cursor();
        // In a panic the hook has done it. A second time would put the cursor onto the
        // message of the panic.
        if !thread::panicking() {
            let _ = ratatui::try_restore();
        }
    }
}

/// Keeps signals for [`Screen::wait`], and ends this process if that does not act on
/// them.
fn watch_for_signals(signals: &SignalThread) -> io::Result<Arc<Pending>> {
    let pending = Arc::new(Pending::default());
    let noted = Arc::clone(&pending);
    signals.react(Box::new(move |received| match received.number {
        SIGWINCH => noted.resized.store(true, SeqCst),
        number => {
            noted.end.store(number, SeqCst);
            thread::sleep(GRACE);
            let _ = disable_raw_mode();
            signal::exit(128 + number);
        }
    }));
    signals.add(&[SIGQUIT, SIGWINCH])?;
    Ok(pending)
}

/// The failure if a signal ends `top`.
pub(crate) fn ended_by(signal: i32) -> Failure {
    let code = u8::try_from(128 + signal).unwrap_or(FAILED);
    Failure::new(format!("top: ended by {}", signal::name(signal)), code)
}
