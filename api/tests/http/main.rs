//! The HTTP interface of a node with a real ledger, over TCP.
#![allow(clippy::unwrap_used)] // helpers of tests may fail as tests do

mod artifacts;
mod edge;
mod feed;
mod history;
mod node;
mod read;
mod relay;
mod submit;
