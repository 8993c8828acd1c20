//! The network between a broker and its PostgreSQL: a port of 127.0.0.1 that leads to the server's socket until it is told
//! otherwise.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

const LEADS: u8 = 0;
const SILENT: u8 = 1;
const CUT: u8 = 2;
const LOSE_ANSWER: u8 = 3;
const LOSE_COMMIT: u8 = 4;
const STAND_STILL: u8 = 5;

/// A network that can be broken.
pub struct Relay {
    port: u16,
    state: Arc<AtomicU8>,
}

impl Relay {
    /// Leads to this socket.
    pub fn to(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(AtomicU8::new(LEADS));
        let told = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (socket, state) = (socket.clone(), told.clone());
                thread::spawn(move || lead(client, &socket, &state));
            }
        });
        Self { port, state }
    }

    /// Where it begins.
    pub fn port(&self) -> u16 {
        self.port
    }
    /// Leads again.
    pub fn restore(&self) {
        self.state.store(LEADS, Ordering::SeqCst);
    }
    /// Keeps every connection open and carries nothing any more.
    pub fn silence(&self) {
        self.state.store(SILENT, Ordering::SeqCst);
    }
    /// Breaks every connection, and every new one.
    pub fn cut(&self) {
        self.state.store(CUT, Ordering::SeqCst);
    }
    /// The next COMMIT reaches the server, its answer nobody: the connection breaks. Then it leads again.
    pub fn lose_an_answer(&self) {
        self.state.store(LOSE_ANSWER, Ordering::SeqCst);
    }
    /// The next COMMIT does not reach the server: the connection breaks. Then it leads again.
    pub fn lose_a_commit(&self) {
        self.state.store(LOSE_COMMIT, Ordering::SeqCst);
    }
    /// The next COMMIT stays here, and everything after it.
    pub fn stand_still_at_a_commit(&self) {
        self.state.store(STAND_STILL, Ordering::SeqCst);
    }
    /// Whether nothing is carried.
    pub fn stands_still(&self) -> bool {
        self.state.load(Ordering::SeqCst) == SILENT
    }
    /// Whether an order to lose something was carried out.
    pub fn has_lost(&self) -> bool {
        self.state.load(Ordering::SeqCst) == LEADS
    }
}

fn lead(client: TcpStream, socket: &PathBuf, state: &Arc<AtomicU8>) {
    let Ok(server) = UnixStream::connect(socket) else { return };
    let (to_client, from_server) = (client.try_clone(), server.try_clone());
    let (Ok(mut to_client), Ok(mut from_server)) = (to_client, from_server) else { return };
    let (mut client, mut server) = (client, server);
    let lost = Arc::new(AtomicU8::new(0));
    let (told, losing) = (state.clone(), lost.clone());
    let answers = thread::spawn(move || {
        carry(&mut from_server, &told, |bytes| {
            losing.load(Ordering::SeqCst) == 1 || to_client.write_all(bytes).is_ok()
        });
        let _ = to_client.shutdown(Shutdown::Both);
    });
    carry(&mut client, state, |bytes| {
        let commits = bytes.windows(7).any(|window| window == b"COMMIT\0");
        match state.load(Ordering::SeqCst) {
            LOSE_COMMIT if commits => {
                state.store(LEADS, Ordering::SeqCst);
                return false;
            }
            LOSE_ANSWER if commits => lost.store(1, Ordering::SeqCst),
            STAND_STILL if commits => {
                state.store(SILENT, Ordering::SeqCst);
                wait(state);
            }
            _ => {}
        }
        server.write_all(bytes).is_ok() && lost.load(Ordering::SeqCst) == 0
    });
    // The server does what it was sent and sees the end then.
    let _ = server.shutdown(Shutdown::Write);
    if lost.load(Ordering::SeqCst) == 1 {
        let _ = answers.join();
        state.store(LEADS, Ordering::SeqCst);
    }
    let _ = server.shutdown(Shutdown::Both);
    let _ = client.shutdown(Shutdown::Both);
}

/// Hands over what comes, until it ends, the taker is gone, or the network breaks.
fn carry(from: &mut impl Read, state: &AtomicU8, mut take: impl FnMut(&[u8]) -> bool) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        wait(state);
        if state.load(Ordering::SeqCst) == CUT || !take(&bytes[..read]) {
            break;
        }
    }
}

fn wait(state: &AtomicU8) {
    while state.load(Ordering::SeqCst) == SILENT {
        thread::sleep(Duration::from_millis(5));
    }
}
