//! Both ends of the protocol through real pipes.

mod both_ends;
mod client;
mod fake;
mod schema;
mod server;
