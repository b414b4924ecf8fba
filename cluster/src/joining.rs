//! Whether node 1 may begin the cluster.
//!
//! The engine lets node 1 begin a cluster if it has no data and does not find another node at once. That
//! is right once: a node 1 that has lost its disk would begin a second cluster, and acknowledge
//! writes that are lost when the others are found. So `init` leaves a file for the first start, which is
//! removed when the cluster has begun. Without it, a node 1 without data waits for another one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::address::Address;
use crate::client_file::ClientFile;
use crate::cluster::Cluster;
use crate::node_file::{NodeAddresses, NodeFile};

/// The node that begins a cluster.
const FIRST: u64 = 1;
/// The file in the data directory of a member.
const JOINED: &str = "member";
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
pub(crate) async fn nodes(file: &NodeFile, say: impl Fn(&str)) -> io::Result<Vec<NodeAddresses>> {
    let mut nodes = file.nodes.clone();
    if file.id != FIRST || has_joined(file) || may_begin(file) {
        return Ok(nodes);
    }
    // A start that was ended before the node was a member may have left something, because of which the
    // engine would not ask.
    for directory in ["logs", "state_machine"] {
        remove_if_there(&file.data.join(directory))?;
    }
    say(
        "it has no data: waiting for another node that is a member of the cluster; if this is a new \
         cluster, copy node-1.new next to node-1.toml",
    );
    loop {
        for place in 0..nodes.len() {
            if nodes[place].id != FIRST && is_member(file, &nodes[place]).await {
                let member = nodes.remove(place);
                nodes.insert(0, member);
                return Ok(nodes);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Notes that the node is a member of a cluster with this number of members. A node 1 that began another one by
/// itself, because the node that it was to ask was gone by then, is refused.
pub(crate) fn note_joined(file: &NodeFile, members: usize) -> io::Result<()> {
    let is_alone = file.id == FIRST && members < 2 && file.nodes.len() > 1;
    if is_alone && !has_joined(file) && !may_begin(file) {
        let why = "it did not find the other nodes; nothing was written: start it again";
        return Err(io::Error::other(why));
    }
    let joined = File::create(file.data.join(JOINED))?;
    joined.sync_all()?;
    File::open(&file.data)?.sync_all()?;
    if file.id == FIRST {
        remove_if_there(&permission(&file.directory))?;
    }
    Ok(())
}

fn may_begin(file: &NodeFile) -> bool {
    file.nodes.len() == 1 || permission(&file.directory).exists()
}

/// Whether the data are those of a member.
fn has_joined(file: &NodeFile) -> bool {
    file.data.join(JOINED).exists()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    let removed = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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
