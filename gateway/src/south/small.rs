//! Jobs of one request.

use tokio::time::Instant;

use super::session::{Next, Notice, Outcome, SessionConfig};
use crate::coap::{Code, Request, Response, format};
use crate::lwm2m::{Stage, agent, path};

/// Gives a deployment up that is not being installed.
#[derive(Debug)]
pub(super) struct Cancel {
    pub(super) deployment: String,
}

impl Cancel {
    pub(super) fn next(&self, agent: bool) -> Next {
        if agent {
            return Next::Ask(Request::new(Code::POST, agent::CANCEL));
        }
        let reset = Request::new(Code::PUT, path::PACKAGE);
        Next::Ask(reset.with_payload(format::OCTETS, Vec::new()))
    }

    pub(super) fn answer(&self, response: &Response) -> Outcome {
        let deployment = self.deployment.clone();
        let detail = response.text();
        Outcome::end(if response.code.is_success() {
            Notice::Stage {
                deployment,
                stage: Stage::Cancelled,
                detail,
            }
        } else {
            Notice::Refused {
                deployment,
                reason: format!("too late: {} {detail}", response.code),
            }
        })
    }
}

/// How often a Thing that is not ready is asked to take a document before other work goes on; it is
/// given again at the next registration.
const TRIES_MAX: u32 = 12;

/// Hands over a configuration document to a Thing with our agent, which reports what it did with
/// it. One that is not ready is asked again.
#[derive(Debug)]
pub(super) struct Configure {
    document: Vec<u8>,
    retry_at: Option<Instant>,
    tries: u32,
}

impl Configure {
    pub(super) fn new(document: Vec<u8>) -> Configure {
        Configure {
            document,
            retry_at: None,
            tries: 0,
        }
    }

    pub(super) fn next(&self, now: Instant) -> Next {
        if let Some(at) = self.retry_at.filter(|at| *at > now) {
            return Next::Wait(at);
        }
        let put = Request::new(Code::PUT, agent::CONFIGURATION);
        Next::Ask(put.with_payload(format::OCTETS, self.document.clone()))
    }

    pub(super) fn answer(
        &mut self,
        now: Instant,
        response: &Response,
        config: &SessionConfig,
    ) -> Outcome {
        let busy = [Code::UNAVAILABLE, Code::TOO_MANY_REQUESTS, Code::INCOMPLETE];
        self.tries += 1;
        if busy.contains(&response.code) && self.tries < TRIES_MAX {
            self.retry_at = Some(now + config.poll);
            return Outcome::go_on();
        }
        let accepted = response.code.is_success();
        let detail = response.text();
        Outcome::end(Notice::Configured { accepted, detail })
    }
}
