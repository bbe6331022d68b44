//! The HTTP interface of a node with a real ledger, over TCP.
#![allow(clippy::unwrap_used)] // helpers of tests may fail as tests do

mod actions;
mod artifacts;
mod city;
mod cors;
mod described;
mod edge;
mod feed;
mod history;
mod https;
mod messages;
mod node;
mod proxy;
mod quotas;
mod read;
mod relay;
mod reports;
mod rights;
mod scenario;
mod schemas;
mod schemathesis;
mod sessions;
mod submissions;
mod submit;
mod tokens;
mod websocket;
