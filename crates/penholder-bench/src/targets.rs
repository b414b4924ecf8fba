//! The figures of penholder as ratios to those of its peers, each with its target.
//! Losses are printed like wins.

use crate::figures::Figures;
use crate::peer::Peer;
use crate::synchronous::Synchronous;
use crate::text;
use crate::workload::Workload;

/// Prints a line for each trial of penholder, and one for each peer in the same trial.
pub(crate) fn print(figures: &[Figures]) {
    let mut lines = Vec::new();
    for own in figures.iter().filter(|row| row.peer.is_penholder()) {
        lines.push(alone(own));
        let compared = |peer: &&Figures| {
            (peer.sync, peer.processes) == (own.sync, own.processes)
                && is_compared(own.peer, peer.peer)
        };
        lines.extend(figures.iter().filter(compared).map(|peer| pair(own, peer)));
    }
    lines.extend(compared_with_eight(figures));
    if !lines.is_empty() {
        println!("\n{}", lines.join("\n"));
    }
}

/// The variants of penholder are compared only with the main peer: the table shows
/// the others.
fn is_compared(own: Peer, peer: Peer) -> bool {
    match own {
        Peer::Penholder => !peer.is_penholder(),
        _ => peer == Peer::SqliteBusy,
    }
}

fn trial(row: &Figures) -> String {
    let processes = text::processes(row.processes);
    format!("{}, {processes}: {}", row.sync, row.peer)
}

/// The figures that need no peer: fairness, failures, rows, the size of the WAL.
fn alone(own: &Figures) -> String {
    let is_insert = own.workload == Workload::Insert && own.think_us == 0.0;
    let many = is_insert && matches!(own.processes, 8 | 32);
    let jain = match own.peer {
        Peer::PenholderFifo if many => " (target 0.995)",
        _ if many => " (target 0.990)",
        _ => "",
    };
    let wal = match own.processes {
        32 => " (target 32)",
        _ => "",
    };
    format!(
        "{} Jain {:.3}{jain}, failed {} (target 0), WAL {:.1} MB{wal}, rows {}",
        trial(own),
        own.jain,
        own.failed,
        text::megabytes(own.wal_max_bytes),
        text::rows(own.rows_ok)
    )
}

fn pair(own: &Figures, peer: &Figures) -> String {
    let mut line = format!(
        "{}/{} rate {:.2}",
        trial(own),
        peer.peer,
        own.rate / peer.rate
    );
    if let Some(target) = rate_target(own, peer.peer) {
        line += &format!(" (target {target:.2})");
    }
    let per_cpu_time = (own.rate / own.cpu_s) / (peer.rate / peer.cpu_s);
    line += &format!(", per CPU time {per_cpu_time:.2}");
    line += &format!(", longest wait {}", fraction(own.max_us / peer.max_us));
    if let Some(target) = wait_target(own, peer.peer) {
        line += &format!(" (target 1/{target})");
    }
    line
}

/// The target for the ratio of rates.
fn rate_target(own: &Figures, peer: Peer) -> Option<f64> {
    if own.threads > 1 {
        return None;
    }
    match own.workload {
        Workload::Insert if own.think_us > 0.0 => thinking_target(own, peer),
        Workload::Insert => insert_target(own, peer),
        workload if own.peer == Peer::Penholder && peer == Peer::SqliteBusy => {
            target_of(workload, own.sync, own.processes)
        }
        _ => None,
    }
}

fn thinking_target(own: &Figures, peer: Peer) -> Option<f64> {
    match (own.peer, peer, own.processes) {
        (Peer::Penholder, Peer::SqliteBusy, 8) if own.think_us <= 200.0 => Some(1.9),
        (Peer::Penholder, Peer::SqliteBusy, 8) => Some(1.0),
        _ => None,
    }
}

fn insert_target(own: &Figures, peer: Peer) -> Option<f64> {
    match (own.peer, peer, own.sync, own.processes) {
        (Peer::Penholder, Peer::SqliteBusy, Synchronous::Normal, 1) => Some(1.5),
        (Peer::Penholder, Peer::SqliteBusyPrepared, Synchronous::Normal, 1) => Some(1.4),
        (Peer::Penholder, Peer::SqliteAutocommit, Synchronous::Normal, 1) => Some(1.3),
        (Peer::Penholder, Peer::SqliteBusy, Synchronous::Normal, 8 | 32) => Some(1.4),
        (Peer::Penholder, Peer::SqliteBusy, Synchronous::Normal, 256) => Some(1.75),
        (Peer::Penholder, Peer::SqliteBusyPrepared, Synchronous::Normal, 8 | 32) => Some(0.8),
        (Peer::Penholder, Peer::SqliteBusy, Synchronous::Full, 8) => Some(3.0),
        (Peer::Penholder, Peer::SqliteBusy, Synchronous::Full, 32) => Some(6.0),
        (Peer::PenholderAlone, Peer::SqliteBusy, Synchronous::Full, 1 | 8) => Some(1.0),
        (Peer::Penholder, Peer::Naive, Synchronous::Normal, 8 | 32) => Some(10.0),
        (Peer::Penholder, Peer::Naive, Synchronous::Full, 8 | 32) => Some(2.0),
        _ => None,
    }
}

/// Of the other workloads, with `synchronous=NORMAL`.
fn target_of(workload: Workload, sync: Synchronous, processes: u32) -> Option<f64> {
    if sync == Synchronous::Full {
        return None;
    }
    match (workload, processes) {
        (Workload::Pages, 1) => Some(1.5),
        (Workload::Pages, 8) => Some(1.2),
        (Workload::Pages, 32) => Some(1.1),
        (Workload::Random, 1) => Some(1.3),
        (Workload::Random, 8 | 32) => Some(1.0),
        (Workload::Service, 1 | 8) => Some(1.1),
        _ => None,
    }
}

/// The target for the ratio of longest waits, as a divisor.
fn wait_target(own: &Figures, peer: Peer) -> Option<u32> {
    let is_insert = own.workload == Workload::Insert && own.think_us == 0.0;
    if own.peer != Peer::Penholder || peer != Peer::SqliteBusy || !is_insert {
        return None;
    }
    match (own.sync, own.processes) {
        (Synchronous::Normal, 8 | 32) => Some(30),
        (Synchronous::Full, 8 | 32) => Some(100),
        _ => None,
    }
}

/// The rate of 256 processes compared with that of 8 of the same peer.
fn compared_with_eight(figures: &[Figures]) -> Vec<String> {
    let crowds = figures
        .iter()
        .filter(|row| row.peer.is_penholder() && row.processes == 256);
    let lines = crowds.filter_map(|crowd| {
        let same =
            |row: &&Figures| row.processes == 8 && row.peer == crowd.peer && row.sync == crowd.sync;
        let eight = figures.iter().find(same)?;
        let ratio = crowd.rate / eight.rate;
        Some(format!(
            "{} rate {ratio:.2} of that of 8 processes (target 0.80)",
            trial(crowd)
        ))
    });
    lines.collect()
}

/// Formats a ratio: `1/45` if it is less than 1, otherwise `3.2 times`.
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
    fn a_ratio_below_one_is_a_fraction() {
        assert_eq!(fraction(0.5), "1/2.0");
        assert_eq!(fraction(1.0 / 45.0), "1/45");
        assert_eq!(fraction(3.24), "3.2 times");
    }
}
