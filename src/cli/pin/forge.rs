//! What a forge's API says of names and ids.
//!
//! GitHub: `GET /repos/{owner}/{repo}`, `/users/{name}` and `/user/{id}` as documented for REST version 2022-11-28, and
//! `/repositories/{id}`, to which the first redirects after a rename. GitLab: `GET /projects/:id` and `/namespaces/:id`,
//! both by number or by path with `%2F`. Redirects are answers here: that a name leads elsewhere is what is asked about.

use crate::{
    net::{Answer, Client, FetchRules},
    secret::Secret,
};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::time::Duration;
use url::Url;

/// A repository's description is some kilobytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
const TIMEOUT_SECONDS: u64 = 20;
const GITHUB_API: &str = "https://api.github.com";
const GITLAB: &str = "https://gitlab.com";

/// Whose API it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Github,
    Gitlab,
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Repository,
    Owner,
}

/// What the forge has under a name or an id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    pub id: String,
    pub name: String,
}

/// One forge's API.
pub struct Forge {
    kind: Kind,
    base: String,
    headers: Vec<(&'static str, Secret)>,
    has_token: bool,
    /// The variable that holds the token.
    variable: &'static str,
    client: Client,
}

impl Kind {
    pub fn of_profile(profile: &str) -> Option<Self> {
        match profile {
            "github-actions" => Some(Self::Github),
            "gitlab" => Some(Self::Gitlab),
            _ => None,
        }
    }

    /// Where the API of an issuer is.
    fn base(self, issuer: &str) -> Option<String> {
        let rest = issuer.strip_prefix("https://")?;
        Some(match self {
            Self::Gitlab => format!("{}/api/v4", issuer.trim_end_matches('/')),
            Self::Github => {
                let host = rest.split('/').next()?;
                match host.strip_prefix("token.actions.") {
                    Some("githubusercontent.com") => GITHUB_API.to_owned(),
                    Some(tenant) if tenant.ends_with(".ghe.com") => format!("https://api.{tenant}"),
                    _ => format!("https://{host}/api/v3"),
                }
            }
        })
    }

    /// The variables of the token, and of the API's place in jobs of the forge's own.
    fn variables(self) -> (&'static str, &'static str) {
        match self {
            Self::Github => ("GITHUB_TOKEN", "GITHUB_API_URL"),
            Self::Gitlab => ("GITLAB_TOKEN", "CI_API_V4_URL"),
        }
    }
}

impl Forge {
    /// The API of an issuer, or the one at `api`. A token goes only where the user or the forge's own runner says that
    /// it belongs: what a folder says of itself sends it nowhere.
    ///
    /// # Errors
    /// When the issuer's URL tells no API.
    pub fn open(kind: Kind, issuer: &str, api: Option<&str>) -> Result<Self> {
        let base = match api {
            Some(api) => api.trim_end_matches('/').to_owned(),
            None => kind.base(issuer).with_context(|| format!("`{issuer}` tells no API; say it with `--api URL`"))?,
        };
        let (variable, place) = kind.variables();
        let of_runner = std::env::var(place).ok();
        let token = std::env::var(variable).ok().filter(|token| !token.is_empty());
        let token = token.filter(|_| api.is_some() || is_trusted(&base, of_runner.as_deref()));
        let has_token = token.is_some();
        let mut headers = Vec::new();
        if let Some(token) = token {
            headers.push(match kind {
                Kind::Github => ("authorization", Secret::new(format!("Bearer {token}"))),
                Kind::Gitlab => ("private-token", Secret::new(token)),
            });
        }
        if kind == Kind::Github {
            headers.push(("accept", Secret::new("application/vnd.github+json".to_owned())));
            headers.push(("x-github-api-version", Secret::new("2022-11-28".to_owned())));
        }
        Ok(Self { kind, base, headers, has_token, variable, client: Client::new()? })
    }

    pub fn has_token(&self) -> bool {
        self.has_token
    }
    pub fn variable(&self) -> &'static str {
        self.variable
    }

    /// What has this name now; `None`: nothing that can be seen, or it leads elsewhere.
    ///
    /// # Errors
    /// When the API does not answer as documented.
    pub async fn by_name(&self, what: What, name: &str) -> Result<Option<Known>> {
        let path: Vec<&str> = match (self.kind, what) {
            (Kind::Github, What::Repository) => ["repos"].into_iter().chain(name.split('/')).collect(),
            (Kind::Github, What::Owner) => vec!["users", name],
            (Kind::Gitlab, What::Repository) => vec!["projects", name],
            (Kind::Gitlab, What::Owner) => vec!["namespaces", name],
        };
        if path.iter().any(|part| matches!(*part, "" | "." | "..")) {
            bail!("`{name}` is no name of the forge's");
        }
        self.get(what, &path).await
    }

    /// What has this id, whatever it is called now.
    ///
    /// # Errors
    /// When the API does not answer as documented.
    pub async fn by_id(&self, what: What, id: &str) -> Result<Option<Known>> {
        let path = match (self.kind, what) {
            (Kind::Github, What::Repository) => "repositories",
            (Kind::Github, What::Owner) => "user",
            (Kind::Gitlab, What::Repository) => "projects",
            (Kind::Gitlab, What::Owner) => "namespaces",
        };
        self.get(what, &[path, id]).await
    }

