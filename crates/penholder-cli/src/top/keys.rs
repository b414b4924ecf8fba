//! Keys, as a terminal sends them.
//!
//! This is not crossterm's reader, which reads from a closed terminal in an endless loop,
//! and leaves a key that comes together with a new size unread until the next key.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crate::sys::terminal::Terminal;

/// The rest of an arrow key comes within this time after its escape.
const REST: Duration = Duration::from_millis(30);
/// How often is read to forget what was typed.
const READS_MAX: u32 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Up,
    Down,
    Enter,
    Escape,
    /// A function key, by its number.
    Function(u8),
    /// Ctrl-C, which is no signal in raw mode.
    Interrupt,
    Letter(char),
}

/// Reads keys from the terminal.
pub(crate) struct Keyboard {
    terminal: Terminal,
    typed: VecDeque<Key>,
}

impl Keyboard {
    pub(crate) fn open() -> io::Result<Self> {
        let terminal = Terminal::open()?;
        let typed = VecDeque::new();
        Ok(Self { terminal, typed })
    }

    /// The next key, if one comes within this time.
    pub(crate) fn wait(&mut self, time: Duration) -> io::Result<Option<Key>> {
        if self.typed.is_empty() && self.terminal.is_readable_within(time)? {
            let mut bytes = Vec::new();
            self.read(&mut bytes)?;
            if bytes.ends_with(b"\x1b") && self.terminal.is_readable_within(REST)? {
                self.read(&mut bytes)?;
            }
            self.typed.extend(keys(&bytes));
        }
        Ok(self.typed.pop_front())
    }

    /// Whether more was typed than the last key: several keys that come together are pasted, or
    /// were typed without looking at the screen.
    pub(crate) fn has_more(&mut self) -> io::Result<bool> {
        Ok(!self.typed.is_empty() || self.terminal.is_readable_within(Duration::ZERO)?)
    }

    /// Forgets what was typed so far.
    pub(crate) fn discard(&mut self) -> io::Result<()> {
        self.typed.clear();
        // Bounded: a program may type without end.
        for _ in 0..READS_MAX {
            if !self.terminal.is_readable_within(Duration::ZERO)? {
                break;
            }
            self.read(&mut Vec::new())?;
        }
        Ok(())
    }

    fn read(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        let mut bytes = [0; 256];
        match self.terminal.read(&mut bytes) {
            Ok(length) => {
                into.extend_from_slice(&bytes[..length]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The keys that were typed; others are skipped.
fn keys(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    loop {
        let (key, rest) = match bytes {
            [] => return keys,
            [0x1b, b'[' | b'O', rest @ ..] => sequence(rest),
            [0x1b, rest @ ..] => (Some(Key::Escape), rest),
            [0x03, rest @ ..] => (Some(Key::Interrupt), rest),
            [b'\r' | b'\n', rest @ ..] => (Some(Key::Enter), rest),
            [byte @ b' '..=b'~', rest @ ..] => (Some(Key::Letter(char::from(*byte))), rest),
            [_, rest @ ..] => (None, rest),
        };
        keys.extend(key);
        bytes = rest;
    }
}

/// What follows `ESC [` or `ESC O`: parameters, and a byte that says which key it is.
fn sequence(bytes: &[u8]) -> (Option<Key>, &[u8]) {
    let is_end = |byte: &u8| (b'@'..=b'~').contains(byte);
    let Some(end) = bytes.iter().position(is_end) else {
        return (None, &[]);
    };
    let key = match bytes[end] {
        b'A' => Some(Key::Up),
        b'B' => Some(Key::Down),
        b'P' => Some(Key::Function(1)),
        b'~' => function(&bytes[..end]),
        _ => None,
    };
    (key, &bytes[end + 1..])
}

/// The function key that has this parameter.
fn function(parameter: &[u8]) -> Option<Key> {
    match parameter {
        b"11" => Some(Key::Function(1)),
        b"20" => Some(Key::Function(9)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_recognised() {
        let all = b"q \x1b[A\x1bOB\x1b[1;5A\r\x03\x1b[200~\x07\xc3\xa4d";
        let expected = [
            Key::Letter('q'),
            Key::Letter(' '),
            Key::Up,
            Key::Down,
            Key::Up,
            Key::Enter,
            Key::Interrupt,
            Key::Letter('d'),
        ];
        assert_eq!(keys(all), expected);
        let functions = b"\x1bOP\x1b[11~\x1b[20~\x1b[15~";
        let expected = [1, 1, 9].map(Key::Function);
        assert_eq!(keys(functions), expected);
        assert_eq!(keys(b"\x1b"), [Key::Escape]);
        assert_eq!(keys(b"\x1b\x1b[B"), [Key::Escape, Key::Down]);
        assert_eq!(keys(b"\x1b[12;"), []);
    }
}
