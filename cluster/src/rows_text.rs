//! Rows as they are printed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use penholder::{Row, RowSet, Value};

/// One line for each row, with tabs between the values.
pub(crate) fn table(rows: &RowSet) -> String {
    let mut text = rows.columns().join("\t") + "\n";
    for row in rows {
        let values: Vec<String> = row.values().iter().map(shown).collect();
        text += &values.join("\t");
        text.push('\n');
    }
    text
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(value) => value.to_string(),
        Value::Real(value) => format!("{value:?}"),
        Value::Text(text) => text.escape_debug().to_string(),
        Value::Blob(bytes) => {
            bytes
                .iter()
                .fold("x'".to_owned(), |text, byte| text + &format!("{byte:02x}"))
                + "'"
        }
    }
}

/// As `penholder query --json`: an array with an object for each row, in the order of the columns.
pub(crate) fn json(rows: &RowSet) -> String {
    let objects: Vec<String> = rows.iter().map(object).collect();
    format!("[{}]\n", objects.join(",\n"))
}

fn object(row: &Row) -> String {
    let pairs = row.columns().iter().zip(row.values());
    let pairs: Vec<String> = pairs
        .map(|(column, value)| format!("{}:{}", serde_json::json!(column), json_value(value)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

fn json_value(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Integer(value) => (*value).into(),
        Value::Real(value) => (*value).into(),
        Value::Text(text) => text.clone().into(),
        Value::Blob(bytes) => {
            serde_json::json!({ "$base64": true, "encoded": STANDARD.encode(bytes) })
        }
    }
}
