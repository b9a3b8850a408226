//! The certificate authority of a gateway: it makes the programs in a box take the door for the host that they asked for, so that the door can
//! look into their TLS.
//!
//! Its key is made with it and lives in this process only. What it may sign is narrowed to the hosts of the policy by name constraints, which
//! OpenSSL, GnuTLS, Go, rustls and the programs on top of them hold to.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aedile_core::policy::PolicyText;
use aedile_core::{Clock, RunId, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use zeroize::Zeroize;

use crate::policy::{Effect, Host, HostPattern, NetworkRule, Policy};

/// The name that certificates carry, as an organisation: GnuTLS holds a common name against the name constraints as if it were a host's.
const NAME: &str = "aedile door";
/// How long the authority holds: longer than a worker lives.
const AUTHORITY_LIFE: Duration = Duration::from_secs(2 * 365 * 24 * 3600);
/// How long the certificate of a host holds.
const LEAF_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Clocks of boxes are the host's own, but one that is set back must not make a certificate one of the future.
const SKEW: Duration = Duration::from_secs(24 * 3600);
/// A certificate with less than this left is made anew.
const LEAF_REST: Duration = Duration::from_secs(6 * 3600);
/// Certificates that are kept; beyond it the oldest goes.
const LEAVES_MAX: usize = 256;
/// With more names than this the authority is not narrowed: every handshake would carry and walk the list.
const NAMES_MAX: usize = 256;
/// Authorities that are kept though no door uses them: a box is made before its door is opened.
const AUTHORITIES_MAX: usize = 256;

/// Signs the certificates of one gateway's doors.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    /// The key of every leaf: they are all shown by this process.
    leaf: KeyPair,
    leaf_key: Arc<dyn rustls::sign::SigningKey>,
    clock: Arc<dyn Clock>,
    leaves: Mutex<HashMap<String, Leaf>>,
}

struct Leaf {
    config: Arc<ServerConfig>,
    made: Timestamp,
}

impl Authority {
    /// Makes an authority for these hosts.
    ///
    /// # Errors
    /// What the random source or the library says.
    fn new(hosts: &Hosts, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let now = clock.now();
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let mut params = params(now, AUTHORITY_LIFE);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.name_constraints = constraints(hosts);
        let certificate = params.self_signed(&key).map_err(|error| error.to_string())?.der().clone();
        let leaf = KeyPair::generate().map_err(|error| error.to_string())?;
        let mut der = leaf.serialize_der();
        let loaded = ring::sign::any_ecdsa_type(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.as_slice())));
        der.zeroize();
        let leaf_key = loaded.map_err(|error| error.to_string())?;
        Ok(Self { issuer: Issuer::new(params, key), certificate, leaf, leaf_key, clock, leaves: Mutex::default() })
    }

    /// The public part, as a box needs it.
    pub(crate) fn pem(&self) -> String {
        let text = STANDARD.encode(&self.certificate);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    }

    /// How a door speaks TLS in the place of a host.
    ///
    /// # Errors
    /// What the library says.
    pub(crate) fn config(&self, host: &Host) -> Result<Arc<ServerConfig>, String> {
        let (name, now) = (host.to_string(), self.clock.now());
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leaf) = leaves.get(&name).filter(|leaf| leaf.made <= now && now.since(leaf.made) < LEAF_LIFE - LEAF_REST) {
            return Ok(leaf.config.clone());
        }
        let config = self.signed(host, now)?;
        if leaves.len() >= LEAVES_MAX
            && let Some(oldest) = leaves.iter().min_by_key(|(_, leaf)| leaf.made).map(|(name, _)| name.clone())
        {
            leaves.remove(&oldest);
        }
        leaves.insert(name, Leaf { config: config.clone(), made: now });
        Ok(config)
    }

    fn signed(&self, host: &Host, now: Timestamp) -> Result<Arc<ServerConfig>, String> {
        let mut params = params(now, LEAF_LIFE);
        params.subject_alt_names = vec![match host {
            Host::Name(name) => SanType::DnsName(name.as_str().try_into().map_err(|error: rcgen::Error| error.to_string())?),
            Host::Address(address) => SanType::IpAddress(*address),
        }];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&self.leaf, &self.issuer).map_err(|error| error.to_string())?;
        let shown = CertifiedKey::new(vec![leaf.der().clone()], self.leaf_key.clone());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth();
        let mut config = config.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(shown)));
        // A session of one door is of no use at another.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn params(now: Timestamp, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, NAME);
    let now = date_time_ymd(1970, 1, 1) + Duration::from_micros(u64::try_from(now.0).unwrap_or(0));
    params.not_before = now - SKEW;
    params.not_after = now + life;
    params
}

