//! The turn and the lock, in the hands of whoever works with them.

use std::mem;
use std::panic::Location;
use std::process::Command;
use std::sync::Arc;

use crate::attachment::{Hold, LockFile, Pen, Request};
use crate::error::{Kind, LockError};
use crate::inherited_hold::VARIABLE;
use crate::queue_file::Seat;
use crate::turnstile::Policy;

/// The turn within this process, and with it the lock file: given on when it is
/// dropped, on every way out of an acquisition.
#[derive(Debug)]
pub(crate) struct Owned {
    pen: Arc<Pen>,
    /// `None` once it is given on.
    file: Option<Box<LockFile>>,
}

impl Owned {
    pub(crate) fn new(pen: Arc<Pen>, file: Box<LockFile>) -> Self {
        let file = Some(file);
        Self { pen, file }
    }

    #[expect(clippy::expect_used, reason = "taken out only in `drop`")]
    pub(crate) fn file(&mut self) -> &mut LockFile {
        self.file.as_mut().expect("ours until dropped")
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else {
            return;
        };
        if self.pen.is_ours() {
            self.pen.turn.give(file);
        } else {
            // A forked child's copy of what is its parent's, and not even to be
            // dropped here.
            mem::forget(file);
        }
    }
}

/// The lock, held; what every guard is made of. Dropping it releases.
#[derive(Debug)]
pub(crate) struct Held {
    request: Arc<Request>,
    /// Given on after the release.
    turn: Owned,
    /// `None` once it is released.
    hold: Option<Hold>,
    /// Where the program asked for what is done.
    call_site: Option<&'static Location<'static>>,
}

impl Held {
    pub(crate) fn new(request: Arc<Request>, turn: Owned, hold: Hold) -> Self {
        Self {
            request,
            turn,
            hold: Some(hold),
            call_site: None,
        }
    }

    pub(crate) fn is_awaited(&self) -> bool {
        self.turn
            .file
            .as_ref()
            .is_some_and(|file| file.is_awaited())
    }

    /// Our place in the page, while we hold the kernel's lock itself.
    pub(crate) fn seat(&self) -> Option<&Seat> {
        if self.hold != Some(Hold::Flock) || !self.turn.pen.is_ours() {
            return None;
        }
        self.turn.file.as_ref()?.seat()
    }

    pub(crate) fn note_call_site(&mut self, site: &'static Location<'static>) {
        self.call_site = Some(site);
    }

    /// Who had died with the lock.
    pub(crate) fn recovered(&self) -> Option<u32> {
        self.seat()?;
        self.turn.file.as_ref()?.recovered()
    }

    pub(crate) fn tell_carried(&self, other: u32, writes: u64) {
        if let (Some(file), Some(_)) = (&self.turn.file, self.seat()) {
            file.tell_carried(&self.request, other, writes);
        }
    }

    pub(crate) fn lend_to(&self, child: &mut Command) {
        if let (Some(file), Some(hold)) = (&self.turn.file, self.hold) {
            child.env(VARIABLE, file.inheritance(hold));
        }
    }

    /// From now on the turn is this thread's, which a task had.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_this_threads(&self) {
        if self.turn.pen.is_ours() {
            self.turn.pen.turn.is_this_threads();
        }
    }

    pub(crate) fn release(mut self) -> Result<(), LockError> {
        let policy = self.request.policy;
        self.give_back(policy)
    }

    pub(crate) fn hand_over(mut self) -> Result<(), LockError> {
        self.give_back(Policy::Fifo)
    }

    fn give_back(&mut self, policy: Policy) -> Result<(), LockError> {
        let Some(hold) = self.hold.take() else {
            return Ok(());
        };
        let Owned { pen, file } = &mut self.turn;
        if !pen.is_ours() {
            return Err(LockError::new(pen.path(), Kind::Forked));
        }
        let Some(file) = file else {
            return Ok(());
        };
        let turn = &pen.turn;
        let site = self.call_site;
        file.release(&self.request, hold, policy, site, || turn.is_wanted())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Nobody to tell: `release` is for those who want to know.
        let policy = self.request.policy;
        let _ = self.give_back(policy);
    }
}
