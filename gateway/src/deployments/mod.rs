//! The next step of each device's deployment and of its configuration. No IO: inputs come in,
//! [`Effect`]s go out.
//!
//! The ledger is the queue: nothing here is kept over a restart. The node announces all open work
//! again, the spool has the reports that are still on their way, the artifact is in the cache, and
//! the Thing knows how much of it it has received.
//!
//! | state on the ledger | action |
//! |---|---|
//! | assigned | the gateway reports `offered` |
//! | offered | the gateway fetches and checks the artifact, then reports `downloading` |
//! | downloading | the package is sent to the Thing; the Thing reports `downloaded`, signed |
//! | downloaded, waiting_window | the Thing is ordered to install, where the plan has windows while one is open; from here on it reports itself |
//! | waiting_consent | nothing: somebody has to consent |
//! | installing to trial | a Thing without our agent is asked for its state, also after a restart |
//! | postponed | a running transfer is cancelled; a package that is complete stays at the Thing |
//! | an end | what is not yet installing is cancelled |

mod configuration;
mod documents;
mod floors;
mod holding;
mod job;
mod pause;
mod planner;
mod stages;
#[cfg(test)]
mod tests;

pub use planner::{DeploymentPlanner, Effect};
