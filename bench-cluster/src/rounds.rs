//! All peers in turns, several times.

use std::time::Duration;

use crate::Result;
use crate::arguments::Arguments;
use crate::peer::Peers;
use crate::trial::Trial;

/// All that was measured.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) cells: Vec<Cell>,
    pub(crate) skipped: Vec<(&'static str, String)>,
}

/// One peer under one number of clients.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) peer: &'static str,
    pub(crate) clients: u32,
    trials: Vec<Trial>,
}

impl Rounds {
    pub(crate) async fn run(peers: &Peers, arguments: &Arguments) -> Result<Self> {
        let mut rounds = Self {
            rounds: arguments.rounds,
            seconds: arguments.seconds,
            cells: Vec::new(),
            skipped: peers.skipped.clone(),
        };
        for round in 0..arguments.rounds as usize {
            for &clients in &arguments.clients {
                for place in 0..peers.running.len() {
                    // Each round begins with another one, as the first of them may find a cold machine.
                    let peer = &peers.running[(place + round) % peers.running.len()];
                    let trial = Trial::run(peer, clients, arguments.time())
                        .await
                        .map_err(|error| format!("{}: {error}", peer.name))?;
                    eprintln!(
                        "round {}: {clients} clients of {}: {:.0} a second",
                        round + 1,
                        peer.name,
                        trial.rate
                    );
                    rounds.cell(peer.name, clients).trials.push(trial);
                }
            }
        }
        Ok(rounds)
    }

    fn cell(&mut self, peer: &'static str, clients: u32) -> &mut Cell {
        let is_it = |cell: &Cell| cell.peer == peer && cell.clients == clients;
        let place = self.cells.iter().position(is_it).unwrap_or_else(|| {
            let trials = Vec::new();
            self.cells.push(Cell {
                peer,
                clients,
                trials,
            });
            self.cells.len() - 1
        });
        &mut self.cells[place]
    }

    /// Returns what was measured of a peer under a number of clients.
    pub(crate) fn find(&self, peer: &str, clients: u32) -> Option<&Cell> {
        self.cells
            .iter()
            .find(|cell| cell.peer == peer && cell.clients == clients)
    }

    /// Returns the numbers of clients, in order.
    pub(crate) fn clients(&self) -> Vec<u32> {
        let mut clients: Vec<u32> = self.cells.iter().map(|cell| cell.clients).collect();
        clients.sort_unstable();
        clients.dedup();
        clients
    }

    /// Returns how many writes of a peer were acknowledged, and how many failed.
    pub(crate) fn written(&self, peer: &str) -> (u64, u64) {
        let cells = self.cells.iter().filter(|cell| cell.peer == peer);
        cells
            .flat_map(|cell| &cell.trials)
            .fold((0, 0), |(acknowledged, failed), trial| {
                (acknowledged + trial.acknowledged, failed + trial.failed)
            })
    }
}

impl Cell {
    pub(crate) fn rate(&self) -> f64 {
        median(self.trials.iter().map(|trial| trial.rate))
    }

    /// In milliseconds.
    pub(crate) fn p50(&self) -> f64 {
        median(self.trials.iter().map(|trial| milliseconds(trial.p50)))
    }

    /// In milliseconds.
    pub(crate) fn p99(&self) -> f64 {
        median(self.trials.iter().map(|trial| milliseconds(trial.p99)))
    }

    pub(crate) fn failed(&self) -> u64 {
        self.trials.iter().map(|trial| trial.failed).sum()
    }

    #[cfg(test)]
    pub(crate) fn of(peer: &'static str, clients: u32, rate: f64, p50: Duration) -> Self {
        let trial = Trial {
            rate,
            p50,
            p99: p50,
            ..Trial::default()
        };
        Self {
            peer,
            clients,
            trials: vec![trial],
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, expected) in [
            (vec![], 0.0),
            (vec![3.0], 3.0),
            (vec![3.0, 1.0], 2.0),
            (vec![9.0, 1.0, 2.0], 2.0),
        ] {
            assert_eq!(median(values.into_iter()), expected);
        }
    }
}
