//! The structural merge, from outside.

mod languages;
mod lines;
