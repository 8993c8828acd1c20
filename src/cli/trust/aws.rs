//! `claimbound trust aws`: the identity provider and the trust policy of one role. One statement serves every
//! repository, because the assertion's `sub` is the role; who came is in the session's tags and source identity.

use super::Common;
use crate::{
    broker,
    config::{self, AwsMode},
    issuance::aws::{
        self, Config,
        arn::{RoleArn, is_principal, policy_of},
        denial,
        session::identity,
    },
    operate, store,
};
use anyhow::{Result, bail};
use claimbound_core::{
    mapping::{Mapping, MappingSet, Role, RoleId, Test},
    time::UnixSeconds,
    workload::{Claim, Profiles},
};
use clap::Args;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// AWS takes no shorter maximum for a role.
const SESSION_SECONDS_MIN: u32 = 3600;
/// A trust policy beyond this needs AWS's quota raised.
const POLICY_CHARACTERS_MAX: usize = 2048;
/// The name of the boundary, unless the configuration names another.
const BOUNDARY: &str = "claimbound-denials";

#[derive(Debug, Args)]
#[command(after_help = "Example:
  claimbound trust aws --role payments-deploy > trust.tf")]
pub struct AwsArgs {
    #[command(flatten)]
    pub common: Common,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Also fix the immutable ids that today's mappings give the role to; print again when they change
    #[arg(long)]
    pub pin: bool,
    /// The broker's own IAM principal: a trust policy for a backend in mode `assume-role`
    #[arg(long, value_name = "ARN")]
    pub broker_arn: Option<String>,
    /// Also the permissions boundary by which sessions can be ended early, and what the broker's own identity needs to
    /// write it
    #[arg(long)]
    pub boundary: bool,
    /// Instead, the boundary's policy as it is to be now, JSON: for one that the broker may not write. Its `Deny` statements
    /// can be merged into a boundary of one's own
    #[arg(long, conflicts_with_all = ["boundary", "pin", "broker_arn"])]
    pub denials: bool,
}

/// What is printed.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, clap::ValueEnum)]
pub enum Format {
    /// HCL
    #[default]
    Terraform,
    /// Provider and trust policy as one object
    Json,
    /// A template, as JSON
    Cloudformation,
}

/// What is known besides the arguments.
pub struct Known<'a> {
    pub set: &'a MappingSet,
    pub profiles: &'a Profiles,
    pub issuer_url: &'a str,
    /// Of the role's backend, where a configuration says it.
    pub mode: Option<AwsMode>,
    pub external_id: Option<&'a str>,
    /// The policy of `[backend.NAME.denial]`.
    pub policy_arn: Option<&'a str>,
}

/// The permissions boundary of an account's roles.
struct Boundary {
    arn: String,
    name: String,
    path: String,
}

impl Boundary {
    fn of(role: &RoleArn, known: &Known<'_>) -> Self {
        let of_account = |arn: &&str| {
            policy_of(arn).is_some_and(|(partition, account)| partition == role.partition && account == role.account)
        };
        let arn = known.policy_arn.filter(of_account).map_or_else(
            || format!("arn:{}:iam::{}:policy/{BOUNDARY}", role.partition.name, role.account),
            str::to_owned,
        );
        let resource = arn.rsplit(":policy").next().unwrap_or_default().to_owned();
        let (path, name) = resource.rsplit_once('/').unwrap_or(("", BOUNDARY));
        Self { name: name.to_owned(), path: format!("{path}/"), arn }
    }
}

