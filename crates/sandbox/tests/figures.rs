//! How long a box takes to its program's first byte. The figures are printed; the limits are far above them, for loaded machines.

use crate::support::{finish, host_with};
use crate::tools::persons_tools;
use aedile_core::sandbox::{BoxSpec, Sandbox};
use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a bare start is what a box is compared with")]
fn a_box_costs_little_more_than_a_process() {
    let host = host_with(persons_tools());
    let first_byte = |mut out: Box<dyn Read>, start: Instant| {
        out.read_exact(&mut [0u8]).unwrap();
        start.elapsed()
    };
    let bare = median(
        (0..21)
            .map(|_| {
                let start = Instant::now();
                let mut child = std::process::Command::new("echo").arg("x").stdout(std::process::Stdio::piped()).spawn().unwrap();
                let time = first_byte(Box::new(child.stdout.take().unwrap()), start);
                child.wait().unwrap();
                time
            })
            .collect(),
    );
    let boxed = median(
        (0..21)
            .map(|_| {
                let start = Instant::now();
                let mut child = host.sandbox.spawn(BoxSpec { command: vec!["echo".into(), "x".into()], ..host.spec("") }).unwrap();
                let time = first_byte(Box::new(File::from(child.take_stdout().unwrap())), start);
                finish(child).ok();
                time
            })
            .collect(),
    );
    println!("first byte: bare {bare:?}, boxed {boxed:?}");
    assert!(boxed < bare + Duration::from_millis(500));
}

#[test]
fn sixteen_boxes_start_at_once() {
    let host = host_with(persons_tools());
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut child = host.sandbox.spawn(host.spec("echo x; sleep 0.2")).unwrap();
                File::from(child.take_stdout().unwrap()).read_exact(&mut [0u8]).unwrap();
            });
        }
    });
    println!("sixteen first bytes: {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(20));
}
