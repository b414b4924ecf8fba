//! The stream between client and node: TLS, or plain text on one machine.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::node_file::{TlsFiles, host_of, is_loopback};
use penholder_core::shown_path;

/// A stream to the other side.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How a client reaches nodes.
#[derive(Clone)]
pub(crate) struct Connector(Option<TlsConnector>);

/// How a node takes connections.
#[derive(Clone)]
pub(crate) struct Acceptor(Option<TlsAcceptor>);

impl Connector {
    /// Makes one that trusts this authority, in PEM. Without one it sends plain text.
    pub(crate) fn new(authority: Option<&str>) -> io::Result<Self> {
        let Some(authority) = authority else {
            return Ok(Self(None));
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority.as_bytes()) {
            let certificate = certificate.map_err(io::Error::other)?;
            roots.add(certificate).map_err(io::Error::other)?;
        }
        if roots.is_empty() {
            return Err(io::Error::other("there is no certificate in it"));
        }
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(Self(Some(Arc::new(config).into())))
    }

    /// Opens a stream to a host and port.
    pub(crate) async fn connect(&self, address: &str) -> io::Result<Box<dyn Stream>> {
        let host = host_of(address).ok_or_else(|| io::Error::other("it is no host with a port"))?;
        if self.0.is_none() && !is_loopback(host) {
            return Err(io::Error::other(
                "without the certificate of an authority, plain text is sent to this machine only",
            ));
        }
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.0 else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

impl Acceptor {
    /// Makes one with a node's certificate. Without one it takes plain text.
    pub(crate) fn new(files: Option<&TlsFiles>) -> io::Result<Self> {
        let Some(files) = files else {
            return Ok(Self(None));
        };
        let certificate = read(&files.certificate)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate).collect();
        let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?);
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let config = builder.with_no_client_auth().with_single_cert(
            chain.map_err(|error| about(&files.certificate, &error))?,
            key.map_err(|error| about(&files.key, &error))?,
        );
        let config = config.map_err(|error| about(&files.certificate, &error))?;
        Ok(Self(Some(Arc::new(config).into())))
    }

    /// Makes a stream of a connection.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        stream.set_nodelay(true)?;
        match &self.0 {
            Some(tls) => Ok(Box::new(tls.accept(stream).await?)),
            None => Ok(Box::new(stream)),
        }
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("is_tls", &self.0.is_some())
            .finish()
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| about(path, &error))
}

fn about(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", shown_path(path)))
}
