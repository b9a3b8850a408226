//! Doors through real sockets.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod asks;
mod books;
mod budgets;
mod failover;
mod fetch;
mod formats;
mod forms;
mod log;
mod models;
mod policies;
mod proxy;
mod proxy_framing;
mod proxy_h2;
mod proxy_limits;
mod proxy_lines;
mod proxy_programs;
mod proxy_tls;
mod proxy_tls_programs;
mod proxy_websocket;
mod renewal;
mod support;
mod support_site;
mod support_tls;
