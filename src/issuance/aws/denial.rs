//! What AWS is told to refuse: a customer managed policy that allows everything and denies what is on a list, and that
//! roles have as their permissions boundary. The operator's Terraform makes it; the broker, where it has an identity for
//! that, writes versions of it and can do nothing else.
//!
//! Nothing is remembered here: the list comes whole from the store each time, so that of several brokers the last one
//! writes what all of them know.

use super::{
    arn::{Partition, RoleArn, policy_of},
    session::{TAG_LEASE, TAG_ROLE},
    sts::failure,
};
use aws_sdk_iam::{
    Client,
    config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig},
    types::PolicyUsageType,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use tokio::sync::OnceCell;

/// IAM takes no more characters of a managed policy, blanks not counted.
pub const POLICY_CHARACTERS_MAX: usize = 6144;
/// IAM keeps no more versions of a managed policy.
pub const VERSIONS_MAX: usize = 5;
/// How often a version is tried again to be written that others took the room of.
const TRIES_MAX: u32 = 3;
/// A session that another one assumed lives an hour at most, and carries its tags and source identity.
pub const CHAINED_SECONDS: i64 = 3600;

/// `[backend.NAME.denial]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    pub policy_arn: String,
    /// Instead of the partition's own endpoint of IAM.
    pub endpoint_url: Option<String>,
    pub timeout: Duration,
    pub connect_timeout: Duration,
}

/// Something that AWS shall refuse.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// The session of a lease, and sessions that it assumed.
    Lease(String),
    /// Sessions of a role that began before (Unix time).
    Role(String, i64),
    /// Sessions of a source identity that began before (Unix time).
    Principal(String, i64),
}

/// The policy with these entries, without blanks, as far as they fit: those that cut off many first, then the others in
/// their order. Says how many did not fit.
pub fn policy(entries: &[Entry]) -> (String, usize) {
    let mut kept: Vec<&Entry> = entries.iter().filter(|entry| !matches!(entry, Entry::Lease(_))).collect();
    kept.extend(entries.iter().filter(|entry| matches!(entry, Entry::Lease(_))));
    let wanted = kept.len();
    loop {
        let text = document(&kept).to_string();
        if text.len() <= POLICY_CHARACTERS_MAX || kept.is_empty() {
            return (text, wanted - kept.len());
        }
        // What is too much is at least this many entries of the usual length.
        let longest = kept.last().map_or(1, |entry| match entry {
            Entry::Lease(text) | Entry::Role(text, _) | Entry::Principal(text, _) => text.len() + 200,
        });
        let over = (text.len() - POLICY_CHARACTERS_MAX).div_ceil(longest).max(1);
        kept.truncate(kept.len().saturating_sub(over));
    }
}

/// What a policy denies, as statements to be merged into a boundary of one's own.
pub fn statements(entries: &[&Entry]) -> Vec<Value> {
    let deny = |sid: String, condition: Value| json!({ "Sid": sid, "Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition });
    let mut all = Vec::new();
    let leases: Vec<&str> = entries
        .iter()
        .filter_map(|entry| if let Entry::Lease(id) = entry { Some(id.as_str()) } else { None })
        .collect();
    if !leases.is_empty() {
        let tag = format!("aws:PrincipalTag/{TAG_LEASE}");
        all.push(deny("ClaimboundLeases".to_owned(), json!({ "StringEquals": { tag: leases } })));
    }
    let mut cuts: BTreeMap<(bool, i64), Vec<&str>> = BTreeMap::new();
    for entry in entries {
        match entry {
            Entry::Lease(_) => {}
            Entry::Role(role, before) => cuts.entry((false, *before)).or_default().push(role),
            Entry::Principal(identity, before) => cuts.entry((true, *before)).or_default().push(identity),
        }
    }
    for (number, ((principals, before), values)) in cuts.into_iter().enumerate() {
        let key = if principals { "aws:SourceIdentity".to_owned() } else { format!("aws:PrincipalTag/{TAG_ROLE}") };
        let before = jiff::Timestamp::from_second(before).map_or_else(|_| before.to_string(), |at| at.to_string());
        let condition = json!({ "StringEquals": { key: values }, "DateLessThan": { "aws:TokenIssueTime": before } });
        all.push(deny(format!("ClaimboundCut{number}"), condition));
    }
    all
}

fn document(entries: &[&Entry]) -> Value {
    let mut all = vec![json!({ "Sid": "ClaimboundBoundary", "Effect": "Allow", "Action": "*", "Resource": "*" })];
    all.extend(statements(entries));
    json!({ "Version": "2012-10-17", "Statement": all })
}

/// The policy as it is while nothing is denied.
pub fn nothing_denied() -> Value {
    document(&[])
}

/// What the broker's own identity may do with the policy, and nothing else.
pub fn own_rights(policy_arn: &str) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Action": [
                "iam:CreatePolicyVersion", "iam:DeletePolicyVersion", "iam:GetPolicy", "iam:GetPolicyVersion",
                "iam:ListEntitiesForPolicy", "iam:ListPolicyVersions",
            ],
            "Resource": policy_arn,
        }],
    })
}

