//! The beginning of the page, for whoever wants to know why it is not used.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{
    AT_BOOT, AT_BUILT, AT_LENGTH, AT_MAGIC, AT_SLOTS, AT_VERSION, LENGTH, MAGIC, SLOTS, VERSION,
};
use crate::sys::{clock, file, process};

/// Bytes of the page that are looked at.
const HEADER_LEN: usize = AT_BUILT + 8;
/// Clocks may differ by so much.
const SLACK: Duration = Duration::from_secs(60);

/// What the beginning of the page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageHeader {
    /// Why no process uses it, if none does; the next to get the lock builds
    /// another.
    pub fault: Option<PageFault>,
    /// When it was built, by the wall clock of that moment; only of a page that is
    /// one.
    pub built: Option<SystemTime>,
    /// It was built in this boot of the machine, and yet, by the wall clock, before
    /// it: the clock was set forward since.
    pub built_before_boot: bool,
}

/// Why a page is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PageFault {
    /// A folder or a device stands in its place.
    NotAFile,
    /// It has fewer bytes than a page.
    TooShort,
    /// It does not begin as a page does.
    NotAPage,
    /// It is one of another version of penholder.
    OtherVersion(u64),
    /// It was built before the machine was started anew, or on another machine.
    OtherBoot,
}

impl fmt::Display for PageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAFile => f.write_str("is not a regular file"),
            Self::TooShort => f.write_str("is too short"),
            Self::NotAPage => f.write_str("is no page, but something else"),
            Self::OtherVersion(version) => {
                write!(f, "is of version {version}, this program's is {VERSION}")
            }
            Self::OtherBoot => f.write_str("is of another boot of the machine"),
        }
    }
}

impl PageHeader {
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = match file::open_to_look(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Ok(Some(Self::faulty(PageFault::NotAFile)));
        }
        Ok(Some(if meta.len() < LENGTH as u64 {
            Self::faulty(PageFault::TooShort)
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
        let fault = if word(AT_MAGIC) != MAGIC {
            PageFault::NotAPage
        } else if word(AT_VERSION) != VERSION {
            PageFault::OtherVersion(word(AT_VERSION))
        } else if word(AT_SLOTS) != SLOTS as u64 || word(AT_LENGTH) != LENGTH as u64 {
            PageFault::NotAPage
        } else if word(AT_BOOT) != process::boot() {
            PageFault::OtherBoot
        } else {
            let built = Duration::from_nanos(word(AT_BUILT));
            return Self {
                fault: None,
                built: UNIX_EPOCH.checked_add(built),
                built_before_boot: built + SLACK < Duration::from_nanos(clock::booted()),
            };
        };
        Self::faulty(fault)
    }

    fn faulty(fault: PageFault) -> Self {
        Self {
            fault: Some(fault),
            built: None,
            built_before_boot: false,
        }
    }
}

fn first_bytes(mut file: &File) -> io::Result<[u8; HEADER_LEN]> {
    let mut header = [0; HEADER_LEN];
    match file.read_exact(&mut header) {
        // Truncated meanwhile: zeros are no page.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(header),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(change: impl Fn(&mut [u8; HEADER_LEN])) -> PageHeader {
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
        PageHeader::of(&bytes)
    }

    #[test]
    fn each_fault_is_told_apart() {
        let sound = header(|_| {});
        assert_eq!(sound.fault, None);
        assert!(!sound.built_before_boot);
        for (at, word, fault) in [
            (AT_MAGIC, 1, PageFault::NotAPage),
            (AT_VERSION, 9, PageFault::OtherVersion(9)),
            (AT_SLOTS, 1, PageFault::NotAPage),
            (AT_LENGTH, 1, PageFault::NotAPage),
            (AT_BOOT, !process::boot(), PageFault::OtherBoot),
        ] {
            let found = header(|bytes| bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes()));
            assert_eq!(found.fault, Some(fault));
        }
        let early = header(|bytes| bytes[AT_BUILT..].fill(0));
        assert!(early.built_before_boot && early.fault.is_none());
    }
}
