//! This process's membership in the queue of processes, where there is a queue file.

use crate::lock_options::LockOptions;
use crate::queue_file::{self, NoQueueFile, Slot};
use crate::sys::clock;
use crate::sys::process::Identity;
use crate::turnstile::{Participant, TurnWord};

/// How long a process goes without checking that its queue file is still the one in use, and
/// without trying again to occupy a slot, in nanoseconds.
const SLOT_RECHECK: u64 = 100_000_000;

/// A slot in the queue file, if this process has one.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    member: Option<(Slot, Participant)>,
    /// When it last checked its slot, or tried to occupy one.
    checked: Option<u64>,
    /// What stands in the place of the queue file is not one. The next holder builds it
    /// again.
    is_invalid: bool,
    /// All slots were taken when it last tried to occupy one.
    is_full: bool,
    /// The label as it stands in the slot.
    label: Option<String>,
}

impl Membership {
    /// Occupies a slot if this process has none, and checks from time to time whether its
    /// queue file is still the one in use.
    pub(crate) fn join(&mut self, options: &LockOptions, identity: &Identity) {
        let now = clock::coarse();
        let is_recent = self
            .checked
            .is_some_and(|checked| now.saturating_sub(checked) < SLOT_RECHECK);
        if !options.use_queue || is_recent {
            return;
        }
        self.checked = Some(now);
        if let Some((slot, _)) = &self.member {
            if slot.is_current() {
                return;
            }
            self.member = None;
        }
        let label = options.label.as_deref();
        self.is_full = false;
        match Slot::occupy(&options.path, options.model.as_deref(), identity, label) {
            Ok(slot) => {
                let participant = Participant::new(slot.index());
                self.member = Some((slot, participant));
                self.is_invalid = false;
                self.label.clone_from(&options.label);
            }
            Err(NoQueueFile::Invalid) => self.is_invalid = true,
            // It takes microseconds: asked again at the next try.
            Err(NoQueueFile::Growing) => self.checked = None,
            Err(NoQueueFile::Full) => self.is_full = true,
            Err(NoQueueFile::NotTrusted | NoQueueFile::Unavailable) => {}
        }
    }

    /// Whether this process polls because all slots were taken.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Builds the queue file again if it is invalid, and joins. The caller holds the lock.
    pub(crate) fn rebuild_if_invalid(&mut self, options: &LockOptions, identity: &Identity) {
        if !self.is_invalid {
            return;
        }
        // Another holder may have done so since we looked.
        self.is_invalid = false;
        self.checked = None;
        self.join(options, identity);
        if self.is_invalid {
            self.is_invalid = false;
            if queue_file::rebuild(&options.path, options.model.as_deref()).is_ok() {
                crate::failpoint!("built");
                self.checked = None;
                self.join(options, identity);
            }
        }
        if let Some((slot, participant)) = &mut self.member {
            participant.adopt(slot);
        }
    }

    /// Writes the label that this process waits with into the slot, if it has changed.
    pub(crate) fn update_label(&mut self, options: &LockOptions) {
        if let Some((slot, _)) = &self.member
            && self.label != options.label
        {
            slot.set_label(options.label.as_deref());
            self.label.clone_from(&options.label);
        }
    }

    /// Forgets the slot: the others use another queue file by now.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn slot(&self) -> Option<&Slot> {
        self.member.as_ref().map(|(slot, _)| slot)
    }

    /// Returns slot and participant, if there are any and the options ask for the queue.
    pub(crate) fn member(&mut self, options: &LockOptions) -> Option<&mut (Slot, Participant)> {
        self.member.as_mut().filter(|_| options.use_queue)
    }

    /// Returns slot and participant if the lock was taken through the queue: another locker
    /// of this process may have taken it without.
    pub(crate) fn holding_member(&mut self) -> Option<&mut (Slot, Participant)> {
        self.member
            .as_mut()
            .filter(|(_, participant)| participant.holds())
    }

    /// Returns when the lock was taken: monotonic clock, nanoseconds.
    pub(crate) fn taken_at(&self) -> u64 {
        self.member
            .as_ref()
            .map_or(0, |(_, participant)| participant.taken_at())
    }

    /// Returns the pid that the turnstile names; zero if it names none.
    pub(crate) fn pid_at_turnstile(&self) -> u64 {
        let Some(slot) = self.slot() else {
            return 0;
        };
        TurnWord::load(slot)
            .owner()
            .map_or(0, |owner| slot.pid(owner))
    }

    /// Gives up the slot of a process that ends its use of the lock.
    pub(crate) fn leave(&mut self) {
        if let Some((slot, participant)) = &mut self.member {
            participant.leave(slot);
        }
    }

    /// Gives up the place in the queue of a wait that has paused.
    pub(crate) fn leave_place(&mut self) {
        if let Some((slot, participant)) = &mut self.member {
            participant.leave_place(slot);
        }
    }
}
