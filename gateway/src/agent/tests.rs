//! The jobs without IO, and what Things hand in.

mod intake;
mod jobs;
mod refused;
