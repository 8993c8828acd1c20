//! What a form in the words of STS asks for
//! (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>). What STS does not know is refused:
//! a parameter that somebody meant to narrow by is never dropped.

use crate::{
    broker::{Asked, AskedGrant},
    exchange::StsAsk,
    http::{form::Form, limit},
    issuance::Narrowing,
    secret::Secret,
};
use claimbound_core::time::Seconds;
use std::net::IpAddr;

/// The one version of STS's interface.
const VERSION: &str = "2011-06-15";
/// How a role of the catalogue is written as an ARN: SDKs refuse a bare name.
const ROLE: &str = "arn:aws:iam::000000000000:role/claimbound/";
/// Of ARNs, session names and durations, as STS has them.
const ARN_CHARACTERS_MAX: usize = 2048;
const SESSION_NAME_CHARACTERS: std::ops::RangeInclusive<usize> = 2..=64;
const DURATION_SECONDS_MIN: u32 = 900;
const POLICY_ARNS_MAX: usize = 10;

/// What STS is asked for.
pub(super) enum Action {
    Assume(Box<Asked>),
    Identity,
}

/// Why it is not asked. Told to whoever sent it, and about nothing but what was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fault {
    pub(super) code: &'static str,
    pub(super) text: String,
}

fn invalid(text: impl Into<String>) -> Fault {
    Fault { code: "ValidationError", text: text.into() }
}

/// The form of `POST /aws/sts`.
pub(super) fn read(form: &Form, address: Option<IpAddr>) -> Result<Action, Fault> {
    let no_action = |text: String| Fault { code: "InvalidAction", text };
    let action = form.get("Action").unwrap_or_default();
    let known: &[&str] = match action {
        "AssumeRoleWithWebIdentity" => &["RoleArn", "RoleSessionName", "WebIdentityToken", "DurationSeconds", "Policy"],
        "GetCallerIdentity" => &[],
        other => return Err(no_action(way_round(other))),
    };
    if form.get("Version") != Some(VERSION) {
        return Err(no_action(format!("`Version` must be `{VERSION}`")));
    }
    for name in form.names().filter(|name| !["Action", "Version"].contains(name) && !known.contains(name)) {
        if name == "ProviderId" {
            return Err(invalid("`ProviderId` is for other identity providers; send an OIDC token and leave it out"));
        }
        if action == "GetCallerIdentity" || member(name).is_none() {
            return Err(invalid("a parameter is not known here, and none is dropped; leave it out"));
        }
    }
    if action == "GetCallerIdentity" {
        return Ok(Action::Identity);
    }
    let (role, role_arn) = role(required(form, "RoleArn")?)?;
    let session_name = required(form, "RoleSessionName")?;
    if !SESSION_NAME_CHARACTERS.contains(&session_name.len()) || !session_name.bytes().all(in_name) {
        return Err(invalid("`RoleSessionName` must have 2 to 64 letters, digits and `_+=,.@-`"));
    }
    let narrowing = Narrowing { policy: form.get("Policy").map(str::to_owned), policy_arns: policy_arns(form)? };
    let subject = Secret::new(required(form, "WebIdentityToken")?.to_owned());
    let sts =
        StsAsk { role_arn, session_name: session_name.to_owned(), narrowing, network: address.map(limit::network) };
    Ok(Action::Assume(Box::new(Asked {
        caller: None,
        grant: AskedGrant::Tokens { subject, actor: None },
        role,
        scope: None,
        duration: duration(form)?,
        dry_run: false,
        // Clients make up another session name for each try, and it decides nothing here.
        digest: form.digest_without("RoleSessionName"),
        address,
        sts: Some(Box::new(sts)),
    })))
}

/// What to do instead of another action.
fn way_round(action: &str) -> String {
    let rest =
        "this is no AWS STS: it answers `AssumeRoleWithWebIdentity` and `GetCallerIdentity` for jobs of this broker";
    match action {
        "" => format!("`Action` is missing; {rest}"),
        "AssumeRole" | "AssumeRoot" | "GetSessionToken" | "GetFederationToken" | "DecodeAuthorizationMessage" => {
            format!(
                "`{action}` is AWS's own to answer; {rest}. Unset `AWS_ENDPOINT_URL_STS` for that command, or get the keys with \
             `claimbound exec`, which leaves STS where it is"
            )
        }
        _ => format!("there is no such action here; {rest}. Unset `AWS_ENDPOINT_URL_STS` for whatever asks AWS itself"),
    }
}

