//! `[role.NAME.aws]`, judged with all its faults at once: whatever AWS would refuse at every exchange does not load.

use super::{
    super::catalogue::Deployment,
    DURATION_SECONDS_MAX, DURATION_SECONDS_MIN, Mode, Settings,
    arn::{RoleArn, is_policy, is_region},
    policy::{self, POLICY_CHARACTERS_MAX},
    session::{RESERVED, TAG_KEY_CHARACTERS_MAX, TAG_VALUE_CHARACTERS_MAX, TAGS_MAX, TAGS_RESERVED, Template, in_tag},
};
use claimbound_core::{
    diag::{Code, Diagnostic, Span, did_you_mean},
    mapping::{MappingSet, Role},
};
use std::collections::BTreeMap;

pub const KEYS: [&str; 6] = ["role_arn", "region", "session_policy", "session_tags", "external_id", "policy_arns"];
/// AWS attaches no more managed policies to a session.
pub(super) const POLICY_ARNS_MAX: usize = 10;
const EXTERNAL_ID_CHARACTERS_MAX: usize = 1224;
/// When so little is left, botocore and the SDK for JavaScript ask for new keys before each call.
const RENEWED_SECONDS: u32 = 900;

const UNKNOWN_KEY: Code = Code(820);
const ROLE_ARN: Code = Code(821);
const REGION: Code = Code(822);
const POLICY_MISSING: Code = Code(823);
const POLICY_UNFIT: Code = Code(824);
const POLICY_TOO_LONG: Code = Code(825);
const TAGS: Code = Code(826);
const POLICY_ARNS: Code = Code(827);
const EXTERNAL_ID: Code = Code(828);
const LIFETIME: Code = Code(829);
const BRIEF: Code = Code(830);
const EAGER: Code = Code(750);
/// The codes of this backend's findings, with their titles.
pub const CODES: [(Code, &str); 12] = [
    (UNKNOWN_KEY, "a key that an `aws` role does not have"),
    (ROLE_ARN, "a `role_arn` that names no role"),
    (REGION, "an `aws` role without a region, or with one of another partition"),
    (POLICY_MISSING, "a `session_policy` that is no file of the folder"),
    (POLICY_UNFIT, "a session policy that AWS would refuse"),
    (POLICY_TOO_LONG, "a session policy longer than 2,048 characters"),
    (TAGS, "`session_tags` that AWS would refuse, or that are the broker's own"),
    (POLICY_ARNS, "`policy_arns` that name no managed policies"),
    (EXTERNAL_ID, "an `external_id` that AWS would refuse or never see"),
    (LIFETIME, "an `aws` role whose sessions live shorter or longer than AWS allows"),
    (BRIEF, "a mapping that never gives its `aws` role, because AWS has no sessions that short"),
    (EAGER, "an `aws` role that the STS look-alike gives for too short a time"),
];

/// What a role says about its sessions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    pub role_arn: RoleArn,
    /// `None`: the backend's.
    pub region: Option<String>,
    /// Without blanks.
    pub policy: Option<String>,
    pub policy_arns: Vec<String>,
    pub tags: Vec<(String, Template)>,
    pub external_id: Option<String>,
}

impl Config {
    /// Reads a role's parameters; all faults at once. Without a deployment, what the backend adds cannot be judged.
    ///
    /// # Errors
    /// All findings.
    pub fn parse(
        role: &Role,
        policies: &BTreeMap<String, std::sync::Arc<str>>,
        deployment: Option<&Deployment<'_>>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let backend = deployment.and_then(|deployment| deployment.backends.get(&role.backend));
        let mut judge = Judge { role, faults: Vec::new() };
        judge.keys();
        judge.lifetime();
        let role_arn = judge.role_arn();
        let region = judge.region(role_arn.as_ref(), backend);
        let policy = judge.policy(policies);
        let policy_arns = judge.policy_arns(role_arn.as_ref());
        let tags = judge.tags();
        let external_id = judge.external_id(backend);
        match role_arn {
            Some(role_arn) if judge.faults.is_empty() => {
                Ok(Self { role_arn, region, policy, policy_arns, tags, external_id })
            }
            _ => Err(judge.faults),
        }
    }
}

