//! One value as text.

use penholder::Value;

use crate::{blob_literal, real_literal};

/// A value by itself.
pub fn scalar(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Text(text) => text.clone(),
        other => cell(other),
    }
}

/// A value in a table. A text that could be taken for NULL or a blob is an SQL literal.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(value) => value.to_string(),
        Value::Real(value) => real_literal::write(*value),
        Value::Text(text) if is_ambiguous(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => blob_literal::write(bytes),
    }
}

fn is_ambiguous(text: &str) -> bool {
    let is_literal = text.len() > 1 && text.starts_with('\'') && text.ends_with('\'');
    text == "NULL" || is_literal || blob_literal::is_literal(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_in_a_table_looks_like_another_value() {
        for (value, expected) in [
            (Value::Real(1.0), "1.0"),
            (Value::Real(f64::NEG_INFINITY), "-9e999"),
            (vec![10, 255].into(), "X'0AFF'"),
            (Value::Null, "NULL"),
            ("null".into(), "null"),
            ("it's".into(), "it's"),
            ("'".into(), "'"),
            ("NULL".into(), "'NULL'"),
            ("x'0a'".into(), "'x''0a'''"),
            ("'NULL'".into(), "'''NULL'''"),
        ] {
            assert_eq!(cell(&value), expected);
        }
    }
}
