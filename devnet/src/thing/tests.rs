//! Tests of Things with a real south side of a gateway, over a simulated network with a paused
//! clock.

mod faults;
mod real;
mod refusals;
mod testbed;
mod updates;
