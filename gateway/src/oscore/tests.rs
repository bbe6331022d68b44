//! Tests of OSCORE: with the vectors of the RFC, with a Thing of the same parts, with attackers,
//! and over restarts.

mod attacks;
mod numbers;
mod sessions;
mod socket;
mod table;
mod thing;
mod vectors;
