//! Asks a broker as an operator: the session of `claimbound operator login`, or a CI job's token. Every command that acts
//! on a running broker goes through here; those of people who claim, too, with a session of their own.

use super::session::{self, Kind};
use crate::{
    history::{Answer as Form, Told},
    net::{Answer, Call, Client as Http, FetchRules},
    secret::Secret,
};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::{env, fs, path::PathBuf, time::Duration};
use url::form_urlencoded::Serializer;

const URL_VARIABLE: &str = "CLAIMBOUND_OPERATOR_URL";
const CA_FILE_VARIABLE: &str = "CLAIMBOUND_CA_FILE";
const TOKEN_VARIABLE: &str = "CLAIMBOUND_TOKEN";
const TOKEN_FILE_VARIABLE: &str = "CLAIMBOUND_TOKEN_FILE";
/// Of an answer: a plan over a long log is large.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A question to the evidence may run long.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(300);

/// Which broker.
#[derive(clap::Args, Clone, Debug)]
pub struct BrokerArgs {
    /// A running broker's operator listener, like `https://claimbound.internal.example:8081`; by default the variable
    /// `CLAIMBOUND_OPERATOR_URL`
    #[arg(id = "broker", long, value_name = "URL")]
    url: Option<String>,
    /// Certificate authorities to trust beside the system's, PEM; by default the variable `CLAIMBOUND_CA_FILE`
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

impl BrokerArgs {
    /// Whether the command line itself names one.
    pub fn is_named(&self) -> bool {
        self.url.is_some()
    }

    /// The authorities that flag or variable names.
    pub fn ca_file(&self) -> Option<PathBuf> {
        let variable = || env::var_os(CA_FILE_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        self.ca_file.clone().or_else(variable)
    }

    /// The one that flag or variable names, if any.
    ///
    /// # Errors
    /// There is no HTTP client to be had.
    pub fn client(&self) -> Result<Option<Client>> {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let Some(url) = self.url.clone().or_else(|| variable(URL_VARIABLE)) else { return Ok(None) };
        let url = url.trim_end_matches('/').to_owned();
        Client::new(Kind::Operator, url, self.ca_file()).map(Some)
    }

    /// The one that flag or variable names.
    ///
    /// # Errors
    /// None is named.
    pub fn required(&self) -> Result<Client> {
        let help = format!("name the broker's operator listener with `--broker URL`, or in `{URL_VARIABLE}`");
        self.client()?.context(help)
    }
}

/// A broker that did not do what it was asked, with what the command exits with.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error("the broker refused: {0}")]
    Refused(String),
    #[error("the broker cannot be asked: {0}")]
    Unavailable(String),
}

impl Failed {
    /// Exit codes of client commands: 3 refused, 4 unavailable.
    pub fn code(&self) -> u8 {
        match self {
            Self::Refused(_) => 3,
            Self::Unavailable(_) => 4,
        }
    }
}

/// A broker's operator listener; for who claims its public one.
pub struct Client {
    kind: Kind,
    url: String,
    ca_file: Option<PathBuf>,
    http: Http,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// # Errors
    /// There is no HTTP client to be had.
    pub fn new(kind: Kind, url: String, ca_file: Option<PathBuf>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { kind, url, ca_file, http: Http::new()?, runtime })
    }

