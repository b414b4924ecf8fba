//! Which peers can run a workload here.

use crate::peer::{Peer, Peers, python};
use crate::workload::Workload;

/// Returns the peers that can, and prints why the others cannot.
pub(crate) fn available(peers: &Peers, workload: Workload) -> Vec<Peer> {
    let is_available = |peer: &Peer| match obstacle(*peer, workload) {
        Some(why) => {
            eprintln!("SKIPPED: {peer}: {why}");
            false
        }
        None => true,
    };
    peers.0.iter().copied().filter(is_available).collect()
}

fn obstacle(peer: Peer, workload: Workload) -> Option<String> {
    match peer {
        Peer::PythonSqlite3 => python::version().err(),
        Peer::SqliteAutocommit if !workload.has_single_statements() => Some(format!(
            "each transaction of the workload {workload} has several statements"
        )),
        _ => None,
    }
}
