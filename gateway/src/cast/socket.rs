//! Sockets for IP multicast.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// A socket that sends to multicast addresses of the interface that has this address.
///
/// # Errors
/// The operating system's.
pub fn sending_socket(interface: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(interface)?;
    match interface {
        SocketAddr::V4(at) => socket.set_multicast_if_v4(at.ip())?,
        SocketAddr::V6(at) => socket.set_multicast_if_v6(at.scope_id())?,
    }
    let any_port = match interface {
        SocketAddr::V4(at) => SocketAddr::new(IpAddr::V4(*at.ip()), 0),
        SocketAddr::V6(at) => SocketAddrV6::new(*at.ip(), 0, 0, at.scope_id()).into(),
    };
    socket.bind(&any_port.into())?;
    UdpSocket::from_std(socket.into())
}

/// A socket that receives what is sent to a multicast address at the interface that has this
/// address. Several of one host get a copy each.
///
/// # Errors
/// The operating system's.
pub fn receiving_socket(group: SocketAddr, interface: SocketAddr) -> io::Result<UdpSocket> {
    let socket = open(group)?;
    socket.set_reuse_address(true)?;
    match (group, interface) {
        (SocketAddr::V4(group), SocketAddr::V4(interface)) => {
            socket.bind(&group.into())?;
            socket.join_multicast_v4(group.ip(), interface.ip())?;
        }
        (SocketAddr::V6(group), SocketAddr::V6(interface)) => {
            let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, group.port(), 0, 0);
            socket.set_only_v6(true)?;
            socket.bind(&any.into())?;
            socket.join_multicast_v6(group.ip(), interface.scope_id())?;
        }
        _ => return Err(io::ErrorKind::AddrNotAvailable.into()),
    }
    UdpSocket::from_std(socket.into())
}

fn open(like: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(like), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
