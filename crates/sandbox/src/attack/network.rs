//! Reaching somebody through a network or a socket.

use super::inside::{EVIL, Here, call, n};
use super::material::Looked;
use super::{Probe, Sign};
use crate::fence::Fence::{self, Guard, Landlock, Mounts, Network, Seccomp};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

const fn reached(id: &'static str, fences: &'static [Fence], act: fn(&Here) -> io::Result<()>) -> Probe {
    Probe { id, class: "network", fences, act, sign: Sign::Reached }
}

const fn family(id: &'static str, act: fn(&Here) -> io::Result<()>) -> Probe {
    Probe { id, class: "network", fences: &[Seccomp], act, sign: Sign::Looks(has_odd_socket) }
}

fn has_odd_socket(looked: &Looked) -> bool {
    let usual = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
    looked.socket_families().iter().any(|(family, protocol)| !usual.contains(family) || *protocol == libc::IPPROTO_MPTCP)
}

fn tcp(address: IpAddr, port: u16) -> io::Result<()> {
    TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE)?.write_all(EVIL.as_bytes())
}

fn udp(address: IpAddr, port: u16) -> io::Result<()> {
    let own: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind((own, 0))?.send_to(EVIL.as_bytes(), (address, port)).map(drop)
}

/// An IPv4 address of this machine's loopback as the kernel takes it.
fn raw_address(port: u16) -> [u8; 16] {
    let mut raw = [0; 16];
    raw[..2].copy_from_slice(&2_u16.to_ne_bytes());
    raw[2..4].copy_from_slice(&port.to_be_bytes());
    raw[4..8].copy_from_slice(&[127, 0, 0, 1]);
    raw
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<usize> {
    call(libc::SYS_socket, &[n(family), n(kind | libc::SOCK_CLOEXEC), n(protocol)])
}

fn send_raw(fd: usize, flags: i32, port: u16) -> io::Result<()> {
    let address = raw_address(port);
    call(libc::SYS_sendto, &[fd, EVIL.as_ptr().addr(), EVIL.len(), n(flags), address.as_ptr().addr(), address.len()]).map(drop)
}

pub(super) const PROBES: &[Probe] = &[
    reached("tcp", &[Network], |here| tcp(V4, here.tcp)),
    reached("tcp-ipv6", &[Network], |here| tcp(V6, here.tcp6)),
    reached("tcp-any-address", &[Network], |here| tcp(Ipv4Addr::UNSPECIFIED.into(), here.tcp)),
    reached("tcp-mapped-address", &[Network], |here| tcp(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), here.tcp)),
    reached("tcp-other-loopback-address", &[Network], |here| tcp(Ipv4Addr::new(127, 9, 8, 7).into(), here.tcp)),
    reached("tcp-fast-open", &[Network], |here| send_raw(socket(libc::AF_INET, libc::SOCK_STREAM, 0)?, libc::MSG_FASTOPEN, here.tcp)),
    reached("tcp-multipath", &[Network, Seccomp], |here| {
        let (fd, address) = (socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP)?, raw_address(here.tcp));
        call(libc::SYS_connect, &[fd, address.as_ptr().addr(), address.len()])?;
        call(libc::SYS_write, &[fd, EVIL.as_ptr().addr(), EVIL.len()]).map(drop)
    }),
    reached("tcp-not-blocking", &[Network], |here| {
        let (fd, address) = (socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0)?, raw_address(here.tcp));
        let _ = call(libc::SYS_connect, &[fd, address.as_ptr().addr(), address.len()]);
        std::thread::sleep(Duration::from_millis(50));
        call(libc::SYS_write, &[fd, EVIL.as_ptr().addr(), EVIL.len()]).map(drop)
    }),
    reached("udp", &[Network], |here| udp(V4, here.udp)),
    reached("udp-ipv6", &[Network], |here| udp(V6, here.udp6)),
    reached("udp-connected", &[Network], |here| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::LOCALHOST, here.udp))?;
        socket.send(EVIL.as_bytes()).map(drop)
    }),
    reached("udp-raw-call", &[Network], |here| send_raw(socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?, 0, here.udp)),
    reached("unix-abstract-stream", &[Network, Landlock], |here| {
        UnixStream::connect_addr(&UnixAddr::from_abstract_name(&here.stream)?)?.write_all(EVIL.as_bytes())
    }),
    reached("unix-abstract-datagram", &[Network, Landlock], |here| {
        UnixDatagram::unbound()?.send_to_addr(EVIL.as_bytes(), &UnixAddr::from_abstract_name(&here.datagram)?).map(drop)
    }),
    reached("unix-path-outside", &[Mounts], |here| UnixStream::connect(here.outside("socket"))?.write_all(EVIL.as_bytes())),
    reached("unix-path-proc-root", &[Mounts], |here| {
        UnixStream::connect(format!("/proc/self/root{}", here.outside("socket").display()))?.write_all(EVIL.as_bytes())
    }),
    reached("unix-path-through-link", &[Mounts], |here| UnixStream::connect(here.tree("link-dir/socket"))?.write_all(EVIL.as_bytes())),
    reached("unix-path-in-tree", &[Guard], |here| UnixStream::connect(here.tree("sub/socket"))?.write_all(EVIL.as_bytes())),
    reached("unix-path-in-tree-renamed", &[Guard], |here| {
        std::fs::rename(here.tree("sub"), here.tree("moved"))?;
        UnixStream::connect(here.tree("moved/socket"))?.write_all(EVIL.as_bytes())
    }),
    Probe {
        id: "take-a-port-of-the-host",
        class: "network",
        fences: &[Network],
        act: |here| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            std::fs::write(here.tree("port"), listener.local_addr()?.port().to_string())?;
            std::mem::forget(listener);
            Ok(())
        },
        sign: Sign::Looks(|looked| {
            let port = std::fs::read_to_string(looked.tree.join("port")).ok().and_then(|port| port.parse::<u16>().ok());
            port.is_some_and(|port| TcpStream::connect_timeout(&SocketAddr::new(V4, port), PATIENCE).is_ok())
        }),
    },
    family("socket-crypto", |_| socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0).map(drop)),
    family("socket-virtual-machine", |_| socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0).map(drop)),
    family("socket-netlink-audit", |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, 9).map(drop)),
    family("socket-netlink-connector", |_| socket(libc::AF_NETLINK, libc::SOCK_DGRAM, 11).map(drop)),
    family("socket-netlink-uevent", |_| socket(libc::AF_NETLINK, libc::SOCK_DGRAM, 15).map(drop)),
    family("socket-multipath", |_| socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP).map(drop)),
];

#[cfg(test)]
mod tests {
    use super::raw_address;

    #[test]
    fn an_address_is_as_the_kernel_takes_it() {
        assert_eq!(raw_address(0x1234)[..8], [2, 0, 0x12, 0x34, 127, 0, 0, 1]);
    }
}
