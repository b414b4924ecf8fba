//! Parameters and rows have the types of the application: of the standard library, of other
//! crates through rusqlite's features, and of serde.
#![cfg(test)]

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use penholder::rusqlite::types::{FromSql, ToSql, ToSqlOutput};
use penholder::{
    Database, ErrorKind, Params, Query, SliceParam, Value, named_params, params, rusqlite,
};
use penholder_testkit::database_fixture::DatabaseFixture;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

fn database() -> (DatabaseFixture, Database) {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    (fixture, db)
}

/// Passes a value as each kind of parameter, and reads it back in each way.
fn round_trip<T>(db: &Database, value: &T)
where
    T: ToSql + FromSql + DeserializeOwned + PartialEq + std::fmt::Debug + Clone + SliceParam + Sync,
{
    let sql = "SELECT ?1 AS value";
    let named = "SELECT :value AS value";
    let owned = vec![value.clone()];
    let found = [
        db.query_scalar::<T>(sql, (value,)).unwrap(),
        db.query_scalar(sql, [value.clone()]).unwrap(),
        db.query_scalar(sql, vec![value.clone()]).unwrap(),
        db.query_scalar(sql, &[value.clone()][..]).unwrap(),
        db.query_scalar(sql, &owned).unwrap(),
        db.query_scalar(sql, params![value]).unwrap(),
        db.query_scalar(sql, [value].into_iter().collect::<Params>())
            .unwrap(),
        db.query_scalar(named, named_params! {":value": value})
            .unwrap(),
        db.query_scalar(named, &[(":value", value)]).unwrap(),
        db.query_scalar(named, &[(":value", value as &dyn ToSql)][..])
            .unwrap(),
    ];
    assert!(found.iter().all(|found| found == value), "{found:?}");
    let some: Option<T> = db.query_scalar(sql, [Some(value)]).unwrap();
    assert_eq!(some.as_ref(), Some(value));
    let none: Option<T> = db.query_scalar(sql, [None::<T>]).unwrap();
    assert_eq!(none, None);
    assert_eq!(
        db.query_as::<(T,)>(sql, [value]).unwrap(),
        [(value.clone(),)]
    );
    assert_eq!(db.query_as::<T>(sql, [value]).unwrap(), owned);
    assert_eq!(db.query_as::<Option<T>>(sql, [None::<T>]).unwrap(), [None]);
}

#[test]
fn values_of_the_standard_library_are_parameters_and_columns() {
    let (_fixture, db) = database();
    round_trip(&db, &7_usize);
    round_trip(&db, &u64::try_from(i64::MAX).unwrap());
    round_trip(&db, &-7_i8);
    round_trip(&db, &i64::MIN);
    round_trip(&db, &0.5_f64);
    round_trip(&db, &true);
    round_trip(&db, &"größe".to_owned());
    round_trip(&db, &vec![0_u8, 255]);
    round_trip(&db, &[1_u8, 2, 3, 4]);
}

#[test]
fn dates_and_times_are_parameters_and_columns() {
    let (_fixture, db) = database();
    let day = NaiveDate::from_ymd_opt(2026, 11, 28).unwrap();
    let time = NaiveTime::from_hms_milli_opt(18, 41, 0, 250).unwrap();
    round_trip(&db, &day);
    round_trip(&db, &time);
    round_trip(&db, &day.and_time(time).and_utc());
    let at = NaiveDateTime::new(day, time);
    let found: NaiveDateTime = db.query_scalar("SELECT ?1", [at]).unwrap();
    assert_eq!(found, at);
    let at = time::OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    let found: time::OffsetDateTime = db.query_scalar("SELECT ?1", &[at][..]).unwrap();
    assert_eq!(found, at);
    round_trip(&db, &jiff::civil::date(2026, 11, 28));
    round_trip(&db, &jiff::civil::time(18, 41, 0, 250_000_000));
    round_trip(&db, &jiff::civil::date(2026, 11, 28).at(18, 41, 0, 0));
    round_trip(
        &db,
        &"2026-11-28T18:41:00Z".parse::<jiff::Timestamp>().unwrap(),
    );
}

#[test]
fn identifiers_and_json_are_parameters_and_columns() {
    let (_fixture, db) = database();
    round_trip(&db, &Uuid::from_u128(0x0123_4567_89ab_cdef));
    let json = serde_json::json!({"a": [1, null, "x"]});
    let found: serde_json::Value = db.query_scalar("SELECT ?1", [&json]).unwrap();
    assert_eq!(found, json);
    let url: url::Url = "https://example.org/a?b".parse().unwrap();
    let found: url::Url = db.query_scalar("SELECT ?1", &[url.clone()][..]).unwrap();
    assert_eq!(found, url);
    let typed: String = db
        .query_scalar("SELECT json_extract(?1, '$.a[2]')", [json])
        .unwrap();
    assert_eq!(typed, "x");
}

