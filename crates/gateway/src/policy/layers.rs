//! The layers of policy over the network: a request passes only where every layer that allows something allows it, and none denies it.

use aedile_core::policy::{LayerName, PolicyText, Who};

use super::files::{BadFile, Effect, NetworkRule, Policy};
use super::host::is_closed;
use super::target::{Host, Target};
use super::{HostPattern, host};

/// What denies or allows: a rule, and the layer that it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The layer; `None` for what always holds and for what no layer allows.
    pub layer: Option<LayerName>,
    /// The rule's id.
    pub rule: String,
    /// A sentence for whoever asked.
    pub why: String,
    /// Whether it passes only when a person says so.
    pub ask: bool,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layer {
    name: LayerName,
    /// Whether it allows something to anyone: then it allows nothing else.
    allows: bool,
    /// The rules that mean the agent.
    rules: Vec<NetworkRule>,
}

/// The rules of every layer over the network, for one agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layers(Vec<Layer>);

impl From<Policy> for Layers {
    /// The one layer of a command; rules that are for certain agents do not count in it.
    fn from(policy: Policy) -> Self {
        let allows = policy.allows();
        let rules = policy.network.into_iter().filter(|rule| rule.whom.is_everybody()).collect();
        Self(vec![Layer { name: LayerName::Run, allows, rules }])
    }
}

impl Layers {
    /// Reads the network rules of each layer and keeps those that mean this agent.
    ///
    /// # Errors
    /// [`BadFile`] names the file and what is wrong in it.
    pub fn parse(texts: &[PolicyText], who: Who<'_>) -> Result<Self, BadFile> {
        let layer = |text: &PolicyText| {
            let policy = Policy::parse(&text.text).map_err(|bad| BadFile(format!("the policy {}: {bad}", text.place)))?;
            let allows = policy.allows();
            Ok(Layer { name: text.layer, allows, rules: policy.network.into_iter().filter(|rule| rule.whom.means(who)).collect() })
        };
        texts.iter().map(layer).collect::<Result<_, _>>().map(Self)
    }

    /// Every rule that means the agent, with its layer.
    pub fn rules(&self) -> impl Iterator<Item = (LayerName, &NetworkRule)> {
        self.0.iter().flat_map(|layer| layer.rules.iter().map(|rule| (layer.name, rule)))
    }

    /// Whether no layer says anything of the network.
    pub fn is_silent(&self) -> bool {
        self.0.iter().all(|layer| !layer.allows && layer.rules.is_empty())
    }

    /// Whether some request might pass: without a rule that allows, none does.
    pub fn reach_out(&self) -> bool {
        let allows = |layer: &Layer| layer.rules.iter().any(|rule| rule.effect != Effect::Deny);
        self.0.iter().any(|layer| layer.allows) && self.0.iter().all(|layer| !layer.allows || allows(layer))
    }

    /// Holds a request against every layer.
    ///
    /// # Errors
    /// The rule that denies it.
    pub fn decide(&self, method: &str, target: &Target) -> Result<Verdict, Verdict> {
        self.hold(Some(method), target)
    }

    /// Whether some request to this host and port with TLS may pass. It is asked before a tunnel is opened; each request in it is decided over by
    /// itself.
    ///
    /// # Errors
    /// The rule that denies all of them.
    pub fn decide_tunnel(&self, host: &Host, port: u16) -> Result<Verdict, Verdict> {
        self.hold(None, &Target { secure: true, host: host.clone(), port, path: "/".to_owned(), query: None })
    }

