//! Names of AWS: roles, managed policies, regions, partitions.

/// A partition of AWS: accounts, regions and endpoints of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Partition {
    /// The second part of its ARNs.
    pub name: &'static str,
    /// How the names of its regions begin; empty for the partition of all other regions.
    region: &'static str,
    /// Where its IAM stands.
    pub iam_region: &'static str,
    /// The audience that its STS is told to expect, by convention.
    pub audience: &'static str,
}

const PARTITIONS: [Partition; 7] = [
    Partition { name: "aws", region: "", iam_region: "us-east-1", audience: "sts.amazonaws.com" },
    Partition { name: "aws-cn", region: "cn-", iam_region: "cn-north-1", audience: "sts.amazonaws.com.cn" },
    Partition { name: "aws-us-gov", region: "us-gov-", iam_region: "us-gov-west-1", audience: "sts.amazonaws.com" },
    Partition { name: "aws-iso", region: "us-iso-", iam_region: "us-iso-east-1", audience: "sts.amazonaws.com" },
    Partition { name: "aws-iso-b", region: "us-isob-", iam_region: "us-isob-east-1", audience: "sts.amazonaws.com" },
    Partition { name: "aws-iso-f", region: "us-isof-", iam_region: "us-isof-south-1", audience: "sts.amazonaws.com" },
    Partition { name: "aws-eusc", region: "eusc-", iam_region: "eusc-de-east-1", audience: "sts.amazonaws.com" },
];

impl Partition {
    /// Whether a region of this name is one of the partition's.
    pub fn has_region(&self, region: &str) -> bool {
        let owner = PARTITIONS.iter().find(|other| !other.region.is_empty() && region.starts_with(other.region));
        owner.map_or("aws", |other| other.name) == self.name
    }
}

/// `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoleArn {
    pub text: String,
    pub partition: Partition,
    pub account: String,
    /// Without its path.
    pub name: String,
}

/// STS takes no longer ARN.
const ARN_CHARACTERS_MAX: usize = 2048;
const ROLE_NAME_CHARACTERS_MAX: usize = 64;

impl RoleArn {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (partition, account, resource) = iam(text)?;
        let path = resource.strip_prefix("role/").ok_or("it names no role: its last part must begin with `role/`")?;
        let name = path.rsplit('/').next().unwrap_or_default();
        if name.is_empty() || name.len() > ROLE_NAME_CHARACTERS_MAX || path.split('/').any(|part| !is_name(part)) {
            return Err(format!(
                "a role's name has 1 to {ROLE_NAME_CHARACTERS_MAX} letters, digits and `_+=,.@-`; parts of its path too"
            ));
        }
        if !is_account(account) {
            return Err("an account is twelve digits".to_owned());
        }
        Ok(Self { text: text.to_owned(), partition, account: account.to_owned(), name: name.to_owned() })
    }
}

/// Whether this is a managed policy of AWS or of the account, in the partition.
pub fn is_policy(text: &str, partition: Partition) -> bool {
    let Ok((of, account, resource)) = iam(text) else { return false };
    let path = resource.strip_prefix("policy/");
    of == partition
        && (account == "aws" || is_account(account))
        && path.is_some_and(|path| path.split('/').all(is_name))
}

/// Partition and account of a managed policy of an account's own.
pub fn policy_of(text: &str) -> Option<(Partition, &str)> {
    let (partition, account, resource) = iam(text).ok()?;
    let path = resource.strip_prefix("policy/")?;
    (is_account(account) && path.split('/').all(is_name)).then_some((partition, account))
}

/// Whether this is one role or user, or one account (`root`), which a trust policy of the partition may name.
pub fn is_principal(text: &str, partition: Partition) -> bool {
    let Ok((of, account, resource)) = iam(text) else { return false };
    let path = resource.strip_prefix("role/").or_else(|| resource.strip_prefix("user/"));
    of == partition
        && is_account(account)
        && (resource == "root" || path.is_some_and(|path| path.split('/').all(is_name)))
}

/// Whether this can be a region's name: it becomes a part of a host name.
pub fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lower = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.len() <= 32
        && parts.len() >= 3
        && parts.iter().all(lower)
        && parts.last().is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
}

