//! Tests of Things with a real south side of a gateway, over a simulated network with a paused
//! clock.

mod casts;
mod faults;
mod ledger;
mod real;
mod refusals;
mod registration;
mod secure;
mod sets;
mod testbed;
mod updates;
