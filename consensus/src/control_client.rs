use std::sync::Arc;
use std::time::Duration;

use crate::codec;
use crate::message::{ComparisonAnswer, ComparisonRequest, ControlRequest, ControlResponse};
use crate::transport::{RaftLane, Transport};
use crate::types::NodeId;

/// Asks other nodes short questions on the control lane.
#[derive(Clone)]
pub(crate) struct ControlClient {
    transport: Arc<dyn Transport>,
    timeout: Duration,
}

impl ControlClient {
    pub(crate) fn new(transport: Arc<dyn Transport>, timeout: Duration) -> Self {
        Self { transport, timeout }
    }

    /// The read index of a leader; none if it does not answer, or does not lead.
    pub(crate) async fn read_index(&self, leader: NodeId) -> Option<u64> {
        match self.call(leader, &ControlRequest::ReadIndex).await {
            Some(ControlResponse::ReadIndex(index)) => index,
            _ => None,
        }
    }

    /// True if a node answers now.
    pub(crate) async fn is_alive(&self, node: NodeId) -> bool {
        self.call(node, &ControlRequest::Ping).await == Some(ControlResponse::Pong)
    }

    /// What a node knows of leaders, and holds; none if it does not answer.
    pub(crate) async fn compare(
        &self,
        node: NodeId,
        request: ComparisonRequest,
    ) -> Option<ComparisonAnswer> {
        match self.call(node, &ControlRequest::Compare(request)).await {
            Some(ControlResponse::Compared(answer)) => Some(*answer),
            _ => None,
        }
    }

    async fn call(&self, node: NodeId, request: &ControlRequest) -> Option<ControlResponse> {
        let request = codec::encode(request).into();
        let answer = self
            .transport
            .call(node, RaftLane::Control, request, self.timeout)
            .await
            .ok()?;
        codec::decode("answer", &answer).ok()
    }
}