    /// Without a method: whether anything at all may be asked of the host.
    fn hold(&self, method: Option<&str>, target: &Target) -> Result<Verdict, Verdict> {
        for layer in &self.0 {
            if let Some(rule) = layer.matching(Effect::Deny, method, target).next() {
                let why = format!("the rule {} of the {} policy denies it", rule.id, layer.name);
                return Err(Verdict { layer: Some(layer.name), rule: rule.id.clone(), why, ask: false });
            }
        }
        let closed = match &target.host {
            Host::Address(address) => host::address(*address),
            Host::Name(name) => host::name(name),
        };
        if let Some(refusal) = closed.as_ref().filter(|refusal| is_closed(refusal)) {
            return Err(Verdict { layer: None, rule: refusal.rule.to_owned(), why: refusal.why.clone(), ask: false });
        }
        let mut allowed: Option<Verdict> = None;
        for layer in self.0.iter().filter(|layer| layer.allows) {
            // What asks goes before what allows.
            let mut allowing = layer.matching(Effect::Ask, method, target).chain(layer.matching(Effect::Allow, method, target));
            let rule = match &closed {
                None => allowing.next().ok_or_else(|| layer.nothing(method, target))?,
                // An address or a name of the inside must be named itself.
                Some(refusal) => {
                    let named = |pattern: &HostPattern| pattern.is_exact() && pattern.matches(&target.host);
                    let refused =
                        || Verdict { layer: Some(layer.name), rule: refusal.rule.to_owned(), why: refusal.why.clone(), ask: false };
                    allowing.find(|rule| rule.hosts.iter().any(named)).ok_or_else(refused)?
                }
            };
            let ask = rule.effect == Effect::Ask;
            let does = if ask { "lets it pass only when a person says so" } else { "allows it" };
            let why = format!("the rule {} of the {} policy {does}", rule.id, layer.name);
            // Of layers that ask, the widest does.
            if allowed.as_ref().is_none_or(|before| !before.ask) {
                allowed = Some(Verdict { layer: Some(layer.name), rule: rule.id.clone(), why, ask });
            }
        }
        allowed.ok_or_else(|| Verdict {
            layer: None,
            rule: DEFAULT.to_owned(),
            why: format!(
                "no policy allows {} to {} on port {}; go on without, or ask the person for a rule",
                method.unwrap_or("https"),
                target.host,
                target.port
            ),
            ask: false,
        })
    }
}

/// Says which rules of a layer can never let anything pass, since a wider one allows no request to any of their hosts.
///
/// # Errors
/// [`BadFile`] names the file that is wrong.
pub fn widened(wider: &[PolicyText], text: &PolicyText) -> Result<Vec<String>, BadFile> {
    let mut problems = Vec::new();
    let own = Policy::parse(&text.text)?;
    for upper in wider {
        let policy = Policy::parse(&upper.text).map_err(|bad| BadFile(format!("the policy {}: {bad}", upper.place)))?;
        let meets = |rule: &NetworkRule| {
            let mut hosts = policy.network.iter().filter(|rule| rule.effect != Effect::Deny).flat_map(|rule| &rule.hosts);
            hosts.any(|host| rule.hosts.iter().any(|own| own.meets(host)))
        };
        if policy.allows() {
            let lost = own.network.iter().filter(|rule| rule.effect != Effect::Deny && !meets(rule));
            problems.extend(lost.map(|rule| {
                let hosts = rule.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                format!(
                    "network rule {:?} allows {hosts}, which the {} policy does not, so it has no effect: a lower layer can only narrow",
                    rule.id, upper.layer
                )
            }));
        }
    }
    Ok(problems)
}

/// The rule for what no rule allows.
const DEFAULT: &str = "policy.default";

impl Layer {
    fn matching<'a>(&'a self, effect: Effect, method: Option<&'a str>, target: &'a Target) -> impl Iterator<Item = &'a NetworkRule> {
        let means = move |rule: &NetworkRule| match method {
            Some(method) => rule.matches(method, target),
            None if effect == Effect::Deny => rule.reaches(target) && rule.is_whole(),
            None => rule.reaches(target),
        };
        self.rules.iter().filter(move |rule| rule.effect == effect && means(rule))
    }

    fn nothing(&self, method: Option<&str>, target: &Target) -> Verdict {
        let why = format!(
            "no rule of the {} policy allows {} to {} on port {}; go on without, or ask the person for a rule",
            self.name,
            method.unwrap_or("https"),
            target.host,
            target.port
        );
        Verdict { layer: Some(self.name), rule: DEFAULT.to_owned(), why, ask: false }
    }
}

