//! Jobs of one request.

use super::session::{Next, Notice, Outcome};
use crate::coap::{Code, Request, Response, format};
use crate::lwm2m::{Stage, agent, path, value};

/// Reads the firmware version of a Thing that does not report it.
#[derive(Debug)]
pub(super) struct Inspect;

impl Inspect {
    pub(super) fn next(&self) -> Next {
        Next::Ask(Request::get(path::FIRMWARE_VERSION).with_accept(format::TEXT))
    }

    /// The resource is optional: without it there is nothing to tell.
    pub(super) fn answer(&self, response: &Response) -> Outcome {
        let notices = value::text(response, 3)
            .map(Notice::Version)
            .into_iter()
            .collect();
        Outcome {
            done: true,
            notices,
        }
    }
}

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

/// Hands over a configuration document.
#[derive(Debug)]
pub(super) struct Configure {
    pub(super) document: Vec<u8>,
    pub(super) agent: bool,
}

impl Configure {
    pub(super) fn next(&self) -> Next {
        let put = Request::new(Code::PUT, agent::CONFIGURATION);
        Next::Ask(put.with_payload(format::OCTETS, self.document.clone()))
    }

    pub(super) fn answer(&self, response: &Response) -> Outcome {
        let accepted = response.code.is_success();
        let mut detail = response.text();
        if !accepted && !self.agent {
            detail = "the Thing has no place for configuration documents".to_owned();
        }
        Outcome::end(Notice::Configured { accepted, detail })
    }
}
