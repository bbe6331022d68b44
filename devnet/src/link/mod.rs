//! The link between a gateway and its Things.

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lamplighter_gateway::PlainCoap;
use lamplighter_gateway::coap::block::SZX_MAX;

/// Time for a rollout on this machine's loopback.
const ROLLOUT_WITHIN: Duration = Duration::from_secs(600);

/// The link between a gateway and its Things.
#[derive(Clone, Debug, Default)]
pub enum Link {
    /// All processes share one network.
    #[default]
    Loopback,
    Radio(Radio),
}

/// A radio, which leads into another network namespace: the Things run there. It has one gateway.
#[derive(Clone, Debug)]
pub struct Radio {
    /// Name of the namespace of the Things, made by `ip netns add`.
    pub namespace: String,
    /// The gateway's CoAP address as the Things reach it; a link-local one has the index of the
    /// Things' interface in it.
    pub gateway: SocketAddrV6,
    /// Blocks begin with 2^(4 + `szx`) bytes.
    pub szx: u8,
    /// Things speak DTLS, each with a key of its own, and the gateway nothing else.
    pub dtls: bool,
    /// Time for a rollout, and for a download of one Thing.
    pub rollout_within: Duration,
}

impl Link {
    /// The address where a gateway listens; `loopback` is the one allocated to it.
    pub(crate) fn listen(&self, loopback: SocketAddr) -> SocketAddr {
        match self {
            Self::Loopback => loopback,
            Self::Radio(radio) => (Ipv6Addr::UNSPECIFIED, radio.gateway.port()).into(),
        }
    }

    /// The address of a gateway as its Things reach it.
    pub(crate) fn gateway(&self, loopback: SocketAddr) -> SocketAddr {
        match self {
            Self::Loopback => loopback,
            Self::Radio(radio) => radio.gateway.into(),
        }
    }

    pub(crate) fn plain_coap(&self) -> PlainCoap {
        match self.is_secure() {
            true => PlainCoap::Never,
            false => PlainCoap::Everybody,
        }
    }

    pub(crate) fn is_secure(&self) -> bool {
        matches!(self, Self::Radio(radio) if radio.dtls)
    }

    pub(crate) fn szx(&self) -> u8 {
        match self {
            Self::Loopback => SZX_MAX,
            Self::Radio(radio) => radio.szx,
        }
    }

    pub(crate) fn rollout_within(&self) -> Duration {
        match self {
            Self::Loopback => ROLLOUT_WITHIN,
            Self::Radio(radio) => radio.rollout_within,
        }
    }

    /// Program and arguments that run a program of the Things at their end of the link.
    pub(crate) fn at_things(
        &self,
        program: &Path,
        arguments: Vec<OsString>,
    ) -> (PathBuf, Vec<OsString>) {
        match self {
            Self::Loopback => (program.to_owned(), arguments),
            Self::Radio(radio) => {
                let into = ["netns", "exec", &radio.namespace].map(OsString::from);
                let whole = into.into_iter().chain([program.into()]).chain(arguments);
                (PathBuf::from("ip"), whole.collect())
            }
        }
    }
}
