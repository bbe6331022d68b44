//! Tests of the types through their public interface.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod codec;
mod crypto;
mod fixture;
mod golden;
mod json;
mod merkle;
mod names;
mod printable;
mod proof;
mod replay;
mod samples;
mod transaction;
mod wincode;
