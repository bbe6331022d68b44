//! Tasks of a single request: cancelling a deployment, and handing over a configuration.

use tokio::time::Instant;

use super::session::{TaskOutcome, TaskResponse, TaskStep, WorkNotice};
use crate::coap::{Code, Request, Response, format};
use crate::lwm2m::{Stage, agent, path};

/// Cancels a deployment that is not being installed.
#[derive(Debug)]
pub(super) struct CancelTask {
    pub(super) deployment: String,
}

impl CancelTask {
    pub(super) fn next(&self, agent: bool) -> TaskStep {
        if agent {
            return TaskStep::Request(Request::new(Code::POST, agent::CANCEL));
        }
        let reset = Request::new(Code::PUT, path::PACKAGE);
        TaskStep::Request(reset.with_payload(format::OCTETS, Vec::new()))
    }

    pub(super) fn answer(&self, response: &Response) -> TaskOutcome {
        let deployment = self.deployment.clone();
        let detail = response.text();
        TaskOutcome::end(if response.code.is_success() {
            WorkNotice::Stage {
                deployment,
                stage: Stage::Cancelled,
                detail,
            }
        } else {
            WorkNotice::Refused {
                deployment,
                reason: format!("too late: {} {detail}", response.code),
            }
        })
    }
}

/// Attempts to hand over a document to a Thing that is not ready before other work goes on. The
/// document is sent again at the next registration.
const TRIES_MAX: u32 = 12;

/// Hands over a configuration document to a Thing with our agent, which reports the result itself.
/// A Thing that is not ready gets it again.
#[derive(Debug)]
pub(super) struct ConfigureTask {
    document: Vec<u8>,
    retry_at: Option<Instant>,
    tries: u32,
}

impl ConfigureTask {
    pub(super) fn new(document: Vec<u8>) -> ConfigureTask {
        ConfigureTask {
            document,
            retry_at: None,
            tries: 0,
        }
    }

    pub(super) fn next(&self, now: Instant) -> TaskStep {
        if let Some(at) = self.retry_at.filter(|at| *at > now) {
            return TaskStep::Wait(at);
        }
        let put = Request::new(Code::PUT, agent::CONFIGURATION);
        TaskStep::Request(put.with_payload(format::OCTETS, self.document.clone()))
    }

    pub(super) fn answer(&mut self, reply: &TaskResponse<'_>) -> TaskOutcome {
        let busy = [Code::UNAVAILABLE, Code::TOO_MANY_REQUESTS, Code::INCOMPLETE];
        self.tries += 1;
        if busy.contains(&reply.response.code) && self.tries < TRIES_MAX {
            self.retry_at = Some(reply.next_poll());
            return TaskOutcome::pending();
        }
        let accepted = reply.response.code.is_success();
        let detail = reply.response.text();
        TaskOutcome::end(WorkNotice::Configured { accepted, detail })
    }
}
