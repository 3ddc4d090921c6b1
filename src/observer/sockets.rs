//! Tells whether a socket's peer is the run itself or a process outside of it.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use libc::{c_int, pid_t};

use crate::observer::{Address, Peer, Reach};

/// The size of the largest `sockaddr`.
pub(in crate::observer) const MAX_ADDRESS: usize = 128;

/// An address as it is passed to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observer) enum SocketAddress {
    Inet(SocketAddr),
    /// A path; it may be relative to the caller's folder.
    Path(Vec<u8>),
    Abstract(Vec<u8>),
    /// No address: `AF_UNSPEC`, an unnamed local address, or too short.
    Nothing,
    Other(c_int),
}

/// Reads a `sockaddr` as the kernel does.
pub(in crate::observer) fn parse(bytes: &[u8]) -> SocketAddress {
    let Some((family, rest)) = bytes.split_at_checked(2) else { return SocketAddress::Nothing };
    let family = c_int::from(u16::from_ne_bytes([family[0], family[1]]));
    match family {
        libc::AF_UNSPEC => SocketAddress::Nothing,
        libc::AF_UNIX => match rest {
            [] => SocketAddress::Nothing,
            [0, name @ ..] => SocketAddress::Abstract(name.to_vec()),
            path => {
                let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
                SocketAddress::Path(path[..end].to_vec())
            }
        },
        libc::AF_INET if rest.len() >= 6 => {
            let port = u16::from_be_bytes([rest[0], rest[1]]);
            let ip = Ipv4Addr::new(rest[2], rest[3], rest[4], rest[5]);
            SocketAddress::Inet(SocketAddr::new(ip.into(), port))
        }
        libc::AF_INET6 if rest.len() >= 22 => {
            let port = u16::from_be_bytes([rest[0], rest[1]]);
            let mut ip = [0; 16];
            ip.copy_from_slice(&rest[6..22]);
            SocketAddress::Inet(SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), port))
        }
        libc::AF_INET | libc::AF_INET6 => SocketAddress::Nothing,
        other => SocketAddress::Other(other),
    }
}

/// The sockets on which the run itself listens.
#[derive(Debug, Default)]
pub(in crate::observer) struct OwnSockets {
    own: HashSet<u64>,
}

impl OwnSockets {
    /// Records that the run listens, is bound or speaks on its descriptor `socket`.
    pub(in crate::observer) fn adopt(&mut self, thread: pid_t, socket: c_int) {
        let link = rustix::fs::readlink(format!("/proc/{thread}/fd/{socket}"), Vec::new());
        let inode = link.ok().and_then(|text| {
            text.to_str().ok()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok()
        });
        self.own.extend(inode);
    }

    /// The peer at an internet address. `None` if it is the run itself, or if nothing is sent.
    pub(in crate::observer) fn inet(&self, thread: pid_t, address: SocketAddr) -> Option<Peer> {
        let outside = Peer { address: Address::Inet(address), reach: Reach::Outside };
        let ip = address.ip();
        // A resolver connects datagram sockets to port 0 to find the route, and sends nothing.
        if address.port() == 0 {
            return None;
        }
        if !is_here(ip) {
            return Some(outside);
        }
        match receivers(&thread.to_string(), address.port()) {
            Some(receivers) => self.judge(&receivers, outside),
            None => Some(outside),
        }
    }

    /// The peer at an abstract local name.
    pub(in crate::observer) fn abstract_name(&self, thread: pid_t, name: &[u8]) -> Option<Peer> {
        let outside = Peer { address: Address::Abstract(name.to_vec()), reach: Reach::Outside };
        let Ok(table) = std::fs::read(format!("/proc/{thread}/net/unix")) else {
            return Some(outside);
        };
        // The table shows a zero byte as `@`.
        let shown: Vec<u8> =
            name.iter().map(|byte| if *byte == 0 { b'@' } else { *byte }).collect();
        let listeners: Vec<u64> = table
            .split(|byte| *byte == b'\n')
            .skip(1)
            .filter_map(|line| {
                let mut fields = line.splitn(2, |byte| *byte == b'@');
                let (fields, path) = (fields.next()?, fields.next()?);
                let inode = std::str::from_utf8(fields).ok()?.split_ascii_whitespace().nth(6)?;
                (path == shown).then(|| inode.parse().ok())?
            })
            .collect();
        self.judge(&listeners, outside)
    }