    async fn get(&self, what: What, path: &[&str]) -> Result<Option<Known>> {
        let mut url = Url::parse(&self.base).with_context(|| format!("`{}` is no URL", self.base))?;
        // Each part is one segment: a slash within it becomes `%2F`.
        url.path_segments_mut()
            .map_err(|()| anyhow::anyhow!("`{}` has no path", self.base))?
            .pop_if_empty()
            .extend(path);
        let public = is_trusted(&self.base, None);
        let rules = FetchRules {
            // An instance of one's own stands where it stands.
            allow_private_network: !public,
            allow_plain_loopback: self.base.starts_with("http://"),
            ca_file: None,
            bytes_max: ANSWER_BYTES_MAX,
            timeout: Duration::from_secs(TIMEOUT_SECONDS),
        };
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (*name, value)).collect();
        let answer = self.client.ask(url.as_str(), &headers, &rules).await?;
        match answer.status {
            200 => {
                Ok(Some(self.known(what, &answer.body).with_context(|| format!("{url}: not the documented answer"))?))
            }
            301 | 302 | 307 | 308 | 404 => Ok(None),
            _ => Err(self.refused(&url, &answer)),
        }
    }

    fn known(&self, what: What, body: &[u8]) -> Result<Known> {
        let body: Value = serde_json::from_slice(body)?;
        let name = match (self.kind, what) {
            (Kind::Github, What::Repository) => "full_name",
            (Kind::Github, What::Owner) => "login",
            (Kind::Gitlab, What::Repository) => "path_with_namespace",
            (Kind::Gitlab, What::Owner) => "full_path",
        };
        let id = body["id"].as_u64().context("no `id`")?.to_string();
        let name = body[name].as_str().with_context(|| format!("no `{name}`"))?.to_owned();
        Ok(Known { id, name })
    }

    fn refused(&self, url: &Url, answer: &Answer) -> anyhow::Error {
        let variable = self.variable;
        let spent =
            ["x-ratelimit-remaining", "ratelimit-remaining"].iter().any(|name| answer.header(name) == Some("0"));
        let again = |name| answer.header(name).and_then(|text| text.parse::<i64>().ok());
        match answer.status {
            401 if self.has_token => {
                anyhow::anyhow!("GET {url}: answered 401: the token in `{variable}` is not accepted")
            }
            401 => anyhow::anyhow!("GET {url}: answered 401: put a token that may read into `{variable}`"),
            403 | 429 if spent || answer.status == 429 || answer.header("retry-after").is_some() => {
                let reset = ["x-ratelimit-reset", "ratelimit-reset"].iter().find_map(|name| again(name));
                let when = match (again("retry-after"), reset.and_then(|at| jiff::Timestamp::from_second(at).ok())) {
                    (Some(seconds), _) => format!("again in {seconds} s"),
                    (None, Some(at)) => format!("again at {at}"),
                    (None, None) => "try again later".to_owned(),
                };
                let token =
                    if self.has_token { String::new() } else { format!("; a token in `{variable}` may ask more") };
                anyhow::anyhow!("GET {url}: the API's rate limit is used up: {when}{token}")
            }
            status => anyhow::anyhow!("GET {url}: answered {status}"),
        }
    }
}

/// Whether a token may go to this API without the user's naming it: a public one, or that of the job's own forge.
fn is_trusted(base: &str, of_runner: Option<&str>) -> bool {
    let public = base == GITHUB_API || base.strip_suffix("/api/v4") == Some(GITLAB);
    public || of_runner.is_some_and(|of_runner| of_runner.trim_end_matches('/') == base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_nowhere_because_a_folder_says_so() {
        assert!(is_trusted("https://api.github.com", None) && is_trusted("https://gitlab.com/api/v4", None));
        assert!(is_trusted("https://ghes.example/api/v3", Some("https://ghes.example/api/v3/")));
        for base in
            ["https://ghes.example/api/v3", "https://api.evil.ghe.com", "https://gitlab.com.evil.example/api/v4"]
        {
            assert!(!is_trusted(base, Some("https://api.github.com")), "{base}");
        }
    }

    #[test]
    fn an_issuer_tells_where_its_api_is() {
        for (kind, issuer, api) in [
            (Kind::Github, "https://token.actions.githubusercontent.com", Some("https://api.github.com")),
            (Kind::Github, "https://token.actions.githubusercontent.com/acme", Some("https://api.github.com")),
            (Kind::Github, "https://token.actions.acme.ghe.com", Some("https://api.acme.ghe.com")),
            (Kind::Github, "https://ghes.acme.example/_services/token", Some("https://ghes.acme.example/api/v3")),
            (Kind::Gitlab, "https://gitlab.com", Some("https://gitlab.com/api/v4")),
            (Kind::Gitlab, "https://gitlab.acme.example", Some("https://gitlab.acme.example/api/v4")),
            (Kind::Gitlab, "http://127.0.0.1:1", None),
        ] {
            assert_eq!(kind.base(issuer).as_deref(), api, "{issuer}");
        }
    }
}
