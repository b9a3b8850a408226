//! Whom a door believes when it speaks TLS to another host: the roots of the system, or those that a person names.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;

/// Where the roots are.
#[derive(Default)]
enum Source {
    /// Where the system keeps them.
    #[default]
    System,
    /// In these places and nowhere else.
    Paths(Option<PathBuf>, Option<PathBuf>),
    /// These.
    Given(Vec<CertificateDer<'static>>),
}

/// The roots of a gateway. They are read when the first door needs them.
#[derive(Default)]
pub(crate) struct Roots {
    source: Arc<Source>,
    config: OnceCell<Arc<ClientConfig>>,
}

impl Roots {
    /// Those of a file and a directory, in the place of the system's.
    pub(crate) fn in_paths(file: Option<PathBuf>, dir: Option<PathBuf>) -> Self {
        Self { source: Arc::new(Source::Paths(file, dir)), config: OnceCell::new() }
    }

    /// Those of a text of PEM blocks.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn given(pem: &str) -> Result<Self, String> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let found = found.map_err(|error| format!("the root certificates are no PEM: {error}"))?;
        if found.is_empty() {
            return Err("the text holds no root certificate".to_owned());
        }
        Ok(Self { source: Arc::new(Source::Given(found)), config: OnceCell::new() })
    }

    /// How to speak TLS as a client. Certificates are checked for host, time and chain; whether one was called back is not asked anywhere.
    ///
    /// # Errors
    /// Why no certificate could be checked. It is tried again at the next call.
    pub(crate) async fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let source = self.source.clone();
        let read = || async {
            let read = tokio::task::spawn_blocking(move || config(&source)).await;
            read.unwrap_or_else(|error| Err(error.to_string()))
        };
        self.config.get_or_try_init(read).await.cloned()
    }
}

fn config(source: &Source) -> Result<Arc<ClientConfig>, String> {
    let (found, errors) = match source {
        Source::Given(found) => (found.clone(), Vec::new()),
        Source::System => {
            let read = rustls_native_certs::load_native_certs();
            (read.certs, read.errors)
        }
        Source::Paths(file, dir) => {
            let read = rustls_native_certs::load_certs_from_paths(file.as_deref(), dir.as_deref());
            (read.certs, read.errors)
        }
    };
    let mut roots = RootCertStore::empty();
    // A system's store may hold one that nobody can read; the others count.
    let (taken, _) = roots.add_parsable_certificates(found);
    if taken == 0 {
        let why = errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "no root certificate was found{why}: install the system's (`ca-certificates`), or name a file of them in SSL_CERT_FILE"
        ));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    // What one door has agreed on with a server is not another's.
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
