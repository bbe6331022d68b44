//! Tests of the types through their public interface.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod archive;
mod codec;
mod crypto;
mod fixture;
mod generator;
mod genesis;
mod golden;
mod json;
mod merkle;
mod names;
mod page;
mod printable;
mod proof;
mod proof_file;
mod protocol;
mod python;
mod replay;
mod samples;
mod transaction;
mod trust;
mod typescript;
mod wincode;
mod wire;
