use crate::{Consensus, ConsensusError};

impl Consensus {
    /// Whether this node neither stands for election nor leads. One that was made passive, because
    /// its disk is full, does not use up terms while nobody may answer it, and so does not depose
    /// the leader when it comes back.
    pub async fn set_passive(&self, passive: bool) -> Result<(), ConsensusError> {
        let raft = &self.0.raft;
        raft.runtime_config().elect(!passive);
        if passive && self.is_leader() {
            // Standing for election is how it lays its office down: nobody hears of it.
            let asked = raft.trigger().elect().await;
            asked.map_err(|error| ConsensusError::Raft(error.into()))?;
        }
        Ok(())
    }
}
