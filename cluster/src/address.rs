//! Where a database is: a file of this machine, or a cluster.

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use penholder::{Error, ErrorKind, Result};

use crate::client_file::ClientFile;
use penholder_core::shown_path;

/// What an address of a cluster begins with.
pub(crate) const SCHEME: &str = "cluster:";
/// The token, for an address that names hosts.
pub(crate) const TOKEN_VARIABLE: &str = "PENHOLDER_CLUSTER_TOKEN";
/// The file of the authority that signed the certificates of the nodes, for an address that names
/// hosts.
pub(crate) const AUTHORITY_VARIABLE: &str = "PENHOLDER_CLUSTER_AUTHORITY";

/// Where a database is.
///
/// ```
/// use penholder_cluster::Address;
///
/// assert!(matches!(Address::parse("app.db"), Ok(Address::File(_))));
/// assert!(matches!(Address::parse("cluster:here/client.toml"), Ok(Address::ClientFile(_))));
/// assert!(matches!(Address::parse("cluster://a:7001,b:7001"), Ok(Address::Hosts(_))));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A file of this machine.
    File(PathBuf),
    /// A cluster, by the file that `penholder cluster init` writes for its clients.
    ClientFile(PathBuf),
    /// A cluster, by the hosts and ports of its nodes. Token and authority are in the environment:
    /// `PENHOLDER_CLUSTER_TOKEN` and `PENHOLDER_CLUSTER_AUTHORITY`.
    Hosts(Vec<String>),
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misuse`]: it begins with `cluster:`, and names neither a file nor hosts with
    /// their ports.
    pub fn parse(address: &str) -> Result<Self> {
        let Some(rest) = address.strip_prefix(SCHEME) else {
            return Ok(Self::File(address.into()));
        };
        let Some(hosts) = rest.strip_prefix("//") else {
            return match rest {
                "" => Err(invalid(address, "it names no file")),
                file => Ok(Self::ClientFile(file.into())),
            };
        };
        let hosts: Vec<String> = hosts
            .split(',')
            .map(|host| host.trim().to_owned())
            .collect();
        match hosts.iter().find(|host| !has_port(host)) {
            None => Ok(Self::Hosts(hosts)),
            Some(host) => {
                let why = format!("{host:?} is no host with a port");
                Err(invalid(address, &why))
            }
        }
    }

    /// Returns what a client has to know of the cluster.
    pub(crate) fn client_file(&self) -> Result<ClientFile> {
        match self {
            Self::File(path) => {
                let why = format!("{} is a file, and no cluster", shown_path(path));
                Err(invalid(&why, "a cluster was asked for"))
            }
            Self::ClientFile(path) => ClientFile::read(path),
            Self::Hosts(hosts) => Ok(ClientFile {
                nodes: hosts.clone(),
                token: token_of_environment()?,
                authority: authority_of_environment()?,
            }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", shown_path(path)),
            Self::ClientFile(path) => write!(f, "{SCHEME}{}", shown_path(path)),
            Self::Hosts(hosts) => write!(f, "{SCHEME}//{}", hosts.join(",")),
        }
    }
}

fn has_port(host: &str) -> bool {
    let parts = host.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn token_of_environment() -> Result<String> {
    env::var(TOKEN_VARIABLE).map_err(|_| {
        let text = format!(
            "connect to cluster: no token: set {TOKEN_VARIABLE}, or use the address of its file \
             client.toml"
        );
        Error::of_engine(ErrorKind::Misuse, text)
    })
}

fn authority_of_environment() -> Result<Option<String>> {
    let Some(path) = env::var_os(AUTHORITY_VARIABLE) else {
        return Ok(None);
    };
    let path = Path::new(&path);
    let read = fs::read_to_string(path).map_err(|error| {
        let text = format!(
            "connect to cluster: {}: {error}: set {AUTHORITY_VARIABLE} to the file ca.pem of the \
             cluster",
            shown_path(path)
        );
        Error::of_engine(ErrorKind::Io, text)
    });
    read.map(Some)
}

fn invalid(address: &str, why: &str) -> Error {
    let text = format!(
        "connect to cluster: {address}: {why}: write cluster:DIR/client.toml, or \
         cluster://HOST:PORT,HOST:PORT"
    );
    Error::of_engine(ErrorKind::Misuse, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused_with_the_two_forms() {
        for address in [
            "cluster:",
            "cluster://",
            "cluster://a",
            "cluster://a:1,b",
            "cluster://:1",
            "cluster://a:99999",
        ] {
            let error = Address::parse(address).unwrap_err().to_string();
            assert!(
                error.contains("cluster:DIR/client.toml"),
                "{address}: {error}"
            );
        }
    }

    #[test]
    fn an_address_is_shown_as_it_is_written() {
        for address in ["a b.db", "cluster:x/client.toml", "cluster://a:1,[::1]:2"] {
            assert_eq!(Address::parse(address).unwrap().to_string(), address);
        }
    }
}