#[cfg(test)]
mod tests {
    use aedile_core::{Entropy, SeededEntropy};

    use super::*;

    const ADA: Who<'_> = Who { role: "builder", agent: "ada", task: "one" };

    fn layers(texts: &[(LayerName, &str)], who: Who<'_>) -> Layers {
        let text = |(layer, text): &(LayerName, &str)| PolicyText { layer: *layer, place: "p".into(), text: (*text).to_owned() };
        Layers::parse(&texts.iter().map(text).collect::<Vec<_>>(), who).unwrap()
    }

    fn asked(layers: &Layers, method: &str, url: &str) -> (bool, Option<LayerName>, String) {
        match layers.decide(method, &Target::parse(url).unwrap()) {
            Ok(verdict) => (true, verdict.layer, verdict.rule),
            Err(verdict) => (false, verdict.layer, verdict.rule),
        }
    }

    fn rule(id: &str, host: &str, more: &str) -> String {
        format!("[[network]]\nid = \"{id}\"\nhost = \"{host}\"\n{more}\n")
    }

    #[test]
    fn a_request_passes_only_where_every_layer_that_allows_something_allows_it() {
        use LayerName::{Organisation, Project, User};
        let org = rule("code", "*.example.org", "") + &rule("no-admin", "admin.example.org", "effect = \"deny\"");
        let project = rule("docs", "docs.example.org", "") + &rule("far", "example.com", "");
        let both = layers(&[(Organisation, &org), (User, "[limits]\nprocesses = 9"), (Project, &project)], ADA);
        for (url, decided) in [
            ("https://docs.example.org/", (true, Some(Project), "docs")),
            ("https://api.example.org/", (false, Some(Project), "policy.default")),
            ("https://example.com/", (false, Some(Organisation), "policy.default")),
            ("https://admin.example.org/", (false, Some(Organisation), "no-admin")),
        ] {
            assert_eq!(asked(&both, "GET", url), (decided.0, decided.1, decided.2.to_owned()), "{url}");
        }
        assert!(both.reach_out());
    }

    #[test]
    fn what_only_denies_narrows_and_allows_nothing() {
        use LayerName::{Organisation, Project};
        let denies = rule("no", "a.example.org", "effect = \"deny\"");
        let alone = layers(&[(Organisation, &denies)], ADA);
        assert_eq!(asked(&alone, "GET", "https://b.example.org/"), (false, None, "policy.default".to_owned()));
        assert!(!alone.reach_out() && !layers(&[], ADA).reach_out());
        let open = rule("all", "*.example.org", "");
        let both = layers(&[(Organisation, &open), (Project, &denies)], ADA);
        assert_eq!(asked(&both, "GET", "https://b.example.org/"), (true, Some(Organisation), "all".to_owned()));
        assert_eq!(asked(&both, "GET", "https://a.example.org/"), (false, Some(Project), "no".to_owned()));
    }