/// Mappings that name an `aws` role for less time than AWS gives: they load, and never give it.
pub fn briefs(set: &MappingSet) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for mapping in &set.mappings {
        let Some(seconds) = [mapping.max_duration, mapping.duration].into_iter().flatten().min() else { continue };
        let role = mapping.roles.iter().map(|id| set.role(*id)).find(|role| role.kind == super::NAME);
        let Some(role) = role.filter(|_| seconds.0 < DURATION_SECONDS_MIN) else { continue };
        let message = format!(
            "mapping `{}` gives `{}` for {} s; AWS gives sessions of {DURATION_SECONDS_MIN} s and more",
            mapping.name, role.name, seconds.0
        );
        let help = "write at least `\"15m\"`; a shorter time is refused at every exchange, never rounded up";
        found.push(Diagnostic::error(BRIEF, mapping.span.clone(), message, help).warning());
    }
    found
}

/// Roles whose sessions SDKs would renew at every call: at the STS look-alike a token is good for one.
pub fn eager(set: &MappingSet) -> Vec<Diagnostic> {
    let short = |role: &&Role| role.kind == super::NAME && role.max_duration.0 <= RENEWED_SECONDS;
    let told = set.roles.iter().filter(short).map(|role| {
        let message = format!(
            "sessions of `{}` live {RENEWED_SECONDS} s at most, and SDKs renew what has so little time left at every call",
            role.name
        );
        let help = "give it through `claimbound exec` or `credential-process`; for the STS look-alike write more than `\"15m\"`";
        Diagnostic::error(EAGER, role.span.clone(), message, help).warning()
    });
    told.collect()
}

struct Judge<'a> {
    role: &'a Role,
    faults: Vec<Diagnostic>,
}

impl<'a> Judge<'a> {
    fn fault(&mut self, code: Code, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        self.faults.push(Diagnostic::error(code, span.clone(), message, help));
    }

    fn get(&self, key: &str) -> Option<(&'a toml::Value, &'a Span)> {
        self.role.parameters.values.get(key).map(|(value, span)| (value, span))
    }

    /// Text under a key; anything else is a fault.
    fn text(&mut self, key: &str, code: Code, help: &str) -> Option<(&'a str, &'a Span)> {
        let (value, span) = self.get(key)?;
        if value.as_str().is_none() {
            self.fault(code, span, format!("`{key}` is no text"), help);
        }
        Some((value.as_str()?, span))
    }

    fn keys(&mut self) {
        let role = self.role;
        for (key, (_, span)) in &role.parameters.values {
            if !KEYS.contains(&key.as_str()) {
                let help = match did_you_mean(key, KEYS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("an `aws` role has the keys `{}`", KEYS.join("`, `")),
                };
                self.fault(UNKNOWN_KEY, span, format!("role `{}`: unknown key `aws.{key}`", role.name), help);
            }
        }
    }

    fn lifetime(&mut self) {
        let role = self.role;
        let help = "write a `max_duration` from `\"15m\"` to `\"12h\"`";
        let name = &role.name;
        if role.max_duration.0 < DURATION_SECONDS_MIN {
            let message = format!("role `{name}` gives sessions that are shorter than any that AWS gives");
            self.fault(LIFETIME, &role.span, message, help);
        } else if role.max_duration.0 > DURATION_SECONDS_MAX {
            let message = format!("role `{name}` gives sessions that are longer than any that AWS gives");
            self.fault(LIFETIME, &role.span, message, help);
        }
    }

