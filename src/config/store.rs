//! `[store]`: where state and evidence are kept. What a URL means is judged by who opens it; here, that it holds no
//! secret and that the files it names are found from anywhere.

use super::{Judge, VALUE};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use toml::Spanned;
use url::form_urlencoded::byte_serialize;

#[derive(Default, Deserialize)]
pub(super) struct Store {
    url: Option<Spanned<String>>,
    password: Option<Spanned<Password>>,
    sslrootcert: Option<Spanned<PathBuf>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Password {
    file: Option<PathBuf>,
    env: Option<String>,
}

impl Judge {
    /// One URL that says all of it: with the paths of files, never with what stands in them.
    pub(super) fn store(&mut self, store: Store, directory: &Path) -> String {
        let Store { url, password, sslrootcert } = store;
        let in_directory = |path: &str| format!("sqlite:{}", directory.join(path).display());
        let given = url.as_ref().map_or("sqlite:claimbound.db", |url| url.get_ref());
        match given.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => {
                for span in [password.map(|key| key.span()), sslrootcert.map(|key| key.span())].into_iter().flatten() {
                    let help = "remove it, or write the `postgres://` URL that it belongs to";
                    self.error(VALUE, span, "a SQLite store has no server to sign in to".to_owned(), help);
                }
                in_directory(path)
            }
            // Of whatever store: neither place nor text is shown, both would show the password.
            Some((_, rest)) if has_password(rest) => {
                let help = "put it into a file of the broker's own and write `password = { file = \"PATH\" }`, or \
                            `password = { env = \"NAME\" }`";
                self.error(VALUE, 0..0, "`url` in `[store]` holds a password".to_owned(), help);
                given.to_owned()
            }
            Some(("postgres" | "postgresql", _)) => {
                let mut full = given.to_owned();
                let mut add = |name: &str, value: &str| {
                    full.push(if full.contains('?') { '&' } else { '?' });
                    full.push_str(&format!(
                        "{name}={}",
                        byte_serialize(value.as_bytes()).collect::<String>().replace('+', "%20")
                    ));
                };
                if let Some(password) = password {
                    let span = password.span();
                    match password.into_inner() {
                        Password { file: Some(file), env: None } => {
                            add("password_file", &directory.join(file).display().to_string());
                        }
                        Password { file: None, env: Some(name) } => add("password_env", &name),
                        _ => {
                            let help = "write `password = { file = \"PATH\" }` or `password = { env = \"NAME\" }`";
                            self.error(VALUE, span, "`password` names one place where it stands".to_owned(), help);
                        }
                    }
                }
                if let Some(file) = sslrootcert {
                    add("sslrootcert", &directory.join(file.into_inner()).display().to_string());
                }
                full
            }
            _ => {
                let span = url.as_ref().map_or(0..0, Spanned::span);
                let help = "write `url = \"sqlite:claimbound.db\"` or `url = \"postgres://USER@HOST/DATABASE\"`";
                self.error(VALUE, span, format!("`{given}` is no store that this version knows"), help);
                in_directory("claimbound.db")
            }
        }
    }
}

/// Of a URL behind its scheme.
fn has_password(rest: &str) -> bool {
    let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
    let user = authority.rsplit_once('@').map(|(user, _)| user.trim_start_matches('/'));
    user.is_some_and(|user| user.contains(':')) || query.split('&').any(|pair| pair.starts_with("password="))
}
