//! Releases, rollouts and deployments: every rule of the two contracts, on a small city with a real
//! genesis.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod approvals;
mod city;
mod error_gate;
mod firmware;
mod group_members;
mod group_properties;
mod groups;
mod guards;
mod lifecycle;
mod planning;
mod postponing;
mod properties;
mod recalls;
mod reports;
mod retries;
mod scale;
mod transitions;
mod traps;
