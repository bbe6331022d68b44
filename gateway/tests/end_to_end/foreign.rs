//! A LwM2M device of another manufacturer: it has no object of ours, sends its values in TLV only,
//! and spells its name and its version in another way.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lamplighter_gateway::coap::{
    self, CoapEndpoint, CoapService, Code, DatagramSocket, Peer, Request, Response, format,
};
use lamplighter_gateway::lwm2m::path;
use tokio::net::UdpSocket;

/// Its dimming level.
const LEVEL: &str = "/3311/0/5851";

/// The values of its resources.
#[derive(Default)]
pub struct Device {
    pub state: u8,
    pub result: u8,
    pub version: String,
    pub package: Vec<u8>,
    /// Its dimming level, at most 98.
    pub level: u8,
    /// Orders to install.
    pub updates: usize,
    /// Reads of its object 3 as a whole.
    pub inventory_reads: usize,
    /// Reads of its state.
    pub state_reads: usize,
}

/// The device behind its socket.
#[derive(Clone, Default)]
pub struct Foreign(Arc<Mutex<Device>>);

impl Foreign {
    /// Reads or changes its values.
    pub fn with<T>(&self, call: impl FnOnce(&mut Device) -> T) -> T {
        call(&mut self.0.lock().unwrap())
    }

    /// Opens its socket.
    pub async fn start(&self) -> CoapEndpoint {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        self.serve(Arc::new(UdpSocket::bind(any).await.unwrap()))
    }

    /// Answers on a socket.
    pub fn serve(&self, socket: Arc<dyn DatagramSocket>) -> CoapEndpoint {
        let config = coap::CoapConfig {
            body_bytes_max: 1 << 20,
            ..coap::CoapConfig::default()
        };
        CoapEndpoint::start(socket, config, Arc::new(self.clone())).unwrap()
    }
}

/// Registers under a name; returns the code of the response.
pub async fn register(endpoint: &CoapEndpoint, gateway: SocketAddr, name: &str) -> Option<Code> {
    let request = Request::new(Code::POST, path::REGISTRATION)
        .with_query(format!("ep={name}"))
        .with_query("lwm2m=1.1".to_owned())
        .with_query("b=UQS".to_owned())
        .with_payload(format::LINK_FORMAT, b"</3/0>,</5/0>".to_vec());
    let response = endpoint.handle().request(gateway, request).await;
    response.ok().map(|response| response.code)
}

#[async_trait]
impl CoapService for Foreign {
    async fn handle(&self, _peer: Peer, request: Request) -> Response {
        if (request.method, request.path_text().as_str()) == (Code::GET, "/3/0") {
            self.with(|device| device.inventory_reads += 1);
        }
        if request
            .accept
            .is_some_and(|accept| accept != format::LWM2M_TLV)
        {
            return Response::new(Code::NOT_ACCEPTABLE);
        }
        let tlv = |id: u8, value: &[u8]| {
            let head = [0xC8, id, value.len() as u8];
            Response::content(format::LWM2M_TLV, [&head, value].concat())
        };
        self.with(
            |device| match (request.method, request.path_text().as_str()) {
                (Code::GET, path::STATE) => {
                    device.state_reads += 1;
                    tlv(3, &[device.state])
                }
                (Code::GET, path::RESULT) => tlv(5, &[device.result]),
                (Code::GET, path::FIRMWARE_VERSION) => tlv(3, device.version.as_bytes()),
                (Code::GET, LEVEL) => {
                    Response::content(format::LWM2M_TLV, vec![0xE1, 0x16, 0xDB, device.level])
                }
                (Code::PUT, LEVEL) if request.content_format != Some(format::LWM2M_TLV) => {
                    Response::new(Code::UNSUPPORTED_FORMAT)
                }
                (Code::PUT, LEVEL) => match request.payload[..] {
                    [0xE1, 0x16, 0xDB, level @ 0..=98] => {
                        device.level = level;
                        Response::new(Code::CHANGED)
                    }
                    _ => Response::error(Code::BAD_REQUEST, "at most 98"),
                },
                (Code::PUT, path::PACKAGE) => {
                    device.state = if request.payload.is_empty() { 0 } else { 2 };
                    device.result = 0;
                    device.package = request.payload;
                    Response::new(Code::CHANGED)
                }
                (Code::POST, path::UPDATE) if device.state == 2 => {
                    device.state = 3;
                    device.updates += 1;
                    Response::new(Code::CHANGED)
                }
                (Code::POST, path::UPDATE) => Response::new(Code::METHOD_NOT_ALLOWED),
                _ => Response::new(Code::NOT_FOUND),
            },
        )
    }
}
