//! `client.toml`: what a client has to know of a cluster.

use std::fs;
use std::path::Path;

use penholder::{Error, ErrorKind, Result};
use penholder_core::shown_path;
use serde::{Deserialize, Serialize};

/// What a client has to know of a cluster.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClientFile {
    /// Host and port of each node.
    pub(crate) nodes: Vec<String>,
    pub(crate) token: String,
    /// The certificate of the authority that signed those of the nodes, in PEM. Without one the
    /// connection is plain text.
    pub(crate) authority: Option<String>,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    pub(crate) nodes: Vec<String>,
    pub(crate) token: String,
    /// A file, from the directory of this one on.
    pub(crate) authority: Option<String>,
}

impl ClientFile {
    /// Reads it, with the certificate that it names.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = read(path)?;
        let written: Written = toml::from_str(&text).map_err(|error| {
            let text = format!(
                "connect to cluster: {}: {}: correct the file, or copy the one that `penholder \
                 cluster init` wrote",
                shown_path(path),
                without_content(&error, &text)
            );
            Error::of_engine(ErrorKind::Misuse, text)
        })?;
        if written.nodes.is_empty() {
            let text = format!(
                "connect to cluster: {}: it names no node: add them",
                shown_path(path)
            );
            return Err(Error::of_engine(ErrorKind::Misuse, text));
        }
        let directory = path.parent().unwrap_or(Path::new(""));
        let authority = written.authority.map(|file| read(&directory.join(file)));
        Ok(Self {
            nodes: written.nodes,
            token: written.token,
            authority: authority.transpose()?,
        })
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| {
        let text = format!(
            "connect to cluster: {}: {error}: `penholder cluster init DIR --nodes 3` writes it for \
             a new cluster; copy it, and the ca.pem next to it, to where the clients run",
            shown_path(path)
        );
        Error::of_engine(ErrorKind::Io, text)
    })
}

/// Returns what is wrong with a file, and the line; not what stands there, which may be a secret.
pub(crate) fn without_content(error: &toml::de::Error, text: &str) -> String {
    let message = error
        .message()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let before = error.span().and_then(|span| text.get(..span.start));
    match before {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_used_is_refused_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("client.toml");
        let refused = |content: Option<&str>| {
            if let Some(content) = content {
                fs::write(&path, content).unwrap();
            }
            let error = ClientFile::read(&path).map(drop).unwrap_err().to_string();
            assert!(
                error.contains("client.toml") || error.contains("ca.pem"),
                "{error}"
            );
            assert_eq!(error.lines().count(), 1, "{error}");
            error
        };
        assert!(refused(None).contains("cluster init"));
        assert!(refused(Some("nodes = 7")).contains("line 1: invalid type"));
        let secret = refused(Some("nodes = ['a:1']\ntoken = 'my secret"));
        assert!(!secret.contains("my secret"), "{secret}");
        assert!(refused(Some("nodes = []\ntoken = ''")).contains("names no node"));
        assert!(refused(Some("nodes = ['a:1']\ntoken = ''\nother = 1")).contains("other"));
        let missing = "nodes = ['a:1']\ntoken = 'x'\nauthority = 'ca.pem'";
        assert!(refused(Some(missing)).contains("ca.pem"));
        fs::write(directory.path().join("ca.pem"), "pem").unwrap();
        let file = ClientFile::read(&path).unwrap();
        assert_eq!(file.authority.as_deref(), Some("pem"));
    }
}