#[test]
fn a_type_of_the_application_is_a_parameter() {
    #[derive(Debug, Clone)]
    struct Id(i64);
    impl ToSql for Id {
        fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
            self.0.to_sql()
        }
    }
    let (_fixture, db) = database();
    let sum = "SELECT ?1 + ?2";
    let ids = [Id(40), Id(2)];
    assert_eq!(db.query_scalar::<i64>(sum, ids.clone()).unwrap(), 42);
    assert_eq!(db.query_scalar::<i64>(sum, ids.to_vec()).unwrap(), 42);
    assert_eq!(db.query_scalar::<i64>(sum, (&ids[0], &ids[1])).unwrap(), 42);
    assert_eq!(db.query_scalar::<i64>(sum, params![ids[0], 2]).unwrap(), 42);
    let collected: Params = ids.iter().collect();
    assert_eq!(db.query_scalar::<i64>(sum, collected).unwrap(), 42);
}

#[test]
fn a_value_that_sqlite_cannot_store_is_refused_before_anything_runs() {
    let (_fixture, db) = database();
    let insert = "INSERT INTO entry VALUES (?1)";
    let error = db.execute(insert, [u64::MAX]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
    assert!(error.to_string().contains("parameter ?1: "), "{error}");
    let both = [Query::new(insert, [1]), Query::new(insert, [u64::MAX])];
    let error = db.batch(both).unwrap_err();
    assert!(error.to_string().contains("statement 2 of 2"), "{error}");
    assert_eq!(
        db.query_scalar::<i64>("SELECT count(*) FROM entry", [])
            .unwrap(),
        0
    );
}

#[test]
fn values_convert_from_and_to_those_of_rusqlite() {
    for value in [
        Value::Null,
        Value::Integer(-1),
        Value::Real(0.5),
        Value::Text("a".to_owned()),
        Value::Blob(vec![1]),
    ] {
        let theirs = rusqlite::types::Value::from(value.clone());
        assert_eq!(Value::from(theirs), value);
    }
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Low,
    High,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Job {
    id: u32,
    name: String,
    level: Level,
    done: bool,
    due: Option<DateTime<Utc>>,
    #[serde(default)]
    absent: Vec<u8>,
}

const JOB: &str =
    "SELECT 7 AS id, 'sweep' AS name, 'high' AS level, 1 AS done, ?1 AS due, 'x' AS more";

#[test]
fn rows_become_structs() {
    let (_fixture, db) = database();
    let due = "2026-11-28T18:41:00Z".parse::<DateTime<Utc>>().unwrap();
    let jobs = db.query_as::<Job>(JOB, [due]).unwrap();
    let job = Job {
        id: 7,
        name: "sweep".to_owned(),
        level: Level::High,
        done: true,
        due: Some(due),
        absent: Vec::new(),
    };
    assert_eq!(jobs, [job]);
    let first: Job = db
        .query_row(JOB, [due], penholder::Row::deserialize)
        .unwrap();
    assert_eq!(first, jobs[0]);
    let none = format!("{JOB} WHERE 0");
    assert!(db.query_as::<Job>(&none, [due]).unwrap().is_empty());
}

#[test]
fn a_field_may_be_read_as_rusqlite_reads_it() {
    #[derive(Debug, Deserialize)]
    struct Fields {
        #[serde(deserialize_with = "penholder::from_sql")]
        at: NaiveDateTime,
        #[serde(deserialize_with = "penholder::from_sql")]
        json: serde_json::Value,
        #[serde(deserialize_with = "penholder::from_sql")]
        day: Option<time::Date>,
        #[serde(deserialize_with = "penholder::from_sql")]
        id: Uuid,
    }
    let (_fixture, db) = database();
    let at = NaiveDate::from_ymd_opt(2026, 11, 28)
        .unwrap()
        .and_hms_opt(1, 2, 3);
    let (json, id) = (serde_json::json!({"a": [1]}), Uuid::from_u128(7));
    let sql = "SELECT ?1 AS at, ?2 AS json, NULL AS day, ?3 AS id";
    let found = db
        .query_as::<Fields>(sql, (at, &json, id))
        .unwrap()
        .remove(0);
    assert_eq!(
        (Some(found.at), found.json, found.day, found.id),
        (at, json, None, id)
    );
    let error = db.query_as::<Fields>(sql, (1, 2, 3)).unwrap_err();
    assert!(error.to_string().contains("column \"at\""), "{error}");
}

#[test]
fn a_value_of_another_type_says_what_it_is() {
    let (_fixture, db) = database();
    let null = db.query_scalar::<String>("SELECT NULL", []).unwrap_err();
    assert!(null.to_string().contains("it is NULL"), "{null}");
    assert!(null.to_string().ends_with("ask for an Option"), "{null}");
    let text = db.query_scalar::<i64>("SELECT 'x'", []).unwrap_err();
    assert!(text.to_string().contains("it is Text, and i64"), "{text}");
    let large = db.query_scalar::<u8>("SELECT 300", []).unwrap_err();
    assert!(large.to_string().contains("300"), "{large}");
}

/// Another connection has changed the schema since the statement was prepared.
#[test]
fn columns_are_those_of_the_schema_now() {
    let (fixture, db) = database();
    let other = penholder_testkit::database_fixture::open(&fixture.path());
    db.execute("INSERT INTO entry VALUES ('a')", []).unwrap();
    let all = "SELECT * FROM entry";
    let update = "UPDATE entry SET key = 'b' RETURNING *";
    assert_eq!(db.query(all, []).unwrap().columns(), ["key"]);
    assert_eq!(db.execute(update, []).unwrap().returned.columns(), ["key"]);
    for (change, columns) in [
        ("ALTER TABLE entry ADD COLUMN more", &["key", "more"][..]),
        (
            "ALTER TABLE entry RENAME COLUMN more TO other",
            &["key", "other"],
        ),
        ("ALTER TABLE entry DROP COLUMN other", &["key"]),
    ] {
        other.execute(change, []).unwrap();
        assert_eq!(db.query(all, []).unwrap().columns(), columns, "{change}");
        let returned = db.execute(update, []).unwrap().returned;
        assert_eq!(returned.columns(), columns, "{change}");
    }
    other.execute("DELETE FROM entry", []).unwrap();
    other
        .execute("ALTER TABLE entry ADD COLUMN last", [])
        .unwrap();
    assert_eq!(db.query(all, []).unwrap().columns(), ["key", "last"]);
}

#[test]
fn a_row_that_does_not_fit_names_the_column() {
    let (_fixture, db) = database();
    for (sql, words) in [
        ("SELECT 1 AS id", "missing field `name`"),
        (
            "SELECT -1 AS id",
            "column \"id\": invalid value: integer `-1`",
        ),
        (
            "SELECT 'x' AS id",
            "column \"id\": invalid type: string \"x\"",
        ),
        (
            "SELECT NULL AS id",
            "column \"id\": it is NULL, and u32 was expected",
        ),
        (
            "SELECT 1 AS id, 'a' AS name, 'other' AS level",
            "column \"level\": unknown variant `other`",
        ),
        (
            "SELECT 1 AS id, 'a' AS name, 'low' AS level, 2 AS done",
            "column \"done\": invalid type: integer `2`",
        ),
    ] {
        let error = db.query_as::<Job>(sql, []).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
        assert!(error.to_string().contains(words), "{sql}: {error}");
    }
    let pair = db.query_as::<(i64, i64)>("SELECT 1, 2, 3", []).unwrap_err();
    assert!(
        pair.to_string()
            .contains("has 3 columns, and the type takes 2"),
        "{pair}"
    );
    let triple = db
        .query_as::<(i64, i64, i64)>("SELECT 1, 2", [])
        .unwrap_err();
    assert!(triple.to_string().contains("tuple of size 3"), "{triple}");
    let scalar = db.query_as::<i64>("SELECT 1, 2", []).unwrap_err();
    assert!(
        scalar
            .to_string()
            .contains("has 2 columns, and the type takes one"),
        "{scalar}"
    );
}

#[test]
fn one_row_is_read_or_there_is_none() {
    let (_fixture, db) = database();
    let sql = "SELECT key FROM entry ORDER BY key";
    let text = |row: &penholder::Row| row.get::<String>("key");
    let error = db.query_row(sql, [], text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoRow, "{error}");
    assert!(error.to_string().contains("query_optional"), "{error}");
    assert_eq!(
        db.query_scalar::<String>(sql, []).unwrap_err().kind(),
        ErrorKind::NoRow
    );
    assert_eq!(db.query_optional(sql, [], text).unwrap(), None);
    db.execute("INSERT INTO entry VALUES ('a'), ('b')", [])
        .unwrap();
    assert_eq!(db.query_row(sql, [], text).unwrap(), "a");
    assert_eq!(
        db.query_optional(sql, [], text).unwrap().as_deref(),
        Some("a")
    );
    // Further rows are not even computed.
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    assert_eq!(db.query_scalar::<i64>(endless, []).unwrap(), 1);
}

#[test]
fn names_and_numbers_of_parameters_are_checked_before_the_call_waits() {
    let (fixture, db) = database();
    let mut holder =
        penholder_testkit::database_fixture::start_holder("hold_transaction", &fixture.path());
    let insert = "INSERT INTO entry VALUES (:key)";
    for error in [
        db.execute(insert, named_params! {":other": 1}).unwrap_err(),
        db.execute(insert, named_params! {"key": 1}).unwrap_err(),
        db.execute(insert, [1, 2]).unwrap_err(),
        db.execute(insert, []).unwrap_err(),
        db.batch([Query::from(insert)]).unwrap_err(),
        db.batch([(insert, [1, 2])]).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
        assert!(error.to_string().contains("nothing was run"), "{error}");
    }
    holder.send("release");
    holder.expect("released");
    let done = db.execute(insert, named_params! {":key": "named"}).unwrap();
    assert_eq!(done.rows_changed, 1);
}

#[test]
fn peer() {
    penholder_testkit::peer::run_role(&[(
        "hold_transaction",
        penholder_testkit::database_fixture::hold_transaction,
    )]);
}
