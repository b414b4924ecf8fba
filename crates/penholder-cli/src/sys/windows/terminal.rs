//! The console as a source of keys. They are told as terminals of other systems send them: as
//! bytes, and arrow and function keys as sequences that begin with an escape.

use std::char;
use std::fs::File;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle};
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::{
    GENERIC_READ, GENERIC_WRITE, INVALID_HANDLE_VALUE, WAIT_FAILED, WAIT_OBJECT_0,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateFileW, FILE_SHARE_READ, FILE_SHARE_WRITE, OPEN_EXISTING,
};
use windows_sys::Win32::System::Console::{
    GetNumberOfConsoleInputEvents, INPUT_RECORD, KEY_EVENT, KEY_EVENT_RECORD, ReadConsoleInputW,
};
use windows_sys::Win32::System::Threading::WaitForSingleObject;
use windows_sys::Win32::UI::Input::KeyboardAndMouse::{VK_DOWN, VK_F1, VK_F9, VK_UP};
use windows_sys::w;

use super::succeeded;

/// How many events are read at once.
const EVENTS: usize = 64;
/// A single call waits no longer; then it is called again.
const LONGEST_CALL: Duration = Duration::from_secs(3600);

/// The console, open for reading.
pub(crate) struct Terminal {
    console: File,
    /// What was typed and not read.
    typed: Vec<u8>,
    /// The first half of a character that needs two units of UTF-16.
    high: Option<u16>,
}

impl Terminal {
    /// Opens the console of this process, also if standard input is something else.
    pub(crate) fn open() -> io::Result<Self> {
        let (access, share) = (
            GENERIC_READ | GENERIC_WRITE,
            FILE_SHARE_READ | FILE_SHARE_WRITE,
        );
        let (no_security, no_template) = (std::ptr::null(), std::ptr::null_mut());
        let name = w!("CONIN$");
        // SAFETY: the name ends with a zero, and the other arguments are optional.
        let handle = unsafe {
            CreateFileW(
                name,
                access,
                share,
                no_security,
                OPEN_EXISTING,
                0,
                no_template,
            )
        };
        if handle == INVALID_HANDLE_VALUE {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            // SAFETY: it was just opened, and has no other owner.
            console: unsafe { File::from_raw_handle(handle) },
            typed: Vec::new(),
            high: None,
        })
    }

    /// Waits for input. Fails if the console is gone.
    pub(crate) fn is_readable_within(&mut self, timeout: Duration) -> io::Result<bool> {
        let begun = Instant::now();
        loop {
            while self.typed.is_empty() && self.has_events()? {
                self.take_events()?;
            }
            let left = timeout.saturating_sub(begun.elapsed());
            if !self.typed.is_empty() || left.is_zero() {
                return Ok(!self.typed.is_empty());
            }
            self.wait_for_events(left)?;
        }
    }

    /// Reads what was typed and returns its length. Fails if the console is gone.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.is_readable_within(LONGEST_CALL)? {}
        let length = into.len().min(self.typed.len());
        let read = self.typed.drain(..length);
        into.iter_mut().zip(read).for_each(|(to, from)| *to = from);
        Ok(length)
    }

    fn has_events(&self) -> io::Result<bool> {
        let mut count = 0;
        let console = self.console.as_raw_handle();
        // SAFETY: the console is open, and the result has room.
        succeeded(unsafe { GetNumberOfConsoleInputEvents(console, &raw mut count) })?;
        Ok(count > 0)
    }

    fn wait_for_events(&self, time: Duration) -> io::Result<()> {
        let time = u32::try_from(time.min(LONGEST_CALL).as_millis()).unwrap_or(u32::MAX);
        // SAFETY: the console is open.
        match unsafe { WaitForSingleObject(self.console.as_raw_handle(), time.max(1)) } {
            WAIT_FAILED => Err(io::Error::last_os_error()),
            WAIT_OBJECT_0 | _ => Ok(()),
        }
    }

    /// Reads events, of which there is one at least, and keeps the keys.
    fn take_events(&mut self) -> io::Result<()> {
        let mut events = [INPUT_RECORD::default(); EVENTS];
        let room = u32::try_from(events.len()).unwrap_or(0);
        let mut count = 0;
        let console = self.console.as_raw_handle();
        // SAFETY: the console is open, and both results have room, the first for `room` events.
        let done = unsafe { ReadConsoleInputW(console, events.as_mut_ptr(), room, &raw mut count) };
        succeeded(done)?;
        let count = usize::try_from(count).unwrap_or(0);
        for event in events.iter().take(count) {
            if u32::from(event.EventType) == KEY_EVENT {
                // SAFETY: the type of the event says that this is what it has.
                self.take_key(unsafe { event.Event.KeyEvent });
            }
        }
        Ok(())
    }

    fn take_key(&mut self, key: KEY_EVENT_RECORD) {
        if key.bKeyDown == 0 {
            return;
        }
        // SAFETY: every bit pattern is a unit of UTF-16.
        let unit = unsafe { key.uChar.UnicodeChar };
        for _ in 0..key.wRepeatCount.max(1) {
            match sequence(key.wVirtualKeyCode) {
                _ if unit != 0 => self.take_unit(unit),
                sequence => self.typed.extend(sequence),
            }
        }
    }

    fn take_unit(&mut self, unit: u16) {
        let units = self.high.take().into_iter().chain([unit]);
        for character in char::decode_utf16(units) {
            match character {
                Ok(character) => {
                    let mut bytes = [0; 4];
                    self.typed
                        .extend(character.encode_utf8(&mut bytes).as_bytes());
                }
                Err(half) if (0xd800..0xdc00).contains(&half.unpaired_surrogate()) => {
                    self.high = Some(half.unpaired_surrogate());
                }
                Err(_lost) => {}
            }
        }
    }
}

