//! The requests of a service, a web shop, in small transactions:
//!
//! | of 100 | request |
//! | --- | --- |
//! | 40 | read three customers by their keys |
//! | 25 | insert an event |
//! | 20 | update a session, one of 1,000 |
//! | 5 | update a counter, one of 10 |
//! | 10 | in one transaction: read an article, store the number sold that follows from what was read, insert a purchase |
//!
//! Each request counts, reads included. Peers without `BEGIN` for single statements
//! use it for the last kind only.

use std::error::Error;

use penholder::params;
use rusqlite::Connection;
use serde_json::json;

use crate::peer::client::{Client, Outcome};
use crate::share::{self, Share};
use crate::workload::requests::Requests;
use crate::workload::scenario::Scenario;

const CUSTOMERS: i64 = 10_000;
const SESSIONS: i64 = 1_000;
const ARTICLES: i64 = 1_000;
const COUNTERS: i64 = 10;

const READ_CUSTOMERS: &str = "SELECT name, mail FROM customer WHERE id IN (?1, ?2, ?3)";
const INSERT_EVENT: &str = "INSERT INTO event(worker, customer, text) VALUES (?1, ?2, ?3)";
const UPDATE_SESSION: &str = "UPDATE session SET hits = hits + 1, customer = ?1 WHERE id = ?2";
const UPDATE_COUNTER: &str = "UPDATE counter SET value = value + 1 WHERE id = ?1";
const READ_ARTICLE: &str = "SELECT price, sold FROM article WHERE id = ?1";
const UPDATE_ARTICLE: &str = "UPDATE article SET sold = ?1 WHERE id = ?2";
const INSERT_PURCHASE: &str = "INSERT INTO purchase(customer, article, price) VALUES (?1, ?2, ?3)";
const TEXT: &str = "opened the page of an article, from a link in a mail";

pub(crate) struct Service;

impl Scenario for Service {
    fn summary(&self) -> &'static str {
        "requests of a service: 40% reads, 50% writes of one row, 10% a write after a read"
    }

    fn create(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch(&format!(
            "CREATE TABLE customer(id INTEGER PRIMARY KEY, name TEXT, mail TEXT);
             CREATE TABLE session(id INTEGER PRIMARY KEY, customer INTEGER, hits INTEGER);
             CREATE TABLE counter(id INTEGER PRIMARY KEY, value INTEGER);
             CREATE TABLE article(id INTEGER PRIMARY KEY, price INTEGER, sold INTEGER);
             CREATE TABLE event(id INTEGER PRIMARY KEY, worker INTEGER, customer INTEGER, text);
             CREATE TABLE purchase(id INTEGER PRIMARY KEY, customer INTEGER, article INTEGER, price);
             CREATE INDEX purchase_customer ON purchase(customer);
             CREATE TEMP TABLE number AS
                 WITH RECURSIVE number(n) AS
                     (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {CUSTOMERS})
                 SELECT n FROM number;
             BEGIN;
             INSERT INTO customer SELECT n, 'customer ' || n, n || '@example.com' FROM number;
             INSERT INTO session SELECT n, n, 0 FROM number WHERE n <= {SESSIONS};
             INSERT INTO counter SELECT n, 0 FROM number WHERE n <= {COUNTERS};
             INSERT INTO article SELECT n, 100 + n, 0 FROM number WHERE n <= {ARTICLES};
             COMMIT"
        ))
    }

    fn requests(&self, number: u32) -> Box<dyn Requests> {
        Box::new(Mix { number })
    }

    /// Each acknowledged write is one event, one hit, one count or one purchase. What
    /// is sold of each article is what was purchased: no purchase was stored without
    /// its update, and none was computed from an old read.
    fn is_complete(&self, connection: &Connection, shares: &[Share]) -> rusqlite::Result<bool> {
        let sum = "SELECT (SELECT count(*) FROM event) + (SELECT count(*) FROM purchase)
                       + (SELECT sum(hits) FROM session) + (SELECT sum(value) FROM counter)";
        let written: u64 = connection.query_row(sum, (), |row| row.get(0))?;
        let wrong = "SELECT count(*) FROM article LEFT JOIN
                         (SELECT article, count(*) AS purchases FROM purchase GROUP BY article)
                         ON article = article.id
                     WHERE sold <> ifnull(purchases, 0)";
        let wrong: u64 = connection.query_row(wrong, (), |row| row.get(0))?;
        Ok(wrong == 0 && written == share::total_acknowledged(shares))
    }

    fn parts(&self) -> serde_json::Value {
        json!({
            "customers": CUSTOMERS, "sessions": SESSIONS,
            "articles": ARTICLES, "counters": COUNTERS,
            "read_customers": READ_CUSTOMERS, "insert_event": INSERT_EVENT,
            "update_session": UPDATE_SESSION, "update_counter": UPDATE_COUNTER,
            "read_article": READ_ARTICLE, "update_article": UPDATE_ARTICLE,
            "insert_purchase": INSERT_PURCHASE, "text": TEXT,
        })
    }
}

struct Mix {
    number: u32,
}

impl Requests for Mix {
    fn send(&mut self, client: &mut dyn Client) -> Result<Outcome, Box<dyn Error>> {
        let customer = fastrand::i64(1..=CUSTOMERS);
        match fastrand::u8(..100) {
            0..40 => read_customers(client, customer),
            40..65 => client.execute(INSERT_EVENT, params![self.number, customer, TEXT]),
            65..85 => {
                let session = fastrand::i64(1..=SESSIONS);
                client.execute(UPDATE_SESSION, params![customer, session])
            }
            85..90 => client.execute(UPDATE_COUNTER, params![fastrand::i64(1..=COUNTERS)]),
            _ => purchase(client, customer),
        }
    }
}

/// Reads three customers: the given one and two random ones.
fn read_customers(client: &mut dyn Client, first: i64) -> Result<Outcome, Box<dyn Error>> {
    // Different keys: the given one, the next two thousand and four thousand further.
    let further = |by: i64| (first + by - 1) % CUSTOMERS + 1;
    let keys = (first, further(2_000), further(4_000));
    client.read(&|connection| {
        let mut read = connection.prepare_cached(READ_CUSTOMERS)?;
        let mut rows = read.query(keys)?;
        let mut found = 0;
        while let Some(row) = rows.next()? {
            row.get_ref(0)?;
            row.get_ref(1)?;
            found += 1;
        }
        if found == 3 {
            return Ok(());
        }
        Err(rusqlite::Error::QueryReturnedNoRows)
    })
}

fn purchase(client: &mut dyn Client, customer: i64) -> Result<Outcome, Box<dyn Error>> {
    let article = fastrand::i64(1..=ARTICLES);
    client.write(&|connection| {
        let mut read = connection.prepare_cached(READ_ARTICLE)?;
        let (price, sold): (i64, i64) = read.query_row((article,), |row| row.try_into())?;
        let mut update = connection.prepare_cached(UPDATE_ARTICLE)?;
        update.execute((sold + 1, article))?;
        let mut insert = connection.prepare_cached(INSERT_PURCHASE)?;
        insert.execute((customer, article, price))?;
        Ok(())
    })
}
