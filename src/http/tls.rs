//! The certificate of both listeners: TLS 1.2 and 1.3, http/1.1 alone. Renewed files are taken up without a restart;
//! files that do not work leave the old certificate in place.

use crate::config::Tls;
use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{fmt, fs, io, path::Path, sync::Arc, time::Duration};
use zeroize::Zeroizing;

/// Between two looks at the files.
pub const POLL: Duration = Duration::from_secs(5);

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("`{file}`, named in `[server.tls]`, cannot be read: {why}")]
    Unreadable { file: String, why: io::Error },
    #[error("`{file}` holds no usable PEM {what}: {why}; give a PEM file that does")]
    NotPem { file: String, what: &'static str, why: String },
    #[error("the certificate `{certificate}` and the key `{key}` cannot be used together: {why}")]
    Unfit { certificate: String, key: String, why: rustls::Error },
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// Both files as they were read, to see whether they changed. A symbolic link that was swapped is a change like any.
#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Files {
    fn read(tls: &Tls) -> Result<Self, TlsError> {
        let read =
            |path: &Path| fs::read(path).map_err(|why| TlsError::Unreadable { file: path.display().to_string(), why });
        Ok(Self { certificate: read(&tls.certificate)?, key: Zeroizing::new(read(&tls.key)?) })
    }

    fn certified(&self, tls: &Tls) -> Result<CertifiedKey, TlsError> {
        let not_pem = |path: &Path, what, why: String| TlsError::NotPem { file: path.display().to_string(), what, why };
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|why| not_pem(&tls.certificate, "certificate", why.to_string()))?;
        if chain.is_empty() {
            return Err(not_pem(&tls.certificate, "certificate", "none found".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|why| not_pem(&tls.key, "private key", why.to_string()))?;
        CertifiedKey::from_der(chain, key, &default_provider()).map_err(|why| TlsError::Unfit {
            certificate: tls.certificate.display().to_string(),
            key: tls.key.display().to_string(),
            why,
        })
    }
}

/// The certificate as it is now.
pub struct Certificate {
    tls: Tls,
    current: ArcSwap<CertifiedKey>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("certificate", &self.tls.certificate).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// What looks at the files; it holds what it saw last.
pub struct Watch {
    certificate: Arc<Certificate>,
    seen: Result<Files, String>,
}

impl Certificate {
    /// Reads both files; at start, a fault is final.
    pub fn load(tls: &Tls) -> Result<(Arc<Self>, Watch), TlsError> {
        let files = Files::read(tls)?;
        let current = ArcSwap::from_pointee(files.certified(tls)?);
        let certificate = Arc::new(Self { tls: tls.clone(), current });
        Ok((Arc::clone(&certificate), Watch { certificate, seen: Ok(files) }))
    }

    /// For a listener.
    pub fn server_config(self: &Arc<Self>) -> Result<ServerConfig, rustls::Error> {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Self>::clone(self);
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl Watch {
    /// Looks for ever; the owner drops the future to end it.
    pub async fn run(mut self) {
        loop {
            tokio::time::sleep(POLL).await;
            match self.look() {
                None => {}
                Some(Ok(())) => tracing::info!("the listener's certificate was taken up anew"),
                Some(Err(error)) => {
                    tracing::error!(%error, "the listener's new certificate does not work; the old one stays");
                }
            }
        }
    }

    /// `None` if nothing changed since the last look: one fault is told once.
    fn look(&mut self) -> Option<Result<(), TlsError>> {
        let tls = &self.certificate.tls;
        match Files::read(tls) {
            Ok(files) => {
                if self.seen.as_ref().is_ok_and(|seen| *seen == files) {
                    return None;
                }
                let certified = files.certified(tls);
                self.seen = Ok(files);
                Some(certified.map(|key| self.certificate.current.store(Arc::new(key))))
            }
            Err(error) => {
                let told = error.to_string();
                if self.seen.as_ref().is_err_and(|seen| *seen == told) {
                    return None;
                }
                self.seen = Err(told);
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn folder() -> (tempfile::TempDir, Tls) {
        let folder = tempfile::tempdir().unwrap();
        let tls = Tls { certificate: folder.path().join("tls.crt"), key: folder.path().join("tls.key") };
        write(&tls, &pair());
        (folder, tls)
    }

    fn write(tls: &Tls, (certificate, key): &(String, String)) {
        fs::write(&tls.certificate, certificate).unwrap();
        fs::write(&tls.key, key).unwrap();
    }

    #[test]
    fn renewed_files_are_taken_up_and_bad_ones_leave_the_old() {
        let (_folder, tls) = folder();
        let (certificate, mut watch) = Certificate::load(&tls).unwrap();
        let shown = || certificate.current.load().cert[0].clone();
        let first = shown();
        assert!(watch.look().is_none(), "nothing changed");

        write(&tls, &pair());
        assert!(matches!(watch.look(), Some(Ok(()))));
        let second = shown();
        assert_ne!(first, second);

        // Half of a renewal: the new certificate does not belong to the old key.
        fs::write(&tls.certificate, pair().0).unwrap();
        assert!(matches!(watch.look(), Some(Err(TlsError::Unfit { .. }))));
        assert!(watch.look().is_none(), "one fault is told once");
        fs::write(&tls.key, "nonsense").unwrap();
        assert!(matches!(watch.look(), Some(Err(TlsError::NotPem { what: "private key", .. }))));
        fs::remove_file(&tls.certificate).unwrap();
        assert!(matches!(watch.look(), Some(Err(TlsError::Unreadable { .. }))));
        assert!(watch.look().is_none());
        assert_eq!(shown(), second);

        write(&tls, &pair());
        assert!(matches!(watch.look(), Some(Ok(()))));
        assert_ne!(shown(), second);
    }

    #[test]
    fn a_listener_offers_http_1_1_alone() {
        let (_folder, tls) = folder();
        let (certificate, _) = Certificate::load(&tls).unwrap();
        assert_eq!(certificate.server_config().unwrap().alpn_protocols, [b"http/1.1".to_vec()]);
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let (_folder, tls) = folder();
        fs::write(&tls.certificate, "").unwrap();
        let error = Certificate::load(&tls).err().unwrap().to_string();
        assert!(error.contains("tls.crt") && error.contains("none found"), "{error}");
    }
}
