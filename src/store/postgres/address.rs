//! A store's URL: where the server is, how much of TLS, and where the password stands. The URL itself is no secret and
//! may be printed: a password in it is refused.

use crate::{secret::Secret, store::Down};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio_postgres::{
    Client, Config,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::form_urlencoded;

/// How long one server is waited for.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(3);
/// What was sent and not acknowledged for so long ends the connection.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// The first probe of an idle connection.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const PASSWORD_BYTES_MAX: u64 = 4096;
const CA_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A parsed URL.
#[derive(Clone)]
pub(in crate::store) struct Address {
    /// As it was given.
    url: String,
    config: Config,
    password: Password,
    tls: bool,
    ca_file: Option<PathBuf>,
}

/// Where the password stands. It is read for each connection, so that it can be changed without a restart.
#[derive(Clone)]
enum Password {
    None,
    File(PathBuf),
    Variable(String),
}

impl Address {
    /// Judges a `postgres://` URL. Of its parameters `password_file`, `password_env`, `sslmode` and `sslrootcert` are
    /// ours, all others are the client library's.
    pub(in crate::store) fn parse(url: &str) -> Result<Self, Down> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut password, mut sslmode, mut ca_file) = (Password::None, None, None);
        let mut others = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            // A `+` is no blank here.
            let pair_read = pair.replace('+', "%2B");
            let decoded = form_urlencoded::parse(pair_read.as_bytes()).into_owned().next();
            let (name, value) = decoded.unwrap_or_default();
            match name.as_str() {
                "password_file" => password = Password::File(value.into()),
                "password_env" => password = Password::Variable(value),
                "sslmode" => sslmode = Some(value),
                "sslrootcert" => ca_file = Some(PathBuf::from(value)),
                _ => others.push(pair),
            }
        }
        let text = if others.is_empty() { base.to_owned() } else { format!("{base}?{}", others.join("&")) };
        // The library's error may quote what it could not read: a password, if somebody put one there.
        let mut config: Config = text.parse().map_err(|_| {
            Down::new(
                "the store's URL cannot be read; write `postgres://USER@HOST/DATABASE`, with `%` escapes where needed",
            )
        })?;
        if config.get_password().is_some() {
            return Err(Down::new(
                "the store's URL holds a password; put it into a file and name that: `password = { file = \"…\" }` in \
                 `[store]`, or `?password_file=PATH`",
            ));
        }
        if config.get_hosts().is_empty() || config.get_dbname().is_none() || config.get_user().is_none() {
            return Err(Down::new(format!(
                "`{url}` does not name user, host and database; write `postgres://USER@HOST/DATABASE`"
            )));
        }
        let local = config.get_hosts().iter().all(is_local);
        let tls = match sslmode.as_deref() {
            None => !local,
            Some("disable") => false,
            Some("require" | "verify-full") => true,
            Some(other) => {
                return Err(Down::new(format!(
                    "`sslmode={other}` lets somebody in between be the server; write `verify-full` (the default off \
                     loopback), or `disable` for no TLS at all"
                )));
            }
        };
        config
            .ssl_mode(if tls { SslMode::Require } else { SslMode::Disable })
            .application_name("claimbound")
            .connect_timeout(CONNECT_WAIT_MAX)
            .tcp_user_timeout(SILENCE_MAX)
            .keepalives_idle(KEEPALIVE_IDLE);
        Ok(Self { url: url.to_owned(), config, password, tls, ca_file })
    }

    /// Finds now what would keep every connection from being made: files and variables that are not there.
    pub(in crate::store) fn judge(&self) -> Result<(), Down> {
        self.password.read()?;
        if self.tls {
            self.tls_config()?;
        }
        Ok(())
    }

    /// Connects, and drives the connection on the runtime that this runs on.
    pub(super) async fn connect(&self) -> Result<Client, Down> {
        let mut config = self.config.clone();
        if let Some(password) = self.password.read()? {
            config.password(password.reveal());
        }
        if self.tls {
            let (client, connection) = config.connect(MakeRustlsConnect::new(self.tls_config()?)).await?;
            tokio::spawn(connection);
            return Ok(client);
        }
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// An error, told of this store.
    pub(super) fn told(&self, down: Down) -> Down {
        Down::new(format!("`{}`: {}", self.url, down.why))
    }

    /// Certificates are always verified in full, whatever the mode is called: chain, time and name.
    fn tls_config(&self) -> Result<ClientConfig, Down> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            Some(file) => {
                let fail = |why: String| Down::new(format!("`sslrootcert` `{}`: {why}", file.display()));
                let pem = bounded(file, CA_FILE_BYTES_MAX).map_err(fail)?;
                for certificate in CertificateDer::pem_slice_iter(&pem) {
                    let certificate = certificate.map_err(|error| fail(format!("not PEM certificates: {error}")))?;
                    roots.add(certificate).map_err(|error| fail(error.to_string()))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err(Down::new("no certificate authority to believe; name a PEM file with `sslrootcert=PATH`"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| Down::new(format!("TLS: {error}")))?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

impl Password {
    fn read(&self) -> Result<Option<Secret>, Down> {
        let text = match self {
            Self::None => return Ok(None),
            Self::File(file) => {
                let fail = |why: String| Down::new(format!("the store's password file `{}`: {why}", file.display()));
                let bytes = bounded(file, PASSWORD_BYTES_MAX).map_err(fail)?;
                let mut text = String::from_utf8(bytes).map_err(|_| fail("is not UTF-8".to_owned()))?;
                text.truncate(text.trim_end_matches(['\r', '\n']).len());
                text
            }
            Self::Variable(name) => std::env::var(name)
                .map_err(|_| Down::new(format!("the environment variable `{name}` holds no password for the store")))?,
        };
        Ok(Some(Secret::new(text)))
    }
}

fn bounded(file: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    if fs::metadata(file).map_err(|error| error.to_string())?.len() > bytes_max {
        return Err(format!("is longer than {bytes_max} bytes"));
    }
    fs::read(file).map_err(|error| error.to_string())
}

/// What is sent there does not leave the machine.
fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback()),
        Host::Unix(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_how_or_what_to_write() {
        for (url, tls) in [
            ("postgres://c@localhost/c", false),
            ("postgresql://c@127.0.0.1:5433/c", false),
            ("postgres://c@/c?host=/run/postgresql", false),
            ("postgres://c@localhost/c?sslmode=verify-full", true),
            ("postgres://c@db.internal/c", true),
            ("postgres://c@db.internal/c?sslmode=require", true),
            ("postgres://c@db.internal/c?sslmode=disable", false),
            ("postgres://c@localhost,db.internal/c?target_session_attrs=read-write", true),
        ] {
            let address = Address::parse(url).unwrap_or_else(|down| panic!("{url}: {down}"));
            assert_eq!(address.tls, tls, "{url}");
        }
        for (url, told) in [
            ("postgres://c@db.internal/c?sslmode=prefer", "`sslmode=prefer` lets somebody in between"),
            ("postgres://c@db.internal/c?sslmode=verify-ca", "write `verify-full`"),
            ("postgres://db.internal/c", "user, host and database"),
            ("postgres://c@db.internal", "user, host and database"),
            ("postgres://c@/c", "user, host and database"),
            ("postgres://c@db.internal/c?no_such=1", "cannot be read"),
        ] {
            let why = Address::parse(url).err().unwrap_or_else(|| panic!("{url}")).why;
            assert!(why.contains(told), "{url}: {why}");
        }
        for url in [
            "postgres://c:hunter2@localhost/c",
            "postgres://c@localhost/c?password=hunter2",
            "postgres://c:hunter2@h:x/c",
        ] {
            let why = Address::parse(url).err().unwrap().why;
            assert!(!why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn a_password_is_read_from_where_it_stands_and_never_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a+b c");
        fs::write(&file, "hunter2\n").unwrap();
        let address = |query: &str| Address::parse(&format!("postgres://c@localhost/c?{query}")).unwrap();
        let path = file.display().to_string().replace(' ', "%20");
        let given = address(&format!("password_file={path}"));
        assert_eq!(given.password.read().unwrap().unwrap().reveal(), "hunter2");
        assert!(!given.told(Down::new("no")).why.contains("hunter2"));
        for (query, told) in [
            ("password_file=/nowhere/at/all", "password file `/nowhere/at/all`"),
            ("password_env=CLAIMBOUND_NO_SUCH_VARIABLE", "`CLAIMBOUND_NO_SUCH_VARIABLE` holds no password"),
            ("sslmode=verify-full&sslrootcert=/nowhere", "`sslrootcert` `/nowhere`"),
        ] {
            let why = address(query).judge().unwrap_err().why;
            assert!(why.contains(told), "{why}");
        }
    }
}
