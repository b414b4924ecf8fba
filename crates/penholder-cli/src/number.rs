//! Numbers as they are written in a file, and what SQLite keeps of them.

use std::fmt;
use std::num::FpCategory;

use penholder_rows::real_literal;

/// What to store for a word that is written as a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Integer(i64),
    Real(f64),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Real(value) => f.write_str(&real_literal::write(*value)),
        }
    }
}

/// Why a number cannot be stored so that it is recognised afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// `007` would become 7: another phone number, postcode or key.
    LeadingZeros,
    /// The integer does not fit 64 bits.
    LargeInteger,
    /// It has more digits than a real number keeps.
    Digits,
    /// It would become infinity, or zero.
    Range,
}

impl Loss {
    /// The reason, as a part of a message.
    pub(crate) fn why(self) -> &'static str {
        match self {
            Self::LeadingZeros => "it would lose its leading zeros",
            Self::LargeInteger => "it is larger than the integers of SQLite, which have 64 bits",
            Self::Digits => "it has more digits than a real number keeps",
            Self::Range => "it is out of the range of real numbers",
        }
    }
}

/// A word that SQLite takes for a number, in parts.
struct Written<'a> {
    /// With its sign, without the space around it.
    text: &'a str,
    /// The digits before the point, and those after it.
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
    is_integer: bool,
}

/// Whether SQLite takes this word for a number.
pub(crate) fn is_number(word: &str) -> bool {
    Written::read(word).is_some()
}

/// The integer or real number to store for a word. `None` if the word is no number: then
/// SQLite keeps it as text.
pub(crate) fn numeric(word: &str) -> Option<Result<Number, Loss>> {
    let written = Written::read(word)?;
    if written.has_leading_zeros() {
        return Some(Err(Loss::LeadingZeros));
    }
    if written.is_integer {
        let integer = written.text.parse().map(Number::Integer);
        return Some(integer.map_err(|_| Loss::LargeInteger));
    }
    Some(written.real().map(Number::Real))
}

/// The real number to store for a word. `None` if the word is no number.
pub(crate) fn real(word: &str) -> Option<Result<f64, Loss>> {
    let written = Written::read(word)?;
    if written.has_leading_zeros() {
        return Some(Err(Loss::LeadingZeros));
    }
    Some(written.real())
}

/// Reads a number, whatever gets lost.
pub(crate) fn lossy(word: &str) -> Option<Number> {
    let written = Written::read(word)?;
    if written.is_integer
        && let Ok(integer) = written.text.parse()
    {
        return Some(Number::Integer(integer));
    }
    written.text.parse().ok().map(Number::Real)
}

