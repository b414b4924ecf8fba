//! One more node for a cluster: its files, and its address in those of the others.

use std::fs;
use std::path::{Path, PathBuf};

use penholder_core::{shell_path, shown_path};

use crate::authority::{self, Authority};
use crate::client_file::Written;
use crate::failure::{Failure, USAGE};
use crate::init::{self, NODES_MAX};
use crate::node_file::{NodeAddresses, NodeFile, host_of, is_loopback};

/// Where the new node is.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) host: &'a str,
    /// The first of its three ports; free ones of this machine if it is missing.
    pub(crate) port: Option<u16>,
}

/// Writes the files of one more node into the directory of a cluster, and returns the path of `node-N.toml`. The
/// other files there are told its address.
pub(crate) fn add(directory: &Path, place: &Place<'_>) -> Result<PathBuf, Failure> {
    let mut others = node_files(directory)?;
    let Some((_, first)) = others.first().cloned() else {
        let why = "it has no node-1.toml: give the directory that `cluster init` made";
        return Err(failed(directory, why));
    };
    let id = others
        .iter()
        .flat_map(|(_, file)| &file.nodes)
        .map(|node| node.id)
        .max()
        .unwrap_or(0)
        + 1;
    if first.nodes.len() as u64 >= NODES_MAX {
        return Err(failed(
            directory,
            &format!(
                "a cluster has {NODES_MAX} nodes at most: take those that were removed out of the files node-N.toml \
                 and client.toml"
            ),
        ));
    }
    check(&first, place)?;
    let own = addresses(id, place).map_err(|error| failed(directory, &error.to_string()))?;
    if let Some(address) = taken(&first.nodes, &own) {
        let why = format!("another node has {address}: give another --port or --host");
        return Err(failed(directory, &why));
    }
    for left in ["pem", "key"] {
        // Without node-N.toml, of an addition that was ended.
        let _ = fs::remove_file(directory.join(format!("node-{id}.{left}")));
    }
    let tls = match first.tls {
        None => None,
        Some(_) => Some(init::issue(
            directory,
            &authority(directory)?,
            id,
            place.host,
        )?),
    };
    let mut nodes = first.nodes.clone();
    nodes.push(own.clone());
    let file = NodeFile {
        id,
        data: format!("node-{id}").into(),
        tls,
        nodes: nodes.clone(),
        ..first
    };
    let path = directory.join(format!("node-{id}.toml"));
    let text = text_of(directory, &file)?;
    for (other, file) in &mut others {
        file.nodes.clone_from(&nodes);
        replace(other, &text_of(directory, file)?)?;
    }
    add_to_clients(directory, &own.client)?;
    // The last: without it, nobody starts a node of which the other files do not tell.
    init::write(&path, &text)?;
    Ok(path)
}

/// Refuses a place where the other nodes would not find this one, or this one not them.
fn check(first: &NodeFile, place: &Place<'_>) -> Result<(), Failure> {
    let usage = |why: &str| Err(Failure::with_code(format!("cluster add: {why}"), USAGE));
    if !init::is_host(place.host) {
        return usage(&format!(
            "the host {:?}: give a name, or an IPv4 address without a port",
            place.host
        ));
    }
    let is_here = is_loopback(place.host);
    if !is_here && first.tls.is_none() {
        return usage("a cluster without certificates is for this machine only");
    }
    let others = first.nodes.iter().filter_map(|node| host_of(&node.log));
    if others
        .map(is_loopback)
        .any(|is_other_here| is_other_here != is_here)
    {
        return usage(
            "nodes on the loopback addresses of one machine, and nodes elsewhere, do not reach each other: make a \
             new cluster with a --host for each node, and load a dump of this one",
        );
    }
    if !is_here && place.port.is_none() {
        return usage("free ports are found on this machine only: give --port");
    }
    Ok(())
}

/// Returns an address of a new node that another one has.
fn taken<'a>(nodes: &[NodeAddresses], own: &'a NodeAddresses) -> Option<&'a str> {
    let all = |node: &NodeAddresses| {
        [
            node.client.clone(),
            node.log.clone(),
            node.management.clone(),
        ]
    };
    let theirs: Vec<String> = nodes.iter().flat_map(all).collect();
    [&own.client, &own.log, &own.management]
        .into_iter()
        .find(|address| theirs.contains(address))
        .map(String::as_str)
}

/// Returns the files of the nodes as they are written, in the order of their numbers.
fn node_files(directory: &Path) -> Result<Vec<(PathBuf, NodeFile)>, Failure> {
    let mut files = Vec::new();
    for id in 1..=NODES_MAX * 10 {
        let path = directory.join(format!("node-{id}.toml"));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&path, &error.to_string())),
        };
        // What stands there may be a secret, and is not shown.
        let file = toml::from_str(&text)
            .map_err(|_| failed(&path, "it is not as `cluster init` wrote it"))?;
        files.push((path, file));
    }
    Ok(files)
}

