//! SQL parameters on the command line.

use penholder::Value;

/// The value that a word of the command line stands for.
pub(crate) fn value(word: &str) -> Value {
    if word == "null:" {
        return Value::Null;
    }
    if let Some(text) = word.strip_prefix("text:") {
        return text.into();
    }
    if let Ok(integer) = word.parse::<i64>() {
        return integer.into();
    }
    match word.parse::<f64>() {
        Ok(real) if is_written_as_real(word) && real.is_finite() => real.into(),
        _ => word.into(),
    }
}

/// Whether it is digits with a point or an exponent. `inf` and `nan` are not, and an
/// integer that is too large is not: it would lose digits as a real number.
fn is_written_as_real(word: &str) -> bool {
    word.contains(|c: char| c.is_ascii_digit()) && word.contains(['.', 'e', 'E'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_typed_values() {
        for (word, expected) in [
            ("42", Value::Integer(42)),
            ("-7", Value::Integer(-7)),
            ("1.5", Value::Real(1.5)),
            ("-1e3", Value::Real(-1000.0)),
            ("null:", Value::Null),
            ("text:42", Value::Text("42".into())),
            ("text:", Value::Text(String::new())),
            ("", Value::Text(String::new())),
            ("inf", Value::Text("inf".into())),
            ("NaN", Value::Text("NaN".into())),
            ("1e999", Value::Text("1e999".into())),
            (
                "99999999999999999999",
                Value::Text("99999999999999999999".into()),
            ),
            ("null", Value::Text("null".into())),
            ("e", Value::Text("e".into())),
        ] {
            assert_eq!(value(word), expected, "{word}");
        }
    }
}