    fn judge(&self, listeners: &[u64], outside: Peer) -> Option<Peer> {
        if listeners.is_empty() {
            return Some(Peer { reach: Reach::Nobody, ..outside });
        }
        (!listeners.iter().all(|inode| self.own.contains(inode))).then_some(outside)
    }
}

/// Whether a connection to this address of the machine itself would be refused now.
pub(in crate::observer) fn is_refused(address: SocketAddr) -> bool {
    is_here(address.ip())
        && receivers("self", address.port()).is_some_and(|receivers| receivers.is_empty())
}

/// The inodes of the sockets that receive on `port` in the process's network; `None` if the kernel
/// does not say.
fn receivers(process: &str, port: u16) -> Option<Vec<u64>> {
    let mut found = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        match std::fs::read_to_string(format!("/proc/{process}/net/{table}")) {
            Ok(text) => found.extend(bound_to(&text, port)),
            // The kernel may lack IPv6.
            Err(_) if table.ends_with('6') => {}
            Err(_) => return None,
        }
    }
    Some(found)
}

fn is_here(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

/// The inodes of the sockets in a table of `/proc/net` that receive on `port`: TCP sockets in state
/// LISTEN, and UDP sockets in any state.
fn bound_to(table: &str, port: u16) -> Vec<u64> {
    let wanted = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            // 0A: TCP in state LISTEN; 07: an unconnected UDP socket; 01 of UDP: a connected one.
            let waits = matches!(*state, "0A" | "07") || (*state == "01" && fields.len() == 13);
            (local.ends_with(&wanted) && waits).then(|| inode.parse().ok())?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd as _;
    use std::time::{Duration, Instant};

    /// How long a forked child may take to its `execve`.
    const FORK_LIMIT: Duration = Duration::from_secs(30);

    fn own() -> pid_t {
        rustix::process::getpid().as_raw_nonzero().get()
    }

    #[test]
    fn addresses_are_parsed_as_the_kernel_parses_them() {
        let inet = |bytes: &[u8]| parse(&[&2_u16.to_ne_bytes()[..], bytes].concat());
        assert_eq!(
            inet(&[0, 80, 127, 0, 0, 1, 0, 0]),
            SocketAddress::Inet("127.0.0.1:80".parse().unwrap())
        );
        let unix = |bytes: &[u8]| parse(&[&1_u16.to_ne_bytes()[..], bytes].concat());
        assert_eq!(unix(b"/run/x\0junk"), SocketAddress::Path(b"/run/x".to_vec()));
        assert_eq!(unix(b"\0name"), SocketAddress::Abstract(b"name".to_vec()));
        assert_eq!(unix(b""), SocketAddress::Nothing);
        assert_eq!(parse(&[1]), SocketAddress::Nothing);
        assert_eq!(parse(&[40, 0, 1, 2]), SocketAddress::Other(40));
        let mut mapped = [0_u8; 26];
        mapped[..2].copy_from_slice(&10_u16.to_ne_bytes());
        mapped[3] = 80;
        mapped[18..24].copy_from_slice(&[255, 255, 127, 0, 0, 1]);
        assert_eq!(parse(&mapped), SocketAddress::Inet("127.0.0.1:80".parse().unwrap()));
    }

    #[test]
    fn a_listener_of_the_run_is_no_outside_peer() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut sockets = OwnSockets::default();
        let reach = |sockets: &OwnSockets| sockets.inet(own(), address).map(|peer| peer.reach);
        assert_eq!(reach(&sockets), Some(Reach::Outside));
        sockets.adopt(own(), listener.as_raw_fd());
        assert_eq!(reach(&sockets), None);
        drop(listener);
        // A child that another test of this process starts holds the socket until it executes.
        let limit = Instant::now() + FORK_LIMIT;
        while reach(&sockets).is_none() && Instant::now() < limit {
            std::thread::yield_now();
        }
        assert_eq!(reach(&sockets), Some(Reach::Nobody));
        assert!(is_refused(address) && !is_refused("192.0.2.1:80".parse().unwrap()));
        assert!(sockets.inet(own(), "192.0.2.1:80".parse().unwrap()).is_some());
        assert!(sockets.inet(own(), "192.0.2.1:0".parse().unwrap()).is_none());
    }

    #[test]
    fn a_datagram_socket_of_the_run_is_no_outside_peer() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut sockets = OwnSockets::default();
        assert!(sockets.inet(own(), address).is_some());
        sockets.adopt(own(), socket.as_raw_fd());
        assert!(sockets.inet(own(), address).is_none());
        socket.connect(address).unwrap();
        assert!(sockets.inet(own(), address).is_none());
    }
}