/// Names and addresses that an authority signs for.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Hosts {
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

impl Hosts {
    /// The hosts that rules of the policy open with TLS, whomever they are for.
    fn of(policy: &Policy) -> Self {
        let secure = |rule: &&NetworkRule| rule.effect != Effect::Deny && rule.schemes.iter().any(|scheme| scheme == "https");
        let mut hosts = Self::default();
        for pattern in policy.network.iter().filter(secure).flat_map(|rule| &rule.hosts) {
            match pattern {
                HostPattern::Name(name) | HostPattern::Below(name) => drop(hosts.names.insert(name.clone())),
                HostPattern::Address(address) => drop(hosts.addresses.insert(*address)),
            }
        }
        hosts
    }

    fn count(&self) -> usize {
        self.names.len() + self.addresses.len()
    }
}

/// What the authority may sign. A kind of name of which there is none is narrowed to one that nobody has, since a kind that is not named would not
/// be narrowed at all.
fn constraints(hosts: &Hosts) -> Option<NameConstraints> {
    if hosts.count() > NAMES_MAX {
        return None;
    }
    let (mut names, mut addresses) = (hosts.names.clone(), hosts.addresses.clone());
    if names.is_empty() {
        names.insert("nothing.invalid".to_owned());
    }
    if addresses.is_empty() {
        // Of a documentation network.
        addresses.insert(IpAddr::from([192, 0, 2, 0]));
    }
    let whole = |address: IpAddr| CidrSubnet::from_addr_prefix(address, if address.is_ipv4() { 32 } else { 128 });
    let names = names.into_iter().map(GeneralSubtree::DnsName);
    let addresses = addresses.into_iter().map(|address| GeneralSubtree::IpAddress(whole(address)));
    Some(NameConstraints { permitted_subtrees: names.chain(addresses).collect(), excluded_subtrees: Vec::new() })
}

/// The authorities of a gateway: one for each run and set of hosts, so that boxes of two runs do not believe each other's.
pub(crate) struct Authorities {
    clock: Arc<dyn Clock>,
    known: Mutex<Vec<Known>>,
}

struct Known {
    run: RunId,
    hosts: Hosts,
    authority: Arc<Authority>,
}

impl Authorities {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, known: Mutex::default() }
    }

    /// The authority of doors of this run under these layers; `None` where some layer that allows anything opens nothing with TLS, or none allows.
    ///
    /// # Errors
    /// A sentence: a layer cannot be read, or no authority can be made.
    pub(crate) fn of(&self, run: RunId, layers: &[PolicyText]) -> Result<Option<Arc<Authority>>, String> {
        let read = |text: &PolicyText| Policy::parse(&text.text).map_err(|bad| format!("the policy {}: {bad}", text.place));
        let policies: Vec<Policy> = layers.iter().map(read).collect::<Result<_, _>>()?;
        // What passes must be in every layer that allows something: the narrowest is enough.
        let narrowest = policies.iter().filter(|policy| policy.allows()).map(Hosts::of).min_by_key(Hosts::count);
        let Some(hosts) = narrowest.filter(|hosts| hosts.count() > 0) else { return Ok(None) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.iter().find(|known| known.run == run && known.hosts == hosts) {
            return Ok(Some(found.authority.clone()));
        }
        let authority = Arc::new(Authority::new(&hosts, self.clock.clone())?);
        if known.len() >= AUTHORITIES_MAX
            && let Some(unused) = known.iter().position(|known| Arc::strong_count(&known.authority) == 1)
        {
            known.remove(unused);
        }
        known.push(Known { run, hosts, authority: authority.clone() });
        Ok(Some(authority))
    }
}

#[cfg(test)]
mod tests {
    use aedile_core::clock::SteppingClock;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    fn authority(clock: Arc<SteppingClock>, hosts: &str) -> Authority {
        let policy = Policy::parse(&format!("[[network]]\nid = \"a\"\nhosts = [{hosts}]\n")).unwrap();
        Authority::new(&Hosts::of(&policy), clock).unwrap()
    }

