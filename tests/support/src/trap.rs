//! A place where nobody may go.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
};

/// A listener on loopback that fails the test, at the latest when it is dropped, if anything ever connected to it.
/// The kernel keeps connections until they are looked at, so no thread is needed and nothing can be missed.
pub struct Trap {
    listener: TcpListener,
}

impl Trap {
    /// Opens the trap on a free port.
    #[allow(clippy::new_without_default, reason = "opening a listener is no default")]
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener.set_nonblocking(true).expect("a listener can be made non-blocking");
        Self { listener }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a listener has an address")
    }

    /// A URL that leads into it.
    pub fn url(&self) -> String {
        format!("http://{}/trap", self.address())
    }

    /// Whether anything has connected since this was asked last.
    pub fn visited(&self) -> bool {
        match self.listener.accept() {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("the trap at {} is broken: {error}", self.address()),
        }
    }

    /// Panics if anything has connected.
    pub fn assert_silent(&self) {
        assert!(!self.visited(), "something walked into the trap at {}", self.address());
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_silent();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_quiet_trap_is_silent() {
        Trap::new().assert_silent();
    }

    #[test]
    #[should_panic(expected = "walked into the trap")]
    fn a_visitor_is_noticed_even_after_leaving() {
        let trap = Trap::new();
        drop(TcpStream::connect(trap.address()).unwrap());
        drop(trap);
    }
}
