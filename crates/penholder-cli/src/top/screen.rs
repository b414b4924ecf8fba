//! The terminal: taken over, and given back as it was on every way out.

use std::io;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI32};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::terminal::disable_raw_mode;
use ratatui::{DefaultTerminal, Frame};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::keys::{Key, Keyboard};
use crate::failure::{FAILED, Failure};

/// What ends it.
const ENDS: [i32; 4] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM];
/// A signal is noticed within this time.
const NOTICED: Duration = Duration::from_millis(50);
/// How long giving the terminal back may take after a signal: it may take nothing
/// more, and keep whoever writes to it waiting for ever.
const GRACE: Duration = Duration::from_secs(1);

/// What a person, the terminal or time wants.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input {
    Key(Key),
    Resized,
    Signal(i32),
    /// Only time passed.
    Nothing,
}

/// What signals told.
#[derive(Default)]
struct Told {
    /// The signal that ends us, or zero.
    ends: AtomicI32,
    resized: AtomicBool,
}

/// The terminal while it is ours.
pub(crate) struct Screen {
    /// Never dropped: that would panic where the terminal is gone.
    terminal: ManuallyDrop<DefaultTerminal>,
    keyboard: Keyboard,
    told: Arc<Told>,
    is_open: bool,
}

impl Screen {
    /// A panic gives the terminal back too.
    pub(crate) fn open() -> io::Result<Self> {
        // First of all: from now on no signal ends us with the terminal as we use it.
        let told = watch_for_signals()?;
        let keyboard = Keyboard::open()?;
        let terminal = ratatui::try_init().inspect_err(|_| {
            let _ = ratatui::try_restore();
        })?;
        Ok(Self {
            terminal: ManuallyDrop::new(terminal),
            keyboard,
            told,
            is_open: true,
        })
    }

    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(|_| ())
    }

    /// What comes first, until then.
    pub(crate) fn wait(&mut self, until: Instant) -> io::Result<Input> {
        loop {
            let signal = self.told.ends.load(SeqCst);
            if signal != 0 {
                return Ok(Input::Signal(signal));
            }
            if self.told.resized.swap(false, SeqCst) {
                return Ok(Input::Resized);
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.keyboard.wait(left.min(NOTICED))? {
                Some(key) => return Ok(Input::Key(key)),
                None if left.is_zero() => return Ok(Input::Nothing),
                None => {}
            }
        }
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
        // In a panic the hook has done it: once more would put the cursor back onto what
        // the panic said.
        if !thread::panicking() {
            let _ = ratatui::try_restore();
        }
    }
}

/// Keeps what signals say for [`Screen::wait`], and sees to it that we end by those that
/// end us.
fn watch_for_signals() -> io::Result<Arc<Told>> {
    let told = Arc::new(Told::default());
    let news = Arc::clone(&told);
    let mut signals = Signals::new(ENDS.iter().chain(&[SIGWINCH]))?;
    thread::spawn(move || {
        for signal in &mut signals {
            if signal == SIGWINCH {
                news.resized.store(true, SeqCst);
                continue;
            }
            news.ends.store(signal, SeqCst);
            thread::sleep(GRACE);
            let _ = disable_raw_mode();
            let _ = emulate_default_handler(signal);
        }
    });
    Ok(told)
}

/// Ends this process as the signal would have, so that whoever started it knows.
pub(crate) fn die_of(signal: i32) -> Failure {
    let _ = emulate_default_handler(signal);
    Failure::new(format!("top: ended by signal {signal}"), FAILED)
}
