//! Binds, runs, drains. Binding is a step of its own, so that whoever asks for port 0 learns the address before
//! anything runs.

use super::{
    closed::Closed,
    front::Shared,
    routes::{self, Endpoint, OPERATOR, PUBLIC},
    tls::{Certificate, Watch},
};
use crate::{broker::Broker, config::Config, listen::crowded};
use actix_web::{App, HttpServer, dev::Server, middleware::from_fn, web::Data};
use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};
use tokio::sync::oneshot;

/// How long a stop waits for requests that run.
pub const DRAIN_SECONDS: u64 = 30;
/// An idle connection of a peer that may keep one.
pub const KEEP_ALIVE_SECONDS: u64 = 15;
/// A connection that ends has this long to take its last bytes.
pub const DISCONNECT_SECONDS: u64 = 2;
/// Connections of the operator listener.
pub const OPERATOR_CONNECTIONS_MAX: usize = 128;

/// Files that connections leave to everything else: the store, fetches of keys, the operator listener.
const FILES_KEPT: usize = 256;

/// Where the listeners stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    pub listen: SocketAddr,
    pub operator: Option<SocketAddr>,
}

/// Listeners that are bound and answer nobody yet.
pub struct Listeners {
    public: TcpListener,
    operator: Option<TcpListener>,
    bound: Bound,
    tls: Option<(Arc<Certificate>, Watch)>,
}

/// Whether the certificate of the configuration could be used; binds nothing.
pub fn check(config: &Config) -> io::Result<()> {
    config.tls.as_ref().map(Certificate::load).transpose()?;
    Ok(())
}

/// Binds the addresses of the configuration and reads its certificate. Errors name the address or the file.
pub fn bind(config: &Config) -> io::Result<Listeners> {
    let tls = config.tls.as_ref().map(Certificate::load).transpose()?;
    let public = listen(config.listen)?;
    let operator = config.operator_listen.map(listen).transpose()?;
    let bound =
        Bound { listen: public.local_addr()?, operator: operator.as_ref().map(TcpListener::local_addr).transpose()? };
    Ok(Listeners { public, operator, bound, tls })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).and_then(|listener| crowded(&listener).map(|()| listener));
    listener.map_err(|why| {
        let remedy = match why.kind() {
            io::ErrorKind::AddrInUse => "; stop what listens there, or give another port",
            io::ErrorKind::AddrNotAvailable => "; this host has no such address: give one of its own, or `0.0.0.0`",
            io::ErrorKind::PermissionDenied => "; give a port from 1024, or `CAP_NET_BIND_SERVICE`",
            _ => "",
        };
        io::Error::new(why.kind(), format!("cannot listen on {address}: {why}{remedy}"))
    })
}

/// Binds and runs until `stop` resolves.
pub async fn serve(broker: Arc<Broker>, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
    bind(broker.config())?.run(broker, stop).await
}

impl Listeners {
    /// The addresses, with the ports that were given.
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// The same sockets once more, for a server after another.
    ///
    /// # Errors
    /// They cannot be copied, or the certificate cannot be read.
    pub fn again(&self, config: &Config) -> io::Result<Self> {
        let operator = self.operator.as_ref().map(TcpListener::try_clone).transpose()?;
        let tls = config.tls.as_ref().map(Certificate::load).transpose()?;
        Ok(Self { public: self.public.try_clone()?, operator, bound: self.bound, tls })
    }

    /// Answers health alone, and 503 to everything else, until `until` resolves.
    ///
    /// # Errors
    /// The server fails.
    pub async fn closed(
        self,
        config: Config,
        why: String,
        until: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        self.answer(Shared::new(Box::new(Closed { why }), config), until).await
    }

    /// Answers until `stop` resolves; then stops accepting, lets what runs finish, and stops the broker. The operator
    /// listener stays until the public one is drained.
    pub async fn run(self, broker: Arc<Broker>, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let shared = Shared::new(Box::new(Arc::clone(&broker)), broker.config().clone());
        let result = self.answer(shared, stop).await;
        broker.stop().await;
        result
    }

    async fn answer(self, shared: Shared, stop: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let shared = Data::new(shared);
        let (certificate, watch) = self.tls.unzip();
        let workers = std::thread::available_parallelism().map_or(1, Into::into);
        let public = Listener {
            table: PUBLIC,
            workers,
            connections: connections(shared.config.limits.connections, open_files_max()),
            certificate: certificate.clone(),
        };
        let public = public.server(self.public, &shared, stop)?;
        let (drained, public_drained) = oneshot::channel::<()>();
        let operator = match self.operator {
            Some(listener) => {
                let operator =
                    Listener { table: OPERATOR, workers: 1, connections: OPERATOR_CONNECTIONS_MAX, certificate };
                let stop = async move {
                    // Its sender is dropped when the public listener is done, however that came.
                    let _ = public_drained.await;
                };
                Some(operator.server(listener, &shared, stop)?)
            }
            None => None,
        };
        let public = async move {
            let result = public.await;
            drop(drained);
            result
        };
        let operator = async move {
            match operator {
                Some(server) => server.await,
                None => Ok(()),
            }
        };
        let watch = async move {
            match watch {
                Some(watch) => watch.run().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            (public, operator) = async { tokio::join!(public, operator) } => public.and(operator),
            () = watch => Ok(()),
        }
    }
}

/// Connections that this process can hold: were every file one, whoever opens enough of them would keep the broker from
/// its issuers' keys.
fn connections(configured: usize, files_max: Option<usize>) -> usize {
    let Some(files_max) = files_max else { return configured };
    let possible = files_max.saturating_sub(FILES_KEPT).max(files_max / 2);
    if possible < configured {
        tracing::warn!(configured, possible, "fewer `connections` than configured: raise the limit of open files");
    }
    configured.min(possible)
}

/// The soft limit of open files, where the system tells it.
fn open_files_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok())
}

/// One listener's own facts.
struct Listener {
    table: &'static [Endpoint],
    workers: usize,
    /// Over all workers.
    connections: usize,
    certificate: Option<Arc<Certificate>>,
}

impl Listener {
    fn server(
        &self,
        listener: TcpListener,
        shared: &Data<Shared>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Server> {
        let request = Duration::from_secs(shared.config.limits.request_seconds.into());
        let (table, shared) = (self.table, shared.clone());
        let factory = move || {
            App::new().app_data(shared.clone()).wrap(from_fn(routes::around)).configure(routes::configure(table))
        };
        let server = HttpServer::new(factory)
            .workers(self.workers)
            .max_connections(self.connections.div_ceil(self.workers).max(1))
            .keep_alive(Duration::from_secs(KEEP_ALIVE_SECONDS))
            .client_request_timeout(request)
            .client_disconnect_timeout(Duration::from_secs(DISCONNECT_SECONDS))
            .tls_handshake_timeout(request)
            .tcp_nodelay(true)
            .shutdown_timeout(DRAIN_SECONDS)
            .shutdown_signal(stop);
        let server = match &self.certificate {
            Some(certificate) => {
                server.listen_rustls_0_23(listener, certificate.server_config().map_err(io::Error::other)?)?
            }
            None => server.listen(listener)?,
        };
        Ok(server.run())
    }
}

#[cfg(test)]
mod tests;
