//! The beginning of the queue file, and why a file is not used.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::fault::QueueFileFault;
use super::layout::{
    self, AT_BOOT, AT_BUILT, AT_LENGTH, AT_MAGIC, AT_SLOTS, AT_VERSION, BLOCK_SLOTS, BLOCKS,
    HEADER_LEN, MAGIC, path_of, version,
};
use super::trust::Authority;
use crate::sys::{clock, file, process};

/// Clocks may differ by this much.
const SLACK: Duration = Duration::from_secs(60);

/// What the beginning of a queue file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueFileHeader {
    /// Why no process uses the file, if none does. The next holder of the lock builds
    /// another one.
    pub fault: Option<QueueFileFault>,
    /// When the file was built, by the wall clock of that moment; only of a valid file.
    pub built: Option<SystemTime>,
    /// The file was built in this boot of the machine, and yet before it by the wall
    /// clock: the clock was set forward since.
    pub built_before_boot: bool,
}

impl QueueFileHeader {
    pub(crate) fn read(lock_file: &Path, model: Option<&Path>) -> io::Result<Option<Self>> {
        let file = match file::open_to_look(&path_of(lock_file)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Some(fault) = Authority::of(lock_file, model).fault_of(&file::ownership(&file)?) {
            return Ok(Some(Self::faulty(fault)));
        }
        let header = first_bytes(&file)?;
        Ok(Some(match fault_in(&header, file.metadata()?.len()) {
            Some(fault) => Self::faulty(fault),
            None => Self::of(&header),
        }))
    }

    fn of(header: &[u8; HEADER_LEN]) -> Self {
        let word = |at| word_of(header, at);
        let built = Duration::from_nanos(word(AT_BUILT));
        Self {
            fault: None,
            built: UNIX_EPOCH.checked_add(built),
            built_before_boot: built + SLACK < Duration::from_nanos(clock::booted()),
        }
    }

    fn faulty(fault: QueueFileFault) -> Self {
        Self {
            fault: Some(fault),
            built: None,
            built_before_boot: false,
        }
    }
}

/// Whether a file begins as a queue file of this version and boot does. `word` reads the
/// word at an offset.
pub(super) fn is_valid(word: impl Fn(usize) -> u64) -> bool {
    fault_of(word).is_none()
}

/// Returns what is wrong with the header whose words `word` reads, if anything is.
pub(super) fn fault_of(word: impl Fn(usize) -> u64) -> Option<QueueFileFault> {
    if word(AT_MAGIC) != MAGIC {
        return Some(QueueFileFault::NotAQueueFile);
    }
    if word(AT_VERSION) != version() {
        return Some(QueueFileFault::OtherVersion(word(AT_VERSION)));
    }
    // In this order: the length is written first.
    let blocks = blocks(word(AT_SLOTS));
    let is_length = |blocks| word(AT_LENGTH) == layout::length(blocks) as u64;
    if !blocks.is_some_and(|blocks| (blocks..=BLOCKS).any(is_length)) {
        return Some(QueueFileFault::NotAQueueFile);
    }
    (word(AT_BOOT) != process::boot()).then_some(QueueFileFault::OtherBoot)
}

/// Returns how many blocks have this many slots; `None` if there cannot be so many slots.
fn blocks(slots: u64) -> Option<usize> {
    let slots = usize::try_from(slots).ok()?;
    let blocks = slots / BLOCK_SLOTS;
    ((1..=BLOCKS).contains(&blocks) && slots.is_multiple_of(BLOCK_SLOTS)).then_some(blocks)
}

/// Returns how many blocks the queue file has that begins with this header.
pub(super) fn blocks_of(header: &[u8; HEADER_LEN]) -> usize {
    blocks(word_of(header, AT_SLOTS)).unwrap_or(0)
}

/// Returns what is wrong with a file of this length that begins with this header.
pub(super) fn fault_in(header: &[u8; HEADER_LEN], length: u64) -> Option<QueueFileFault> {
    let is_short = length < layout::length(1) as u64;
    match fault_of(|at| word_of(header, at)) {
        Some(fault @ QueueFileFault::OtherVersion(_)) if is_whole(header, length) => Some(fault),
        Some(fault) if !is_short => Some(fault),
        None if layout::blocks_in(length) >= blocks_of(header) => None,
        _ => Some(QueueFileFault::TooShort),
    }
}

/// Whether other processes may find a file valid that this one does not: it is of another
/// version, or one of the two sides does not know the boot. A damaged file is not taken for one.
pub(super) fn is_of_others(file: &File) -> io::Result<bool> {
    let header = first_bytes(file)?;
    Ok(match fault_of(|at| word_of(&header, at)) {
        Some(QueueFileFault::OtherVersion(_)) => is_whole(&header, file.metadata()?.len()),
        Some(QueueFileFault::OtherBoot) => word_of(&header, AT_BOOT) == 0 || process::boot() == 0,
        _ => false,
    })
}

/// Returns whether a file is an SQLite database, which is somebody's data in any case.
pub(super) fn is_database(file: &File) -> io::Result<bool> {
    Ok(first_bytes(file)?.starts_with(b"SQLite format 3\0"))
}

/// Whether a file of another version is as long as it says. One that grows may be longer.
fn is_whole(header: &[u8; HEADER_LEN], length: u64) -> bool {
    (1..=length).contains(&word_of(header, AT_LENGTH))
}

fn word_of(header: &[u8; HEADER_LEN], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[at..at + 8]);
    u64::from_ne_bytes(bytes)
}

