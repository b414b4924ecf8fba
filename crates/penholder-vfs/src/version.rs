//! Versions of SQLite, and which of them have the WAL-reset bug.

use std::fmt;

/// The minor number of the first version with WAL.
pub const OLDEST_WITH_WAL: u32 = 7;

/// A version of SQLite 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The second number: 54 of 3.54.1.
    pub minor: u32,
    /// The third: 1 of 3.54.1.
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "3.{}.{}", self.minor, self.patch)
    }
}

impl Version {
    /// Returns the version that `sqlite3_libversion_number` says.
    #[must_use]
    pub fn of_number(number: i32) -> Self {
        let number = u32::try_from(number).unwrap_or(0);
        Self {
            minor: number / 1000 % 1000,
            patch: number % 1000,
        }
    }

    /// Reads `3.51.2`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut numbers = text.strip_prefix(b"3.")?.split(|&byte| byte == b'.');
        let mut number = || {
            let digits = numbers
                .next()
                .filter(|digits| (1..=3).contains(&digits.len()))?;
            let is_number = digits.iter().all(u8::is_ascii_digit);
            std::str::from_utf8(digits)
                .ok()
                .filter(|_| is_number)?
                .parse()
                .ok()
        };
        let (minor, patch) = (number()?, number()?);
        numbers.next().is_none().then_some(Self { minor, patch })
    }

    /// Returns whether it has the WAL-reset bug (<https://sqlite.org/wal.html>, section 11): if a
    /// checkpoint and a write happen at the same time in two processes, the database may be
    /// corrupted.
    #[must_use]
    pub fn has_wal_reset_bug(self) -> bool {
        let number = (self.minor, self.patch);
        let is_repaired = matches!(number, (44, 6..) | (50, 7..));
        ((OLDEST_WITH_WAL, 0)..=(51, 2)).contains(&number) && !is_repaired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn affected_versions_are_told_from_repaired_ones() {
        for (text, affected) in [
            ("3.6.23", false),
            ("3.7.0", true),
            ("3.40.1", true),
            ("3.44.5", true),
            ("3.44.6", false),
            ("3.45.0", true),
            ("3.50.6", true),
            ("3.50.7", false),
            ("3.51.0", true),
            ("3.51.2", true),
            ("3.51.3", false),
            ("3.54.1", false),
        ] {
            assert_eq!(version(text).has_wal_reset_bug(), affected, "{text}");
        }
        for text in [
            "", "3", "3.", "3.1", "3.1.", "3.1.2.3", "4.1.2", "3.+1.2", "3.1.2222",
        ] {
            assert_eq!(Version::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_number_is_read_as_sqlite_makes_it() {
        assert_eq!(Version::of_number(3_054_001), version("3.54.1"));
        assert_eq!(Version::of_number(3_040_001), version("3.40.1"));
        assert_eq!(Version::of_number(-1), version("3.0.0"));
    }
}