/// AWS has the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    /// Of the policy.
    pub version: String,
    /// Whether it had another before.
    pub changed: bool,
    pub entries: usize,
    /// Entries that did not fit.
    pub left_out: usize,
}

/// Who the policy is attached to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attached {
    /// As a boundary: names of roles.
    pub boundary_of: Vec<String>,
    /// As permissions: roles, users and groups, which it lets do everything.
    pub permits: Vec<String>,
}

/// One policy, and who may write it.
pub struct Denier {
    settings: Settings,
    client: OnceCell<Client>,
}

impl Denier {
    pub fn new(settings: Settings) -> Self {
        Self { settings, client: OnceCell::new() }
    }

    pub fn policy_arn(&self) -> &str {
        &self.settings.policy_arn
    }

    /// Whether the role is of the policy's account: a boundary is of the same account as its role.
    pub fn covers(&self, role: &RoleArn) -> bool {
        let of = policy_of(&self.settings.policy_arn);
        of.is_some_and(|(partition, account)| partition == role.partition && account == role.account)
    }

    /// Has AWS take the list, if it has another one. Its effect follows within seconds, as IAM propagates it.
    ///
    /// # Errors
    /// What AWS said, or why it could not be asked.
    pub async fn apply(&self, entries: &[Entry]) -> Result<Applied, String> {
        let (text, left_out) = policy(entries);
        let entries = entries.len() - left_out;
        let arn = self.policy_arn();
        let client = self.client().await;
        let mut tries = 0;
        loop {
            tries += 1;
            let policy = client.get_policy().policy_arn(arn).send().await.map_err(|error| failure(error).text)?;
            let default = policy.policy.and_then(|policy| policy.default_version_id).unwrap_or_default();
            if self.says(client, &default, &text).await? {
                return Ok(Applied { version: default, changed: false, entries, left_out });
            }
            self.make_room(client).await?;
            let created = client.create_policy_version().policy_arn(arn).policy_document(&text).set_as_default(true);
            match created.send().await.map_err(failure) {
                Ok(made) => {
                    let version = made.policy_version.and_then(|version| version.version_id).unwrap_or_default();
                    return Ok(Applied { version, changed: true, entries, left_out });
                }
                // Another broker took the room that was made.
                Err(failure) if failure.code.as_deref() == Some("LimitExceeded") && tries < TRIES_MAX => {}
                Err(failure) => return Err(failure.text),
            }
        }
    }

    /// Whether this version says the same.
    async fn says(&self, client: &Client, version: &str, text: &str) -> Result<bool, String> {
        let asked = client.get_policy_version().policy_arn(self.policy_arn()).version_id(version).send().await;
        let answer = asked.map_err(|error| failure(error).text)?;
        let document = answer.policy_version.and_then(|version| version.document).unwrap_or_default();
        let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
        // IAM answers it as a part of a URL would be written.
        let decoded = url::form_urlencoded::parse(format!("d={}", document.replace('+', "%2B")).as_bytes())
            .next()
            .map(|(_, value)| value.into_owned());
        Ok(parsed(&decoded.unwrap_or_default()).is_some_and(|there| Some(there) == parsed(text)))
    }

    /// Deletes the oldest version, if there are as many as there may be.
    async fn make_room(&self, client: &Client) -> Result<(), String> {
        let arn = self.policy_arn();
        let listed = client.list_policy_versions().policy_arn(arn).send().await;
        let versions = listed.map_err(|error| failure(error).text)?.versions.unwrap_or_default();
        if versions.len() < VERSIONS_MAX {
            return Ok(());
        }
        let number = |id: &str| id.trim_start_matches('v').parse::<u64>().unwrap_or(u64::MAX);
        let others = versions.iter().filter(|version| !version.is_default_version);
        let oldest = others.filter_map(|version| version.version_id()).min_by_key(|id| number(id));
        let Some(oldest) = oldest else { return Ok(()) };
        match client.delete_policy_version().policy_arn(arn).version_id(oldest).send().await.map_err(failure) {
            Ok(_) => Ok(()),
            // Another broker was first.
            Err(failure) if failure.code.as_deref() == Some("NoSuchEntity") => Ok(()),
            Err(failure) => Err(failure.text),
        }
    }

