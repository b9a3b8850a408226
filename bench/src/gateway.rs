//! What the proxy of a door costs: requests through it beside the same ones straight to a server of this machine, in plain text and over TLS, and the
//! memory of an open door.

use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aedile_core::agent_api::DoorIdentity;
use aedile_core::egress::{Door, DoorGrant, Egress};
use aedile_core::money::Budget;
use aedile_core::policy::{LayerName, PolicyText};
use aedile_core::store::Store;
use aedile_gateway::Gateway;
use aedile_models::PriceTable;
use aedile_testkit::{OsEntropy, SystemClock};
use anyhow::{Context, ensure};
use base64::Engine;
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::door::{PRICES, Silent, vault};
use crate::figure::{Amount, Figure, Target};
use crate::fixture;
use crate::measure::{directory, millis, runtime};

const REQUESTS: usize = 2000;
const WARM_UP: usize = 200;
const ANSWER_BYTES: usize = 1024;
/// Connections at once, and for how long, where requests in a second are counted.
const CONNECTIONS: usize = 16;
const FOR: Duration = Duration::from_secs(3);
const DOORS: usize = 200;

/// Measures the proxy.
pub(crate) fn figures(_program: &Path) -> anyhow::Result<Vec<Figure>> {
    let measured = runtime()?.block_on(Box::pin(measure()))?;
    let beside = |what: &str, through: f64, direct: f64, most| {
        Figure::beside(what, Amount::millis(through), ("straight", Amount::millis(direct)), Target::MoreAtMost(most))
    };
    let [plain, secure] = measured.latency;
    Ok(vec![
        beside("a request through the proxy of a door, plain, kept open, p50", plain.0[0], plain.1[0], 0.3),
        beside("the same, p99", plain.0[1], plain.1[1], 2.0),
        beside("a request through the proxy of a door, TLS on both sides, kept open, p50", secure.0[0], secure.1[0], 0.5),
        beside("the same, p99", secure.0[1], secure.1[1], 3.0),
        Figure::beside(
            "requests in a second through the proxy of a door, plain, 1 KB, client and server on the same processors",
            Amount::per_second(measured.per_second.0),
            ("straight", Amount::per_second(measured.per_second.1)),
            Target::Reported,
        ),
        Figure::alone("memory of an open door that is a proxy", Amount::megabytes(measured.door_bytes), Target::AtMost(0.256)),
    ])
}

/// p50 and p99 of requests through the door and straight, in milliseconds.
type Latency = ([f64; 2], [f64; 2]);

struct Measured {
    latency: [Latency; 2],
    per_second: (f64, f64),
    door_bytes: f64,
}

/// A server in plain text and one over TLS, and a gateway whose doors reach both.
struct Rig {
    gateway: Gateway,
    who: DoorIdentity,
    policy: Vec<PolicyText>,
    ports: [u16; 2],
    roots: String,
    _state: tempfile::TempDir,
}

impl Rig {
    async fn new() -> anyhow::Result<Self> {
        // Fails only when a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], der)?;
        let base64 = base64::engine::general_purpose::STANDARD.encode(certificate.der());
        let roots = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
        let ports = [served(None).await?, served(Some(TlsAcceptor::from(Arc::new(config)))).await?];
        let rule = |id: &str, scheme: &str, port: u16| {
            format!("[[network]]\nid = \"{id}\"\nhosts = [\"127.0.0.1\"]\nports = [{port}]\nschemes = [\"{scheme}\"]\n")
        };
        let text = rule("plain", "http", ports[0]) + &rule("secure", "https", ports[1]);
        let state = directory()?;
        let store: Arc<dyn Store> = Arc::new(fixture::open_store(&state.path().join("state"))?);
        let who = fixture::working_run(&*store, 1)?.remove(0);
        let (clock, entropy) = (Arc::new(SystemClock), Arc::new(OsEntropy));
        let here = tokio::runtime::Handle::current();
        let gateway = Gateway::new(Vec::new(), PriceTable::parse(PRICES)?, vault(10)?, store, clock, entropy, here)?.with_roots(&roots)?;
        let policy = vec![PolicyText { layer: LayerName::Run, place: "bench".to_owned(), text }];
        Ok(Self { gateway, who, policy, ports, roots, _state: state })
    }

    fn open(&self) -> anyhow::Result<(Box<dyn Door>, u16)> {
        let listener = StdListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let grant = DoorGrant {
            who: self.who.clone(),
            model: "script/bench".parse().map_err(anyhow::Error::msg)?,
            others: Vec::new(),
            script: Some(serde_json::json!([])),
            agent_budget: Budget::default(),
            task_budget: Budget::default(),
            run_budget: Budget::default(),
            policy: self.policy.clone(),
            api: Arc::new(Silent),
        };
        Ok((self.gateway.open_door(listener.into(), grant)?, port))
    }
}

