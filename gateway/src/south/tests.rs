//! The south side against Things without our agent, and the session's rules without network. Things
//! with the agent are tested in the devnet, where they live.

mod applying;
mod bootstrap;
mod casting;
mod fetching;
mod foreign;
mod freeing;
mod guarding;
mod hostile;
mod identity;
mod installing;
mod libcoap;
mod orders;
mod pacing;
mod proven;
mod restarting;
mod rules;
mod scale;
mod waiting;

use super::{SessionConfig, ThingSession};

impl SessionConfig {
    /// Without the question whether a Thing takes blocks in sets.
    fn one_by_one() -> SessionConfig {
        SessionConfig {
            q_block: false,
            ..SessionConfig::default()
        }
    }
}

impl ThingSession {
    /// A session that may transfer at any time, block by block.
    fn unpaced() -> ThingSession {
        let mut session = ThingSession::new(SessionConfig::one_by_one());
        session.permit();
        session
    }
}