/// Prints for one role.
pub fn render(args: &AwsArgs, role: &Role, known: &Known<'_>) -> Result<String> {
    if role.kind != aws::NAME {
        bail!("role `{}` has a backend of kind `{}`; only `aws` roles are trusted by AWS", role.name, role.kind);
    }
    let config = Config::parse(role, &known.set.policies, None).map_err(|faults| super::told(&faults))?;
    if known.mode == Some(AwsMode::AssumeRole) && args.broker_arn.is_none() {
        bail!(
            "backend `{}` is in mode `assume-role`; name the broker's own principal with `--broker-arn ARN`",
            role.backend
        );
    }
    if let Some(broker) = &args.broker_arn {
        let partition = config.role_arn.partition;
        if !is_principal(broker, partition) {
            bail!(
                "`--broker-arn {broker}` is no IAM role or user of partition `{}`; write \
                 `arn:{}:iam::111122223333:role/NAME`, for a session its role",
                partition.name,
                partition.name
            );
        }
        if known.mode == Some(AwsMode::WebIdentity) {
            bail!(
                "backend `{}` is in mode `web-identity`, which shows AWS no principal; leave out `--broker-arn`",
                role.backend
            );
        }
    }
    let pins = if args.pin { Some(principals(role, known)?) } else { None };
    let policy = trust_policy(args, role, &config, known, pins);
    let length = policy.to_string().chars().count();
    if length > POLICY_CHARACTERS_MAX {
        eprintln!("warning: the trust policy has {length} characters; AWS takes {POLICY_CHARACTERS_MAX} by default");
    }
    let provider = args
        .broker_arn
        .is_none()
        .then_some(Provider { url: known.issuer_url, audience: config.role_arn.partition.audience });
    let seconds = role.max_duration.0.max(SESSION_SECONDS_MIN);
    let boundary = args.boundary.then(|| Boundary::of(&config.role_arn, known));
    Ok(match args.format {
        Format::Terraform => terraform(role, &config, provider, seconds, &policy, boundary.as_ref()),
        Format::Json => {
            let provider = provider.map(|p| json!({ "url": p.url, "client_id_list": [p.audience] }));
            let role = json!({ "arn": config.role_arn.text, "max_session_duration": seconds });
            let mut all = json!({ "provider": provider, "role": role, "trust_policy": policy });
            if let Some(Boundary { arn, .. }) = &boundary {
                let (policy, rights) = (denial::nothing_denied(), denial::own_rights(arn));
                all["boundary"] = json!({ "arn": arn, "policy": policy, "broker_policy": rights });
            }
            format!("{all:#}\n")
        }
        Format::Cloudformation => cloudformation(role, &config, provider, seconds, &policy, boundary.as_ref()),
    })
}

struct Provider<'a> {
    url: &'a str,
    audience: &'static str,
}

fn trust_policy(args: &AwsArgs, role: &Role, config: &Config, known: &Known<'_>, pins: Option<Vec<String>>) -> Value {
    let arn = &config.role_arn;
    let mut equals = Map::new();
    let (principal, action) = match &args.broker_arn {
        None => {
            // AWS names the conditions after the issuer's URL without its scheme.
            let issuer = known.issuer_url.split_once("://").map_or(known.issuer_url, |(_, rest)| rest);
            equals.insert(format!("{issuer}:aud"), arn.partition.audience.into());
            equals.insert(format!("{issuer}:sub"), aws::subject(&role.name).into());
            let provider = format!("arn:{}:iam::{}:oidc-provider/{issuer}", arn.partition.name, arn.account);
            (json!({ "Federated": provider }), "sts:AssumeRoleWithWebIdentity")
        }
        Some(broker) => {
            equals.insert("aws:RequestTag/claimbound_role".to_owned(), role.name.as_str().into());
            if let Some(id) = config.external_id.as_deref().or(known.external_id) {
                equals.insert("sts:ExternalId".to_owned(), id.into());
            }
            (json!({ "AWS": broker }), "sts:AssumeRole")
        }
    };
    if let Some(pins) = pins {
        equals.insert(format!("aws:RequestTag/{}", aws::session::TAG_PRINCIPAL), pins.into());
    }
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": principal,
            "Action": [action, "sts:TagSession", "sts:SetSourceIdentity"],
            "Condition": { "StringEquals": equals },
        }],
    })
}

