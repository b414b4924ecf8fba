//! What the holder of the lock runs, as its slot of the queue file contains it.
//!
//! It is written before each statement, so it must cost next to nothing: the first
//! bytes are copied as they are, word by word, without allocation or memory ordering.
//! The reader makes the text printable; it may see half of one statement and half of the
//! next.

use std::io::Write;
use std::panic::Location;
use std::str;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::printable::printable;

/// Length in bytes: one word with the length of the text, then the text.
pub(crate) const LENGTH: usize = 128;
const TEXT_MAX: usize = LENGTH - 8;
/// Longest text that is shown, in bytes.
const SHOWN_MAX: usize = 160;
/// A bit of the first word: the text is where the program called, not SQL.
const IS_PLACE: u64 = 1 << 63;

/// A statement, made printable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) text: String,
    pub(crate) is_place: bool,
}

/// Stores a statement.
pub(crate) fn store(words: &[AtomicU64], sql: &str) {
    let sql = sql.trim_ascii_start().as_bytes();
    put(words, sql, sql.len() as u64);
}

/// Stores where the program called, if there is no statement.
pub(crate) fn store_place(words: &[AtomicU64], place: &Location<'_>) {
    let mut buffer = [0; TEXT_MAX];
    let text = write_place(&mut buffer, place);
    put(words, text, text.len() as u64 | IS_PLACE);
}

/// Removes what was stored.
pub(crate) fn clear(words: &[AtomicU64]) {
    if let Some(first) = words.first() {
        first.store(0, Relaxed);
    }
}

fn put(words: &[AtomicU64], text: &[u8], first: u64) {
    let kept = &text[..text.len().min(TEXT_MAX)];
    let Some((length, words)) = words.split_first() else {
        return;
    };
    length.store(first, Relaxed);
    let mut words = words.iter();
    let mut parts = kept.chunks_exact(8);
    for (part, word) in (&mut parts).zip(&mut words) {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(part);
        word.store(u64::from_ne_bytes(bytes), Relaxed);
    }
    let rest = parts.remainder();
    if let (false, Some(word)) = (rest.is_empty(), words.next()) {
        let mut bytes = [0; 8];
        bytes[..rest.len()].copy_from_slice(rest);
        word.store(u64::from_ne_bytes(bytes), Relaxed);
    }
}

/// Reads what a slot contains; `word` reads the word with this number.
pub(crate) fn read(word: impl Fn(usize) -> u64) -> Option<Shown> {
    let first = word(0);
    let length = usize::try_from(first & !IS_PLACE).unwrap_or(usize::MAX);
    if length == 0 {
        return None;
    }
    let bytes = (1..LENGTH / 8).flat_map(|number| word(number).to_ne_bytes());
    let bytes: Vec<u8> = bytes.take(length).collect();
    let is_cut = length > TEXT_MAX;
    let bytes = if is_cut { whole(&bytes) } else { &bytes };
    let text = String::from_utf8_lossy(bytes);
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if is_cut {
        text.push('…');
    }
    Some(Shown {
        text: printable(&text, SHOWN_MAX),
        is_place: first & IS_PLACE != 0,
    })
}

/// Removes the last character if it was cut in two.
fn whole(bytes: &[u8]) -> &[u8] {
    match str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    }
}

/// Formats a place as `src/main.rs:42`; of a long path the end is kept.
pub(crate) fn text_of(place: &Location<'_>) -> String {
    let mut buffer = [0; TEXT_MAX];
    String::from_utf8_lossy(write_place(&mut buffer, place)).into_owned()
}

fn write_place<'a>(buffer: &'a mut [u8; TEXT_MAX], place: &Location<'_>) -> &'a [u8] {
    const LINE_MAX: usize = ":4294967295".len();
    let file = place.file();
    let from = file.len().saturating_sub(TEXT_MAX - LINE_MAX);
    let from = (from..file.len()).find(|&at| file.is_char_boundary(at));
    let mut rest = &mut buffer[..];
    // The text fits, so this cannot fail.
    let _ = write!(rest, "{}:{}", &file[from.unwrap_or(0)..], place.line());
    let length = TEXT_MAX - rest.len();
    &buffer[..length]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot() -> Vec<AtomicU64> {
        // As if another text had been stored before.
        (0..LENGTH / 8).map(|_| AtomicU64::new(u64::MAX)).collect()
    }

    fn shown(words: &[AtomicU64]) -> Option<Shown> {
        read(|number| words[number].load(Relaxed))
    }

    fn shown_of(sql: &str) -> String {
        let words = slot();
        store(&words, sql);
        shown(&words).map_or(String::new(), |shown| shown.text)
    }

    #[test]
    fn statement_is_shown_on_one_line_and_cut() {
        assert_eq!(shown_of("UPDATE jobs SET n = 1"), "UPDATE jobs SET n = 1");
        assert_eq!(
            shown_of("\n  UPDATE jobs\n  SET n = 1\n"),
            "UPDATE jobs SET n = 1"
        );
        assert_eq!(shown_of("SELECT '\u{1b}[2J'"), "SELECT '\\u{1b}[2J'");
        assert_eq!(shown_of(""), "");
        let long = shown_of(&"é".repeat(100));
        assert_eq!(long, format!("{}…", "é".repeat(60)));
        let odd = shown_of(&format!("x{}", "é".repeat(100)));
        assert_eq!(odd, format!("x{}…", "é".repeat(59)));
    }

    #[test]
    fn place_is_distinguished_from_a_statement() {
        let words = slot();
        store_place(&words, Location::caller());
        let place = shown(&words).unwrap();
        assert!(
            place.is_place && place.text.contains("statement.rs:"),
            "{place:?}"
        );
        clear(&words);
        assert_eq!(shown(&words), None);
    }

    proptest! {
        #[test]
        fn garbage_is_shown_safely(words in prop::collection::vec(any::<u64>(), LENGTH / 8)) {
            if let Some(shown) = read(|number| words[number]) {
                prop_assert!(shown.text.len() <= SHOWN_MAX);
                prop_assert!(!shown.text.chars().any(char::is_control));
            }
        }

        #[test]
        fn short_statement_is_shown_unchanged(sql in "[a-z]{1,120}") {
            prop_assert_eq!(shown_of(&sql), sql);
        }
    }
}
