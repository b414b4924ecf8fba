//! What a program keeps to learn of the commits after a moment.

use std::error::Error as StdError;
use std::fmt;
use std::str::FromStr;

use crate::printable::one_line;

/// A moment in the life of a database: a wait that begins with it ends as soon as there is a commit
/// after that moment.
///
/// Its text is opaque: `epoch:count`. A token stays of use as long as the machine runs and the queue
/// file exists; a wait with an older one ends at once, so that nothing is missed.
///
/// ```
/// use penholder_core::CommitToken;
///
/// let token: CommitToken = "00000000000000ff:12".parse().unwrap();
/// assert_eq!(token.to_string(), "00000000000000ff:12");
/// assert!("12".parse::<CommitToken>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommitToken {
    epoch: u64,
    count: u64,
}

impl CommitToken {
    /// There is no entry for the database in the queue file, or no queue file.
    pub(crate) const NONE: Self = Self { epoch: 0, count: 0 };

    pub(crate) fn new(epoch: u64, count: u64) -> Self {
        Self { epoch, count }
    }

    pub(crate) fn count(self) -> u64 {
        self.count
    }
}

impl fmt::Display for CommitToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}:{}", self.epoch, self.count)
    }
}

impl FromStr for CommitToken {
    type Err = ParseCommitTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (epoch, count) = text.split_once(':')?;
            let is_plain = epoch.len() == 16
                && epoch.bytes().all(|byte| byte.is_ascii_hexdigit())
                && count.bytes().all(|byte| byte.is_ascii_digit());
            is_plain.then_some(())?;
            let epoch = u64::from_str_radix(epoch, 16).ok()?;
            Some(Self::new(epoch, count.parse().ok()?))
        };
        parse().ok_or_else(|| ParseCommitTokenError {
            text: text.to_owned(),
        })
    }
}

/// A text that is no [`CommitToken`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseCommitTokenError {
    text: String,
}

impl fmt::Display for ParseCommitTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may be as long as a command line.
        let shown: String = self.text.chars().take(60).collect();
        let (shown, more) = (one_line(&shown), shown.len() < self.text.len());
        let more = if more { "…" } else { "" };
        write!(
            f,
            "`{shown}{more}` is not a commit token: pass one as it was printed, 16 hexadecimal digits, \
             a colon and a number"
        )
    }
}

impl StdError for ParseCommitTokenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written() {
        for token in [
            CommitToken::NONE,
            CommitToken::new(u64::MAX, u64::MAX),
            CommitToken::new(1, 2),
        ] {
            assert_eq!(token.to_string().parse(), Ok(token));
        }
    }

    #[test]
    fn any_other_text_is_refused_and_shown_on_one_line() {
        for text in [
            "",
            ":",
            "1:2",
            "00000000000000ff",
            "00000000000000ff:",
            "00000000000000ff:-1",
            "00000000000000ff:+1",
            "+0000000000000ff:1",
            "00000000000000ff:1:2",
            "00000000000000ff:18446744073709551616",
            "00000000000000ff: 1",
            "gggggggggggggggg:1",
            "\u{1b}[2J",
            "ääääääääääääääää:1",
        ] {
            let error = text.parse::<CommitToken>().unwrap_err().to_string();
            assert!(!error.contains('\u{1b}'), "{error}");
            assert!(error.contains("not a commit token"), "{error}");
        }
        let long = "x".repeat(10_000).parse::<CommitToken>().unwrap_err();
        assert!(long.to_string().len() < 300);
    }
}
