//! Tests of the tree, the tables and the making of proofs, through the public interface.

mod fixture;
mod prove;
mod speed;
mod tables;
mod tree;