fn required<'f>(form: &'f Form, name: &str) -> Result<&'f str, Fault> {
    form.get(name).ok_or_else(|| invalid(format!("`{name}` is missing")))
}

/// A role's name, or a real ARN.
fn role(arn: &str) -> Result<(Option<String>, Option<String>), Fault> {
    let text = format!("`RoleArn` must be `{ROLE}<role>`, or the ARN of a role of the partition `aws`");
    if let Some(name) = arn.strip_prefix(ROLE) {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
        let named = !name.is_empty() && name.len() <= ARN_CHARACTERS_MAX && name.bytes().all(plain);
        return if named { Ok((Some(name.to_owned()), None)) } else { Err(invalid(text)) };
    }
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", "aws", "iam", "", account, resource] = parts[..] else { return Err(invalid(text)) };
    let path = resource.strip_prefix("role/").unwrap_or_default();
    let real = account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit())
        && account.bytes().any(|b| b != b'0')
        && path.split('/').all(|part| !part.is_empty() && part.bytes().all(in_name));
    if real && arn.len() <= ARN_CHARACTERS_MAX { Ok((None, Some(arn.to_owned()))) } else { Err(invalid(text)) }
}

/// `[\w+=,.@-]`.
fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte)
}

/// Beyond 32 bits it is clamped here; the role's ceiling clamps far below that.
fn duration(form: &Form) -> Result<Option<Seconds>, Fault> {
    let Some(text) = form.get("DurationSeconds") else { return Ok(None) };
    let seconds = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().unwrap_or(u32::MAX));
    let seconds = seconds.filter(|seconds| *seconds >= DURATION_SECONDS_MIN);
    let text = format!("`DurationSeconds` must be decimal digits, from {DURATION_SECONDS_MIN}");
    seconds.map(|seconds| Some(Seconds(seconds))).ok_or_else(|| invalid(text))
}

/// The number of `PolicyArns.member.N.arn`; an empty list is sent as `PolicyArns`.
fn member(name: &str) -> Option<usize> {
    if name == "PolicyArns" {
        return Some(0);
    }
    let number = name.strip_prefix("PolicyArns.member.")?.strip_suffix(".arn")?;
    let number: usize = number.parse().ok().filter(|n: &usize| n.to_string() == number)?;
    (1..=POLICY_ARNS_MAX).contains(&number).then_some(number)
}

