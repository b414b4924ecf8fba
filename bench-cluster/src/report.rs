//! What is printed.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::peer::{ALL, HIQLITE, KEYED, ONE_PROPOSAL, PENHOLDER};
use crate::rounds::{Cell, Rounds};

/// What penholder's client may cost, compared with the engine's own.
const COST: f64 = 1.1;
/// What sharing proposals has to bring.
const SHARING: f64 = 3.0;

/// Returns a table for each number of clients, and what was aimed at.
pub(crate) fn text(rounds: &Rounds) -> String {
    let mut text = format!(
        "One row a write, durable before it is acknowledged: medians of {} rounds of {} s in turns, on one machine.\n",
        rounds.rounds, rounds.seconds
    );
    for clients in rounds.clients() {
        let _ = write!(
            text,
            "\n{:<16}{:>10}{:>11}{:>11}{:>14}{:>13}\n",
            match clients {
                1 => "1 client".to_owned(),
                clients => format!("{clients} clients"),
            },
            "writes/s",
            "p50",
            "p99",
            "of penholder",
            "p50 compared"
        );
        let first = rounds.find(PENHOLDER, clients);
        for cell in of(rounds, clients) {
            text += &line(cell, first);
        }
    }
    text.push('\n');
    for (name, what) in ALL {
        let _ = writeln!(text, "{name:<16}{what}");
    }
    for (name, why) in &rounds.skipped {
        let _ = writeln!(text, "SKIPPED: {name}: {why}");
    }
    if let Some(cost) = cost(rounds, KEYED) {
        let _ = writeln!(
            text,
            "p50 of one client, compared with hiqlite's own client that records as much: {cost:.2} (aim: {COST} at most)"
        );
    }
    if let Some(cost) = cost(rounds, HIQLITE) {
        let _ = writeln!(
            text,
            "p50 of one client, compared with hiqlite's own client: {cost:.2} (aim: {COST} at most)"
        );
    }
    if let Some((clients, sharing)) = sharing(rounds) {
        let _ = writeln!(
            text,
            "rate of {clients} clients, compared with one proposal a write: {sharing:.2} (aim: {SHARING} at least)"
        );
    }
    text
}

/// Returns one JSON object.
pub(crate) fn json(rounds: &Rounds) -> String {
    let cells: Vec<Value> = rounds
        .cells
        .iter()
        .map(|cell| cell_json(rounds, cell))
        .collect();
    let skipped = rounds
        .skipped
        .iter()
        .map(|(peer, why)| json!({ "peer": peer, "why": why }));
    let sharing = sharing(rounds).map(|(_, sharing)| sharing);
    let object = json!({
        "rounds": rounds.rounds,
        "seconds": rounds.seconds,
        "cells": cells,
        "skipped": skipped.collect::<Vec<_>>(),
        "p50_of_hiqlite": cost(rounds, HIQLITE),
        "p50_of_hiqlite_keyed": cost(rounds, KEYED),
        "rate_of_one_proposal": sharing,
    });
    object.to_string() + "\n"
}

fn cell_json(rounds: &Rounds, cell: &Cell) -> Value {
    let first = rounds.find(PENHOLDER, cell.clients);
    json!({
        "peer": cell.peer,
        "clients": cell.clients,
        "rate": cell.rate(),
        "p50_ms": cell.p50(),
        "p99_ms": cell.p99(),
        "failed": cell.failed(),
        "rate_of_penholder": first.and_then(|first| ratio(cell.rate(), first.rate())),
        "p50_of_penholder": first.and_then(|first| ratio(cell.p50(), first.p50())),
    })
}

fn line(cell: &Cell, first: Option<&Cell>) -> String {
    let compared = |of: fn(&Cell) -> f64| {
        let ratio = first.and_then(|first| ratio(of(cell), of(first)));
        ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
    };
    let mut line = format!(
        "  {:<14}{:>10.0}{:>8.2} ms{:>8.2} ms{:>14}{:>13}",
        cell.peer,
        cell.rate(),
        cell.p50(),
        cell.p99(),
        compared(Cell::rate),
        compared(Cell::p50)
    );
    if cell.failed() > 0 {
        let _ = write!(line, "  {} failed", cell.failed());
    }
    line + "\n"
}

/// Returns the cells with this number of clients, in the order of the peers.
fn of(rounds: &Rounds, clients: u32) -> impl Iterator<Item = &Cell> {
    ALL.iter()
        .filter_map(move |(name, _)| rounds.find(name, clients))
}

/// Returns how long a write of one client takes, compared with the engine's own client.
fn cost(rounds: &Rounds, engine: &str) -> Option<f64> {
    let [penholder, engine] = [PENHOLDER, engine].map(|peer| rounds.find(peer, 1));
    ratio(penholder?.p50(), engine?.p50())
}

/// Returns the rate of the most clients, compared with one proposal a write.
fn sharing(rounds: &Rounds) -> Option<(u32, f64)> {
    let clients = rounds.clients().pop()?;
    let [shared, one] = [PENHOLDER, ONE_PROPOSAL].map(|peer| rounds.find(peer, clients));
    Some((clients, ratio(shared?.rate(), one?.rate())?))
}

fn ratio(one: f64, other: f64) -> Option<f64> {
    (other > 0.0).then(|| one / other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn measured() -> Rounds {
        let ms = Duration::from_millis;
        Rounds {
            rounds: 3,
            seconds: 2,
            cells: vec![
                Cell::of(HIQLITE, 1, 110.0, ms(9)),
                Cell::of(PENHOLDER, 1, 100.0, ms(10)),
                Cell::of(PENHOLDER, 32, 3000.0, ms(11)),
                Cell::of(ONE_PROPOSAL, 32, 500.0, ms(60)),
            ],
            skipped: vec![("etcd", "there is no program etcd".to_owned())],
        }
    }

    #[test]
    fn the_table_has_losses_and_what_was_skipped() {
        let text = text(&measured());
        assert!(
            text.contains("SKIPPED: etcd: there is no program etcd"),
            "{text}"
        );
        assert!(
            text.contains("own client: 1.11 (aim: 1.1 at most)"),
            "{text}"
        );
        assert!(
            text.contains("one proposal a write: 6.00 (aim: 3 at least)"),
            "{text}"
        );
        let line = text
            .lines()
            .find(|line| line.starts_with("  hiqlite"))
            .unwrap();
        assert!(line.ends_with("1.10         0.90"), "{line}");
    }

    #[test]
    fn the_json_says_the_same() {
        let value: Value = serde_json::from_str(&json(&measured())).unwrap();
        assert_eq!(value["cells"][0]["rate_of_penholder"], 1.1);
        assert_eq!(value["rate_of_one_proposal"], 6.0);
        assert_eq!(value["skipped"][0]["peer"], "etcd");
    }
}
