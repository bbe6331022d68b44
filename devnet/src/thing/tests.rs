//! Things against a real south side of a gateway, over a simulated network with a paused clock.

mod bed;
mod faults;
mod real;
mod refusals;
mod updates;