/// Returns what a terminal sends for a key that is no character.
fn sequence(key: u16) -> &'static [u8] {
    match key {
        VK_UP => b"\x1b[A",
        VK_DOWN => b"\x1b[B",
        VK_F1 => b"\x1bOP",
        VK_F9 => b"\x1b[20~",
        _ => b"",
    }
}

#[cfg(test)]
mod tests {
    use windows_sys::Win32::System::Console::KEY_EVENT_RECORD_0;
    use windows_sys::Win32::UI::Input::KeyboardAndMouse::VK_SHIFT;

    use super::*;

    fn key(is_down: bool, code: u16, unit: u16) -> KEY_EVENT_RECORD {
        KEY_EVENT_RECORD {
            bKeyDown: is_down.into(),
            wRepeatCount: 1,
            wVirtualKeyCode: code,
            wVirtualScanCode: 0,
            uChar: KEY_EVENT_RECORD_0 { UnicodeChar: unit },
            dwControlKeyState: 0,
        }
    }

    #[test]
    fn keys_are_told_as_bytes() {
        let file = tempfile::tempfile().unwrap();
        let (typed, high) = (Vec::new(), None);
        let mut terminal = Terminal {
            console: file,
            typed,
            high,
        };
        let keys = [
            key(true, 81, u16::from(b'q')),
            key(false, 81, u16::from(b'q')),
            key(true, VK_SHIFT, 0),
            key(true, VK_UP, 0),
            key(true, VK_F9, 0),
            key(true, 67, 3),
            key(true, 27, 0x1b),
            key(true, 13, 13),
            key(true, 0, 0xe4),
            key(true, 0, 0xd83d),
            key(true, 0, 0xde00),
        ];
        keys.into_iter().for_each(|key| terminal.take_key(key));
        let expected = "q\x1b[A\x1b[20~\x03\x1b\r\u{e4}\u{1f600}";
        assert_eq!(String::from_utf8(terminal.typed.clone()).unwrap(), expected);
        let mut bytes = [0; 3];
        assert_eq!(terminal.read(&mut bytes).unwrap(), 3);
        assert_eq!(&bytes, b"q\x1b[");
    }
}
