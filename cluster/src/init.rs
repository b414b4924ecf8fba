//! Making a new cluster: the files of its nodes and of its clients.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustls::crypto::ring;

use crate::authority::{self, Authority};
use crate::client_file::Written;
use crate::failure::Failure;
use crate::joining;
use crate::node_file::{NodeAddresses, NodeFile, TlsFiles, is_loopback};
use penholder_core::{shown_name, shown_path};

/// How many nodes a cluster has at most: more of them make every write slower.
pub(crate) const NODES_MAX: u64 = 9;

/// What a new cluster is to be.
#[derive(Debug)]
pub(crate) struct NewCluster<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) nodes: u64,
    /// The host of each node; the same one for all if there is one.
    pub(crate) hosts: Vec<String>,
    /// The first port; free ones if it is missing.
    pub(crate) port: Option<u16>,
    pub(crate) is_plain: bool,
}

/// Writes the files. The directory must not have any of them.
pub(crate) fn init(new: &NewCluster<'_>) -> Result<(), Failure> {
    check(new)?;
    let directory = new.directory;
    let failed = |error: std::io::Error| failed(directory, &error.to_string());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed)?;
    if let Some(found) = fs::read_dir(directory).map_err(failed)?.next() {
        let found = found.map_err(failed)?.path();
        let why = format!(
            "it has {} in it: give an empty or new directory",
            shown_name(&found)
        );
        return Err(self::failed(directory, &why));
    }
    let nodes = addresses(new)?;
    let (token, secret) = (random(directory)?, random(directory)?);
    let authority = match new.is_plain {
        true => None,
        false => Some(Authority::new().map_err(|error| self::failed(directory, &error))?),
    };
    if let Some(authority) = &authority {
        write(
            &directory.join(authority::CERTIFICATE),
            authority.certificate(),
        )?;
        write(&directory.join(authority::KEY), &authority.key())?;
    }
    for node in &nodes {
        let id = node.id;
        let host = host(new, id);
        let issue = |authority: &Authority| issue(directory, authority, id, host);
        let tls = authority.as_ref().map(issue).transpose()?;
        let file = NodeFile {
            id,
            data: format!("node-{id}").into(),
            token: token.clone(),
            secret: secret.clone(),
            shared_writes: None,
            tls,
            nodes: nodes.clone(),
            directory: directory.to_owned(),
        };
        let text =
            toml::to_string(&file).map_err(|error| self::failed(directory, &error.to_string()))?;
        write(&directory.join(format!("node-{id}.toml")), &text)?;
    }
    let note = "Node 1 may begin the cluster. This file is removed when it has.\n";
    write(&joining::permission(directory), note)?;
    let client = Written {
        nodes: nodes.into_iter().map(|node| node.client).collect(),
        token,
        authority: authority.map(|_| authority::CERTIFICATE.to_owned()),
    };
    let text =
        toml::to_string(&client).map_err(|error| self::failed(directory, &error.to_string()))?;
    write(&directory.join("client.toml"), &text)
}

/// Writes the certificate of a node, and its key.
pub(crate) fn issue(
    directory: &Path,
    authority: &Authority,
    id: u64,
    host: &str,
) -> Result<TlsFiles, Failure> {
    let issued = authority.issue(id, host);
    let [certificate, key] = issued.map_err(|error| failed(directory, &error))?;
    let files = [format!("node-{id}.pem"), format!("node-{id}.key")];
    write(&directory.join(&files[0]), &certificate)?;
    write(&directory.join(&files[1]), &key)?;
    let [certificate, key] = files.map(Into::into);
    Ok(TlsFiles {
        authority: authority::CERTIFICATE.into(),
        certificate,
        key,
    })
}

fn check(new: &NewCluster<'_>) -> Result<(), Failure> {
    let usage = |why: String| {
        let text = format!("cluster init: {why}");
        Err(Failure::with_code(text, crate::failure::USAGE))
    };
    let count = new.hosts.len() as u64;
    if new.nodes == 0 || new.nodes > NODES_MAX {
        return usage(format!(
            "a cluster has 1 to {NODES_MAX} nodes: 3 survive the loss of one, 5 of two"
        ));
    }
    if count != 1 && count != new.nodes {
        return usage(format!(
            "{count} hosts for {} nodes: give --host once, or once for each node",
            new.nodes
        ));
    }
    if let Some(host) = new.hosts.iter().find(|host| !is_host(host)) {
        return usage(format!(
            "the host {host:?}: give a name, or an IPv4 address without a port"
        ));
    }
    let is_twice = |(place, host): (usize, &String)| new.hosts[..place].contains(host);
    if new.port.is_some() && new.hosts.iter().enumerate().any(is_twice) {
        return usage("a host is given twice, and its nodes would have the same ports: give one --host for all".to_owned());
    }
    if new.is_plain && !new.hosts.iter().all(|host| is_loopback(host)) {
        return usage("plain text is for this machine only: leave --plain out".to_owned());
    }
    if new.port.is_none() && !new.hosts.iter().all(|host| is_loopback(host)) {
        return usage("free ports are found on this machine only: give --port".to_owned());
    }
    let ports = if count == 1 { new.nodes * 3 } else { 3 };
    if new
        .port
        .is_some_and(|port| port == 0 || u64::from(port) + ports > 65_536)
    {
        return usage(format!(
            "the nodes need {ports} ports from --port on: give a lower one"
        ));
    }
    Ok(())
}