fn policy_arns(form: &Form) -> Result<Vec<String>, Fault> {
    if form.get("PolicyArns").is_some() {
        return Err(invalid("`PolicyArns` is a list: send `PolicyArns.member.1.arn`"));
    }
    let mut listed: Vec<(usize, &str)> =
        form.names().filter_map(|name| Some((member(name)?, form.get(name)?))).collect();
    listed.sort_unstable();
    if listed.iter().zip(1..).any(|((number, _), expected)| *number != expected) {
        return Err(invalid("`PolicyArns` must be counted from 1, without gaps"));
    }
    Ok(listed.into_iter().map(|(_, arn)| arn.to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ASSUME: &str = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=ci&WebIdentityToken=e.y.J\
        &RoleArn=arn%3Aaws%3Aiam%3A%3A000000000000%3Arole%2Fclaimbound%2Fpayments-deploy.staging";

    fn read_form(body: &str) -> Result<Action, Fault> {
        read(&Form::parse(body.as_bytes()).unwrap(), Some("2001:db8:1:2::3".parse().unwrap()))
    }

    #[track_caller]
    fn asked(body: &str) -> Box<Asked> {
        match read_form(body) {
            Ok(Action::Assume(asked)) => asked,
            Ok(Action::Identity) => panic!("another action"),
            Err(fault) => panic!("{body}: {fault:?}"),
        }
    }

    #[test]
    fn a_form_becomes_the_question_of_an_exchange() {
        let mut asked = asked(&format!(
            "{ASSUME}&DurationSeconds=43200&Policy=%7B%7D&PolicyArns.member.2.arn=b&PolicyArns.member.1.arn=a"
        ));
        assert_eq!((asked.role.as_deref(), asked.duration), (Some("payments-deploy.staging"), Some(Seconds(43_200))));
        let sts = asked.sts.take().unwrap();
        assert_eq!((sts.role_arn, sts.session_name.as_str()), (None, "ci"));
        assert_eq!(sts.narrowing, Narrowing { policy: Some("{}".into()), policy_arns: vec!["a".into(), "b".into()] });
        assert_eq!(sts.network, Some("2001:db8:1::".parse().unwrap()));
        assert!(matches!(asked.grant, AskedGrant::Tokens { subject, actor: None } if subject.reveal() == "e.y.J"));
        let real = ASSUME.replace("000000000000%3Arole%2Fclaimbound%2F", "111122223333%3Arole%2Fteams%2F");
        let asked = self::asked(&real);
        assert_eq!(asked.role, None);
        assert_eq!(
            asked.sts.as_ref().unwrap().role_arn.as_deref(),
            Some("arn:aws:iam::111122223333:role/teams/payments-deploy.staging")
        );
        assert!(matches!(read_form("Action=GetCallerIdentity&Version=2011-06-15"), Ok(Action::Identity)));
        assert!(read_form(&format!("{ASSUME}&PolicyArns=")).is_ok(), "as botocore sends an empty list");
    }

    #[test]
    fn the_same_but_for_the_session_name_is_the_same_question() {
        let digest = |body: &str| asked(body).digest;
        assert_eq!(digest(ASSUME), digest(&ASSUME.replace("RoleSessionName=ci", "RoleSessionName=other")));
        for other in ["&DurationSeconds=900", "&Policy=%7B%7D", "&PolicyArns.member.1.arn=a"] {
            assert_ne!(digest(ASSUME), digest(&format!("{ASSUME}{other}")));
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (from, to, code, words) in [
            ("AssumeRoleWithWebIdentity", "AssumeRole", "InvalidAction", "claimbound exec"),
            ("AssumeRoleWithWebIdentity", "ListRoles", "InvalidAction", "no such action"),
            ("AssumeRoleWithWebIdentity", "", "InvalidAction", "`Action` is missing"),
            ("2011-06-15", "2012-01-01", "InvalidAction", "`Version`"),
            ("WebIdentityToken=e.y.J", "x=1", "ValidationError", "not known"),
            ("WebIdentityToken=e.y.J", "WebIdentityToken=", "ValidationError", "`WebIdentityToken` is missing"),
            ("RoleSessionName=ci", "RoleSessionName=c", "ValidationError", "`RoleSessionName`"),
            ("RoleSessionName=ci", "RoleSessionName=a%2Fb", "ValidationError", "`RoleSessionName`"),
            ("RoleSessionName=ci", "RoleSessionName=ci&ProviderId=x", "ValidationError", "`ProviderId`"),
            ("RoleSessionName=ci", "RoleSessionName=ci&Tags.member.1.Key=a", "ValidationError", "not known"),
            ("RoleSessionName=ci", "RoleSessionName=ci&DurationSeconds=899", "ValidationError", "from 900"),
            ("RoleSessionName=ci", "RoleSessionName=ci&DurationSeconds=1h", "ValidationError", "from 900"),
            ("RoleSessionName=ci", "RoleSessionName=ci&PolicyArns=a", "ValidationError", "is a list"),
            ("RoleSessionName=ci", "RoleSessionName=ci&PolicyArns.member.2.arn=a", "ValidationError", "gaps"),
            ("RoleSessionName=ci", "RoleSessionName=ci&PolicyArns.member.01.arn=a", "ValidationError", "not known"),
            ("RoleSessionName=ci", "RoleSessionName=ci&PolicyArns.member.11.arn=a", "ValidationError", "not known"),
            ("aws%3Aiam", "aws-cn%3Aiam", "ValidationError", "`RoleArn`"),
            ("000000000000", "00000000000", "ValidationError", "`RoleArn`"),
            ("claimbound%2F", "", "ValidationError", "`RoleArn`"),
            ("payments-deploy.staging", "", "ValidationError", "`RoleArn`"),
            ("payments-deploy.staging", "a%2Fb", "ValidationError", "`RoleArn`"),
        ] {
            let body = ASSUME.replace(from, to);
            assert_ne!(body, ASSUME);
            let fault = read_form(&body).err().unwrap_or_else(|| panic!("{body} was accepted"));
            assert_eq!(fault.code, code, "{body}");
            assert!(fault.text.contains(words), "{body}: {}", fault.text);
        }
        let identity = "Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Signature=a";
        assert!(read_form(identity).is_err(), "nothing presigned");
    }

    proptest! {
        #[test]
        fn no_form_panics(at in any::<prop::sample::Index>(), instead in "[ -~]{0,8}", rest in "[ -~]{0,60}") {
            let at = at.index(ASSUME.len());
            for body in [format!("{}{instead}{}", &ASSUME[..at], &ASSUME[at..]), format!("{ASSUME}&{rest}")] {
                let _ = Form::parse(body.as_bytes()).map(|form| read(&form, None).is_ok());
            }
        }
    }
}
