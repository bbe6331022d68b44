//! Events of the south that need no answer.

use lamplighter_types::Id;

use crate::deployments::{DeploymentPlanner, Effect};
use crate::south::SouthEvent;

/// Handles an event of the south that needs no answer.
pub(super) fn on_thing(
    planner: &mut DeploymentPlanner,
    event: SouthEvent,
    now_ms: u64,
) -> Vec<Effect> {
    match event {
        SouthEvent::Registered {
            endpoint,
            peer,
            agent,
            attested,
            fresh,
            ..
        } => {
            tracing::info!(endpoint, %peer, agent, attested, "a Thing registered");
            let Ok(device) = Id::new(endpoint) else {
                return Vec::new();
            };
            if fresh {
                planner.commands_lost(&device);
            }
            planner.thing_registered(&device, agent, now_ms)
        }
        SouthEvent::Lost { endpoint } => {
            tracing::info!(endpoint, "a Thing is gone");
            Vec::new()
        }
        SouthEvent::Work { endpoint, notice } => Id::new(endpoint)
            .map(|device| planner.on_notice(&device, &notice, now_ms))
            .unwrap_or_default(),
        SouthEvent::Report { .. } | SouthEvent::Event { .. } | SouthEvent::Values { .. } => {
            Vec::new()
        }
    }
}