pub(super) fn first_bytes(file: &File) -> io::Result<[u8; HEADER_LEN]> {
    let mut header = [0; HEADER_LEN];
    // What was truncated meanwhile stays zero, and zeros are not a queue file.
    file::read_at(file, &mut header, 0)?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: u64 = layout::length(2) as u64;

    fn header(change: impl Fn(&mut [u8; HEADER_LEN])) -> [u8; HEADER_LEN] {
        let now = clock::monotonic() + clock::wall_offset();
        let words = [
            (AT_MAGIC, MAGIC),
            (AT_VERSION, version()),
            (AT_SLOTS, 16),
            (AT_LENGTH, LENGTH),
            (AT_BOOT, process::boot()),
            (AT_BUILT, now),
        ];
        let mut bytes = [0; HEADER_LEN];
        for (at, word) in words {
            bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes());
        }
        change(&mut bytes);
        bytes
    }

    #[test]
    fn each_fault_is_told_apart() {
        let sound = header(|_| {});
        assert_eq!(fault_in(&sound, LENGTH), None);
        assert_eq!(fault_in(&sound, LENGTH + 1), None);
        let short = Some(QueueFileFault::TooShort);
        assert_eq!(fault_in(&sound, LENGTH - 1), short);
        assert_eq!(fault_in(&[0; HEADER_LEN], 7), short);
        assert!(!QueueFileHeader::of(&sound).built_before_boot);
        for (at, word, fault) in [
            (AT_MAGIC, 1, QueueFileFault::NotAQueueFile),
            (AT_VERSION, 9, QueueFileFault::OtherVersion(9)),
            (AT_SLOTS, 0, QueueFileFault::NotAQueueFile),
            (AT_SLOTS, 15, QueueFileFault::NotAQueueFile),
            (AT_SLOTS, 520, QueueFileFault::NotAQueueFile),
            (AT_LENGTH, 1, QueueFileFault::NotAQueueFile),
            (
                AT_LENGTH,
                layout::length(1) as u64,
                QueueFileFault::NotAQueueFile,
            ),
            (AT_BOOT, !process::boot(), QueueFileFault::OtherBoot),
        ] {
            let found = header(|bytes| bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes()));
            assert_eq!(fault_in(&found, LENGTH), Some(fault));
        }
        let early = header(|bytes| bytes[AT_BUILT..][..8].fill(0));
        assert!(QueueFileHeader::of(&early).built_before_boot);
        assert_eq!(fault_in(&early, LENGTH), None);
    }

    /// A process that lengthens the file writes the new length first.
    #[test]
    fn a_file_that_is_being_lengthened_is_valid() {
        let grown = layout::length(5) as u64;
        let found = header(|bytes| bytes[AT_LENGTH..][..8].copy_from_slice(&grown.to_ne_bytes()));
        assert_eq!(fault_in(&found, grown), None);
        assert_eq!(fault_in(&found, LENGTH), None);
    }
}
