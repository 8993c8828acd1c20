//! `claimbound trust`: what to configure on the other side, so that it accepts one role's tokens and no other's.
//! Exact comparisons only: a prefix or a pattern over there would be a mapping that nobody reviews here.

mod aws;

use super::{deployment::Deployment, issuer::issuer_url, loaded, render::Format};
use crate::{
    broker::SystemClock,
    documents::JWKS_PATH,
    issuance::jwt::{self, Config},
    keys::signing::SigningAlgorithm,
};
use anyhow::{Result, bail};
use claimbound_core::{
    diag::{Diagnostic, did_you_mean},
    mapping::Role,
    time::Clock as _,
};
use clap::{Args, Subcommand};
use serde_json::json;
use std::{io::Write, path::PathBuf};
use url::Url;

/// How long the relying party's own token may live after a login, in seconds; shorter where the role is.
const LOGIN_SECONDS_MAX: u32 = 900;

/// Print what to configure on the other side
///
/// It then accepts one role's tokens and no other's. Reads the mapping folder and the issuer's name, by default from the
/// configuration. Exit code 0; 2: usage, no such role, or the folder does not load.
#[derive(Debug, Args)]
pub struct TrustArgs {
    #[command(subcommand)]
    pub kind: TrustKind,
}

#[derive(Debug, Subcommand)]
pub enum TrustKind {
    /// Print commands that set up JWT authentication in OpenBao or HashiCorp Vault
    ///
    /// With `--format json`, the bodies of the two requests. Exit code 0; 2: usage, no such role, or the folder does
    /// not load.
    #[command(after_help = "Example:
  claimbound trust vault --role payments-deploy.production")]
    Vault {
        #[command(flatten)]
        common: Common,
        /// Where the other side fetches the keys, if not at the issuer's URL
        #[arg(long, value_name = "URL", value_parser = jwks_url)]
        jwks_url: Option<String>,
        /// Path of the JWT auth mount
        #[arg(long, value_name = "PATH", default_value = "jwt", value_parser = mount)]
        mount: String,
        /// How to answer
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print an `AuthenticationConfiguration` for the API server of Kubernetes
    ///
    /// YAML, or JSON, which the API server reads as well. Exit code 0; 2: usage, no such role, or the folder does not
    /// load.
    #[command(after_help = "Example:
  claimbound trust kubernetes --role payments-cluster > authentication.yaml")]
    Kubernetes {
        #[command(flatten)]
        common: Common,
        /// How to answer
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print AWS's side: identity provider, role and trust policy
    ///
    /// Exit code 0; 2: usage, no such role, or the folder does not load.
    Aws(aws::AwsArgs),
}

#[derive(Debug, Args)]
pub struct Common {
    /// The role whose tokens are to be accepted
    #[arg(long)]
    pub role: String,
    /// The mapping folder; by default the configuration's `[mappings] path`
    #[arg(long, value_name = "DIR")]
    pub mappings: Option<PathBuf>,
    /// The issuer's URL, as tokens name it (`iss`); by default the configuration's `[signing] issuer_url`
    #[arg(long, value_name = "URL", value_parser = issuer_url)]
    pub issuer_url: Option<String>,
    #[command(flatten)]
    pub deployment: Deployment,
}

impl TrustArgs {
    /// Role, folder and issuer.
    pub fn common(&self) -> &Common {
        match &self.kind {
            TrustKind::Vault { common, .. } | TrustKind::Kubernetes { common, .. } => common,
            TrustKind::Aws(args) => &args.common,
        }
    }
}

/// Prints the configuration for the asked role; 2 when the folder does not load.
pub fn run(args: TrustArgs) -> Result<u8> {
    let Common { role, mappings, issuer_url, deployment } = args.common();
    let directory = deployment.or(mappings.as_ref(), |config| config.mappings)?;
    let Some(loaded) = loaded::load(&directory)? else { return Ok(2) };
    let role = find(&loaded.set.roles, role)?;
    if let TrustKind::Aws(args) = &args.kind
        && args.denials
    {
        let text = aws::denials(role, &deployment.read()?, SystemClock.now())?;
        std::io::stdout().lock().write_all(text.as_bytes())?;
        return Ok(0);
    }
    let issuer_url = deployment.issuer_url(issuer_url.as_ref())?;
    let text = match &args.kind {
        TrustKind::Aws(args) => {
            // Only what the folder does not say is asked of the configuration, so that it may be somewhere else.
            let config = if deployment.config.exists() { Some(deployment.read()?) } else { None };
            let backend = config.as_ref().and_then(|config| config.backends.get(&role.backend));
            let known = aws::Known {
                set: &loaded.set,
                profiles: &loaded.profiles,
                issuer_url: &issuer_url,
                mode: backend.map(|backend| backend.mode),
                external_id: backend.and_then(|backend| backend.external_id.as_deref()),
                policy_arn: backend.and_then(|backend| Some(&*backend.denial.as_ref()?.policy_arn)),
            };
            aws::render(args, role, &known)?
        }
        _ => render(&args, role, &issuer_url)?,
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(0)
}

pub(super) fn find<'s>(roles: &'s [Role], name: &str) -> Result<&'s Role> {
    if let Some(role) = roles.iter().find(|role| role.name == name) {
        return Ok(role);
    }
    match did_you_mean(name, roles.iter().map(|role| role.name.as_str())) {
        Some(near) => bail!("no role `{name}` in the folder; did you mean `{near}`?"),
        None => bail!("no role `{name}` in the folder; `claimbound roles` lists them"),
    }
}

fn render(args: &TrustArgs, role: &Role, issuer_url: &str) -> Result<String> {
    if role.kind != jwt::NAME {
        bail!(
            "role `{}` has a backend of kind `{}`; tokens to trust come from `{}` roles",
            role.name,
            role.kind,
            jwt::NAME
        );
    }
    let config = Config::parse(role, None).map_err(|faults| told(&faults))?;
    match &args.kind {
        TrustKind::Vault { jwks_url, mount, format, .. } => {
            let jwks_url = jwks_url.clone().unwrap_or_else(|| format!("{issuer_url}{JWKS_PATH}"));
            Ok(vault(role, &config, issuer_url, &jwks_url, mount, *format == Format::Json))
        }
        TrustKind::Kubernetes { format, .. } => kubernetes(role, &config, issuer_url, *format == Format::Json),
        TrustKind::Aws(_) => bail!("AWS takes no tokens of `jwt` roles"),
    }
}

/// Findings in one line.
pub(super) fn told(faults: &[Diagnostic]) -> anyhow::Error {
    let texts: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.code, fault.message)).collect();
    anyhow::anyhow!("{}; see `claimbound check`", texts.join("; "))
}

