//! Real numbers as text that is read back as the same number.

/// Writes a real number: the shortest text that SQLite, JSON parsers and this command read as
/// the same number. None of them has a word for infinity, and all read `9e999` as infinity.
pub fn write(real: f64) -> String {
    match real.is_infinite() {
        true if real > 0.0 => "9e999".to_owned(),
        true => "-9e999".to_owned(),
        false => format!("{real:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_back() {
        for (real, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e300, "1e300"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "9e999"),
            (f64::NEG_INFINITY, "-9e999"),
        ] {
            assert_eq!(write(real), text);
            assert_eq!(text.parse(), Ok(real));
        }
    }
}
