//! Texts in the queue file: UTF-8, filled up with zeros. Any process may have written them.

use crate::printable::printable;

/// Reads the text of this length at an offset, and makes it printable. `word` reads the word at an
/// offset.
pub(super) fn read_text(at: usize, length: usize, word: impl Fn(usize) -> u64) -> String {
    let bytes: Vec<u8> = (0..length)
        .step_by(8)
        .flat_map(|place| word(at + place).to_ne_bytes())
        .take_while(|&byte| byte != 0)
        .collect();
    printable(&String::from_utf8_lossy(&bytes), length)
}
