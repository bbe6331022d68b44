//! The addresses of packages that a Thing fetches by itself, and the answers to its requests.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use lamplighter_types::Hash;

use super::TransferRate;
use super::packages::{self, Package, Packages};
use crate::coap::block::size_bytes;
use crate::coap::{Block, Code, Request, Response, format};
use crate::lwm2m::PullProtocol;

/// The base addresses under which one Thing reaches this gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullAddresses {
    coap: Option<SocketAddr>,
    http: Option<SocketAddr>,
}

impl PullAddresses {
    /// The addresses for a Thing: those that are listened on, or, where that is any address, the
    /// one from which packets are sent to the Thing.
    pub(super) fn of(peer: SocketAddr, coap: SocketAddr, http: Option<SocketAddr>) -> Self {
        let reached = |listening| reached_address(listening, peer);
        Self {
            coap: reached(coap),
            http: http.and_then(reached),
        }
    }

    /// True if packages are served over HTTP.
    pub(super) fn has_http(&self) -> bool {
        self.http.is_some()
    }

    /// The URI of an artifact; `None` if it is not served by this protocol.
    pub(super) fn uri(&self, protocol: PullProtocol, artifact: &Hash) -> Option<String> {
        let (scheme, address) = match protocol {
            PullProtocol::Coap => ("coap", self.coap?),
            PullProtocol::Http => ("http", self.http?),
        };
        let name = Packages::name(artifact);
        Some(format!("{scheme}://{address}/{}/{name}", packages::PATH))
    }
}

/// The address at which a peer reaches a socket: the one that is listened on, or, where that is any
/// address, the one from which packets are sent to the peer.
pub(super) fn reached_address(listening: SocketAddr, peer: SocketAddr) -> Option<SocketAddr> {
    if !listening.ip().is_unspecified() {
        return Some(listening);
    }
    let address = local_address(peer).ok()?;
    Some(SocketAddr::new(address, listening.port()))
}

/// The own address of packets to a peer. Nothing is sent for that.
fn local_address(peer: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = match peer {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip().to_canonical())
}

/// The server of packages over CoAP, block by block, within the rate of the mesh.
#[derive(Debug, Clone)]
pub(super) struct PackageServer {
    pub(super) packages: Packages,
    pub(super) rate: Arc<TransferRate>,
    pub(super) szx: u8,
}

impl PackageServer {
    /// The response to a request for a package, or for one block of it.
    pub(super) async fn respond(&self, request: &Request, name: &str) -> Response {
        if request.method != Code::GET {
            return Response::new(Code::METHOD_NOT_ALLOWED);
        }
        if request
            .accept
            .is_some_and(|wanted| wanted != format::OCTETS)
        {
            return Response::new(Code::NOT_ACCEPTABLE);
        }
        let wanted = request.block2.unwrap_or(Block {
            number: 0,
            more: false,
            szx: self.szx,
        });
        // A Thing that asks for larger blocks than ours counts in our size from then on.
        let szx = wanted.szx.min(self.szx);
        let number = wanted.offset_bytes() / size_bytes(szx) as u64;
        let block = Block {
            number: number as u32,
            more: false,
            szx,
        };
        let read = self.clone().read(name.to_owned(), block);
        match read.await {
            Ok(Some((package, bytes))) => {
                if bytes.is_empty() {
                    return Response::error(Code::BAD_REQUEST, "beyond the end");
                }
                self.rate.acquire(bytes.len()).await;
                block_response(name, block, &package, bytes)
            }
            Ok(None) => Response::new(Code::NOT_FOUND),
            Err(error) => {
                tracing::warn!(name, %error, "a package can't be read");
                Response::new(Code::INTERNAL_ERROR)
            }
        }
    }

    async fn read(self, name: String, block: Block) -> io::Result<Option<(Package, Vec<u8>)>> {
        let read = move || {
            let Some(package) = self.packages.find(&name)? else {
                return Ok(None);
            };
            let bytes = package.read(block.offset_bytes(), block.size_bytes())?;
            Ok(Some((package, bytes)))
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(io::Error::other)?
    }
}

fn block_response(name: &str, block: Block, package: &Package, bytes: Vec<u8>) -> Response {
    let end = block.offset_bytes() + bytes.len() as u64;
    let more = end < package.size_bytes;
    let size2 = (block.number == 0).then_some(package.size_bytes);
    Response {
        block2: Some(Block { more, ..block }),
        size2: size2.and_then(|size| u32::try_from(size).ok()),
        // The name is the digest's beginning, so the bytes under it never change.
        etag: Some(name.as_bytes()[..8].to_vec()),
        ..Response::content(format::OCTETS, bytes)
    }
}
