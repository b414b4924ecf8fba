//! Whether node 1 may begin the cluster.
//!
//! The engine lets node 1 begin a cluster if it has no data and does not find another node at once. That
//! is right once: a node 1 that has lost its disk would begin a second cluster, and acknowledge
//! writes that are lost when the others are found. So `init` leaves a file for the first start, which is
//! removed when the cluster has begun. Without it, a node 1 without data waits for another one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::address::Address;
use crate::client_file::ClientFile;
use crate::cluster::Cluster;
use crate::node_file::{NodeAddresses, NodeFile};

/// The node that begins a cluster.
const FIRST: u64 = 1;
/// How long another node may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// The pause before all are asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// Returns the file that permits to begin a cluster, in the directory of `node-1.toml`.
pub(crate) fn permission(directory: &Path) -> PathBuf {
    directory.join("node-1.new")
}

/// Returns the nodes in the order in which the engine is to ask them. A node 1 that must not begin a
/// cluster waits until another one is a member of one, and asks that first.
pub(crate) async fn nodes(file: &NodeFile, say: impl Fn(&str)) -> Vec<NodeAddresses> {
    let mut nodes = file.nodes.clone();
    let may_begin = nodes.len() == 1 || permission(&file.directory).exists();
    if file.id != FIRST || may_begin || has_data(file) {
        return nodes;
    }
    say("it has no data, and the cluster began before: waiting for another node that is a member");
    loop {
        for place in 0..nodes.len() {
            if nodes[place].id != FIRST && is_member(file, &nodes[place]).await {
                let member = nodes.remove(place);
                nodes.insert(0, member);
                return nodes;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Says that the cluster has begun.
pub(crate) fn forbid_to_begin(file: &NodeFile) {
    if file.id == FIRST {
        // It is not there except at the first start.
        let _ = fs::remove_file(permission(&file.directory));
    }
}

/// Whether the engine has stored something.
fn has_data(file: &NodeFile) -> bool {
    let entries = fs::read_dir(file.data.join("logs"));
    entries.is_ok_and(|mut entries| entries.next().is_some())
}

/// Whether a node knows of a cluster.
async fn is_member(file: &NodeFile, node: &NodeAddresses) -> bool {
    let nodes = vec![node.client.clone()];
    let authority = file
        .tls
        .as_ref()
        .map(|tls| fs::read_to_string(&tls.authority));
    let Ok(authority) = authority.transpose() else {
        return false;
    };
    let address = Address::Hosts(nodes.clone());
    let token = file.token.clone();
    let client = ClientFile {
        nodes,
        token,
        authority,
    };
    let Ok(client) = Cluster::of(address, client, ANSWER).await else {
        return false;
    };
    let statuses = client.statuses().await;
    let status = statuses
        .into_iter()
        .next()
        .and_then(|(_, status)| status.ok());
    status.is_some_and(|status| !status.members.is_empty())
}
