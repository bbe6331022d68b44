//! The phases of the transfer of a package.

use super::{PullAddresses, Transfer};
use crate::coap::{Block, Code, Request, format};
use crate::lwm2m::{FirmwareState, PullProtocol, agent, path, value};

/// What is asked of a Thing next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TransferPhase {
    /// Ask how full the battery is.
    Battery,
    /// Announce the release to the agent.
    Offer,
    /// Ask the agent how many bytes it holds.
    Received,
    /// Ask a foreign Thing whether object 5 is idle.
    Probe,
    /// Make object 5 idle by an empty write.
    Reset,
    /// The same with one NUL byte, for a Thing that takes no empty write.
    ResetByNul,
    /// Ask a foreign Thing whether packages are written to it or fetched by it.
    Delivery,
    /// Ask it for the protocols by which it fetches them.
    Protocols,
    /// Tell it where the package is.
    Uri(PullProtocol),
    /// The same in TLV, for a Thing that takes no text.
    UriInTlv(PullProtocol),
    /// Ask whether it takes blocks in sets.
    SetsProbe,
    /// Wait for the blocks that come to several Things at once.
    Cast,
    /// Send the next blocks as a set.
    Set,
    /// Send the block at the offset.
    Block,
    /// Ask for the state, when the package is complete.
    State,
    /// Ask for the result.
    Result(FirmwareState),
}

/// What the requests of a phase are made of.
pub(super) struct PhaseContext<'a> {
    pub(super) transfer: &'a Transfer,
    /// The Thing fetches the package by itself.
    pub(super) is_fetched: bool,
    pub(super) szx: u8,
    pub(super) addresses: &'a PullAddresses,
}

impl PhaseContext<'_> {
    /// The address of the package; a Thing refuses an empty one.
    fn uri(&self, protocol: PullProtocol) -> String {
        let uri = self.addresses.uri(protocol, &self.transfer.artifact);
        uri.unwrap_or_default()
    }
}

impl TransferPhase {
    /// The request of this phase. Blocks are sent by other means; before them is the state.
    pub(super) fn request(self, context: &PhaseContext<'_>) -> Request {
        let put = |path, body| Request::new(Code::PUT, path).with_payload(format::OCTETS, body);
        match self {
            TransferPhase::Battery => Request::get(path::BATTERY_LEVEL),
            TransferPhase::Offer => put(agent::OFFER, context.transfer.offer.clone()),
            TransferPhase::Received => Request::get(agent::RECEIVED_BYTES),
            TransferPhase::Reset if context.is_fetched => put_uri(String::new()),
            TransferPhase::Reset => put(path::PACKAGE, Vec::new()),
            TransferPhase::ResetByNul => put(path::PACKAGE, vec![0]),
            TransferPhase::Delivery => Request::get(path::DELIVERY),
            TransferPhase::Protocols => Request::get(path::PROTOCOLS),
            TransferPhase::Uri(protocol) => put_uri(context.uri(protocol)),
            TransferPhase::UriInTlv(protocol) => {
                let body = value::tlv_text(1, &context.uri(protocol));
                Request::new(Code::PUT, path::PACKAGE_URI).with_payload(format::LWM2M_TLV, body)
            }
            TransferPhase::SetsProbe => Request {
                q_block2: Some(Block {
                    number: 0,
                    more: false,
                    szx: context.szx,
                }),
                ..Request::get(path::STATE)
            },
            TransferPhase::Result(_) => Request::get(path::RESULT),
            TransferPhase::Probe
            | TransferPhase::State
            | TransferPhase::Block
            | TransferPhase::Cast
            | TransferPhase::Set => Request::get(path::STATE),
        }
    }
}

fn put_uri(uri: String) -> Request {
    let put = Request::new(Code::PUT, path::PACKAGE_URI);
    put.with_payload(format::TEXT, uri.into_bytes())
}
