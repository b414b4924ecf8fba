#![expect(unsafe_code, reason = "events that processes share by name")]
//! Named events on which threads sleep that wait for a word of a mapped file.
//!
//! The name is made from the file and the place of the word in it. Who may open the event is who may
//! open the file: the event gets the access list of the file, and for Windows the right to write a file
//! and the right to set an event are the same bit.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::System::Threading::{
    CreateEventExW, EVENT_MODIFY_STATE, SYNCHRONIZATION_SYNCHRONIZE, SetEvent,
};

use super::file::FileId;
use super::{access, file, handle};

/// The mapped files of this process: a handful.
static MAPPED: RwLock<Vec<Arc<MappedEvents>>> = RwLock::new(Vec::new());

/// An event, which one sleeping thread takes back when it is woken.
#[derive(Debug, Clone)]
pub(super) struct Event(Arc<OwnedHandle>);

impl Event {
    /// Returns the event for a word of a mapped file; `None` for another word, and if it cannot be made.
    pub(super) fn of_word(address: usize) -> Option<Self> {
        let mapped = MAPPED.read().unwrap_or_else(PoisonError::into_inner);
        let events = mapped.iter().find(|events| events.contain(address))?;
        events.event(address).ok()
    }

    /// Wakes one thread, or the next one that begins to sleep.
    pub(super) fn set(&self) {
        // SAFETY: the handle is open while `self` lives.
        unsafe { SetEvent(self.0.as_raw_handle()) };
    }

    pub(super) fn handle(&self) -> &OwnedHandle {
        &self.0
    }
}

/// Returns whether the word is in a mapped file.
pub(super) fn is_mapped(address: usize) -> bool {
    let mapped = MAPPED.read().unwrap_or_else(PoisonError::into_inner);
    mapped.iter().any(|events| events.contain(address))
}

/// The events for the words of a mapping, made as they are needed.
#[derive(Debug)]
pub(super) struct MappedEvents {
    /// Where the mapping begins in memory, and its length.
    address: usize,
    length: usize,
    /// Where it begins in the file.
    offset: usize,
    file: FileId,
    access: Vec<u8>,
    /// By the offset in the mapping.
    events: Mutex<HashMap<usize, Event>>,
}

impl MappedEvents {
    /// Registers a mapping of the file.
    pub(super) fn register(
        file: &File,
        offset: usize,
        address: usize,
        length: usize,
    ) -> io::Result<Arc<Self>> {
        let events = Arc::new(Self {
            address,
            length,
            offset,
            file: file::facts(file)?.id,
            access: access::list_of(file)?,
            events: Mutex::default(),
        });
        let mut mapped = MAPPED.write().unwrap_or_else(PoisonError::into_inner);
        mapped.push(Arc::clone(&events));
        Ok(events)
    }

    /// Forgets the mapping.
    pub(super) fn unregister(self: &Arc<Self>) {
        let mut mapped = MAPPED.write().unwrap_or_else(PoisonError::into_inner);
        mapped.retain(|events| !Arc::ptr_eq(events, self));
    }

    fn contain(&self, address: usize) -> bool {
        (self.address..self.address + self.length).contains(&address)
    }

    fn event(&self, address: usize) -> io::Result<Event> {
        let at = address - self.address;
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(event) = events.get(&at) {
            return Ok(event.clone());
        }
        let event = self.open(at)?;
        events.insert(at, event.clone());
        Ok(event)
    }

    /// Opens the event for the word at this place, which is made if no process has it open.
    fn open(&self, at: usize) -> io::Result<Event> {
        // It begins unset, and a thread that wakes by it unsets it.
        const AUTO_RESET: u32 = 0;
        let FileId { dev, ino } = self.file;
        let at = self.offset + at;
        // All sessions of the machine share these names.
        let name = format!(r"Global\penholder-{dev:x}-{ino:x}-{at:x}");
        let name: Vec<u16> = name.encode_utf16().chain([0]).collect();
        let attributes = SECURITY_ATTRIBUTES {
            nLength: u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).unwrap_or(0),
            lpSecurityDescriptor: self.access.as_ptr().cast_mut().cast(),
            bInheritHandle: 0,
        };
        let rights = EVENT_MODIFY_STATE | SYNCHRONIZATION_SYNCHRONIZE;
        // SAFETY: the name ends with a zero, and it and the descriptor live until the call returns.
        let event =
            unsafe { CreateEventExW(&raw const attributes, name.as_ptr(), AUTO_RESET, rights) };
        // SAFETY: the call returned null, or an open handle that is ours.
        let event = unsafe { handle::owned(event) }?;
        Ok(Event(Arc::new(event)))
    }
}
