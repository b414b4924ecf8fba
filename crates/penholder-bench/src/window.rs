//! The time window of a trial.

use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::{self, Nanos};

const WARM_UP: Duration = Duration::from_millis(300);

/// When workers start, when they begin to count, and when they end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: Nanos,
    pub(crate) counted: Nanos,
    pub(crate) end: Nanos,
}

impl Window {
    /// A window that starts as soon as the last of so many workers has read the line
    /// that announces it, and that counts for this duration.
    pub(crate) fn soon(workers: usize, duration: Duration) -> Self {
        let notice = Duration::from_micros(20_000 + 500 * workers as u64);
        let start = clock::after(notice);
        let counted = start + clock::nanos(WARM_UP);
        Self {
            start,
            counted,
            end: counted + clock::nanos(duration),
        }
    }

    /// The line that a worker waits for.
    pub(crate) fn line(self) -> String {
        format!("{} {} {}", self.start, self.counted, self.end)
    }
}

impl FromStr for Window {
    type Err = Box<dyn Error>;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut words = line.split_whitespace();
        let mut next = || -> Result<Nanos, Self::Err> {
            Ok(words
                .next()
                .ok_or("the start line is incomplete")?
                .parse()?)
        };
        Ok(Self {
            start: next()?,
            counted: next()?,
            end: next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_parsed_as_written() {
        let window = Window {
            start: 1,
            counted: 2,
            end: 3,
        };
        assert_eq!(window.line().parse::<Window>().unwrap(), window);
        assert!("".parse::<Window>().is_err());
        assert!("1 2 x".parse::<Window>().is_err());
    }
}