fn authority(directory: &Path) -> Result<Authority, Failure> {
    let path = directory.join(authority::KEY);
    let key = fs::read_to_string(&path).map_err(|error| {
        let why = format!("{error}: the certificate of a new node needs it: put it back for that");
        failed(&path, &why)
    })?;
    Authority::read(&key).map_err(|error| failed(&path, &error))
}

fn addresses(id: u64, place: &Place<'_>) -> std::io::Result<NodeAddresses> {
    let mut kept = Vec::new();
    let mut port = |number: u16| match place.port {
        Some(first) => first.checked_add(number).ok_or_else(|| {
            std::io::Error::other("the node needs three ports from --port on: give a lower one")
        }),
        None => {
            let listener = std::net::TcpListener::bind((place.host, 0))?;
            let port = listener.local_addr()?.port();
            kept.push(listener);
            Ok(port)
        }
    };
    let host = place.host;
    Ok(NodeAddresses {
        id,
        client: format!("{host}:{}", port(0)?),
        log: format!("{host}:{}", port(1)?),
        management: format!("{host}:{}", port(2)?),
    })
}

fn add_to_clients(directory: &Path, address: &str) -> Result<(), Failure> {
    let path = directory.join("client.toml");
    let failed = |why: String| {
        let next = format!(
            "add {address:?} to the nodes of {} by hand",
            shell_path(&path)
        );
        self::failed(&path, &format!("{why}: {next}"))
    };
    let text = fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
    let mut client: Written = toml::from_str(&text)
        .map_err(|_| failed("it is not as `cluster init` wrote it".to_owned()))?;
    client.nodes.push(address.to_owned());
    let text = toml::to_string(&client).map_err(|error| failed(error.to_string()))?;
    replace(&path, &text)
}

fn text_of(directory: &Path, file: &NodeFile) -> Result<String, Failure> {
    toml::to_string(file).map_err(|error| failed(directory, &error.to_string()))
}

/// Replaces a file as a whole; who may read it stays as it is.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_extension("new-toml");
    let _ = fs::remove_file(&new);
    init::write(&new, text)?;
    let replaced = fs::metadata(path).and_then(|former| {
        fs::set_permissions(&new, former.permissions())?;
        fs::rename(&new, path)
    });
    replaced.map_err(|error| failed(path, &error.to_string()))
}

fn failed(path: &Path, why: &str) -> Failure {
    Failure::new(format!("cluster add: {}: {why}", shown_path(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_file::ClientFile;
    use crate::init::{NewCluster, init};

    #[test]
    fn a_node_is_added_to_all_files() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("here");
        init(&NewCluster {
            directory: &at,
            nodes: 3,
            hosts: vec!["127.0.0.1".to_owned()],
            port: None,
            is_plain: false,
        })
        .unwrap();
        let place = Place {
            host: "127.0.0.1",
            port: None,
        };
        let before = fs::read_to_string(at.join("ca.pem")).unwrap();
        for id in [4, 5] {
            let path = add(&at, &place).unwrap();
            assert_eq!(path, at.join(format!("node-{id}.toml")));
            for other in 1..=id {
                let file = NodeFile::read(&at.join(format!("node-{other}.toml"))).unwrap();
                assert_eq!((file.id, file.nodes.len() as u64), (other, id));
            }
        }
        assert_eq!(fs::read_to_string(at.join("ca.pem")).unwrap(), before);
        let client = ClientFile::read(&at.join("client.toml")).unwrap();
        assert_eq!(client.nodes.len(), 5);
        let refused = |host: &str, port, why: &str| {
            let error = add(&at, &Place { host, port }).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        let first = NodeFile::read(&at.join("node-1.toml")).unwrap();
        let port = first
            .own()
            .unwrap()
            .client
            .rsplit_once(':')
            .unwrap()
            .1
            .parse()
            .unwrap();
        refused("127.0.0.1", Some(port), "another node has 127.0.0.1");
        refused("10.0.0.4", Some(7000), "do not reach each other");
        refused("::1", None, "the host");
        refused("a b", Some(1), "the host");
        refused("", None, "the host");
        assert!(!at.join("node-6.toml").exists());
        fs::remove_file(at.join("ca.key")).unwrap();
        let error = add(&at, &place).unwrap_err().to_string();
        assert!(
            error.contains("ca.key") && error.contains("put it back"),
            "{error}"
        );
        let error = add(directory.path(), &place).unwrap_err().to_string();
        assert!(error.contains("no node-1.toml"), "{error}");
    }
}
