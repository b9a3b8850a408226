//! Which hosts may never be dialled, and which only when a rule names them.

use std::net::{IpAddr, Ipv6Addr};

use super::{Host, Refusal};
use crate::address::special;

/// Addresses under which clouds hand out credentials. No rule opens them.
const METADATA: &[&str] =
    &["169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254"];
/// Names for the same.
const METADATA_NAMES: &[&str] = &[
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "instance-data",
    "instance-data.ec2.internal",
    "metadata.azure.com",
    "metadata.azure.internal",
    "metadata.packet.net",
];
/// Top-level names of networks at hand.
const LOCAL_ENDS: &[&str] = &[
    "localhost",
    "local",
    "internal",
    "intranet",
    "lan",
    "home",
    "corp",
    "private",
    "home.arpa",
    "localdomain",
    "onion",
    "test",
    "invalid",
];

/// What an address is. `None`: an ordinary public one.
pub(crate) fn address(address: IpAddr) -> Option<Refusal> {
    if METADATA.iter().any(|known| known.parse() == Ok(address)) {
        return Some(Refusal::new("address.metadata", "the address hands out the cloud's credentials, and no rule opens it"));
    }
    if let IpAddr::V6(v6) = address
        && embeds(v6)
    {
        return Some(Refusal::new(
            "address.embedded",
            "the address holds an IPv4 address within an IPv6 one; write the IPv4 address itself",
        ));
    }
    let what = special(address)?;
    let rule = match what {
        "the loopback" => "address.loopback",
        "a private network" => "address.private",
        "a carrier's network" => "address.carrier",
        "multicast" => "address.multicast",
        "the link" | "the link (and the cloud's metadata)" => "address.link",
        "the cloud's metadata" => "address.metadata",
        "an IPv4 address in IPv6" | "an IPv4 address behind NAT64" | "an IPv4 address behind 6to4" => "address.embedded",
        _ => "address.reserved",
    };
    Some(Refusal::new(rule, format!("the address belongs to {what}, not to the public internet")))
}

/// Whether an IPv4 address is written within the IPv6 one: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP.
fn embeds(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, high, low] => (high, low) != (0, 0) && (high, low) != (0, 1),
        [0, 0, 0, 0, 0 | 0xffff, 0xffff | 0, ..] | [0x64, 0xff9b, ..] | [0x2002, ..] | [0x2001, 0, ..] => true,
        [.., 0 | 0x200, 0x5efe, _, _] => true,
        _ => false,
    }
}

/// Whether no rule may open the address.
pub(crate) fn is_closed(refusal: &Refusal) -> bool {
    matches!(refusal.rule, "address.metadata" | "address.embedded" | "address.link" | "address.multicast" | "address.reserved")
}

/// Why no rule, and no person, may open the host. `None`: it may be named.
pub(crate) fn closed(host: &Host) -> Option<Refusal> {
    let refusal = match host {
        Host::Address(found) => address(*found),
        Host::Name(found) => name(found),
    };
    refusal.filter(is_closed)
}

/// What a name is. `None`: one that stands for a public host.
pub(crate) fn name(name: &str) -> Option<Refusal> {
    if METADATA_NAMES.contains(&name) {
        return Some(Refusal::new("address.metadata", "the name hands out the cloud's credentials, and no rule opens it"));
    }
    let local =
        !name.contains('.') || LOCAL_ENDS.iter().any(|end| name == *end || name.strip_suffix(end).is_some_and(|rest| rest.ends_with('.')));
    local.then(|| Refusal::new("host.local", "the name stands for a host of this machine or network; only a rule that names it opens it"))
}
