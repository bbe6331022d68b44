//! The south side against Things without our agent, and the session's rules without network. Things
//! with the agent are tested in the devnet, where they live.

mod foreign;
mod installing;
mod libcoap;
mod rules;
