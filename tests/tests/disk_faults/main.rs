//! Four validators while the disk of one of them fails: it is full, an fsync fails, bytes of a file
//! change. Nothing that was acknowledged is lost, nothing damaged is served, and the node says what
//! is the matter.
#![allow(clippy::unwrap_used)] // A test fails where something is not as it should be.

mod city;
mod damage;
mod fsync;
mod full;
