//! `[backend.NAME.denial]`: the policy by which AWS is told what to refuse. Credentials for it come from where AWS's
//! programs look for them: environment, profile, container, instance.

use super::{AwsBackend, Judge, VALUE, urls::is_endpoint};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use toml::Spanned;

/// `[backend.NAME.denial]`, judged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AwsDenial {
    /// A customer managed policy, the permissions boundary of the roles of its account.
    pub policy_arn: String,
    pub endpoint_url: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Denial {
    policy_arn: Spanned<String>,
    endpoint_url: Option<Spanned<String>>,
}

impl Judge {
    pub(super) fn denial(&mut self, denial: Denial, development: bool) -> AwsDenial {
        let Denial { policy_arn, endpoint_url } = denial;
        if !is_policy(policy_arn.get_ref()) {
            let help = "write `policy_arn = \"arn:aws:iam::111122223333:policy/claimbound-denials\"`, the policy that \
                        `claimbound trust aws --boundary` prints; an AWS managed one cannot be written";
            let message = format!("`{}` is no managed policy of an account", policy_arn.get_ref());
            self.error(VALUE, policy_arn.span(), message, help);
        }
        if let Some(url) = endpoint_url.as_ref().filter(|url| !is_endpoint(url.get_ref(), development)) {
            let help = "write an `https://` URL; leave it out for AWS's own";
            self.error(VALUE, url.span(), format!("`{}` is no endpoint of IAM", url.get_ref()), help);
        }
        AwsDenial { policy_arn: policy_arn.into_inner(), endpoint_url: endpoint_url.map(Spanned::into_inner) }
    }

    /// Two lists in one policy would undo each other.
    pub(super) fn policies_apart(&mut self, backends: &BTreeMap<String, AwsBackend>) {
        let mut seen = BTreeSet::new();
        for (name, denial) in backends.iter().filter_map(|(name, backend)| Some((name, backend.denial.as_ref()?))) {
            if !seen.insert(&denial.policy_arn) {
                let help = "give each backend a policy of its own";
                let message = format!("`[backend.{name}.denial]` names the policy of another backend");
                self.error(VALUE, 0..0, message, help);
            }
        }
    }
}

/// `arn:PARTITION:iam::ACCOUNT:policy/PATH/NAME`.
fn is_policy(text: &str) -> bool {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, resource] = parts.as_slice() else { return false };
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-/".contains(&b);
    partition.starts_with("aws")
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && resource.strip_prefix("policy/").is_some_and(|name| !name.is_empty() && name.bytes().all(letter))
}
