//! Proves that `penholder import` reads back what `penholder query` prints, to the same
//! content: from JSON with values of every storage class in columns of every type, from CSV
//! with the values that belong to the type of the column.
#![cfg(test)]

use std::fs;

use penholder::Value;
use penholder::rusqlite::{Connection, params_from_iter};
use penholder_testkit::command_fixture::CommandFixture;
use penholder_testkit::plain_sqlite;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// Texts that are easily taken for something else.
const ODD_TEXTS: [&str; 16] = [
    "",
    " ",
    "NULL",
    "007",
    "1.10",
    "1e400",
    "9e999",
    "X'0A'",
    "x''",
    "\"",
    "'",
    ",",
    "\r\n",
    "{\"$base64\":true,\"encoded\":\"AP8=\"}",
    "[1]",
    "\0",
];

fn text() -> impl Strategy<Value = Value> {
    let odd = proptest::sample::select(&ODD_TEXTS[..]).prop_map(str::to_owned);
    prop_oneof![odd, any::<String>(), "[0-9+.eE-]{1,25}"].prop_map(Value::Text)
}

fn integer() -> impl Strategy<Value = Value> {
    prop_oneof![any::<i64>(), -9_i64..9].prop_map(Value::Integer)
}

fn real() -> impl Strategy<Value = Value> {
    use proptest::num::f64::{INFINITE, NEGATIVE, NORMAL, SUBNORMAL, ZERO};
    let any = NORMAL | SUBNORMAL | ZERO | INFINITE | NEGATIVE;
    prop_oneof![any, (-9_i32..9).prop_map(f64::from)].prop_map(Value::Real)
}

fn blob() -> impl Strategy<Value = Value> {
    proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::Blob)
}

fn null() -> impl Strategy<Value = Value> {
    Just(Value::Null)
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![null(), integer(), real(), text(), blob()]
}

fn rows<const N: usize>(
    row: impl Strategy<Value = [Value; N]>,
) -> impl Strategy<Value = Vec<[Value; N]>> {
    proptest::collection::vec(row, 0..12)
}

/// Writes rows into one database, prints them, imports them into another one, and compares
/// what the databases have.
fn assert_round_trip<const N: usize>(
    schema: &str,
    rows: &[[Value; N]],
    format: &str,
    options: &[&str],
) -> Result<(), TestCaseError> {
    let fixture = CommandFixture::new(PENHOLDER);
    for db in ["x.db", "y.db"] {
        fixture.run(["exec", db, schema]).expect_success();
    }
    let source = plain_sqlite::open(&fixture.join("x.db"));
    let insert = format!("INSERT INTO t VALUES ({})", ["?"; N].join(", "));
    for row in rows {
        source.execute(&insert, params_from_iter(row)).unwrap();
    }
    let option = format!("--{format}");
    let query = ["query", "x.db", "SELECT * FROM t ORDER BY rowid", &option];
    let file = format!("rows.{format}");
    let printed = fixture.run(query).expect_success();
    fs::write(fixture.join(&file), &printed).unwrap();
    let import = ["import", "y.db", "t", &file].into_iter();
    let output = fixture.run(import.chain(options.iter().copied()));
    prop_assert_eq!(output.code, Some(0), "{:?} {}", output, printed);
    let target = plain_sqlite::open(&fixture.join("y.db"));
    prop_assert_eq!(content::<N>(&target), content::<N>(&source), "{}", printed);
    Ok(())
}

/// All values, bit for bit.
fn content<const N: usize>(connection: &Connection) -> Vec<Vec<String>> {
    let mut statement = connection
        .prepare("SELECT * FROM t ORDER BY rowid")
        .unwrap();
    let values = statement.query_map((), |row| {
        (0..N)
            .map(|column| {
                Ok(match row.get(column)? {
                    Value::Real(value) => format!("real {:x}", value.to_bits()),
                    other => format!("{other:?}"),
                })
            })
            .collect()
    });
    values.unwrap().map(Result::unwrap).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn json_brings_every_value_back(
        rows in rows([any_value(), any_value(), any_value(), any_value(), any_value(), any_value()])
    ) {
        let schema = "CREATE TABLE t(a, b TEXT, c INTEGER, d REAL, e BLOB, f NUMERIC)";
        assert_round_trip(schema, &rows, "json", &[])?;
    }

    #[test]
    fn json_brings_the_values_of_strict_tables_back(
        rows in rows([
            any_value().boxed(), text().boxed(), integer().boxed(), real().boxed(), blob().boxed(),
        ])
    ) {
        let schema = "CREATE TABLE t(a ANY, b TEXT, c INTEGER, d REAL, e BLOB) STRICT";
        assert_round_trip(schema, &rows, "json", &[])?;
    }

    #[test]
    fn csv_brings_the_values_of_typed_columns_back(
        rows in rows([text().boxed(), integer().boxed(), real().boxed(), blob().boxed()]
            .map(|value| prop_oneof![3 => value, 1 => null()]))
    ) {
        let schema = "CREATE TABLE t(b TEXT, c INTEGER, d REAL, e BLOB)";
        assert_round_trip(schema, &rows, "csv", &["--empty-as-null=unquoted"])?;
    }
}

/// One row holds a value of each storage class; nothing is left to chance.
#[test]
fn each_storage_class_comes_back_from_json_and_csv() {
    let values = [
        Value::Null,
        "X'0A'".into(),
        Value::Integer(i64::MIN),
        Value::Real(f64::NEG_INFINITY),
        vec![0, 255].into(),
    ];
    let schema = "CREATE TABLE t(a TEXT, b TEXT, c INTEGER, d REAL, e BLOB)";
    assert_round_trip(schema, std::slice::from_ref(&values), "json", &[]).unwrap();
    assert_round_trip(schema, &[values], "csv", &["--empty-as-null"]).unwrap();
}