    #[test]
    fn what_asks_goes_before_what_allows_and_behind_what_denies_in_whatever_layer() {
        use LayerName::{Organisation, Project};
        let ask = rule("ask", "a.example.org", "effect = \"ask\"\npaths = [\"/admin/**\"]") + &rule("all", "*.example.org", "");
        let deny = rule("no", "a.example.org", "effect = \"deny\"\npaths = [\"/admin/users/**\"]");
        let both = layers(&[(Organisation, &ask), (Project, &deny), (Project, &rule("wide", "*.example.org", ""))], ADA);
        let decided = |url: &str| match both.decide("GET", &Target::parse(url).unwrap()) {
            Ok(verdict) => (verdict.ask, verdict.layer, verdict.rule),
            Err(verdict) => (false, verdict.layer, verdict.rule),
        };
        assert_eq!(decided("https://a.example.org/admin/x"), (true, Some(Organisation), "ask".to_owned()));
        assert_eq!(
            decided("https://a.example.org//Admin/x"),
            (true, Some(Organisation), "ask".to_owned()),
            "each reading of a path is asked about"
        );
        assert_eq!(decided("https://a.example.org/admin/users/1"), (false, Some(Project), "no".to_owned()));
        assert_eq!(decided("https://a.example.org/open"), (false, Some(Project), "wide".to_owned()));
        // A layer that only asks opens something, and nothing else.
        let alone = layers(&[(Project, &rule("ask", "a.example.org", "effect = \"ask\""))], ADA);
        assert!(alone.reach_out() && alone.decide("GET", &Target::parse("https://b.example.org/").unwrap()).is_err());
        assert!(alone.decide_tunnel(&Host::Name("a.example.org".to_owned()), 443).is_ok());
    }

    #[test]
    fn rules_for_some_agents_leave_nothing_to_the_others() {
        use LayerName::{Organisation, Project};
        let open = rule("all", "*.example.org", "");
        let scouts = "[[rule]]\nid = \"scouts\"\nroles = [\"scout\"]\n[[rule.network]]\nid = \"read\"\nhost = \"a.example.org\"\n";
        let texts = [(Organisation, open.as_str()), (Project, scouts)];
        let url = "https://a.example.org/";
        assert_eq!(asked(&layers(&texts, Who { role: "scout", ..ADA }), "GET", url), (true, Some(Project), "read".to_owned()));
        assert_eq!(asked(&layers(&texts, ADA), "GET", url), (false, Some(Project), "policy.default".to_owned()));
        assert!(!layers(&texts, ADA).reach_out());
    }

    #[test]
    fn a_tunnel_is_opened_where_some_request_may_pass() {
        use LayerName::{Organisation, Project};
        let org = rule("code", "*.example.org", "methods = [\"POST\"]\npaths = [\"/deep/**\"]")
            + &rule("some", "part.example.org", "effect = \"deny\"\nmethods = [\"POST\"]")
            + &rule("all", "no.example.org", "effect = \"deny\"");
        let project = rule("these", "*.example.org", "")
            + &rule("plain", "plain.example.com", "schemes = [\"http\"]")
            + &rule("near", "127.0.0.1", "");
        let both = layers(&[(Organisation, &org), (Project, &project)], ADA);
        let asked = |layers: &Layers, host: &str, port: u16| {
            layers.decide_tunnel(&Host::parse(host).unwrap(), port).map_or_else(|no| format!("no: {}", no.rule), |yes| yes.rule)
        };
        for (host, port, decided) in [
            ("a.example.org", 443, "these"),
            ("part.example.org", 443, "these"),
            ("no.example.org", 443, "no: all"),
            ("a.example.org", 8443, "no: policy.default"),
            ("example.com", 443, "no: policy.default"),
            ("plain.example.com", 80, "no: policy.default"),
            ("127.0.0.1", 443, "no: address.loopback"),
            ("169.254.169.254", 443, "no: address.metadata"),
        ] {
            assert_eq!(asked(&both, host, port), decided, "{host}:{port}");
        }
        assert_eq!(asked(&layers(&[(Project, &project)], ADA), "127.0.0.1", 443), "near");
    }

    #[test]
    fn a_name_of_the_inside_must_be_named_in_every_layer_that_allows() {
        use LayerName::{Organisation, Project};
        let (wide, near) = (rule("wide", "*.corp.internal", ""), rule("near", "git.corp.internal", ""));
        let url = "https://git.corp.internal/";
        assert!(asked(&layers(&[(Project, &near)], ADA), "GET", url).0);
        assert_eq!(
            asked(&layers(&[(Organisation, &wide), (Project, &near)], ADA), "GET", url),
            (false, Some(Organisation), "host.local".to_owned())
        );
    }

