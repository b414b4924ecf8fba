//! What a signal that asks the command to end does: it ends it at once, in every wait and in
//! every statement, with a message and the exit code of 128 and its number. SQLite undoes
//! what was not committed when the database is used next, as after `kill -9`.
//!
//! | state | a signal |
//! | --- | --- |
//! | it waits, or works on what may be cut off | ends it |
//! | it works on what it finishes first ([`begin_work`](Interruption::begin_work)) | is noted; the next one ends it |
//! | the signals have another receiver ([`receiver`](Interruption::receiver)) | is the receiver's |
//!
//! A thread receives the signals. If it cannot be started, handlers do the same without the
//! message.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::failure::{FAILED, Failure, say};
use crate::sys::pipe;
use crate::sys::signal::{self, ENDS, SignalFlags, SignalThread};

/// The next step if the limit of processes is reached.
pub(crate) const RAISE_LIMIT: &str = if cfg!(windows) {
    "end some processes"
} else {
    "end some processes, or raise the limit (`ulimit -u`, or that of the container)"
};

/// What a second signal means as a rule: whether the work was committed is not known.
const CUT_OFF: &str = " while it wrote: see what was written before you go on";

/// The signals that ask this command to end.
#[derive(Debug)]
pub(crate) struct Interruption {
    state: Arc<Mutex<State>>,
    watch: Watch,
}

#[derive(Debug)]
enum Watch {
    Thread(SignalThread),
    /// Why there is no thread.
    Flags(SignalFlags, io::Error),
}

#[derive(Default)]
struct State {
    /// What is interrupted.
    subject: String,
    /// What follows from it.
    outcome: String,
    /// What follows if it comes while the command works; `None` for [`CUT_OFF`].
    cut_off: Option<&'static str>,
    is_working: bool,
    noted: Option<i32>,
    clean_up: Vec<Box<dyn Fn() + Send>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("is_working", &self.is_working)
            .field("noted", &self.noted)
            .finish_non_exhaustive()
    }
}

impl Interruption {
    /// From now on signals end this command. The message begins with the subject: the
    /// command's name and the database.
    pub(crate) fn watch(subject: String) -> Self {
        let state = State {
            subject,
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        let reaction = move |received: signal::Received| lock(&shared).take(received.number);
        let watch = match SignalThread::start(&ENDS, Box::new(reaction)) {
            Ok(thread) => Watch::Thread(thread),
            // Without handlers either, signals do what they do by default.
            Err(error) => Watch::Flags(SignalFlags::watch(&ENDS).unwrap_or_default(), error),
        };
        Self { state, watch }
    }

    /// Changes what the message begins with.
    pub(crate) fn set_subject(&self, subject: impl Into<String>) {
        self.lock().subject = subject.into();
    }

    /// Says in the message what an interruption from now on means: `: nothing was written`.
    pub(crate) fn set_outcome(&self, outcome: impl Into<String>) {
        self.lock().outcome = outcome.into();
    }

    /// Says in the message what a second signal means, if the work is not a write.
    pub(crate) fn set_cut_off(&self, cut_off: &'static str) {
        self.lock().cut_off = Some(cut_off);
    }

    /// Runs `clean_up` before a signal ends the command.
    ///
    /// # Errors
    ///
    /// There is no thread that could run it.
    pub(crate) fn before_end(&self, clean_up: impl Fn() + Send + 'static) -> io::Result<()> {
        if let Watch::Flags(_, error) = &self.watch {
            return Err(io::Error::new(error.kind(), error.to_string()));
        }
        self.lock().clean_up.push(Box::new(clean_up));
        Ok(())
    }

    /// From now on a signal is noted, until [`end_work`](Self::end_work).
    ///
    /// # Errors
    ///
    /// A signal was noted before; its number.
    pub(crate) fn begin_work(&self) -> Result<(), i32> {
        if let Watch::Flags(flags, _) = &self.watch {
            flags.end(false);
        }
        self.lock().is_working = true;
        self.noted().map_or(Ok(()), Err)
    }

    /// From now on a signal ends the command. What was noted is left to the caller.
    pub(crate) fn end_work(&self) {
        if let Watch::Flags(flags, _) = &self.watch {
            flags.end(true);
        }
        self.lock().is_working = false;
    }

    /// The number of the signal that came while the command worked.
    pub(crate) fn noted(&self) -> Option<i32> {
        match &self.watch {
            Watch::Thread(_) => self.lock().noted,
            Watch::Flags(flags, _) => flags.noted(),
        }
    }

    /// The thread that receives the signals, for a command that gives them another meaning.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) fn receiver(&self, command: &str) -> Result<&SignalThread, Failure> {
        match &self.watch {
            Watch::Thread(thread) => Ok(thread),
            Watch::Flags(_, error) => {
                let what = format!("{command}: start a thread for signals");
                Err(Failure::new(
                    format!("{what}: {error}: {RAISE_LIMIT}"),
                    FAILED,
                ))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Ends this process, unless the signal is only noted. The mutex is held meanwhile, so
    /// that no work begins.
    fn take(&mut self, number: i32) {
        if self.is_working && self.noted.is_none() {
            self.noted = Some(number);
            return;
        }
        self.clean_up.iter().for_each(|clean_up| clean_up());
        let outcome = match self.is_working {
            true => self.cut_off.unwrap_or(CUT_OFF),
            false => &self.outcome,
        };
        // A pipe that is full and not read must not keep the process alive.
        let (subject, signal) = (&self.subject, signal::name(number));
        let message = format!("{subject}: ended by {signal}{outcome}");
        pipe::without_waiting(move || say(message));
        signal::exit(128 + number);
    }
}
