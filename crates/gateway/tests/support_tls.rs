//! TLS on both sides of a door: servers with certificates of their own, and clients that believe what a box believes.

use std::sync::Arc;

use aedile_core::egress::Egress;
use aedile_core::policy::LayerName;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::support::{Rig, soon};

/// A server of this machine that speaks TLS and is played by hand.
pub(crate) struct TlsByHand {
    listener: TcpListener,
    config: Arc<ServerConfig>,
    pub(crate) port: u16,
    /// What its certificate is believed by.
    pub(crate) pem: String,
}

impl TlsByHand {
    /// Shows a certificate for these names.
    pub(crate) async fn named(names: &[&str]) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der().clone()], der).unwrap();
        Self { port: listener.local_addr().unwrap().port(), listener, config: Arc::new(config), pem: pem_of(certificate.der()) }
    }

    pub(crate) async fn new() -> Self {
        Self::named(&["127.0.0.1", "localhost"]).await
    }

    /// The listener and how it speaks TLS, for a server that is not played by hand.
    pub(crate) fn into_parts(self) -> (TcpListener, Arc<ServerConfig>) {
        (self.listener, self.config)
    }

    /// Takes a connection.
    pub(crate) async fn accept(&self) -> std::io::Result<server::TlsStream<TcpStream>> {
        let (stream, _) = self.listener.accept().await?;
        TlsAcceptor::from(self.config.clone()).accept(stream).await
    }

    /// Takes a connection and the head of a request on it.
    pub(crate) async fn take(&self) -> (String, server::TlsStream<TcpStream>) {
        let mut stream = soon(self.accept()).await.unwrap();
        (head(&mut stream).await, stream)
    }

    /// Whether nobody has come.
    pub(crate) async fn is_left_alone(&self) -> bool {
        tokio::time::timeout(std::time::Duration::from_millis(100), self.listener.accept()).await.is_err()
    }

    /// The rule that opens it.
    pub(crate) fn rule(&self, more: &str) -> String {
        format!(
            "[[network]]\nid = \"near\"\nhosts = [\"127.0.0.1\", \"localhost\"]\nports = [{}]\nmethods = [\"GET\", \"POST\"]\n{more}\n",
            self.port
        )
    }

    /// A gateway whose doors believe it, under this rule.
    pub(crate) fn rig(&self) -> Rig {
        let mut rig = Rig::today(&self.pem);
        rig.layer(LayerName::Run, &self.rule(""));
        rig
    }
}

pub(crate) fn pem_of(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", base64::engine::general_purpose::STANDARD.encode(der))
}

/// Reads up to the end of a head.
pub(crate) async fn head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut one = [0];
        if soon(stream.read(&mut one)).await.unwrap_or(0) == 0 {
            break;
        }
        bytes.push(one[0]);
    }
    String::from_utf8(bytes).unwrap()
}

/// What a box of this rig believes (PEM).
pub(crate) fn trust(rig: &Rig) -> String {
    rig.gateway.trust(rig.who.run, &rig.policy).unwrap().unwrap().pem
}

/// Asks for a tunnel and returns the answer's head.
pub(crate) async fn connect(door: &str, authority: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(door.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes()).await.unwrap();
    (head(&mut stream).await, stream)
}

/// Speaks TLS through a tunnel as this host, offering these protocols.
pub(crate) async fn secured(stream: TcpStream, pem: &str, name: &str, alpn: &[&str]) -> std::io::Result<client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let mut config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    soon(TlsConnector::from(Arc::new(config)).connect(name.to_owned().try_into().unwrap(), stream)).await
}

/// A tunnel to the server of this machine through the door.
pub(crate) async fn through(rig: &Rig, door: &str, port: u16) -> client::TlsStream<TcpStream> {
    let (granted, stream) = connect(door, &format!("localhost:{port}")).await;
    assert!(granted.starts_with("HTTP/1.1 200 "), "{granted}");
    secured(stream, &trust(rig), "localhost", &[]).await.unwrap()
}

/// Sends a request (what stands behind its method and path) through a door in plain text or inside TLS, and returns all that comes back.
pub(crate) async fn ask(rig: &Rig, door: &str, (secure, port): (bool, u16), method: &str, path: &str, rest: &str) -> String {
    if secure {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n{rest}");
        raw_within(&mut through(rig, door, port).await, request.as_bytes()).await
    } else {
        let request = format!("{method} http://localhost:{port}{path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n{rest}");
        raw_within(&mut TcpStream::connect(door.strip_prefix("http://").unwrap()).await.unwrap(), request.as_bytes()).await
    }
}

/// Sends bytes through a tunnel and returns all that comes back until the end.
pub(crate) async fn raw_within(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), request: &[u8]) -> String {
    // The door may have refused before it has read all.
    let _ = stream.write_all(request).await;
    let mut came = Vec::new();
    let _ = soon(stream.read_to_end(&mut came)).await;
    String::from_utf8(came).unwrap()
}