/// Every principal that today's mappings can give the role to, as its tag says it.
pub fn principals(role: &Role, known: &Known<'_>) -> Result<Vec<String>> {
    let Known { set, profiles, .. } = known;
    let Some(id) = set.role_named(&role.name) else { bail!("no role `{}` in the folder", role.name) };
    let mut found = BTreeSet::new();
    for (at, mapping) in set.mappings.iter().enumerate().filter(|(_, one)| !one.shadow && one.roles.contains(&id)) {
        let issuer = set.issuer(mapping.issuer);
        let pin = profiles.get(&issuer.profile).and_then(|profile| profile.pins().first().copied());
        let Some(ids) = pinned(set, at, mapping, id, pin) else {
            bail!("mapping `{}` does not pin single ids, so `--pin` cannot list them; leave it out", mapping.name);
        };
        found.extend(ids.into_iter().map(|id| identity(&issuer.name, &id)));
    }
    if found.is_empty() {
        bail!("no mapping gives role `{}`, so there is nobody to pin", role.name);
    }
    Ok(found.into_iter().collect())
}

/// The ids that all conditions of one mapping leave; `None` where they leave any number.
fn pinned(
    set: &MappingSet,
    at: usize,
    mapping: &Mapping,
    role: RoleId,
    pin: Option<Claim>,
) -> Option<BTreeSet<String>> {
    let number = claimbound_core::mapping::MappingId(u32::try_from(at).ok()?);
    debug_assert_eq!(set.mapping(number).name, mapping.name);
    let sets = set.conditions_for(number, role).filter_map(|condition| match &condition.test {
        Test::Text(lang) if pin.is_some_and(|pin| condition.claim == pin) => {
            lang.members().map(|members| members.map(str::to_owned).collect())
        }
        test if pin == Some(Claim::RepositoryId) => {
            Some(test.repositories()?.iter().map(|(_, id)| id.clone()).collect::<BTreeSet<_>>())
        }
        _ => None,
    });
    sets.reduce(|one, other| one.intersection(&other).cloned().collect())
}

/// A name that HCL and CloudFormation both take.
fn label(role: &Role, between: &str) -> String {
    role.name.split(['-', '.']).collect::<Vec<_>>().join(between)
}

/// Path of the role, with both its slashes.
fn path(config: &Config) -> &str {
    let resource = config.role_arn.text.rsplit(':').next().unwrap_or_default();
    resource.strip_prefix("role").and_then(|rest| rest.strip_suffix(config.role_arn.name.as_str())).unwrap_or("/")
}

/// An object of JSON is one of HCL; nothing in it begins a template.
fn hcl(value: &Value) -> String {
    format!("{value:#}").replace('\n', "\n  ")
}

fn terraform(
    role: &Role,
    config: &Config,
    provider: Option<Provider<'_>>,
    seconds: u32,
    policy: &Value,
    boundary: Option<&Boundary>,
) -> String {
    let mut text = String::new();
    if let Some(Provider { url, audience }) = provider {
        text.push_str(&format!(
            "# Once per account, however many roles trust it.\n\
             resource \"aws_iam_openid_connect_provider\" \"claimbound\" {{\n  \
               url            = {}\n  \
               client_id_list = [{}]\n}}\n\n",
            json!(url),
            json!(audience)
        ));
    }
    let needs =
        if text.is_empty() { "" } else { "  depends_on           = [aws_iam_openid_connect_provider.claimbound]\n" };
    let policy = hcl(policy);
    let bound = boundary.map_or("", |_| "  permissions_boundary = aws_iam_policy.claimbound_denials.arn\n");
    if let Some(Boundary { arn, name, path }) = boundary {
        text.push_str(&format!(
            "# Once per account. It allows everything, as a boundary must, and denies what operators end: never attach it as a\n\
             # permissions policy. The broker writes its versions, which Terraform must leave.\n\
             resource \"aws_iam_policy\" \"claimbound_denials\" {{\n  \
               name   = {name}\n  \
               path   = {path}\n  \
               policy = jsonencode({policy})\n  \
               lifecycle {{\n    ignore_changes = [policy]\n  }}\n}}\n\n\
             # For the broker's own identity; the one permission that it needs for this.\n\
             resource \"aws_iam_policy\" \"claimbound_denier\" {{\n  \
               name   = {denier}\n  \
               policy = jsonencode({rights})\n}}\n\n",
            name = json!(name),
            path = json!(path),
            policy = hcl(&denial::nothing_denied()),
            denier = json!(format!("{name}-writer")),
            rights = hcl(&denial::own_rights(arn)),
        ));
    }
    text.push_str(&format!(
        "resource \"aws_iam_role\" \"{label}\" {{\n  \
           name                 = {name}\n  \
           path                 = {path}\n  \
           max_session_duration = {seconds}\n\
         {bound}{needs}  \
           assume_role_policy   = jsonencode({policy})\n}}\n",
        label = label(role, "_"),
        name = json!(config.role_arn.name),
        path = json!(path(config)),
    ));
    text
}