fn vault(role: &Role, config: &Config, issuer_url: &str, jwks_url: &str, mount: &str, json: bool) -> String {
    let name = &role.name;
    let seconds = role.max_duration.0.min(LOGIN_SECONDS_MAX);
    // The algorithms are the mount's and not the role's: all that we sign with, so that roles can share it.
    let algorithms = SigningAlgorithm::ALL.map(SigningAlgorithm::name).join(",");
    let body = json!({
        "role_type": "jwt",
        "bound_audiences": [config.audience],
        "bound_claims_type": "string",
        "bound_claims": { "role": name },
        "user_claim": "sub",
        "claim_mappings": { "lease_id": "lease_id", "mapping": "mapping", "/principal/name": "principal" },
        "token_policies": [name],
        "token_ttl": format!("{seconds}s"),
        "token_explicit_max_ttl": format!("{seconds}s"),
    });
    if json {
        let config = json!({ "jwks_url": jwks_url, "bound_issuer": issuer_url, "jwt_supported_algs": SigningAlgorithm::ALL.map(SigningAlgorithm::name) });
        return format!("{:#}\n", json!({ "config": config, "role": body }));
    }
    format!(
        "# OpenBao; with HashiCorp Vault write `vault` for `bao`.\n\
         # Once for the mount:\n\
         bao auth enable -path='{mount}' jwt\n\
         bao write 'auth/{mount}/config' \\\n    \
             jwks_url='{jwks_url}' \\\n    \
             bound_issuer='{issuer_url}' \\\n    \
             jwt_supported_algs='{algorithms}'\n\
         # For the role; its tokens get the policy `{name}`, which is yours to write:\n\
         bao write 'auth/{mount}/role/{name}' - <<'JSON'\n{body:#}\nJSON\n"
    )
}

