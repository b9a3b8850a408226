//! What a box reaches: itself and its door.

use crate::support::{finish, host, outside};
use aedile_core::sandbox::{BoxNet, BoxSpec, DOOR_PORT, Sandbox};
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

fn python(code: &str) -> String {
    format!("python3 -c '{code}'")
}

#[test]
fn nothing_of_the_host_is_reached() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp6 = TcpListener::bind("[::1]:0").ok();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let name = format!("aedile-test-{}", std::process::id());
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let host = host();
    let path = host.dir.path().join("socket");
    let _path = UnixListener::bind(&path).unwrap();
    let (port, uport) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
    let mut attacks = vec![
        format!("import socket; socket.create_connection((\"127.0.0.1\", {port}), 3)"),
        format!("import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect((\"127.0.0.1\", {port}))"),
        format!("import socket; s = socket.socket(); s.sendto(b\"x\", 0x20000000, (\"127.0.0.1\", {port}))"),
        format!(
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((\"127.0.0.1\", {uport})); s.send(b\"x\"); import time; time.sleep(0.1); s.send(b\"x\")"
        ),
        format!("import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"\\0{name}\")"),
        format!("import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"{}\")", path.display()),
    ];
    if let Some(tcp6) = &tcp6 {
        attacks.push(format!("import socket; socket.create_connection((\"::1\", {}), 3)", tcp6.local_addr().unwrap().port()));
    }
    for attack in attacks {
        let free = outside(&host.tree, &[], &python(&attack));
        assert!(free.exit.success(), "baseline of {attack}: {free:?}");
        let done = host.script(&python(&attack));
        assert!(!done.exit.success(), "{attack}: {done:?}");
    }
}

#[test]
fn only_loopback_is_there() {
    let host = host();
    let list = python("import socket; print(socket.if_nameindex())");
    assert_eq!(host.script(&list).ok(), "[(1, 'lo')]");
    assert!(!host.script(&python("import socket; socket.create_connection((\"192.0.2.1\", 80), 3)")).exit.success());
}

#[test]
fn odd_socket_families_do_not_exist() {
    let host = host();
    for (family, kind) in [(40, 1), (17, 2), (16, 3), (38, 5), (2, 10), (30, 2)] {
        let protocol = if family == 16 { 15 } else { 0 };
        let code = format!(
            "import socket, errno\ntry: socket.socket({family}, {kind}, {protocol})\nexcept OSError as e: print(e.errno == errno.EPERM)"
        );
        assert_eq!(host.script(&format!("python3 -c '{code}'")).ok(), "True", "{family}");
    }
}

#[test]
fn a_server_inside_the_box_is_reached_inside_it() {
    let code = "import socket; s = socket.create_server((\"127.0.0.1\", 3000)); c = socket.create_connection((\"localhost\", 3000)); a, _ = s.accept(); a.send(b\"hi\"); print(c.recv(2))";
    assert_eq!(host().script(&python(code)).ok(), "b'hi'");
}

#[test]
fn the_door_joins_the_box_with_its_holder() {
    let host = host();
    let code = format!(
        "import socket; s = socket.create_connection((\"127.0.0.1\", {DOOR_PORT}), 5); s.sendall(b\"ping\"); print(s.recv(9).decode())"
    );
    let mut child = host.sandbox.spawn(BoxSpec { net: BoxNet::Door, ..host.spec(&python(&code)) }).unwrap();
    let door = TcpListener::from(child.take_door().unwrap());
    assert!(child.take_door().is_none());
    let (mut caller, _) = door.accept().unwrap();
    let mut heard = [0u8; 4];
    caller.read_exact(&mut heard).unwrap();
    caller.write_all(b"pong").unwrap();
    assert_eq!((&heard, finish(child).ok()), (b"ping", "pong"));
    // The same port on the host and in a box without a door is closed.
    assert!(!outside(&host.tree, &[], &python(&code)).exit.success());
    assert!(!host.script(&python(&code)).exit.success());
}
