//! The beginning of the queue file, and why a file is not used.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::fault::QueueFileFault;
use super::layout::{
    AT_BOOT, AT_BUILT, AT_LENGTH, AT_MAGIC, AT_SLOTS, AT_VERSION, HEADER_LEN, LENGTH, MAGIC,
    VERSION, path_of,
};
use super::trust::Authority;
use crate::sys::{clock, file, process};
use crate::turnstile::SLOTS;

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
        Ok(Some(if file.metadata()?.len() < LENGTH as u64 {
            Self::faulty(fault_of_short(&file)?)
        } else {
            Self::of(&first_bytes(&file)?)
        }))
    }

    fn of(header: &[u8; HEADER_LEN]) -> Self {
        let word = |at| word_of(header, at);
        if let Some(fault) = fault_of(word) {
            return Self::faulty(fault);
        }
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
    if word(AT_VERSION) != VERSION {
        return Some(QueueFileFault::OtherVersion(word(AT_VERSION)));
    }
    if word(AT_SLOTS) != SLOTS as u64 || word(AT_LENGTH) != LENGTH as u64 {
        return Some(QueueFileFault::NotAQueueFile);
    }
    (word(AT_BOOT) != process::boot()).then_some(QueueFileFault::OtherBoot)
}

/// Whether other processes may find a file valid that this one does not: it is of another
/// version, or one of the two sides does not know the boot. A damaged file is not taken for one.
pub(super) fn is_of_others(file: &File) -> io::Result<bool> {
    let header = first_bytes(file)?;
    Ok(match fault_of(|at| word_of(&header, at)) {
        Some(QueueFileFault::OtherVersion(_)) => is_as_long_as_it_says(file, &header)?,
        Some(QueueFileFault::OtherBoot) => word_of(&header, AT_BOOT) == 0 || process::boot() == 0,
        _ => false,
    })
}

/// Returns whether a file is an SQLite database, which is somebody's data in any case.
pub(super) fn is_database(file: &File) -> io::Result<bool> {
    Ok(first_bytes(file)?.starts_with(b"SQLite format 3\0"))
}

/// Returns what is wrong with a file that is shorter than a queue file of this version.
pub(super) fn fault_of_short(file: &File) -> io::Result<QueueFileFault> {
    let header = first_bytes(file)?;
    Ok(match fault_of(|at| word_of(&header, at)) {
        Some(fault @ QueueFileFault::OtherVersion(_)) if is_as_long_as_it_says(file, &header)? => {
            fault
        }
        _ => QueueFileFault::TooShort,
    })
}

fn is_as_long_as_it_says(file: &File, header: &[u8; HEADER_LEN]) -> io::Result<bool> {
    Ok(word_of(header, AT_LENGTH) == file.metadata()?.len())
}

fn word_of(header: &[u8; HEADER_LEN], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[at..at + 8]);
    u64::from_ne_bytes(bytes)
}

fn first_bytes(file: &File) -> io::Result<[u8; HEADER_LEN]> {
    let mut header = [0; HEADER_LEN];
    // What was truncated meanwhile stays zero, and zeros are not a queue file.
    file::read_at(file, &mut header, 0)?;
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(change: impl Fn(&mut [u8; HEADER_LEN])) -> QueueFileHeader {
        let now = clock::monotonic() + clock::wall_offset();
        let words = [
            (AT_MAGIC, MAGIC),
            (AT_VERSION, VERSION),
            (AT_SLOTS, SLOTS as u64),
            (AT_LENGTH, LENGTH as u64),
            (AT_BOOT, process::boot()),
            (AT_BUILT, now),
        ];
        let mut bytes = [0; HEADER_LEN];
        for (at, word) in words {
            bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes());
        }
        change(&mut bytes);
        QueueFileHeader::of(&bytes)
    }

    #[test]
    fn each_fault_is_told_apart() {
        let sound = header(|_| {});
        assert_eq!(sound.fault, None);
        assert!(!sound.built_before_boot);
        for (at, word, fault) in [
            (AT_MAGIC, 1, QueueFileFault::NotAQueueFile),
            (AT_VERSION, 9, QueueFileFault::OtherVersion(9)),
            (AT_SLOTS, 1, QueueFileFault::NotAQueueFile),
            (AT_LENGTH, 1, QueueFileFault::NotAQueueFile),
            (AT_BOOT, !process::boot(), QueueFileFault::OtherBoot),
        ] {
            let found = header(|bytes| bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes()));
            assert_eq!(found.fault, Some(fault));
        }
        let early = header(|bytes| bytes[AT_BUILT..].fill(0));
        assert!(early.built_before_boot && early.fault.is_none());
    }
}