    #[test]
    fn a_run_has_one_authority_for_the_narrowest_layer_and_another_run_another() {
        use aedile_core::clock::SeededEntropy;
        use aedile_core::policy::LayerName;
        let text = |text: &str| PolicyText { layer: LayerName::Run, place: "p".into(), text: text.to_owned() };
        let wide = text("[[network]]\nid = \"w\"\nhosts = [\"*.example.org\", \"*.example.com\"]");
        let narrow = text("[[network]]\nid = \"n\"\nhosts = [\"a.example.org\"]");
        let denies = text("[[network]]\nid = \"d\"\neffect = \"deny\"\nhosts = [\"b.example.org\"]");
        let plain = text("[[network]]\nid = \"p\"\nschemes = [\"http\"]\nhosts = [\"b.example.org\"]");
        let clock = Arc::new(SteppingClock::default());
        let (one, two) = (RunId::new(clock.as_ref(), &SeededEntropy::new(1)), RunId::new(clock.as_ref(), &SeededEntropy::new(2)));
        let authorities = Authorities::new(clock);
        let both = authorities.of(one, &[wide.clone(), denies.clone(), narrow.clone()]).unwrap().unwrap();
        assert!(taken(&both, "a.example.org", 0).is_ok() && taken(&both, "b.example.org", 0).is_err());
        assert!(Arc::ptr_eq(&both, &authorities.of(one, std::slice::from_ref(&narrow)).unwrap().unwrap()));
        assert!(!Arc::ptr_eq(&both, &authorities.of(two, std::slice::from_ref(&narrow)).unwrap().unwrap()));
        assert!(authorities.of(one, &[wide, plain]).unwrap().is_none() && authorities.of(one, &[denies]).unwrap().is_none());
        assert!(authorities.of(one, &[text("x")]).is_err());
    }

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    /// Whether a client that trusts only the authority takes what is shown for the host, at a time so many seconds after the start of 2026.
    fn taken(authority: &Authority, name: &str, after: u64) -> Result<(), String> {
        #[derive(Debug)]
        struct At(u64);
        impl rustls::time_provider::TimeProvider for At {
            fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
                Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600 + self.0)))
            }
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let client = rustls::ClientConfig::builder_with_details(Arc::new(ring::default_provider()), Arc::new(At(after)));
        let client = client.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth();
        let server = authority.config(&host(name))?;
        let name = name.trim_matches(['[', ']']).to_owned().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = rustls::ServerConnection::new(server).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets().map_err(|error| error.to_string())?;
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    #[test]
    fn hosts_of_the_policy_are_signed_for_and_no_others_believed() {
        let authority = authority(Arc::default(), "\"api.example.org\", \"*.below.example\", \"192.0.2.7\", \"[2001:db8::7]\"");
        for name in ["api.example.org", "a.b.below.example", "192.0.2.7", "[2001:db8::7]"] {
            assert_eq!(taken(&authority, name, 0), Ok(()), "{name}");
        }
        for name in ["example.org", "other.example", "xbelow.example", "192.0.2.8", "127.0.0.1", "[2001:db8::8]"] {
            assert!(taken(&authority, name, 0).is_err(), "{name}");
        }
        let names_only = self::authority(Arc::default(), "\"api.example.org\"");
        assert!(taken(&names_only, "127.0.0.1", 0).is_err());
        let addresses_only = self::authority(Arc::default(), "\"127.0.0.1\"");
        assert_eq!(taken(&addresses_only, "127.0.0.1", 0), Ok(()));
        assert!(taken(&addresses_only, "api.example.org", 0).is_err());
    }

    #[test]
    fn two_authorities_do_not_believe_each_other() {
        let (one, two) = (authority(Arc::default(), "\"a.example\""), authority(Arc::default(), "\"a.example\""));
        assert_ne!(one.pem(), two.pem());
        let pem = one.pem();
        assert!(!pem.contains("PRIVATE") && pem.lines().all(|line| line.len() <= 64), "{pem}");
    }

    #[test]
    fn a_certificate_is_kept_made_anew_in_time_and_holds_when_the_clock_jumps() {
        let clock = Arc::new(SteppingClock::default());
        let authority = authority(clock.clone(), "\"*.a.example\"");
        let first = authority.config(&host("x.a.example")).unwrap();
        assert!(Arc::ptr_eq(&first, &authority.config(&host("x.a.example")).unwrap()));
        // Set back by hours, the clients still take it.
        assert_eq!(taken(&authority, "x.a.example", 0), Ok(()));
        clock.advance(Duration::from_secs(19 * 3600));
        let second = authority.config(&host("x.a.example")).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(taken(&authority, "x.a.example", 0), Ok(()), "the client's clock is 19 hours behind");
        clock.advance(Duration::from_secs(300 * 24 * 3600));
        assert_eq!(taken(&authority, "x.a.example", 300 * 24 * 3600), Ok(()));
        assert!(taken(&authority, "x.a.example", 310 * 24 * 3600).is_err(), "it does not hold for ever");
    }

    #[test]
    fn many_hosts_do_not_fill_the_memory() {
        let authority = authority(Arc::default(), "\"*.a.example\"");
        for at in 0..LEAVES_MAX + 20 {
            authority.config(&host(&format!("h{at}.a.example"))).unwrap();
        }
        assert_eq!(authority.leaves.lock().unwrap().len(), LEAVES_MAX);
    }
}