/// Answers everything with 1 KB.
async fn served(tls: Option<TlsAcceptor>) -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let service = service_fn(|_: Request<hyper::body::Incoming>| async {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&[b'x'; ANSWER_BYTES]))))
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
    });
    Ok(port)
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn secured(stream: TcpStream, roots: &str) -> anyhow::Result<Box<dyn Stream>> {
    let mut store = RootCertStore::empty();
    store.add(CertificateDer::from_pem_slice(roots.as_bytes())?)?;
    let config = ClientConfig::builder().with_root_certificates(store).with_no_client_auth();
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect("127.0.0.1".try_into()?, stream).await?))
}

async fn plain(port: u16) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks once and reads the answer to its end.
async fn ask(stream: &mut (impl Stream + ?Sized), request: &str, answer: &mut Vec<u8>) -> anyhow::Result<()> {
    stream.write_all(request.as_bytes()).await?;
    answer.clear();
    let is_whole = |answer: &[u8]| {
        let body = answer.windows(4).position(|part| part == b"\r\n\r\n").map(|at| &answer[at + 4..]);
        body.is_some_and(|body| body.len() == ANSWER_BYTES || body.ends_with(b"0\r\n\r\n"))
    };
    while !is_whole(answer) {
        ensure!(stream.read_buf(answer).await? > 0, "the answer was cut: {}", String::from_utf8_lossy(answer));
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(answer));
    Ok(())
}

/// Times of requests on two connections, in turns.
async fn latency<'a>(through: &'a mut (dyn Stream + 'a), direct: &'a mut (dyn Stream + 'a), asked: [&str; 2]) -> anyhow::Result<Latency> {
    let (mut times, mut answer) = ([Vec::new(), Vec::new()], Vec::new());
    for number in 0..WARM_UP + REQUESTS {
        for (at, stream) in [&mut *through, &mut *direct].into_iter().enumerate() {
            let start = Instant::now();
            ask(stream, asked[at], &mut answer).await?;
            if number >= WARM_UP {
                times[at].push(millis(start.elapsed()));
            }
        }
    }
    let [through, direct] = times.map(|mut times| {
        times.sort_unstable_by(f64::total_cmp);
        [times[times.len() / 2], times[times.len() * 99 / 100]]
    });
    Ok((through, direct))
}

async fn per_second(port: u16, request: &str) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let request = request.to_owned();
        clients.spawn(async move {
            let (mut stream, mut answer, mut count) = (plain(port).await?, Vec::new(), 0_u32);
            while start.elapsed() < FOR {
                ask(&mut stream, &request, &mut answer).await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let mut all = 0;
    while let Some(count) = clients.join_next().await {
        all += count??;
    }
    Ok(f64::from(all) / start.elapsed().as_secs_f64())
}

async fn measure() -> anyhow::Result<Measured> {
    let rig = Rig::new().await?;
    let (door, port) = rig.open()?;
    let [http, https] = rig.ports;
    let absolute = format!("GET http://127.0.0.1:{http}/a HTTP/1.1\r\nHost: 127.0.0.1:{http}\r\n\r\n");
    let direct = format!("GET /a HTTP/1.1\r\nHost: 127.0.0.1:{http}\r\n\r\n");
    let in_plain = latency(&mut plain(port).await?, &mut plain(http).await?, [&absolute, &direct]).await?;
    let mut tunnel = plain(port).await?;
    tunnel.write_all(format!("CONNECT 127.0.0.1:{https} HTTP/1.1\r\nHost: 127.0.0.1:{https}\r\n\r\n").as_bytes()).await?;
    let mut granted = Vec::new();
    while !granted.ends_with(b"\r\n\r\n") {
        ensure!(tunnel.read_buf(&mut granted).await? > 0, "no tunnel: {}", String::from_utf8_lossy(&granted));
    }
    let trust = rig.gateway.trust(rig.who.run, &rig.policy).map_err(anyhow::Error::msg)?.context("the door looks into no TLS")?;
    let (mut inside, mut straight) = (secured(tunnel, &trust.pem).await?, secured(plain(https).await?, &rig.roots).await?);
    let request = format!("GET /a HTTP/1.1\r\nHost: 127.0.0.1:{https}\r\n\r\n");
    let in_tls = latency(&mut *inside, &mut *straight, [&request, &request]).await?;
    let per_second = (per_second(port, &absolute).await?, per_second(http, &direct).await?);
    drop(door);
    let before = private()?;
    let doors: Vec<_> = (0..DOORS).map(|_| rig.open()).collect::<Result<_, _>>()?;
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let door_bytes = (private()? - before) / doors.len() as f64;
    Ok(Measured { latency: [in_plain, in_tls], per_second, door_bytes })
}

/// Bytes of memory that are there only because of this process.
fn private() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).context("no Private_Dirty in smaps_rollup")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? * 1024.0)
}
