//! penholder beside its peers as ratios, each with what was aimed at. Losses are
//! printed like wins.

use crate::figures::Figures;
use crate::peer::{Peer, Sync};
use crate::text;

/// Prints a line for each trial of penholder and each peer to compare it with.
pub(crate) fn print(figures: &[Figures]) {
    let mut lines = Vec::new();
    for own in figures.iter().filter(|row| is_own(row.peer)) {
        lines.push(alone(own));
        let beside = |peer: &&Figures| same_cell(own, peer) && is_beside(own.peer, peer.peer);
        lines.extend(figures.iter().filter(beside).map(|peer| pair(own, peer)));
    }
    lines.extend(beside_eight(figures));
    if !lines.is_empty() {
        println!("\n{}", lines.join("\n"));
    }
}

fn is_own(peer: Peer) -> bool {
    matches!(
        peer,
        Peer::Penholder | Peer::PenholderAlone | Peer::PenholderFifo | Peer::PenholderThreads
    )
}

/// The table has all of them; the stricter order is compared with the main peer.
fn is_beside(own: Peer, peer: Peer) -> bool {
    match own {
        Peer::Penholder => !is_own(peer),
        _ => peer == Peer::SqliteBusy,
    }
}

fn same_cell(one: &Figures, other: &Figures) -> bool {
    (one.sync, one.processes) == (other.sync, other.processes)
}

fn place(row: &Figures) -> String {
    let processes = text::processes(row.processes);
    format!("{}, {processes}: {}", row.sync, row.peer)
}

/// What does not need a peer: fairness, failures, rows, the log.
fn alone(own: &Figures) -> String {
    let many = matches!(own.processes, 8 | 32) && own.think_us == 0.0;
    let jain = match own.peer {
        Peer::PenholderFifo if many => " (target 0.995)",
        _ if many => " (target 0.990)",
        _ => "",
    };
    let log = if own.processes == 32 {
        " (target 32)"
    } else {
        ""
    };
    format!(
        "{} Jain {:.3}{jain}, failed {} (target 0), log {:.1} MB{log}, rows {}",
        place(own),
        own.jain,
        own.failed,
        text::megabytes(own.wal_max_bytes),
        text::rows(own.rows_ok)
    )
}

fn pair(own: &Figures, peer: &Figures) -> String {
    let mut line = format!(
        "{}/{} rate {:.2}",
        place(own),
        peer.peer,
        own.rate / peer.rate
    );
    if let Some(target) = rate_target(own, peer.peer) {
        line += &format!(" (target {target:.2})");
    }
    line += &format!(", longest wait {}", fraction(own.max_us / peer.max_us));
    if let Some(target) = wait_target(own, peer.peer) {
        line += &format!(" (target 1/{target})");
    }
    line
}

/// How much of a peer's rate is aimed at.
fn rate_target(own: &Figures, peer: Peer) -> Option<f64> {
    if own.peer != Peer::Penholder {
        return None;
    }
    let thinks = own.think_us > 0.0;
    match (peer, own.sync, own.processes) {
        (Peer::SqliteBusy, _, 8) if thinks => Some(0.85),
        _ if thinks => None,
        (Peer::SqliteBusy, _, 1) => Some(0.85),
        (Peer::SqliteAutocommit, _, 1) => Some(0.7),
        (Peer::SqliteBusy, Sync::Normal, 8) => Some(0.95),
        (Peer::SqliteBusy, Sync::Normal, 32) => Some(1.2),
        (Peer::SqliteBusy, Sync::Normal, 256) => Some(2.0),
        (Peer::SqliteBusyPrepared, Sync::Normal, 8 | 32) => Some(0.8),
        (Peer::SqliteBusy, Sync::Full, 8) => Some(3.0),
        (Peer::SqliteBusy, Sync::Full, 32) => Some(6.0),
        (Peer::Naive, Sync::Normal, 8 | 32) => Some(10.0),
        (Peer::Naive, Sync::Full, 8 | 32) => Some(2.0),
        _ => None,
    }
}

/// The part of a peer's longest wait that is aimed at.
fn wait_target(own: &Figures, peer: Peer) -> Option<u32> {
    if own.peer != Peer::Penholder || peer != Peer::SqliteBusy || own.think_us > 0.0 {
        return None;
    }
    match (own.sync, own.processes) {
        (Sync::Normal, 8 | 32 | 256) => Some(30),
        (Sync::Full, 8 | 32) => Some(100),
        _ => None,
    }
}

/// 256 processes beside 8 of the same peer.
fn beside_eight(figures: &[Figures]) -> Vec<String> {
    let crowds = figures
        .iter()
        .filter(|row| is_own(row.peer) && row.processes == 256);
    let lines = crowds.filter_map(|crowd| {
        let same =
            |row: &&Figures| row.processes == 8 && row.peer == crowd.peer && row.sync == crowd.sync;
        let eight = figures.iter().find(same)?;
        let ratio = crowd.rate / eight.rate;
        Some(format!(
            "{} rate {ratio:.2} of that of 8 processes (target 0.80)",
            place(crowd)
        ))
    });
    lines.collect()
}

/// `1/45` for what is less, `3.2` for what is more.
fn fraction(ratio: f64) -> String {
    if ratio < 1.0 {
        let times = 1.0 / ratio;
        return if times < 9.95 {
            format!("1/{times:.1}")
        } else {
            format!("1/{times:.0}")
        };
    }
    format!("{ratio:.1} times")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions() {
        assert_eq!(fraction(0.5), "1/2.0");
        assert_eq!(fraction(1.0 / 45.0), "1/45");
        assert_eq!(fraction(3.24), "3.2 times");
    }
}