    /// What its sessions are for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its URL, as sessions are kept by it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// GET with parameters, as an operator.
    ///
    /// # Errors
    /// [`Failed`], or nobody is signed in.
    pub fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let query = Serializer::new(String::new()).extend_pairs(parameters).finish();
        let mark = if query.is_empty() { "" } else { "?" };
        self.ask("GET", &format!("{path}{mark}{query}"), None, &self.authorization()?)
    }

    /// POST of JSON, as an operator.
    ///
    /// # Errors
    /// As above.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask("POST", path, Some(body), &self.authorization()?)
    }

    /// DELETE, as an operator.
    ///
    /// # Errors
    /// As above.
    pub fn delete(&self, path: &str) -> Result<Value> {
        self.ask("DELETE", path, None, &self.authorization()?)
    }

    /// POST of JSON by whoever is about to sign in. Who claims shows the session that they have, if any: it may be too old or weak
    /// for what they are about to do.
    ///
    /// # Errors
    /// [`Failed`], or a file of sessions that cannot be read.
    pub fn post_openly(&self, path: &str, body: &Value) -> Result<Value> {
        let held = match self.kind {
            Kind::Operator => None,
            Kind::Claim => session::held(self.kind, &self.url)?,
        };
        self.ask("POST", path, Some(body), &held.iter().map(bearer).collect::<Vec<_>>())
    }

    /// A question to the evidence, answered as the command over a store would.
    ///
    /// # Errors
    /// As above.
    pub fn history(&self, question: &Value) -> Result<Told> {
        told(self.post("/operator/history", question)?)
    }

    /// A job's token, or the session of the person.
    fn authorization(&self) -> Result<Vec<(&'static str, Secret)>> {
        if self.kind == Kind::Claim {
            // Jobs claim nothing.
            return Ok(vec![bearer(&session::token(self.kind, &self.url)?)]);
        }
        let token = match (env::var(TOKEN_VARIABLE), env::var(TOKEN_FILE_VARIABLE)) {
            (Ok(token), _) if !token.is_empty() => Secret::new(token),
            (_, Ok(file)) if !file.is_empty() => {
                let text = fs::read_to_string(&file).with_context(|| format!("cannot read `{file}`"))?;
                Secret::new(text.trim().to_owned())
            }
            _ => session::token(self.kind, &self.url)?,
        };
        Ok(vec![bearer(&token)])
    }

    fn ask(
        &self,
        method: &'static str,
        path: &str,
        body: Option<&Value>,
        secrets: &[(&'static str, Secret)],
    ) -> Result<Value> {
        let url = format!("{}{path}", self.url);
        let headers: Vec<_> = secrets.iter().map(|(name, value)| (*name, value)).collect();
        let body = body.map(ToString::to_string);
        let body = body.as_ref().map(|body| ("application/json", body.as_bytes()));
        let rules = FetchRules {
            // The operator named it; brokers stand inside.
            allow_private_network: true,
            allow_plain_loopback: true,
            ca_file: self.ca_file.as_deref(),
            bytes_max: ANSWER_BYTES_MAX,
            timeout: ANSWER_WAIT_MAX,
        };
        let call = Call { method, url: &url, headers: &headers, body };
        let answer = self.runtime.block_on(self.http.call(&call, &rules));
        judged(&answer.map_err(|error| Failed::Unavailable(error.to_string()))?)
    }
}

fn bearer(token: &Secret) -> (&'static str, Secret) {
    ("authorization", Secret::new(format!("Bearer {}", token.reveal())))
}

fn judged(answer: &Answer) -> Result<Value> {
    let body = serde_json::from_slice::<Value>(&answer.body).ok();
    let text = || {
        let told = body.as_ref().and_then(|body| body["error_description"].as_str());
        told.map_or_else(|| format!("it answered {}", answer.status), str::to_owned)
    };
    match answer.status {
        200..=299 => body.ok_or_else(|| Failed::Unavailable("its answer is no JSON".to_owned()).into()),
        408 | 429 | 500.. => {
            let wait = answer.header("retry-after").map(|wait| format!("; try again in {wait} s")).unwrap_or_default();
            Err(Failed::Unavailable(format!("{}{wait}", text())).into())
        }
        300..=399 => {
            Err(Failed::Unavailable(format!("it answered {}, and redirects are not followed", answer.status)).into())
        }
        _ => Err(Failed::Refused(text()).into()),
    }
}

/// An answer of the evidence as the broker wrapped it.
pub fn told(mut answer: Value) -> Result<Told> {
    let code = answer["code"].as_u64().and_then(|code| u8::try_from(code).ok());
    let form = match (answer["text"].take(), answer["answer"].take()) {
        (Value::String(text), _) => Some(Form::Text(text)),
        (_, Value::Null) => None,
        (_, answer) => Some(Form::Json(answer)),
    };
    let whole = code.zip(form).map(|(code, answer)| Told { code, answer });
    whole.ok_or_else(|| Failed::Unavailable("its answer is of another version".to_owned()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_told_as_commands_tell_them() {
        let text = told(json!({ "code": 1, "text": "a\n" })).unwrap();
        assert_eq!((text.code, text.answer.to_text()), (1, "a\n".to_owned()));
        let json = told(json!({ "code": 0, "answer": { "a": 1 } })).unwrap();
        assert_eq!(json.answer.to_text(), "{\n  \"a\": 1\n}\n");
        for other in [json!({}), json!({ "code": 0 }), json!({ "text": "a" }), json!({ "code": 300, "text": "a" })] {
            let error = told(other).unwrap_err();
            assert_eq!(error.downcast_ref::<Failed>().map(Failed::code), Some(4));
        }
    }
}