fn kubernetes(role: &Role, config: &Config, issuer_url: &str, json: bool) -> Result<String> {
    let Some(host) = Url::parse(issuer_url)
        .ok()
        .filter(|url| url.scheme() == "https")
        .and_then(|url| url.domain().map(str::to_owned))
    else {
        bail!("the API server fetches keys from an `https` issuer with a host name only, not from `{issuer_url}`");
    };
    if json {
        let jwt = json!({
            "issuer": { "url": issuer_url, "audiences": [config.audience] },
            "claimValidationRules": [{ "claim": "role", "requiredValue": role.name }],
            "claimMappings": {
                "username": { "claim": "sub", "prefix": "claimbound:" },
                "groups": { "claim": "role", "prefix": "claimbound:" },
                "extra": [{ "key": format!("{host}/lease-id"), "valueExpression": "claims.lease_id" }],
            },
        });
        let kind =
            json!({ "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [jwt] });
        return Ok(format!("{kind:#}\n"));
    }
    // A JSON string is a YAML one.
    let [issuer, audience, name] = [issuer_url, &config.audience, &role.name].map(|text| json!(text).to_string());
    Ok(format!(
        "# --authentication-config of the API server. It names an issuer once: for several roles list their audiences\n\
         # with `audienceMatchPolicy: MatchAny`, and write the rule as `expression: claims.role in [\"…\", \"…\"]`.\n\
         # Bind RBAC to the group \"claimbound:{role}\".\n\
         apiVersion: apiserver.config.k8s.io/v1\n\
         kind: AuthenticationConfiguration\n\
         jwt:\n\
         - issuer:\n    \
             url: {issuer}\n    \
             audiences:\n    \
             - {audience}\n  \
           claimValidationRules:\n  \
           - claim: role\n    \
             requiredValue: {name}\n  \
           claimMappings:\n    \
             username:\n      \
               claim: sub\n      \
               prefix: \"claimbound:\"\n    \
             groups:\n      \
               claim: role\n      \
               prefix: \"claimbound:\"\n    \
             extra:\n    \
             - key: \"{host}/lease-id\"\n      \
               valueExpression: claims.lease_id\n",
        role = role.name,
    ))
}

fn jwks_url(text: &str) -> Result<String, String> {
    issuer_url(text)
}

fn mount(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_/".contains(&byte);
    match text.split('/').all(|part| !part.is_empty()) && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("letters, digits, `-` and `_`, parts separated by `/`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claimbound_core::{diag::Span, mapping::Parameters, time::Seconds};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        trust: TrustArgs,
    }

    fn role() -> Role {
        let span = Span::new("roles/r.toml", 0..1);
        let audience = (toml::Value::from("https://bao.example"), span.clone());
        Role {
            name: "payments-secrets".to_owned(),
            description: String::new(),
            backend: "jwt".to_owned(),
            kind: "jwt",
            parameters: Parameters { values: [("audience".to_owned(), audience)].into(), span: span.clone() },
            sensitivity: "internal".to_owned(),
            target: None,
            teams: Vec::new(),
            issuers: Vec::new(),
            max_duration: Seconds(600),
            span,
        }
    }

    fn trust(words: &[&str], role: &Role) -> Result<String> {
        let fixed = ["--mappings", "mappings", "--role", "payments-secrets"];
        let line = Line::try_parse_from(["trust"].iter().chain(words).chain(&fixed))?;
        let issuer_url = line.trust.common().issuer_url.clone().expect("given in every test");
        render(&line.trust, role, &issuer_url)
    }

    #[test]
    fn vault_binds_issuer_audience_and_role_exactly() {
        let text = trust(&["vault", "--issuer-url", "https://b.example"], &role()).unwrap();
        let (commands, rest) = text.split_once("<<'JSON'\n").unwrap();
        assert_eq!(
            commands,
            "# OpenBao; with HashiCorp Vault write `vault` for `bao`.\n\
             # Once for the mount:\n\
             bao auth enable -path='jwt' jwt\n\
             bao write 'auth/jwt/config' \\\n    jwks_url='https://b.example/jwks' \\\n    \
             bound_issuer='https://b.example' \\\n    jwt_supported_algs='ES256,RS256'\n\
             # For the role; its tokens get the policy `payments-secrets`, which is yours to write:\n\
             bao write 'auth/jwt/role/payments-secrets' - "
        );
        let body: serde_json::Value = serde_json::from_str(rest.strip_suffix("\nJSON\n").unwrap()).unwrap();
        assert_eq!(body["bound_audiences"], json!(["https://bao.example"]));
        assert_eq!(body["bound_claims"], json!({ "role": "payments-secrets" }));
        assert_eq!(body["bound_claims_type"], "string", "a glob would match other roles");
        assert_eq!((&body["user_claim"], &body["token_explicit_max_ttl"]), (&json!("sub"), &json!("600s")));
    }

    #[test]
    fn vault_takes_another_key_url_and_mount() {
        let words = [
            "vault",
            "--issuer-url",
            "https://b.example",
            "--jwks-url",
            "http://127.0.0.1:8080/jwks",
            "--mount",
            "ci/jwt",
        ];
        let text = trust(&words, &Role { max_duration: Seconds(86_400), ..role() }).unwrap();
        assert!(
            text.contains("jwks_url='http://127.0.0.1:8080/jwks'") && text.contains("bao write 'auth/ci/jwt/config'")
        );
        assert!(text.contains(r#""token_ttl": "900s""#), "a login is short where the role is long");
    }

    #[test]
    fn kubernetes_demands_issuer_audience_and_role() {
        let text = trust(&["kubernetes", "--issuer-url", "https://b.example:8443/x"], &role()).unwrap();
        let (_, yaml) = text.split_once("\"claimbound:payments-secrets\".\n").unwrap();
        assert_eq!(
            yaml,
            r#"apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: "https://b.example:8443/x"
    audiences:
    - "https://bao.example"
  claimValidationRules:
  - claim: role
    requiredValue: "payments-secrets"
  claimMappings:
    username:
      claim: sub
      prefix: "claimbound:"
    groups:
      claim: role
      prefix: "claimbound:"
    extra:
    - key: "b.example/lease-id"
      valueExpression: claims.lease_id
"#
        );
        trust(&["kubernetes", "--issuer-url", "http://127.0.0.1:8080"], &role()).unwrap_err();
    }

    #[test]
    fn what_cannot_be_trusted_is_said() {
        let words = ["vault", "--issuer-url", "https://b.example"];
        let aws = Role { kind: "aws", ..role() };
        assert!(trust(&words, &aws).unwrap_err().to_string().contains("kind `aws`"));
        let empty = Role { parameters: Parameters { values: [].into(), ..role().parameters }, ..role() };
        assert!(trust(&words, &empty).unwrap_err().to_string().contains("CB0802"));
        for bad in ["a'b", "", "/x", "a b"] {
            trust(&[&words[..], &["--mount", bad]].concat(), &role()).unwrap_err();
        }
        assert!(
            find(&[role()], "payment-secrets").unwrap_err().to_string().contains("did you mean `payments-secrets`")
        );
        assert!(find(&[role()], "zzz").unwrap_err().to_string().contains("claimbound roles"));
    }
}
