//! TLS of `[http] listen`: a certificate, its key, and the connections that are made with them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// Why a certificate and a key make no TLS. No text of the key is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// Not in PEM, or damaged.
    #[error("holds no certificate in PEM")]
    Certificate,
    /// Not in PEM, or damaged.
    #[error("holds no private key in PEM")]
    Key,
    /// The key is that of another certificate, or of a kind that is not supported.
    #[error("the key does not go with the certificate: {0}")]
    Pair(String),
}

/// TLS 1.2 and 1.3 with a chain of certificates and its private key, both in PEM.
///
/// # Errors
/// What is wrong with them.
pub fn server_config(certificate: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
    let versions =
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
    let config =
        versions.map_err(|e| TlsError::Pair(e.to_string()))?.with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(|e| TlsError::Pair(e.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The TLS in force for connections that begin, of all listeners; without it they are in clear.
#[derive(Clone, Default)]
pub struct Tls(Rc<RefCell<Option<TlsAcceptor>>>);

impl Tls {
    /// From the next connection on.
    pub fn set(&self, config: Option<Arc<ServerConfig>>) {
        self.0.replace(config.map(TlsAcceptor::from));
    }

    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.0.borrow().clone()
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}