/// Whether it is a name, or an IPv4 address without a port.
pub(crate) fn is_host(host: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !host.is_empty() && host.chars().all(is_part)
}

fn host<'a>(new: &'a NewCluster<'_>, id: u64) -> &'a str {
    let index = usize::try_from(id.saturating_sub(1)).unwrap_or(0);
    let found = new.hosts.get(index).or_else(|| new.hosts.first());
    found.map_or("127.0.0.1", String::as_str)
}

/// Decides where each node listens.
fn addresses(new: &NewCluster<'_>) -> Result<Vec<NodeAddresses>, Failure> {
    // Kept open until all are known, so that no port is found twice.
    let mut kept = Vec::new();
    let mut port = |id: u64, number: u16| match new.port {
        Some(first) if new.hosts.len() == 1 => {
            let before = u16::try_from(id.saturating_sub(1)).unwrap_or(0) * 3;
            Ok(first + before + number)
        }
        Some(first) => Ok(first + number),
        None => {
            let listener = TcpListener::bind((host(new, id), 0));
            let port = listener.and_then(|listener| {
                let port = listener.local_addr()?.port();
                kept.push(listener);
                Ok(port)
            });
            port.map_err(|error| failed(new.directory, &format!("find a free port: {error}")))
        }
    };
    (1..=new.nodes)
        .map(|id| {
            let host = host(new, id);
            Ok(NodeAddresses {
                id,
                client: format!("{host}:{}", port(id, 0)?),
                log: format!("{host}:{}", port(id, 1)?),
                management: format!("{host}:{}", port(id, 2)?),
            })
        })
        .collect()
}

/// Returns a secret of 256 bits in hexadecimal.
fn random(directory: &Path) -> Result<String, Failure> {
    let mut bytes = [0; 32];
    let filled = ring::default_provider().secure_random.fill(&mut bytes);
    filled.map_err(|_| failed(directory, "the system has no random numbers: try again"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Writes a new file that only this user can read.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| failed(path, &error.to_string()))
}

fn failed(path: &Path, why: &str) -> Failure {
    Failure::new(format!("cluster init: {}: {why}", shown_path(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn new(directory: &Path) -> NewCluster<'_> {
        NewCluster {
            directory,
            nodes: 3,
            hosts: vec!["127.0.0.1".to_owned()],
            port: None,
            is_plain: false,
        }
    }

    #[test]
    fn the_files_of_a_cluster_are_readable_by_this_user_only() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("here");
        init(&new(&at)).unwrap();
        let mut names = Vec::new();
        for entry in fs::read_dir(&at).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(
                entry.metadata().unwrap().permissions().mode() & 0o777,
                0o600
            );
            names.push(entry.file_name().into_string().unwrap());
        }
        assert_eq!(names.len(), 2 + 3 * 3 + 2, "{names:?}");
        let file = NodeFile::read(&at.join("node-2.toml")).unwrap();
        assert_eq!((file.id, file.nodes.len()), (2, 3));
        assert_ne!(file.token, file.secret);
        let error = init(&new(&at)).unwrap_err().to_string();
        assert!(error.contains("empty or new directory"), "{error}");
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let refused = |change: fn(&mut NewCluster<'_>), why: &str| {
            let mut new = new(directory.path());
            change(&mut new);
            let error = init(&new).unwrap_err();
            assert!(
                error.code == 2 && error.to_string().contains(why),
                "{error}"
            );
        };
        refused(|new| new.nodes = 0, "1 to 9");
        refused(|new| new.nodes = 10, "1 to 9");
        refused(
            |new| new.hosts = vec!["a".to_owned(); 2],
            "2 hosts for 3 nodes",
        );
        refused(|new| new.hosts[0] = "::1".to_owned(), "IPv4");
        refused(|new| new.hosts[0] = "10.0.0.1".to_owned(), "give --port");
        refused(
            |new| (new.hosts[0], new.is_plain) = ("10.0.0.1".to_owned(), true),
            "this machine only",
        );
        refused(|new| new.port = Some(65_530), "a lower one");
    }
}
