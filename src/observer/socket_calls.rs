//! Calls that speak to sockets, entered in the log.

use std::io;

use libc::{c_int, pid_t};

use super::resolve::as_path;
use super::seccomp;
use super::sockets::{self, SocketAddress};
use super::syscall::SyscallRecorder;
use crate::observer::{Address, Peer, Reach, Uses};
use crate::workspace::FileKind;

/// Settings of the kernel; they are absent where it has no such addresses.
const IPV6_SETTINGS: [&str; 2] =
    ["/proc/sys/net/ipv6/conf/lo/disable_ipv6", "/proc/sys/net/ipv6/bindv6only"];

impl SyscallRecorder {
    pub(super) fn connect(
        &mut self,
        thread: pid_t,
        socket: c_int,
        address: u64,
        length: u64,
    ) -> io::Result<()> {
        let given = self.address(thread, address, length)?;
        if given == SocketAddress::Nothing {
            return Ok(());
        }
        self.sockets.adopt(thread, socket);
        let peer = match given {
            SocketAddress::Nothing => None,
            SocketAddress::Inet(address) => self.sockets.inet(thread, address),
            SocketAddress::Abstract(name) => self.sockets.abstract_name(thread, &name),
            SocketAddress::Other(family) => {
                Some(Peer { address: Address::Family(family), reach: Reach::Outside })
            }
            SocketAddress::Path(name) => {
                let target = match self.absolute(thread, libc::AT_FDCWD, &name) {
                    Some(located) => self.walk(thread, &located, true),
                    None => None,
                };
                // The socket's name was made by the run, or is not there: a path like any other.
                target
                    .filter(|target| {
                        self.log.consult(target, Uses::PROBED);
                        target.stamp.kind() == Some(FileKind::Socket)
                            && !self.log.is_own(&target.path, target.stamp)
                    })
                    .map(|target| Peer {
                        address: Address::Unix(as_path(&target.path).to_owned()),
                        reach: Reach::Outside,
                    })
            }
        };
        if let Some(peer) = peer {
            self.peer(peer);
        }
        Ok(())
    }

    /// The addresses in `struct msghdr`s: a pointer and a length at their beginning.
    pub(super) fn send(
        &mut self,
        thread: pid_t,
        socket: c_int,
        headers: u64,
        count: u64,
        stride: u64,
    ) -> io::Result<()> {
        // The kernel itself takes no more than 1,024.
        for index in 0..count.min(1024) {
            let mut header = [0; 12];
            let at = headers.wrapping_add(index * stride);
            if seccomp::read_memory(thread, at, &mut header)? < header.len() {
                break;
            }
            let address = u64::from_ne_bytes(std::array::from_fn(|index| header[index]));
            let length = u32::from_ne_bytes(std::array::from_fn(|index| header[8 + index]));
            if address != 0 {
                self.connect(thread, socket, address, length.into())?;
            }
        }
        Ok(())
    }

    pub(super) fn address(
        &self,
        thread: pid_t,
        address: u64,
        length: u64,
    ) -> io::Result<SocketAddress> {
        let mut bytes = [0; sockets::MAX_ADDRESS];
        let length = usize::try_from(length).unwrap_or(0).min(bytes.len());
        let count = seccomp::read_memory(thread, address, &mut bytes[..length])?;
        Ok(if count < length { SocketAddress::Nothing } else { sockets::parse(&bytes[..length]) })
    }

    /// Notes whether this machine has addresses of IP's version 6, and whether a socket for them takes those of
    /// version 4 too.
    pub(super) fn note_ipv6_settings(&mut self, thread: pid_t) {
        for name in IPV6_SETTINGS {
            let name = name.as_bytes();
            let located = self.absolute(thread, libc::AT_FDCWD, name);
            let Some(target) = located.and_then(|located| self.walk(thread, &located, true)) else {
                continue;
            };
            self.log.open(&target, libc::O_RDONLY);
            if let Ok(content) = std::fs::read(as_path(name)) {
                self.log.read_setting(&target, content);
            }
        }
    }

    pub(super) fn peer(&mut self, peer: Peer) {
        self.log.peers.insert(peer);
    }
}
