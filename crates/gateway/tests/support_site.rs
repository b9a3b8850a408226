//! A web server of this machine that notes what it is asked, in plain text or over TLS.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aedile_core::policy::LayerName;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::Rig;
use crate::support_tls::TlsByHand;

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Which connection it came on.
    pub(crate) line: usize,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn header(&self, wanted: &str) -> Vec<&str> {
        self.headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).collect()
    }
}

type Answer = Arc<dyn Fn(&Asked) -> Option<Response<Full<Bytes>>> + Send + Sync>;

/// The server. It goes with its runtime.
pub(crate) struct Site {
    pub(crate) port: u16,
    pub(crate) pem: String,
    pub(crate) secure: bool,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Site {
    /// Answers each request with what `answer` gives; `None` closes the connection without a word.
    pub(crate) async fn new(secure: bool, answer: impl Fn(&Asked) -> Option<Response<Full<Bytes>>> + Send + Sync + 'static) -> Self {
        let tls = TlsByHand::new().await;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let site = Self { port: tls.port, pem: tls.pem.clone(), secure, asked: asked.clone() };
        let (listener, config) = tls.into_parts();
        tokio::spawn(serve(listener, secure.then(|| TlsAcceptor::from(config)), asked, Arc::new(answer)));
        site
    }

    /// Says `ok` to everything.
    pub(crate) async fn polite(secure: bool) -> Self {
        Self::new(secure, |_| Some(Response::new(Full::new("ok".into())))).await
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// A gateway whose doors reach it, under these further lines of policy.
    pub(crate) fn rig(&self, more: &str) -> Rig {
        let mut rig = Rig::today(&self.pem);
        let scheme = if self.secure { "https" } else { "http" };
        let rule = format!(
            "{more}\n[[network]]\nid = \"near\"\nhosts = [\"localhost\"]\nports = [{}]\nschemes = [\"{scheme}\"]\nmethods = [\"GET\", \"POST\", \"PUT\"]\n",
            self.port
        );
        rig.layer(LayerName::Run, &rule);
        rig
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, asked: Arc<Mutex<Vec<Asked>>>, answer: Answer) {
    let lines = AtomicUsize::new(0);
    while let Ok((stream, _)) = listener.accept().await {
        let line = lines.fetch_add(1, Ordering::Relaxed);
        let (asked, answer, tls) = (asked.clone(), answer.clone(), tls.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (asked, answer) = (asked.clone(), answer.clone());
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
                    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
                    let one = Asked { line, path: head.uri.to_string(), headers: headers.collect(), body };
                    asked.lock().unwrap().push(one.clone());
                    answer(&one).ok_or_else(|| "no word".to_owned())
                }
            });
            let http = hyper::server::conn::http1::Builder::new();
            match tls {
                None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(http.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            }
        });
    }
}