/// Partition, account and resource of an IAM ARN.
fn iam(text: &str) -> Result<(Partition, &str, &str), String> {
    if text.len() > ARN_CHARACTERS_MAX {
        return Err(format!("it is longer than {ARN_CHARACTERS_MAX} characters"));
    }
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, resource] = parts.as_slice() else {
        return Err("it is no ARN of IAM".to_owned());
    };
    let Some(partition) = PARTITIONS.into_iter().find(|known| known.name == *partition) else {
        let known = PARTITIONS.map(|known| known.name).join("`, `");
        return Err(format!("`{partition}` is no partition; there are `{known}`"));
    };
    Ok((partition, account, resource))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_name(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_and_everything_else_is_refused() {
        let arn = RoleArn::parse("arn:aws-cn:iam::111122223333:role/teams/payments/deploy").unwrap();
        assert_eq!((arn.partition.name, &*arn.account, &*arn.name), ("aws-cn", "111122223333", "deploy"));
        for (text, why) in [
            ("payments", "no ARN"),
            ("arn:aws:sts::111122223333:role/x", "no ARN"),
            ("arn:aws:iam:eu-west-1:111122223333:role/x", "no ARN"),
            ("arn:aws2:iam::111122223333:role/x", "no partition"),
            ("arn:aws:iam::11112222333:role/x", "twelve digits"),
            ("arn:aws:iam::{claim.repository_id}:role/x", "twelve digits"),
            ("arn:aws:iam::111122223333:user/x", "names no role"),
            ("arn:aws:iam::111122223333:role/", "a role's name"),
            ("arn:aws:iam::111122223333:role/a b", "a role's name"),
            ("arn:aws:iam::111122223333:role/{claim.branch}", "a role's name"),
            ("arn:aws:iam::111122223333:role/*", "a role's name"),
        ] {
            let error = RoleArn::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        RoleArn::parse(&format!("arn:aws:iam::111122223333:role/{}", "x".repeat(65))).unwrap_err();
    }

    #[test]
    fn regions_belong_to_one_partition() {
        for (region, partition) in [
            ("eu-west-1", "aws"),
            ("us-east-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("us-isob-east-1", "aws-iso-b"),
            ("eusc-de-east-1", "aws-eusc"),
        ] {
            assert!(is_region(region), "{region}");
            let owners: Vec<_> = PARTITIONS.iter().filter(|p| p.has_region(region)).map(|p| p.name).collect();
            assert_eq!(owners, [partition], "{region}");
        }
        for region in ["", "eu", "eu-west", "EU-west-1", "eu-west-1.evil.example", "eu-west-1/", "eu--1"] {
            assert!(!is_region(region), "{region}");
        }
    }

    #[test]
    fn principals_are_one_each_and_of_the_partition() {
        let aws = PARTITIONS[0];
        for text in ["role/claimbound", "role/teams/x", "user/broker", "root"] {
            assert!(is_principal(&format!("arn:aws:iam::111122223333:{text}"), aws), "{text}");
        }
        for text in [
            "*",
            "",
            "111122223333",
            "arn:aws:iam::*:root",
            "arn:aws:iam::aws:role/x",
            "arn:aws:iam::111122223333:role/*",
            "arn:aws:iam::111122223333:*",
            "arn:aws-cn:iam::111122223333:role/x",
            "arn:aws:sts::111122223333:assumed-role/x/session",
        ] {
            assert!(!is_principal(text, aws), "{text}");
        }
    }

    #[test]
    fn managed_policies_are_of_aws_or_an_account() {
        let aws = PARTITIONS[0];
        assert!(is_policy("arn:aws:iam::aws:policy/ReadOnlyAccess", aws));
        assert!(is_policy("arn:aws:iam::111122223333:policy/teams/x", aws));
        for text in ["arn:aws-cn:iam::aws:policy/x", "arn:aws:iam::aws:role/x", "arn:aws:iam::aws:policy/", "x"] {
            assert!(!is_policy(text, aws), "{text}");
        }
    }
}
