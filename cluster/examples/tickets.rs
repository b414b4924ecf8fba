//! A service that gives out tickets: on a file of one machine or, unchanged, on a cluster.
//!
//! ```console
//! $ cargo run --example tickets -- app.db 127.0.0.1:8080
//! $ cargo run --example tickets -- cluster:here/client.toml 127.0.0.1:8080
//! $ curl -d ann 127.0.0.1:8080/ticket
//! 1
//! $ curl 127.0.0.1:8080/ticket
//! [{"number":1,"owner":"ann"}]
//! ```
//!
//! Start it as often as you like on one database: each number is given out once.

#![expect(clippy::print_stdout, reason = "it says where it listens")]

use std::error::Error;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use penholder::{Store, StoreExt};
use penholder_cluster::{AnyDatabase, connect};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

const STEPS: [&str; 1] =
    ["CREATE TABLE ticket(number INTEGER PRIMARY KEY, owner TEXT NOT NULL CHECK (owner <> ''))"];

#[derive(Debug, Serialize, Deserialize)]
struct Ticket {
    number: i64,
    owner: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let address = words.next().unwrap_or("app.db".to_owned());
    let listen = words.next().unwrap_or("127.0.0.1:8080".to_owned());
    let database = connect(&address).await?;
    database.migrate(&STEPS).await?;
    let routes = Router::new()
        .route("/ticket", get(list).post(take))
        .with_state(database);
    let listener = TcpListener::bind(&listen).await?;
    println!("tickets of {address} on http://{}", listener.local_addr()?);
    axum::serve(listener, routes).await?;
    Ok(())
}

/// Gives out the next number. A write that is repeated within the cluster happens once.
async fn take(State(database): State<AnyDatabase>, owner: String) -> Result<String, Failed> {
    let insert = "INSERT INTO ticket(owner) VALUES (?1)";
    let done = database.execute(insert, [owner]).await?;
    let number = done.last_insert_rowid.unwrap_or_default();
    Ok(format!("{number}\n"))
}

async fn list(State(database): State<AnyDatabase>) -> Result<Json<Vec<Ticket>>, Failed> {
    let select = "SELECT number, owner FROM ticket ORDER BY number";
    Ok(Json(database.query_as(select, ()).await?))
}

/// What a client is told.
type Answer = (StatusCode, String);

struct Failed(penholder::Error);

impl From<penholder::Error> for Failed {
    fn from(error: penholder::Error) -> Self {
        Self(error)
    }
}

impl axum::response::IntoResponse for Failed {
    fn into_response(self) -> axum::response::Response {
        let Self(error) = self;
        let status = if error.is_timeout() {
            // Nothing was written: the client may try again.
            StatusCode::SERVICE_UNAVAILABLE
        } else if error.is_outcome_unknown() {
            // The client has to look whether its ticket is there.
            StatusCode::GATEWAY_TIMEOUT
        } else if error.is_constraint_violation() {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        let answer: Answer = (status, format!("{error}\n"));
        answer.into_response()
    }
}
