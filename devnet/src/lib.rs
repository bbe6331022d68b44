//! A city on one machine: simulated Things, each with its own socket, key and firmware slots.

pub mod thing;