    fn role_arn(&mut self) -> Option<RoleArn> {
        let help = "write `role_arn = \"arn:aws:iam::111122223333:role/NAME\"`; `{target.account}` may stand in it, a claim may not";
        if self.get("role_arn").is_none() {
            let message = format!("role `{}` has no `role_arn`", self.role.name);
            self.fault(ROLE_ARN, &self.role.parameters.span, message, help);
        }
        let (text, span) = self.text("role_arn", ROLE_ARN, help)?;
        match RoleArn::parse(text) {
            Ok(arn) => Some(arn),
            Err(why) => {
                self.fault(ROLE_ARN, span, format!("`role_arn` is `{text}`: {why}"), help);
                None
            }
        }
    }

    fn region(&mut self, arn: Option<&RoleArn>, backend: Option<&Settings>) -> Option<String> {
        let help = "write the region whose STS is asked and that the job works in: `region = \"eu-west-1\"`";
        let own = self.text("region", REGION, help);
        let span = own.map_or(&self.role.parameters.span, |(_, span)| span);
        let of_backend = backend.and_then(|backend| backend.region.as_deref());
        let Some(region) = own.map(|(text, _)| text).or(of_backend) else {
            if backend.is_some() && self.get("region").is_none() {
                let message = format!("neither role `{}` nor its backend says a `region`", self.role.name);
                self.fault(REGION, span, message, help);
            }
            return None;
        };
        if !is_region(region) {
            self.fault(REGION, span, format!("`{region}` is no region"), help);
        } else if let Some(arn) = arn.filter(|arn| !arn.partition.has_region(region)) {
            let message = format!("`{region}` is no region of partition `{}`, where the role is", arn.partition.name);
            self.fault(REGION, span, message, help);
        }
        own.map(|(text, _)| text.to_owned())
    }

    fn policy(&mut self, policies: &BTreeMap<String, std::sync::Arc<str>>) -> Option<String> {
        let help = "write a path of the mapping folder, like `session_policy = \"policies/NAME.json\"`";
        let (path, span) = self.text("session_policy", POLICY_MISSING, help)?;
        let Some(text) = policies.get(path) else {
            let help = match did_you_mean(path, policies.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => help.to_owned(),
            };
            self.fault(POLICY_MISSING, span, format!("the folder has no `{path}`"), help);
            return None;
        };
        let at = Span::new(path, 0..0);
        let (code, message, help) = match policy::judge(text) {
            Ok(policy) => return Some(policy),
            Err(policy::Fault::Unfit(why)) => {
                (POLICY_UNFIT, format!("`{path}` is no session policy: {why}"), "write what AWS accepts as a policy".to_owned())
            }
            Err(policy::Fault::TooLong(length)) => (
                POLICY_TOO_LONG,
                format!("`{path}` has {length} characters without blanks; AWS takes {POLICY_CHARACTERS_MAX}"),
                "shorten it: name groups of actions, or move what is common into the role's own policy or `policy_arns`"
                    .to_owned(),
            ),
        };
        self.faults.push(Diagnostic::error(code, at, message, help).and(span.clone(), "used here"));
        None
    }

    fn policy_arns(&mut self, arn: Option<&RoleArn>) -> Vec<String> {
        let Some((value, span)) = self.get("policy_arns") else { return Vec::new() };
        let help = "write `policy_arns = [\"arn:aws:iam::aws:policy/ReadOnlyAccess\"]`, of the role's partition";
        let listed: Vec<&str> = value.as_array().into_iter().flatten().filter_map(toml::Value::as_str).collect();
        if value.as_array().is_none_or(|list| list.len() != listed.len()) || listed.is_empty() {
            self.fault(POLICY_ARNS, span, "`policy_arns` is no list of ARNs", help);
        } else if listed.len() > POLICY_ARNS_MAX {
            let message = format!("`policy_arns` lists {}; AWS takes {POLICY_ARNS_MAX}", listed.len());
            self.fault(POLICY_ARNS, span, message, "keep the ones that narrow the session");
        }
        for text in &listed {
            if arn.is_some_and(|arn| !is_policy(text, arn.partition)) {
                self.fault(POLICY_ARNS, span, format!("`{text}` is no managed policy"), help);
            }
        }
        listed.into_iter().map(str::to_owned).collect()
    }