fn cloudformation(
    role: &Role,
    config: &Config,
    provider: Option<Provider<'_>>,
    seconds: u32,
    policy: &Value,
    boundary: Option<&Boundary>,
) -> String {
    let capital = |part: &str| part[..1].to_ascii_uppercase() + &part[1..];
    let logical: String = role.name.split(['-', '.']).filter(|part| !part.is_empty()).map(capital).collect();
    let mut properties = json!({
        "Type": "AWS::IAM::Role",
        "Properties": {
            "RoleName": config.role_arn.name,
            "Path": path(config),
            "MaxSessionDuration": seconds,
            "AssumeRolePolicyDocument": policy,
        },
    });
    let mut resources = Map::new();
    if let Some(Provider { url, audience }) = provider {
        properties["DependsOn"] = "ClaimboundProvider".into();
        let provider = json!({ "Url": url, "ClientIdList": [audience] });
        resources.insert(
            "ClaimboundProvider".to_owned(),
            json!({ "Type": "AWS::IAM::OIDCProvider", "Properties": provider }),
        );
    }
    if let Some(Boundary { arn, name, path }) = boundary {
        properties["Properties"]["PermissionsBoundary"] = json!({ "Ref": "ClaimboundDenials" });
        let managed = |name: &str, path: &str, document: Value| {
            let properties = json!({ "ManagedPolicyName": name, "Path": path, "PolicyDocument": document });
            json!({ "Type": "AWS::IAM::ManagedPolicy", "Properties": properties })
        };
        resources.insert("ClaimboundDenials".to_owned(), managed(name, path, denial::nothing_denied()));
        let writer = managed(&format!("{name}-writer"), "/", denial::own_rights(arn));
        resources.insert("ClaimboundDenier".to_owned(), writer);
    }
    resources.insert(format!("{logical}Role"), properties);
    format!("{:#}\n", json!({ "AWSTemplateFormatVersion": "2010-09-09", "Resources": resources }))
}

/// The policy that the boundary of a role is to be now.
pub fn denials(role: &Role, config: &config::Config, now: UnixSeconds) -> Result<String> {
    let Some((list, _)) = operate::list_of(&broker::deniers(config), role) else {
        bail!("role `{}` has a backend of kind `{}`; only sessions of `aws` roles can be denied", role.name, role.kind);
    };
    let reader = store::open_reader(&config.store)?;
    let (policy, left_out) = denial::policy(&operate::listed(reader.as_ref(), &list, now)?);
    if left_out > 0 {
        eprintln!(
            "warning: {left_out} entries do not fit into a policy of {} characters",
            denial::POLICY_CHARACTERS_MAX
        );
    }
    let policy: Value = serde_json::from_str(&policy)?;
    Ok(format!("{policy:#}\n"))
}
