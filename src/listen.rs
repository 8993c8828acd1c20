//! Sockets that many connect to at the same moment.

use std::{io, os::fd::AsFd};

/// Connections that wait to be taken. The standard library asks for 128: of a matrix of more jobs, or of more processes at an
/// agent, the rest would be dropped, and come again a second later.
const WAITING: i32 = 4096;

/// Lets so many wait at a socket that listens already, as far as the system does (`net.core.somaxconn`, listen(2)).
///
/// # Errors
/// It does not listen.
pub fn crowded(listener: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::listen(listener, WAITING)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        net::{TcpListener, TcpStream},
        time::Duration,
    };

    #[test]
    fn many_may_wait_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        crowded(&listener).unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody takes any of them.
        let come = || TcpStream::connect_timeout(&address, Duration::from_millis(900));
        let waiting: Vec<TcpStream> = (0..400).map(|_| come().unwrap()).collect();
        assert_eq!(waiting.len(), 400);
    }
}