impl<'a> Written<'a> {
    /// Reads what SQLite calls a well-formed number, with space around it.
    fn read(word: &'a str) -> Option<Self> {
        let text = word.trim_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (whole, rest) = split_digits(unsigned);
        let (fraction, exponent) = match rest.strip_prefix('.') {
            Some(rest) => split_digits(rest),
            None => ("", rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        Some(Self {
            text,
            whole,
            fraction,
            exponent: read_exponent(exponent)?,
            is_integer: rest.is_empty(),
        })
    }

    fn has_leading_zeros(&self) -> bool {
        self.whole.len() > 1 && self.whole.starts_with('0')
    }

    /// The real number, if it is written with the digits of this word again.
    fn real(&self) -> Result<f64, Loss> {
        let real: f64 = self.text.parse().map_err(|_| Loss::Range)?;
        if real.is_infinite() {
            return if self.is_infinity() {
                Ok(real)
            } else {
                Err(Loss::Range)
            };
        }
        let (digits, exponent) = self.significant();
        match digits.len() {
            0 => Ok(real),
            _ if real == 0.0 => Err(Loss::Range),
            // Every number of so few digits survives.
            ..=15 if real.classify() == FpCategory::Normal => Ok(real),
            // Rounded, or as the shortest number that is read as the same one.
            count @ ..=17
                if [
                    format!("{:.*e}", count - 1, real.abs()),
                    format!("{:e}", real.abs()),
                ]
                .iter()
                .any(|text| significant_of(text) == (digits.clone(), exponent)) =>
            {
                Ok(real)
            }
            _ => Err(Loss::Digits),
        }
    }

    /// Whether it is infinity as `penholder query` and SQLite write it.
    fn is_infinity(&self) -> bool {
        matches!(
            (self.whole, self.fraction, self.exponent),
            ("9", "" | "0", 999)
        )
    }

    /// The digits without zeros at their ends, and the exponent of the first one.
    fn significant(&self) -> (String, i64) {
        let digits = [self.whole, self.fraction].concat();
        let first = digits.find(|digit| digit != '0').unwrap_or(digits.len());
        let exponent = self.exponent + length(self.whole) - 1 - length(&digits[..first]);
        (digits.trim_matches('0').to_owned(), exponent)
    }
}

/// The digits of a number in scientific notation, without zeros at their end, and the exponent of
/// the first one.
fn significant_of(text: &str) -> (String, i64) {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let digits = digits.replace('.', "");
    (
        digits.trim_end_matches('0').to_owned(),
        exponent.parse().unwrap_or(0),
    )
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

/// The exponent in `e+12`. One that is too large for any number is cut.
fn read_exponent(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let text = text.strip_prefix(['e', 'E'])?;
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, rest) = split_digits(text);
    if digits.is_empty() || !rest.is_empty() {
        return None;
    }
    let exponent = digits.parse().unwrap_or(i64::from(u32::MAX));
    let exponent = exponent.min(i64::from(u32::MAX));
    Some(if is_negative { -exponent } else { exponent })
}

fn length(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_is_what_sqlite_takes_for_one() {
        for word in [
            "1", "+1", "-1", " 1\t", "1.", ".5", "1e5", "1E+05", "-.5e-3", "007",
        ] {
            assert!(is_number(word), "{word}");
        }
        for word in [
            "", " ", ".", "e5", "1e", "1e+", "--1", "1 2", "0x1", "inf", "1,5", "1\0", "١",
        ] {
            assert!(!is_number(word), "{word}");
        }
    }

    #[test]
    fn notation_may_change_and_digits_may_not() {
        use Number::{Integer, Real};
        for (word, stored) in [
            ("42", Ok(Integer(42))),
            ("+5", Ok(Integer(5))),
            ("-0", Ok(Integer(0))),
            (" 7 ", Ok(Integer(7))),
            ("9223372036854775807", Ok(Integer(i64::MAX))),
            ("-9223372036854775808", Ok(Integer(i64::MIN))),
            ("9223372036854775808", Err(Loss::LargeInteger)),
            ("100000000000000000000", Err(Loss::LargeInteger)),
            ("007", Err(Loss::LeadingZeros)),
            ("-00.5", Err(Loss::LeadingZeros)),
            ("1.50", Ok(Real(1.5))),
            (".5", Ok(Real(0.5))),
            ("0.50000000000000000000000", Ok(Real(0.5))),
            ("1e400", Err(Loss::Range)),
            ("1e-400", Err(Loss::Range)),
            ("0e9999999999999999999999", Ok(Real(0.0))),
            ("1e9999999999999999999999", Err(Loss::Range)),
            ("9e999", Ok(Real(f64::INFINITY))),
            ("-9.0e+999", Ok(Real(f64::NEG_INFINITY))),
            ("0.10000000000000001", Ok(Real(0.1))),
            ("0.30000000000000004", Ok(Real(0.1 + 0.2))),
            ("1543556473821858.3", Ok(Real(1_543_556_473_821_858.3))),
            ("0.1000000000000000055511151231257827", Err(Loss::Digits)),
            ("3.14159265358979323846", Err(Loss::Digits)),
            ("9007199254740993.0", Err(Loss::Digits)),
            ("5e-324", Ok(Real(5e-324))),
            ("5.1e-324", Err(Loss::Digits)),
        ] {
            assert_eq!(numeric(word), Some(stored), "{word}");
        }
        assert_eq!(real("9007199254740992"), Some(Ok(9_007_199_254_740_992.0)));
        assert_eq!(real("9007199254740993"), Some(Err(Loss::Digits)));
        assert_eq!(real("18446744073709551616"), Some(Err(Loss::Digits)));
    }

    proptest! {
        /// As this command writes it, and as printf writes it with 17 digits.
        #[test]
        fn every_real_number_survives(value in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
            prop_assert_eq!(real(&format!("{value:?}")), Some(Ok(value)));
            prop_assert_eq!(real(&format!("{value:.16e}")), Some(Ok(value)));
        }
    }
}
