//! Access tokens that are renewed: one refresh for all, kept before it is used, and no token where it is not for.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aedile_core::event::Event;
use aedile_core::policy::LayerName;
use aedile_core::{Clock as _, ExposeSecret as _, SecretString};
use aedile_gateway::safe::{AccessToken, Binding, ClientAuth, OAuth, Places, Safe, SafeError, Source};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use crate::support::{CLAUDE, Rig, soon, until};
use crate::support_site::Site;
use crate::support_tls::{TlsByHand, ask, through};

const FIRST: &str = "refresh-Zq8Kx2Lm9Rt4-first";
const CLIENT: &str = "client-Hb7Wp3Vn6Ys1-secret";

fn says(status: u16, body: String) -> Option<Response<Full<Bytes>>> {
    Some(Response::builder().status(status).body(Full::new(body.into())).unwrap())
}

fn form(body: &[u8]) -> HashMap<String, String> {
    let text = std::str::from_utf8(body).unwrap();
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A server whose token endpoint takes each refresh token once, gives the next one and an access token, and whose other paths say back what
/// they were asked with.
struct Issuer {
    site: Site,
    /// What its token endpoint takes now.
    takes: Arc<Mutex<String>>,
    dir: TempDir,
}

impl Issuer {
    async fn new(life: u64) -> Self {
        let takes = Arc::new(Mutex::new(FIRST.to_owned()));
        let present = takes.clone();
        let site = Site::new(true, move |asked| {
            if asked.path != "/token" {
                return says(200, format!("you said {}", asked.header("authorization").concat()));
            }
            let given = form(&asked.body)["refresh_token"].clone();
            let mut takes = present.lock().unwrap();
            if *takes != given {
                return says(400, format!(r#"{{"error":"invalid_grant","error_description":"{given} is spent"}}"#));
            }
            let count: usize = takes.rsplit_once('.').map_or(0, |(_, count)| count.parse().unwrap()) + 1;
            *takes = format!("refresh-Zq8Kx2Lm9Rt4.{count}");
            says(
                200,
                format!(r#"{{"access_token":"access-Jd5Cf8Gw2Nq7.{count}","token_type":"bearer","expires_in":{life},"refresh_token":"{takes}"}}"#),
            )
        })
        .await;
        Self { site, takes, dir: TempDir::new().unwrap() }
    }

    fn places(&self) -> Places {
        Places::of(&self.dir.path().join("state"), &self.dir.path().join("config"))
    }

    fn grant(&self) -> OAuth {
        OAuth {
            url: format!("https://localhost:{}/token", self.site.port),
            client_id: "a client".to_owned(),
            client_secret: None,
            client_auth: ClientAuth::Basic,
            scope: Some("read write".to_owned()),
            refresh_token: FIRST.into(),
            access: None,
            retired: Vec::new(),
        }
    }

    fn put(&self, grant: OAuth) {
        let binding = Binding { hosts: vec!["localhost".to_owned()], paths: vec!["/api/**".to_owned()], ..Binding::default() };
        let put = |safe: &mut Safe| safe.put("forge", binding, &Source::OAuth(Box::new(grant)), 1);
        Safe::change::<_, SafeError>(&self.places(), put).unwrap();
    }

    fn kept(&self) -> OAuth {
        let source = Safe::open(&self.places()).unwrap().unwrap().source("forge").unwrap();
        let Source::OAuth(grant) = source else { unreachable!("{source:?}") };
        *grant
    }

    /// A worker that has taken the vault.
    fn worker(&self) -> Rig {
        let safe = Safe::open(&self.places()).unwrap().unwrap();
        let mut rig = Rig::renewing(&self.site.pem, self.places(), (safe.records()[0].clone(), self.kept()));
        let rule =
            format!("[[network]]\nid = \"near\"\nhosts = [\"localhost\"]\nports = [{}]\nmethods = [\"GET\", \"POST\"]\n", self.site.port);
        rig.layer(LayerName::Run, &rule);
        rig
    }

    async fn call(&self, rig: &Rig, door: &str) -> String {
        ask(rig, door, (true, self.site.port), "GET", "/api/x", "Authorization: Bearer aedile-secret-forge\r\n\r\n").await
    }

    /// How often the token endpoint was asked, and the tokens that came to the other paths.
    fn seen(&self) -> (usize, Vec<String>) {
        let asked = self.site.asked();
        let (token, other): (Vec<_>, Vec<_>) = asked.into_iter().partition(|asked| asked.path == "/token");
        (token.len(), other.iter().map(|asked| asked.header("authorization").concat()).collect())
    }
}

/// Every file below a directory in which one of the texts stands.
fn holding(dir: &Path, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(holding(&entry.path(), texts));
        } else {
            let bytes = std::fs::read(entry.path()).unwrap();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            found.extend(
                texts.iter().filter(|wanted| text.contains(**wanted)).map(|wanted| format!("{wanted} in {}", entry.path().display())),
            );
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_requests_at_once_lead_to_one_refresh_and_the_next_comes_before_the_end() {
    let issuer = Issuer::new(3600).await;
    issuer.put(issuer.grant());
    let log = issuer.dir.path().join("log");
    let rig = issuer.worker().logging(&log);
    let (_open, door) = rig.open(rig.grant(CLAUDE));
    let came = futures_util::future::join_all((0..20).map(|_| issuer.call(&rig, &door))).await;
    for answer in &came {
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("you said Bearer ") && answer.contains("[secret forge]"), "{answer}");
    }
    assert_eq!(issuer.seen(), (1, vec!["Bearer access-Jd5Cf8Gw2Nq7.1".to_owned(); 20]));
    let request = issuer.site.asked().into_iter().find(|asked| asked.path == "/token").unwrap();
    let form = form(&request.body);
    assert_eq!(
        (form["grant_type"].as_str(), form["client_id"].as_str(), form["scope"].as_str()),
        ("refresh_token", "a%20client", "read%20write")
    );
    // A token is used until a minute before its end, and not after.
    rig.clock.advance(Duration::from_secs(3500));
    issuer.call(&rig, &door).await;
    assert_eq!(issuer.seen().0, 1);
    rig.clock.advance(Duration::from_secs(41));
    issuer.call(&rig, &door).await;
    let (refreshes, tokens) = issuer.seen();
    assert_eq!((refreshes, tokens[20].as_str(), tokens[21].as_str()), (2, "Bearer access-Jd5Cf8Gw2Nq7.1", "Bearer access-Jd5Cf8Gw2Nq7.2"));
    let events = rig.events(&["secret_refreshed", "secret_not_refreshed"]);
    assert!(
        matches!(&events[..], [Event::SecretRefreshed { rotated: true, secret, .. }, Event::SecretRefreshed { .. }] if secret == "forge")
    );
    // Old and new are known, and stand nowhere.
    let secrets = [FIRST, "refresh-Zq8Kx2Lm9Rt4.1", "refresh-Zq8Kx2Lm9Rt4.2", "access-Jd5Cf8Gw2Nq7.1", "access-Jd5Cf8Gw2Nq7.2"];
    for secret in secrets {
        assert_eq!(rig.gateway.redactor().redact_text(&format!("a {secret} b")).as_deref(), Some("a [secret forge] b"));
        let denied = ask(&rig, &door, (true, issuer.site.port), "GET", "/api/x", &format!("X-Note: {secret}\r\n\r\n")).await;
        assert!(denied.contains("403") && denied.contains("secret.value") && !denied.contains(secret), "{denied}");
    }
    let all = format!("{:?} {came:?}", rig.store.read(aedile_core::event::Position(0), 10_000).unwrap());
    until("the log is written", || std::fs::read_dir(&log).is_ok()).await;
    assert!(secrets.iter().all(|secret| !all.contains(secret)), "{all}");
    assert_eq!(holding(issuer.dir.path(), &secrets), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_is_not_used_and_the_replaced_token_is_not_used_again() {
    let issuer = Issuer::new(3600).await;
    issuer.put(issuer.grant());
    let rig = issuer.worker();
    let (_open, door) = rig.open(rig.grant(CLAUDE));
    // The vault cannot be written while something stands where its successor is to be.
    let blocker = issuer.dir.path().join("state/vault/secrets.json.new");
    std::fs::create_dir(&blocker).unwrap();
    let refused = issuer.call(&rig, &door).await;
    assert!(refused.starts_with("HTTP/1.1 502") && refused.contains("cannot be kept, so nothing was sent"), "{refused}");
    assert_eq!((issuer.seen(), issuer.kept().refresh_token.expose_secret()), ((1, Vec::new()), FIRST));
    let redacted = rig.gateway.redactor().redact_text("access-Jd5Cf8Gw2Nq7.1 refresh-Zq8Kx2Lm9Rt4.1");
    assert_eq!(redacted.as_deref(), Some("[secret forge] [secret forge]"), "known although it is not kept");
    // What another process would ask with is spent, so it waits.
    assert!(std::fs::File::open(issuer.dir.path().join("state/vault/renewing-forge.lock")).unwrap().try_lock().is_err());
    std::fs::remove_dir(&blocker).unwrap();
    assert!(issuer.call(&rig, &door).await.starts_with("HTTP/1.1 200"));
    assert_eq!(issuer.seen(), (1, vec!["Bearer access-Jd5Cf8Gw2Nq7.1".to_owned()]));
    let kept = issuer.kept();
    assert_eq!(kept.refresh_token.expose_secret(), issuer.takes.lock().unwrap().as_str());
    assert_eq!(kept.retired.iter().map(aedile_core::ExposeSecret::expose_secret).collect::<Vec<_>>(), [FIRST]);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_share_a_refresh_through_the_vault() {
    let issuer = Issuer::new(3600).await;
    issuer.put(issuer.grant());
    let (one, two) = (issuer.worker(), issuer.worker());
    let ((_a, first), (_b, second)) = (one.open(one.grant(CLAUDE)), two.open(two.grant(CLAUDE)));
    let (came, went) = tokio::join!(issuer.call(&one, &first), issuer.call(&two, &second));
    assert!(came.starts_with("HTTP/1.1 200") && went.starts_with("HTTP/1.1 200"), "{came} {went}");
    assert_eq!(issuer.seen(), (1, vec!["Bearer access-Jd5Cf8Gw2Nq7.1".to_owned(); 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_with_the_next_step_and_holds_until_the_token_is_another() {
    let issuer = Issuer::new(3600).await;
    let now = Rig::today(&issuer.site.pem).clock.now();
    let spent = "refresh-Xs4Dv9Bm1Ko6-spent";
    let ended = AccessToken { token: "access-Ended-Rt5Yu8".into(), from: now, until: now.plus(Duration::from_secs(59)) };
    let ended = AccessToken { from: aedile_core::Timestamp(now.0 - 3_600_000_000), ..ended };
    issuer.put(OAuth { refresh_token: spent.into(), access: Some(ended), client_secret: Some(CLIENT.into()), ..issuer.grant() });
    let rig = issuer.worker();
    let (_open, door) = rig.open(rig.grant(CLAUDE));
    for _ in 0..3 {
        let refused = issuer.call(&rig, &door).await;
        assert!(
            refused.starts_with("HTTP/1.1 502") && refused.contains("invalid_grant") && refused.contains("aedile secret rotate forge"),
            "{refused}"
        );
        assert!(!refused.contains(spent) && !refused.contains("spent"), "{refused}");
    }
    // The endpoint was asked once, and the token that ends within a minute went nowhere.
    assert_eq!(issuer.seen(), (1, Vec::new()));
    let header = issuer.site.asked()[0].header("authorization").concat();
    assert_eq!(
        header,
        format!("Basic {}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("a%20client:{CLIENT}")))
    );
    let events = rig.events(&["secret_not_refreshed"]);
    let [Event::SecretNotRefreshed { secret, host, why, .. }] = &events[..] else { unreachable!("{events:?}") };
    assert_eq!((secret.as_str(), host.clone()), ("forge", format!("localhost:{}", issuer.site.port)));
    assert!(why.contains("invalid_grant") && why.contains("aedile secret rotate forge") && !why.contains("spent"), "{why}");
    // A person gives it another one; the client says its secret in the body.
    let next = issuer.kept().renewed(Some(SecretString::from(FIRST)), None);
    issuer.put(OAuth { client_auth: ClientAuth::Body, ..next });
    assert!(issuer.call(&rig, &door).await.starts_with("HTTP/1.1 200"));
    let last = issuer.site.asked().into_iter().rfind(|asked| asked.path == "/token").unwrap();
    assert!(form(&last.body)["client_secret"] == CLIENT && last.header("authorization").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_leads_elsewhere_or_does_not_end_gives_nothing() {
    for (status, body, part) in [
        (307, String::new(), "leads elsewhere"),
        (200, format!(r#"{{"access_token":"access-Jd5Cf8Gw2Nq7","x":"{}"}}"#, "x".repeat(70_000)), "65536 bytes"),
        (503, "hush-hush".to_owned(), "answered with 503"),
    ] {
        let site = Site::new(true, move |_| {
            let mut response = says(status, body.clone())?;
            response.headers_mut().insert("location", "/elsewhere".parse().unwrap());
            Some(response)
        })
        .await;
        let issuer = Issuer { site, takes: Arc::default(), dir: TempDir::new().unwrap() };
        issuer.put(issuer.grant());
        let rig = issuer.worker();
        let (_open, door) = rig.open(rig.grant(CLAUDE));
        for _ in 0..2 {
            let refused = issuer.call(&rig, &door).await;
            assert!(refused.starts_with("HTTP/1.1 502") && refused.contains(part) && !refused.contains("hush"), "{refused}");
        }
        assert_eq!(issuer.site.asked().len(), 1, "{part}: nobody is asked again at once, nor elsewhere");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_endpoint_gives_is_kept_although_nobody_waits_for_it_any_more() {
    let server = TlsByHand::new().await;
    let (dir, binding) = (TempDir::new().unwrap(), Binding { hosts: vec!["localhost".to_owned()], ..Binding::default() });
    let places = Places::of(&dir.path().join("state"), &dir.path().join("config"));
    let grant = OAuth {
        url: format!("https://localhost:{}/token", server.port),
        client_id: "me".to_owned(),
        client_secret: None,
        client_auth: ClientAuth::Basic,
        scope: None,
        refresh_token: FIRST.into(),
        access: None,
        retired: Vec::new(),
    };
    let put = |safe: &mut Safe| safe.put("forge", binding, &Source::OAuth(Box::new(grant.clone())), 1).map(|_| safe.records()[0].clone());
    let record = Safe::change::<_, SafeError>(&places, put).unwrap();
    let mut rig = Rig::renewing(&server.pem, places.clone(), (record, grant));
    rig.layer(LayerName::Run, &server.rule(""));
    let (open, door) = rig.open(rig.grant(CLAUDE));
    let mut client = through(&rig, &door, server.port).await;
    let request = format!("GET /x HTTP/1.1\r\nHost: localhost:{}\r\nAuthorization: Bearer aedile-secret-forge\r\n\r\n", server.port);
    client.write_all(request.as_bytes()).await.unwrap();
    let (head, mut endpoint) = server.take().await;
    assert!(head.starts_with("POST /token "), "{head}");
    // The agent hangs up and its door is closed; then the endpoint answers.
    drop((client, open));
    let body = r#"{"access_token":"access-Jd5Cf8Gw2Nq7","refresh_token":"refresh-Next-0123456789","expires_in":3600}"#;
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    endpoint.write_all(answer.as_bytes()).await.unwrap();
    soon(rig.gateway.settled()).await;
    let kept = Safe::open(&places).unwrap().unwrap().source("forge").unwrap();
    assert!(matches!(kept, Source::OAuth(kept) if kept.refresh_token.expose_secret() == "refresh-Next-0123456789"));
    assert!(server.is_left_alone().await, "nothing else was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_refresh_token_is_kept_also_when_no_access_token_comes_with_it() {
    let next = "refresh-Zq8Kx2Lm9Rt4-next";
    let site = Site::new(true, move |_| {
        says(200, format!(r#"{{"access_token":"access-Jd5Cf8Gw2Nq7","token_type":"bot","refresh_token":"{next}"}}"#))
    })
    .await;
    let issuer = Issuer { site, takes: Arc::default(), dir: TempDir::new().unwrap() };
    issuer.put(issuer.grant());
    let rig = issuer.worker();
    let (_open, door) = rig.open(rig.grant(CLAUDE));
    for _ in 0..2 {
        let refused = issuer.call(&rig, &door).await;
        assert!(refused.starts_with("HTTP/1.1 502") && refused.contains("no bearer token") && !refused.contains(next), "{refused}");
    }
    assert_eq!(issuer.kept().refresh_token.expose_secret(), next);
    assert_eq!(issuer.site.asked().len(), 1, "the refusal holds for the grant as it is now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_removed_and_set_again_is_another_grant() {
    let issuer = Issuer::new(3600).await;
    issuer.put(OAuth { refresh_token: "refresh-Xs4Dv9Bm1Ko6-spent".into(), ..issuer.grant() });
    let rig = issuer.worker();
    let (_open, door) = rig.open(rig.grant(CLAUDE));
    assert!(issuer.call(&rig, &door).await.contains("invalid_grant"));
    Safe::change::<_, SafeError>(&issuer.places(), |safe| Ok(safe.remove("forge"))).unwrap();
    issuer.put(issuer.grant());
    let answer = issuer.call(&rig, &door).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "its version is that of the refused one: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_does_not_take_the_place_of_a_grant_that_was_set_meanwhile() {
    let (dir, taken) = (TempDir::new().unwrap(), Arc::new(Mutex::new(None::<Places>)));
    let (places, mine) = (taken.clone(), "refresh-Mn3Bv7Cx1Za9-mine");
    let site = Site::new(true, move |_| {
        // While the endpoint answers, the person sets another grant under the name.
        let places = places.lock().unwrap().clone().unwrap();
        Safe::change::<_, SafeError>(&places, |safe| {
            let Source::OAuth(before) = safe.source("forge")? else { unreachable!() };
            let binding = safe.records()[0].binding.clone();
            safe.remove("forge");
            safe.put("forge", binding, &Source::OAuth(Box::new(OAuth { refresh_token: mine.into(), ..*before })), 1)
        })
        .unwrap();
        says(200, r#"{"access_token":"access-Jd5Cf8Gw2Nq7","refresh_token":"refresh-Zq8Kx2Lm9Rt4-next"}"#.to_owned())
    })
    .await;
    let issuer = Issuer { site, takes: Arc::default(), dir };
    *taken.lock().unwrap() = Some(issuer.places());
    issuer.put(issuer.grant());
    let rig = issuer.worker();
    let (_open, door) = rig.open(rig.grant(CLAUDE));
    let refused = issuer.call(&rig, &door).await;
    assert!(refused.starts_with("HTTP/1.1 502") && refused.contains("another value while"), "{refused}");
    assert_eq!(issuer.kept().refresh_token.expose_secret(), mine);
}
