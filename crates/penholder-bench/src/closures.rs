//! Which writers of a trial write by closure: with penholder, no other process can execute what
//! they write.

use std::fmt;
use std::str::FromStr;

/// A share of the writers, in percent, spread evenly over their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Closures {
    percent: u32,
}

impl Closures {
    pub(crate) const NONE: Self = Self { percent: 0 };

    pub(crate) fn is_none(self) -> bool {
        self == Self::NONE
    }

    pub(crate) fn percent(self) -> u32 {
        self.percent
    }

    /// Whether the writer with this number writes by closure.
    pub(crate) fn includes(self, number: u32) -> bool {
        let up_to = |number: u32| u64::from(number) * u64::from(self.percent) / 100;
        up_to(number + 1) > up_to(number)
    }
}

impl FromStr for Closures {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.trim_end_matches('%').parse().ok();
        match percent.filter(|percent| *percent <= 100) {
            Some(percent) => Ok(Self { percent }),
            None => Err("expected a share from 0% to 100%".to_owned()),
        }
    }
}

impl fmt::Display for Closures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_spread_over_the_writers() {
        let count = |text: &str, writers| {
            let closures: Closures = text.parse().unwrap();
            (0..writers).filter(|&one| closures.includes(one)).count()
        };
        assert_eq!(count("0%", 32), 0);
        assert_eq!(count("50%", 32), 16);
        assert_eq!(count("50", 3), 1);
        assert_eq!(count("100%", 7), 7);
        for text in ["", "half", "-1%", "101%", "5%%5"] {
            assert!(text.parse::<Closures>().is_err(), "{text}");
        }
    }
}