    #[test]
    fn a_lower_layer_never_widens_the_network() {
        const RULES: &[(&str, &str)] = &[
            ("a.example.org", ""),
            ("*.example.org", ""),
            ("*.example.org", "methods = [\"GET\", \"POST\"]\npaths = [\"/v1/**\"]"),
            ("a.example.org", "effect = \"deny\"\npaths = [\"/v1/admin/**\"]"),
            ("b.example.org", "effect = \"ask\""),
            ("*.example.org", "effect = \"ask\"\npaths = [\"/v1/*\"]"),
            ("git.corp.internal", "schemes = [\"http\"]"),
            ("127.0.0.1", "schemes = [\"http\", \"https\"]"),
            ("example.com", "effect = \"deny\""),
        ];
        const ASKED: &[(&str, &str)] = &[
            ("GET", "https://a.example.org/v1/admin/x"),
            ("GET", "https://a.example.org//v1/Admin/x"),
            ("POST", "https://b.example.org/v1/a"),
            ("GET", "https://b.example.org/"),
            ("GET", "http://git.corp.internal/"),
            ("GET", "http://127.0.0.1/"),
            ("GET", "https://example.com/"),
            ("PUT", "https://a.example.org/"),
        ];
        let entropy = SeededEntropy::new(9);
        let some = |layer: LayerName| {
            let mut bytes = [0; 5];
            entropy.fill(&mut bytes);
            let count = usize::from(bytes[0] % 4);
            let rule = |(at, byte): (usize, &u8)| {
                let (host, more) = RULES[usize::from(*byte) % RULES.len()];
                match byte % 3 {
                    0 => format!(
                        "[[rule]]\nid = \"r{at}\"\nroles = [\"scout\"]\n[[rule.network]]\nid = \"n{at}\"\nhost = \"{host}\"\n{more}\n"
                    ),
                    _ => self::rule(&format!("n{at}"), host, more),
                }
            };
            let mut parts: Vec<String> = bytes[1..].iter().take(count).enumerate().map(rule).collect();
            parts.sort_by_key(|part| part.starts_with("[[rule]]"));
            layers(&[(layer, &parts.concat())], ADA)
        };
        let pools: [Vec<Layers>; 2] = [LayerName::User, LayerName::Project].map(|layer| (0..200).map(|_| some(layer)).collect());
        let targets: Vec<_> = ASKED.iter().map(|(method, url)| (*method, Target::parse(url).unwrap())).collect();
        // How much passes: nothing, what a person says, all.
        let passes = |layers: &Layers, method: &str, target: &Target| match layers.decide(method, target) {
            Err(_) => 0,
            Ok(verdict) => 2 - u8::from(verdict.ask),
        };
        let mut opened = 0;
        for _ in 0..20_000 {
            let mut bytes = [0; 4];
            entropy.fill(&mut bytes);
            let pick = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]])) % 200;
            let (upper, lower) = (&pools[0][pick(0)], &pools[1][pick(2)]);
            let both = Layers(upper.0.iter().chain(&lower.0).cloned().collect());
            for (method, target) in &targets {
                let (above, below, both) = (passes(upper, method, target), passes(lower, method, target), passes(&both, method, target));
                let grants = |layers: &Layers| layers.0.iter().any(|layer| layer.allows);
                // A layer that opens nothing to anyone only takes away.
                let most = match (grants(upper), grants(lower)) {
                    (true, true) => above.min(below),
                    (true, false) => above,
                    (false, true) => below,
                    (false, false) => 0,
                };
                assert!(both <= most, "{method} {target}: {upper:?} {lower:?}");
                opened += u32::from(both > 0);
            }
        }
        assert!(opened > 1000, "{opened}");
    }
}