    /// Who the policy is attached to; a hundred of each kind are enough to know.
    ///
    /// # Errors
    /// What AWS said, or why it could not be asked.
    pub async fn attached(&self) -> Result<Attached, String> {
        let client = self.client().await;
        let mut attached = Attached::default();
        for usage in [PolicyUsageType::PermissionsBoundary, PolicyUsageType::PermissionsPolicy] {
            let asked =
                client.list_entities_for_policy().policy_arn(self.policy_arn()).policy_usage_filter(usage.clone());
            let answer = asked.send().await.map_err(|error| failure(error).text)?;
            let roles = answer.policy_roles().iter().filter_map(|role| role.role_name());
            if usage == PolicyUsageType::PermissionsBoundary {
                attached.boundary_of.extend(roles.map(str::to_owned));
                continue;
            }
            attached.permits.extend(roles.map(|name| format!("role {name}")));
            let users = answer.policy_users().iter().filter_map(|user| user.user_name());
            attached.permits.extend(users.map(|name| format!("user {name}")));
            let groups = answer.policy_groups().iter().filter_map(|group| group.group_name());
            attached.permits.extend(groups.map(|name| format!("group {name}")));
        }
        Ok(attached)
    }

    async fn client(&self) -> &Client {
        let made = async || {
            let version = BehaviorVersion::v2026_01_12();
            let partition = policy_of(&self.settings.policy_arn).map(|(partition, _)| partition);
            let region = Region::new(partition.map_or("us-east-1", |partition: Partition| partition.iam_region));
            let shared = aws_config::defaults(version).region(region).load().await;
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(self.settings.connect_timeout)
                .operation_attempt_timeout(self.settings.timeout)
                .operation_timeout(self.settings.timeout)
                .build();
            let retry = RetryConfig::standard();
            let mut builder = aws_sdk_iam::config::Builder::from(&shared).timeout_config(timeouts).retry_config(retry);
            if let Some(url) = &self.settings.endpoint_url {
                builder = builder.endpoint_url(url);
            }
            Client::from_conf(builder.build())
        };
        self.client.get_or_init(made).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(number: usize) -> Entry {
        Entry::Lease(format!("01900000-0000-7000-8000-{number:012}"))
    }

    #[test]
    fn each_entry_is_denied_and_nothing_else() {
        let entries = [
            lease(1),
            Entry::Role("deploy.production".into(), 1_800_000_000),
            Entry::Principal("github-740000001".into(), 1_800_000_000),
            lease(2),
        ];
        let (text, left_out) = policy(&entries);
        assert_eq!(left_out, 0);
        let policy: Value = serde_json::from_str(&text).unwrap();
        let statements = policy["Statement"].as_array().unwrap();
        assert_eq!(statements[0]["Effect"], "Allow");
        assert!(statements[1..].iter().all(|one| one["Effect"] == "Deny" && one["Action"] == "*"));
        let conditions: Vec<&Value> = statements[1..].iter().map(|one| &one["Condition"]).collect();
        let before = json!({ "aws:TokenIssueTime": "2027-01-15T08:00:00Z" });
        assert_eq!(
            conditions,
            [
                &json!({ "StringEquals": { "aws:PrincipalTag/claimbound_lease":
                    ["01900000-0000-7000-8000-000000000001", "01900000-0000-7000-8000-000000000002"] } }),
                &json!({ "StringEquals": { "aws:PrincipalTag/claimbound_role": ["deploy.production"] }, "DateLessThan": before }),
                &json!({ "StringEquals": { "aws:SourceIdentity": ["github-740000001"] }, "DateLessThan": before }),
            ]
        );
        assert_eq!(nothing_denied()["Statement"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_full_list_keeps_the_cuts_and_says_what_it_left_out() {
        let mut entries: Vec<Entry> = (0..1_000).map(lease).collect();
        entries.push(Entry::Role("deploy".into(), 1_800_000_000));
        let (text, left_out) = policy(&entries);
        assert!(text.len() <= POLICY_CHARACTERS_MAX && text.len() > POLICY_CHARACTERS_MAX - 400, "{}", text.len());
        assert!((800..900).contains(&left_out), "{left_out}");
        assert!(text.contains("claimbound_role") && text.contains("000000000000\""));
        let fits: Vec<Entry> = (0..100).map(lease).collect();
        assert_eq!(policy(&fits).1, 0);
    }
}
