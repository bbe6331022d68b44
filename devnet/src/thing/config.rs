//! The configuration of a simulated Thing.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lamplighter_gateway::cast;
use lamplighter_gateway::coap::simulated::SimulatedNetwork;
use lamplighter_gateway::coap::{self, DatagramSocket};
use lamplighter_types::proof::TrustedSet;
use lamplighter_types::{Hash, Id, SecretKey, Version};
use tokio::net::UdpSocket;

use super::checks::ManifestVerifier;
use super::secure::{Psk, SecureSocket};

/// The result of a new image's self-test after its first boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelfTest {
    /// The image works.
    Passes,
    /// The image finds that it does not work; the old image boots again.
    Fails,
    /// The image hangs and the Thing is silent until its power is cycled; then the boot loader
    /// starts the old image.
    NeverComesBack,
}

/// The datagram socket of a Thing.
#[derive(Debug, Clone)]
pub enum Socket {
    /// A UDP socket; with port 0 the system chooses one at the first boot.
    Udp(SocketAddr),
    /// A UDP socket with DTLS to this gateway.
    Secure(SocketAddr, SocketAddr, Psk),
    /// A simulated network, for tests.
    Simulated(SimulatedNetwork, SocketAddr),
}

impl Socket {
    /// Opens the socket; a port that the system chose is kept for the next boots.
    pub(super) async fn open(&mut self) -> io::Result<Arc<dyn DatagramSocket>> {
        match self {
            Socket::Udp(addr) => {
                let socket = UdpSocket::bind(*addr).await?;
                *addr = socket.local_addr()?;
                Ok(Arc::new(socket))
            }
            Socket::Secure(addr, gateway, psk) => {
                let socket = UdpSocket::bind(*addr).await?;
                *addr = socket.local_addr()?;
                Ok(Arc::new(SecureSocket::start(
                    socket,
                    *gateway,
                    psk.clone(),
                )?))
            }
            Socket::Simulated(network, addr) => Ok(network.attach(*addr)),
        }
    }

    /// Opens a socket for what is sent to a multicast address.
    pub(super) fn open_cast(&self, group: SocketAddr) -> io::Result<Arc<dyn DatagramSocket>> {
        match self {
            Socket::Udp(addr) | Socket::Secure(addr, ..) => {
                Ok(Arc::new(cast::receiving_socket(group, *addr)?))
            }
            Socket::Simulated(network, addr) => Ok(network.join(group, *addr)),
        }
    }
}

/// The content of a Thing when it leaves the factory.
#[derive(Debug, Clone)]
pub struct Factory {
    /// Image of slot A.
    pub image: Vec<u8>,
    /// Its version.
    pub version: Version,
    /// Its security counter: the first floor.
    pub security_counter: u64,
}

/// Configuration of one simulated Thing.
#[derive(Clone)]
pub struct ThingConfig {
    /// Its id, which is also its endpoint name.
    pub device: Id,
    /// Hardware class, checked against each release.
    pub hardware_class: String,
    /// Its secret key.
    pub key: SecretKey,
    /// The ledger that its reports are for.
    pub chain_id: Hash,
    /// Its directory.
    pub directory: PathBuf,
    /// Its socket.
    pub socket: Socket,
    /// The address of its gateway.
    pub gateway: SocketAddr,
    /// Verifies the vendors' signatures.
    pub verifier: Arc<dyn ManifestVerifier>,
    /// Its content when it leaves the factory.
    pub factory: Factory,
    /// The validators from which it checks orders, those of the genesis file: then it takes none
    /// without proof. Without them it checks the vendors' signatures alone.
    pub ledger: Option<TrustedSet>,
    /// Greatest age of the proof of an order; `None` if the Thing has no clock.
    pub order_age_max: Option<Duration>,
    /// It takes images that are sent to several Things at once.
    pub takes_casts: bool,
    /// Lifetime of its registration, which is updated after half of it.
    pub lifetime: Duration,
    /// The result of a new image's self-test.
    pub self_test: SelfTest,
    /// Duration of a boot, and of the self-test.
    pub boot_time: Duration,
    /// Time for a new image to reach the gateway before the old one boots again; the same for a new
    /// configuration.
    pub trial_timeout: Duration,
    /// Timers and limits of its endpoint.
    pub coap: coap::CoapConfig,
}

impl ThingConfig {
    /// A Thing with the default timers.
    pub fn new(
        device: Id,
        hardware_class: &str,
        key: SecretKey,
        chain_id: Hash,
        directory: PathBuf,
        gateway: SocketAddr,
        verifier: Arc<dyn ManifestVerifier>,
        factory: Factory,
    ) -> ThingConfig {
        ThingConfig {
            device,
            hardware_class: hardware_class.to_owned(),
            key,
            chain_id,
            directory,
            socket: Socket::Udp(([127, 0, 0, 1], 0).into()),
            gateway,
            verifier,
            factory,
            ledger: None,
            // The gateway proves an order again after 5 minutes; it may take as long over the mesh.
            order_age_max: Some(Duration::from_secs(900)),
            takes_casts: true,
            lifetime: Duration::from_secs(60),
            self_test: SelfTest::Passes,
            boot_time: Duration::from_millis(200),
            trial_timeout: Duration::from_secs(120),
            coap: coap::CoapConfig {
                q_block: true,
                ..coap::CoapConfig::default()
            },
        }
    }
}
