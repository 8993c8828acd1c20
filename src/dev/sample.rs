//! The sample mapping folder, compiled in: what `claimbound dev` starts with.

/// Every file: its path below the mapping folder, and its text.
pub const SAMPLE: &[(&str, &str)] =
    &[("policy.toml", POLICY), ("roles/payments.toml", ROLES), ("teams/payments/deploy.toml", MAPPINGS)];

const POLICY: &str = r#"format = 1

[issuer.github]
profile = "github-actions"
url = "https://token.actions.githubusercontent.com"
owners = { acme = 65, acme-labs = 9917 }

[issuer.gitlab]
profile = "gitlab"
url = "https://gitlab.acme.example"
tenancy = "single"

[team.payments]
path = "teams/payments"
contact = "payments-oncall@acme.example"
issuers = ["github"]

[sensitivity.production]
max_duration = "1h"
needs_any = ["branch", "tag"]
"#;

const ROLES: &str = r#"[role.payments-secrets]
description = "Read the secrets of payments"
backend = "jwt"
teams = ["payments"]
issuers = ["github"]
sensitivity = "internal"
[role.payments-secrets.jwt]
audience = "https://openbao.acme.example"
"#;

const MAPPINGS: &str = r#"[file]
issuer = "github"
[file.match]
repository = { set = "payments-services" }

[set.payments-services]
repositories = [
  { name = "acme/payments-api", id = 740000001 },
  { name = "acme/payments-web", id = 740000002 },
]

[[mapping]]
name = "payments-staging"
description = "Reads secrets from any branch"
roles = ["payments-secrets"]
[mapping.match]
environment = "staging"
"#;
