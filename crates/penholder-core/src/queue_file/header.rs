//! The beginning of the queue file, and why a file is not used.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::layout::{
    AT_BOOT, AT_BUILT, AT_LENGTH, AT_MAGIC, AT_SLOTS, AT_VERSION, HEADER_LEN, LENGTH, MAGIC,
    VERSION,
};
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

/// Why a queue file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueFileFault {
    /// A directory or a device stands in its place.
    NotAFile,
    /// It has fewer bytes than a queue file.
    TooShort,
    /// It does not begin as a queue file does.
    NotAQueueFile,
    /// It was built by another version of penholder.
    OtherVersion(u64),
    /// It was built before the machine was restarted, or on another machine.
    OtherBoot,
}

impl fmt::Display for QueueFileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAFile => f.write_str("is not a regular file"),
            Self::TooShort => f.write_str("is too short"),
            Self::NotAQueueFile => f.write_str("is not a queue file"),
            Self::OtherVersion(version) => {
                write!(
                    f,
                    "has version {version}, and this program uses version {VERSION}"
                )
            }
            Self::OtherBoot => f.write_str("was built in another boot of the machine"),
        }
    }
}

impl QueueFileHeader {
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = match file::open_to_look(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Ok(Some(Self::faulty(QueueFileFault::NotAFile)));
        }
        Ok(Some(if meta.len() < LENGTH as u64 {
            Self::faulty(QueueFileFault::TooShort)
        } else {
            Self::of(&first_bytes(&file)?)
        }))
    }

    fn of(header: &[u8; HEADER_LEN]) -> Self {
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&header[at..at + 8]);
            u64::from_ne_bytes(bytes)
        };
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
fn fault_of(word: impl Fn(usize) -> u64) -> Option<QueueFileFault> {
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

fn first_bytes(mut file: &File) -> io::Result<[u8; HEADER_LEN]> {
    let mut header = [0; HEADER_LEN];
    match file.read_exact(&mut header) {
        // Truncated meanwhile: zeros are not a queue file.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(header),
    }
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
