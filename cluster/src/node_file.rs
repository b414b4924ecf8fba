//! `node-N.toml`: what one node has to know.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::client_file::without_content;
use crate::failure::Failure;
use penholder_core::shown_path;

/// How many writes share an entry of the log at most, unless the file says fewer.
const SHARED_WRITES: usize = 128;

/// What one node has to know. Its paths begin at the directory of the file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeFile {
    /// Which of the nodes it is.
    pub(crate) id: u64,
    /// The directory of its data.
    pub(crate) data: PathBuf,
    /// What clients have to give.
    pub(crate) token: String,
    /// What the nodes know of each other.
    pub(crate) secret: String,
    /// How many writes share an entry of the log at most. With 1, each has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shared_writes: Option<usize>,
    /// Certificates; without them everything is plain text, on this machine only.
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) nodes: Vec<NodeAddresses>,
    /// The directory of the file.
    #[serde(skip)]
    pub(crate) directory: PathBuf,
}

/// The files with the certificates of a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsFiles {
    /// Of the authority that signed those of all nodes.
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Where a node listens: host and port of each kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeAddresses {
    pub(crate) id: u64,
    /// For clients.
    pub(crate) client: String,
    /// For the log, among the nodes.
    pub(crate) log: String,
    /// For membership and forwarded requests, among the nodes.
    pub(crate) management: String,
}

impl NodeFile {
    /// Reads it and makes its paths absolute.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |why: String, next: &str| {
            Failure::new(format!("serve: {}: {why}: {next}", shown_path(path)))
        };
        let text = fs::read_to_string(path).map_err(|error| {
            failed(
                error.to_string(),
                "`penholder cluster init DIR --nodes 3` writes it",
            )
        })?;
        let mut file: Self = toml::from_str(&text)
            .map_err(|error| failed(without_content(&error, &text), "correct the file"))?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let directory = std::path::absolute(directory)
            .map_err(|error| failed(error.to_string(), "give an absolute path"))?;
        file.data = directory.join(&file.data);
        file.directory.clone_from(&directory);
        if let Some(tls) = &mut file.tls {
            for file in [&mut tls.authority, &mut tls.certificate, &mut tls.key] {
                *file = directory.join(&*file);
            }
        }
        file.check()
            .map_err(|why| failed(why, "correct the file"))?;
        Ok(file)
    }

    /// Returns where this node listens.
    pub(crate) fn own(&self) -> Option<&NodeAddresses> {
        self.nodes.iter().find(|node| node.id == self.id)
    }

    /// Returns how many writes share an entry of the log at most.
    pub(crate) fn shared_writes(&self) -> usize {
        self.shared_writes.unwrap_or(SHARED_WRITES)
    }

    fn check(&self) -> Result<(), String> {
        if self.own().is_none() {
            return Err(format!("node {} is not among the nodes", self.id));
        }
        if self.nodes.iter().all(|node| node.id != 1) {
            return Err("there is no node 1, which begins a new cluster".to_owned());
        }
        if self.token.len() < 16 || self.secret.len() < 16 {
            return Err("token and secret have at least 16 characters".to_owned());
        }
        if !(1..=SHARED_WRITES).contains(&self.shared_writes()) {
            return Err(format!("shared_writes is not from 1 to {SHARED_WRITES}"));
        }
        for (number, node) in self.nodes.iter().enumerate() {
            if self.nodes[..number].iter().any(|other| other.id == node.id) {
                return Err(format!("there are two nodes {}", node.id));
            }
            for address in [&node.client, &node.log, &node.management] {
                let host = host_of(address).ok_or(format!("{address:?} is no host with a port"))?;
                if self.tls.is_none() && !is_loopback(host) {
                    return Err(format!(
                        "without certificates, plain text is for this machine only, and {host} is \
                         another address"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Returns the host of an address with a port.
pub(crate) fn host_of(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    (!host.is_empty()).then_some(host)
}

/// Returns whether a host is this machine, without asking for its name.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> NodeFile {
        NodeFile {
            id: 1,
            data: "node-1".into(),
            token: "t".repeat(16),
            secret: "s".repeat(16),
            shared_writes: None,
            tls: None,
            directory: PathBuf::new(),
            nodes: vec![NodeAddresses {
                id: 1,
                client: "127.0.0.1:1".to_owned(),
                log: "[::1]:2".to_owned(),
                management: "localhost:3".to_owned(),
            }],
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        assert_eq!(valid().check(), Ok(()));
        let refused = |change: fn(&mut NodeFile), why: &str| {
            let mut file = valid();
            change(&mut file);
            let found = file.check().unwrap_err();
            assert!(found.contains(why), "{found}");
        };
        refused(|file| file.id = 2, "not among");
        refused(|file| file.token.clear(), "16 characters");
        refused(|file| file.shared_writes = Some(0), "from 1 to 128");
        refused(|file| file.shared_writes = Some(129), "from 1 to 128");
        refused(|file| file.nodes[0].log.clear(), "no host");
        refused(
            |file| file.nodes[0].client = "10.0.0.1:1".to_owned(),
            "this machine only",
        );
        refused(|file| file.nodes.push(file.nodes[0].clone()), "two nodes 1");
        refused(|file| (file.id, file.nodes[0].id) = (2, 2), "no node 1");
    }

    #[test]
    fn paths_begin_at_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node-1.toml");
        fs::write(&path, toml::to_string(&valid()).unwrap()).unwrap();
        let read = NodeFile::read(&path).unwrap();
        assert_eq!(read.data, directory.path().join("node-1"));
        fs::write(&path, "id = 1").unwrap();
        let error = NodeFile::read(&path).map(drop).unwrap_err().to_string();
        assert!(
            error.contains("missing field") && error.lines().count() == 1,
            "{error}"
        );
    }
}
