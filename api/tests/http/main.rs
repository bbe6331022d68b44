//! The HTTP interface of a node with a real ledger, over TCP.

mod artifacts;
mod edge;
mod feed;
mod node;
mod read;
mod relay;
mod submit;
