//! Tasks of a single request: cancelling a deployment, and handing over a configuration.

use tokio::time::Instant;

use super::step::{TaskOutcome, TaskResponse, TaskStep, WorkNotice};
use crate::coap::{Code, Request, Response, format};
use crate::lwm2m::{Stage, agent, path};

/// Cancels a deployment that is not being installed.
#[derive(Debug)]
pub(super) struct CancelTask {
    deployment: String,
    /// The Thing took no empty package: it fetches packages, and takes an empty address.
    by_uri: bool,
}

impl CancelTask {
    pub(super) fn new(deployment: String) -> CancelTask {
        CancelTask {
            deployment,
            by_uri: false,
        }
    }

    pub(super) fn next(&self, agent: bool) -> TaskStep {
        if agent {
            return TaskStep::Request(Request::new(Code::POST, agent::CANCEL));
        }
        if self.by_uri {
            let reset = Request::new(Code::PUT, path::PACKAGE_URI);
            return TaskStep::Request(reset.with_payload(format::TEXT, Vec::new()));
        }
        let reset = Request::new(Code::PUT, path::PACKAGE);
        TaskStep::Request(reset.with_payload(format::OCTETS, Vec::new()))
    }

    pub(super) fn answer(&mut self, agent: bool, response: &Response) -> TaskOutcome {
        let is_pull_only = matches!(
            response.code,
            Code::METHOD_NOT_ALLOWED | Code::NOT_FOUND | Code::BAD_REQUEST
        );
        if is_pull_only && !agent && !self.by_uri {
            self.by_uri = true;
            return TaskOutcome::pending();
        }
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

/// Shortest time between two notifications of a resource (`pmin`), in seconds: each becomes an
/// event.
const NOTIFICATION_PAUSE_S: u32 = 60;
/// The formats of an observation, in order, while the Thing refuses them.
const OBSERVED_FORMATS: [Option<u16>; 3] =
    [Some(format::SENML_CBOR), Some(format::LWM2M_TLV), None];

/// Asks a Thing to notify of the values of an object's instance.
#[derive(Debug)]
pub(super) struct ObserveTask {
    path: String,
    /// The Thing was asked to notify not too often; whether it does is its own affair.
    paced: bool,
    /// Index of the format.
    format: usize,
}

impl ObserveTask {
    pub(super) fn new(path: String) -> ObserveTask {
        ObserveTask {
            path,
            paced: false,
            format: 0,
        }
    }

    pub(super) fn next(&self) -> TaskStep {
        if !self.paced {
            let attributes = Request::new(Code::PUT, &self.path);
            let pause = format!("pmin={NOTIFICATION_PAUSE_S}");
            return TaskStep::Request(attributes.with_query(pause));
        }
        TaskStep::Request(Request {
            observe: Some(0),
            accept: OBSERVED_FORMATS[self.format],
            ..Request::get(&self.path)
        })
    }

    pub(super) fn answer(&mut self, code: Code) -> TaskOutcome {
        if !self.paced {
            self.paced = true;
            return TaskOutcome::pending();
        }
        let refused = matches!(code, Code::NOT_ACCEPTABLE | Code::BAD_OPTION);
        if refused && self.format + 1 < OBSERVED_FORMATS.len() {
            self.format += 1;
            return TaskOutcome::pending();
        }
        // The values come as notifications; without them there is nothing to do.
        TaskOutcome {
            done: true,
            notices: vec![],
        }
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