    fn tags(&mut self) -> Vec<(String, Template)> {
        let Some((value, span)) = self.get("session_tags") else { return Vec::new() };
        let help = "write `session_tags = { team = \"payments\", repository = \"{claim.repository}\" }`";
        let Some(table) = value.as_table() else {
            self.fault(TAGS, span, "`session_tags` is no table of texts", help);
            return Vec::new();
        };
        let most = TAGS_MAX - TAGS_RESERVED.len();
        if table.len() > most {
            let message =
                format!("`session_tags` has {} tags; AWS takes {TAGS_MAX}, and four are the broker's", table.len());
            self.fault(TAGS, span, message, format!("keep at most {most}"));
        }
        let mut tags = Vec::new();
        let mut folded = BTreeMap::new();
        for (key, value) in table {
            if let Some(other) = folded.insert(key.to_lowercase(), key) {
                let message = format!("the tags `{other}` and `{key}` are one to AWS: it folds their letters' case");
                self.fault(TAGS, span, message, "keep one of them");
            }
            if let Some(why) = key_fault(key) {
                self.fault(TAGS, span, format!("`{key}` can be no tag: {why}"), "give it another name");
            }
            let Some(text) = value.as_str() else {
                self.fault(TAGS, span, format!("the value of tag `{key}` is no text"), help);
                continue;
            };
            let template = Template::parse(text);
            let fixed = template.fixed();
            if let Some(letter) = fixed.chars().find(|letter| !in_tag(*letter)) {
                let message = format!("the value of tag `{key}` holds {letter:?}, which AWS takes in no tag");
                self.fault(TAGS, span, message, "use letters, digits, blanks and `_.:/=+-@`");
            }
            if fixed.chars().count() > TAG_VALUE_CHARACTERS_MAX {
                let message = format!("the value of tag `{key}` is longer than {TAG_VALUE_CHARACTERS_MAX} characters");
                self.fault(TAGS, span, message, "shorten it");
            }
            tags.push((key.clone(), template));
        }
        tags
    }

    fn external_id(&mut self, backend: Option<&Settings>) -> Option<String> {
        let help = "write what the role's trust policy expects: 2 to 1224 letters, digits and `_+=,.@:/-`";
        let (text, span) = self.text("external_id", EXTERNAL_ID, help)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b);
        if !(2..=EXTERNAL_ID_CHARACTERS_MAX).contains(&text.len()) || !text.bytes().all(plain) {
            self.fault(EXTERNAL_ID, span, format!("`{text}` can be no external id"), help);
        } else if backend.is_some_and(|backend| backend.mode == Mode::WebIdentity) {
            let message =
                format!("backend `{}` is in mode `web-identity`, which has no external id", self.role.backend);
            let help =
                "remove it: the trust policy's `sub` says which role may come; or use a backend in mode `assume-role`";
            self.fault(EXTERNAL_ID, span, message, help);
        }
        Some(text.to_owned())
    }
}

fn key_fault(key: &str) -> Option<String> {
    let folded = key.to_lowercase();
    if folded.starts_with(RESERVED) {
        Some(format!("tags that begin with `{RESERVED}` are the broker's own"))
    } else if folded.starts_with("aws:") {
        Some("tags that begin with `aws:` are AWS's own".to_owned())
    } else if key.is_empty() || key.chars().count() > TAG_KEY_CHARACTERS_MAX {
        Some(format!("it must have 1 to {TAG_KEY_CHARACTERS_MAX} characters"))
    } else {
        let letter = key.chars().find(|letter| !in_tag(*letter))?;
        Some(format!("AWS takes no {letter:?} in it"))
    }
}
