//! The authority that signs the certificates of a cluster's nodes.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

/// The file with its certificate, which nodes and clients need.
pub(crate) const CERTIFICATE: &str = "ca.pem";
/// The file with its key, which only `cluster add` needs.
pub(crate) const KEY: &str = "ca.key";
/// What its certificates say of it. Those of one cluster differ from another's by the key.
const NAME: &str = "penholder cluster";

/// The authority that signs the certificates of a cluster's nodes.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// Makes the authority of a new cluster.
    pub(crate) fn new() -> Result<Self, String> {
        let make = || Self::of(KeyPair::generate()?);
        make().map_err(|error: Error| format!("make certificates: {error}"))
    }

    /// Returns the authority that has this key, in PEM.
    pub(crate) fn read(key: &str) -> Result<Self, String> {
        let read = || Self::of(KeyPair::from_pem(key)?);
        read().map_err(|error: Error| error.to_string())
    }

    fn of(key: KeyPair) -> Result<Self, Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self {
            issuer,
            certificate,
        })
    }

    /// Its certificate, in PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its key, in PEM.
    pub(crate) fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Makes the certificate of a node, and its key.
    pub(crate) fn issue(&self, id: u64, host: &str) -> Result<[String; 2], String> {
        let make = || {
            let mut params = CertificateParams::new(vec![host.to_owned()])?;
            params
                .distinguished_name
                .push(DnType::CommonName, format!("penholder node {id}"));
            params.use_authority_key_identifier_extension = true;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
            let key = KeyPair::generate()?;
            let certificate = params.signed_by(&key, &self.issuer)?;
            Ok([certificate.pem(), key.serialize_pem()])
        };
        make().map_err(|error: Error| format!("make the certificate of {host}: {error}"))
    }
}
