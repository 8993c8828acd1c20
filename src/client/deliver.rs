//! How a credential reaches the commands that use it, and how every trace of it goes away again. What will be undone is written
//! down before it is done.

use super::{
    Log,
    answer::{Aws, Credential, Granted},
    broker::revoke,
    failure::Failure,
    http::Http,
    keep::{self, Handle, Keep, Lease, Variable, name_of},
    source::Environment,
    text::quoted,
};
use crate::secret::Secret;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// Variables of AWS clients whose value must not be seen.
pub const SECRET_VARIABLES: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
/// The name of a file that was written, for the commands that use it.
const FILE_VARIABLE: &str = "CLAIMBOUND_CREDENTIAL_FILE";
/// Where checkouts stand, by CI system.
const CHECKOUTS: [&str; 5] = [
    "GITHUB_WORKSPACE",
    "CI_PROJECT_DIR",
    "BUILDKITE_BUILD_CHECKOUT_PATH",
    "CIRCLE_WORKING_DIRECTORY",
    "BITBUCKET_CLONE_DIR",
];

/// How the credential is given on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Variables: GitHub's for the next steps, elsewhere in a file for a shell to read.
    Env,
    /// A file as AWS clients read profiles.
    Profile,
    /// A file with the JWT alone, or with AWS keys as the process protocol writes them.
    File,
    /// Standard output; in GitHub Actions the step's output `token`.
    Output,
}

/// The files by which a step of GitHub Actions, and of those that are built like it, speaks to its runner.
#[derive(Debug)]
pub struct Runner {
    env: PathBuf,
    output: Option<PathBuf>,
}

impl Runner {
    pub fn of(env: Environment<'_>) -> Option<Self> {
        env("GITHUB_ACTIONS").filter(|on| on == "true")?;
        Some(Self { env: env("GITHUB_ENV")?.into(), output: env("GITHUB_OUTPUT").map(PathBuf::from) })
    }

    fn set(path: &Path, name: &str, value: &str) -> Result<(), Failure> {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| Failure::usage("random", "The system gives no random bytes"))?;
        let end: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let append = || -> io::Result<()> {
            let mut file = OpenOptions::new().append(true).create(true).open(path)?;
            let before = file.metadata()?.len();
            // One write, so that nothing of others stands in between; half of one would spoil what stands there.
            let written = file.write_all(format!("{name}<<{end}\n{value}\n{end}\n").as_bytes());
            written.inspect_err(|_| drop(file.set_len(before)))
        };
        append().map_err(|error| Failure::file("write", path, &error))
    }

    /// Sets variables of the next steps.
    ///
    /// # Errors
    /// The runner's file cannot be written.
    pub fn export(&self, variables: &[(&str, String)]) -> Result<(), Failure> {
        variables.iter().try_for_each(|(name, value)| Self::set(&self.env, name, value))
    }

    /// Tells the next steps what came of it; nothing of it is secret.
    ///
    /// # Errors
    /// The runner's file cannot be written.
    pub fn tell(&self, granted: &Granted, expires: i64) -> Result<(), Failure> {
        let Some(output) = &self.output else { return Ok(()) };
        let told = [
            ("decision-id", &granted.decision_id),
            ("lease-id", &granted.lease_id),
            ("role", &granted.role),
            ("mapping", &granted.mapping),
            ("expires-at", &moment(expires)),
        ];
        told.into_iter().try_for_each(|(name, value)| Self::set(output, name, value))
    }
}

/// What was asked for.
pub struct Wanted<'a> {
    /// By the kind of the credential, if it is left open.
    pub mode: Option<Mode>,
    pub output: Option<&'a Path>,
    /// The variable that carries a JWT.
    pub variable: &'a str,
    /// Accounts of AWS that are expected; empty is any.
    pub accounts: &'a [String],
}

impl Wanted<'_> {
    /// What can be known before a token is spent.
    ///
    /// # Errors
    /// What would make the credential useless.
    pub fn precheck(&self, env: Environment<'_>, log: &dyn Log) -> Result<(), Failure> {
        let rivals: Vec<&str> = SECRET_VARIABLES.into_iter().filter(|name| env(name).is_some()).collect();
        if self.mode == Some(Mode::Profile) && !rivals.is_empty() {
            let text = format!(
                "`{}` is set in this job, and AWS clients prefer it to a profile. Use `--mode env`, or do not set it",
                rivals.join("`, `")
            );
            return Err(Failure::usage("mode_unfit", text));
        }
        if self.mode.is_none() && !rivals.is_empty() {
            let text = "is set in this job, and AWS clients prefer it to the profile that keys of AWS are given as";
            log.say(&format!("warning: `{}` {text}", rivals.join("`, `")));
        }
        if self.mode == Some(Mode::Output) && self.output.is_some() {
            return Err(Failure::usage("mode_unfit", "`--mode output` writes no file; leave `--output` out"));
        }
        if let Some(output) = self.output {
            let path = std::path::absolute(output).map_err(|error| Failure::file("find", output, &error))?;
            if path.is_dir() || !path.parent().is_some_and(Path::is_dir) {
                let why =
                    if path.is_dir() { "it is a directory" } else { "there is no such directory to write it into" };
                let text = format!("`--output {}` can be no file: {why}", output.display());
                return Err(Failure::usage("file", text));
            }
            let checkout = CHECKOUTS.into_iter().filter_map(env).find(|checkout| path.starts_with(checkout));
            if let Some(checkout) = checkout {
                log.say(&format!(
                    "warning: `{}` stands in the checkout `{checkout}`, where files get committed, cached and uploaded",
                    path.display()
                ));
            }
        }
        Ok(())
    }

    /// Gives the credential on: what a shell may evaluate to use it, or with [`Mode::Output`] the credential itself.
    ///
    /// # Errors
    /// It does not fit, or a file cannot be written; then nothing was given.
    pub fn deliver(
        &self,
        granted: &Granted,
        broker_url: &str,
        now: i64,
        keep: &Keep,
        env: Environment<'_>,
    ) -> Result<Secret, Failure> {
        let runner = Runner::of(env);
        let mode = self.mode.unwrap_or(match granted.credential {
            Credential::Aws(_) => Mode::Profile,
            Credential::Jwt(_) => Mode::File,
        });
        admit(granted, self.accounts)?;
        let name = |kind: &str| keep.path(&format!("{kind}-{}", name_of(&[broker_url, &granted.role])));
        let file = |kind: &str| match self.output {
            Some(path) => std::path::absolute(path).map_err(|error| Failure::file("find", path, &error)),
            None => Ok(name(kind)),
        };
        // Of each: the file with its content, the variables of later commands, and what a shell evaluates.
        let (path, content, variables) = match (mode, &granted.credential) {
            (Mode::Output, credential) => {
                return self.put_out(granted, credential, broker_url, now, keep, runner.as_ref());
            }
            (Mode::Profile, Credential::Jwt(_)) => {
                let text = format!(
                    "The role `{}` gives a JWT, which no profile carries. Use `--mode file`, `env` or `output`",
                    granted.role
                );
                return Err(Failure::usage("mode_unfit", text));
            }
            (Mode::Profile, Credential::Aws(aws)) => {
                let path = file("profile")?;
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.@-".contains(&byte);
                let profile = if granted.role.bytes().all(plain) { granted.role.as_str() } else { "claimbound" };
                let mut variables = vec![
                    ("AWS_SHARED_CREDENTIALS_FILE", path.display().to_string()),
                    ("AWS_PROFILE", profile.to_owned()),
                ];
                variables.extend(region(aws));
                (Some(path), profile_text(profile, aws), variables)
            }
            (Mode::File, credential) => {
                let path = file("credential")?;
                let variables = vec![(FILE_VARIABLE, path.display().to_string())];
                let content = match credential {
                    Credential::Jwt(jwt) => jwt.reveal().to_owned(),
                    Credential::Aws(aws) => process_json(aws, now + granted.expires_in).to_string(),
                };
                (Some(path), content, variables)
            }
            (Mode::Env, _) => {
                let all = variables(granted, self.variable);
                match (&runner, self.output) {
                    (Some(_), None) => (None, String::new(), all),
                    _ => {
                        let mut lines = String::new();
                        for (name, value) in &all {
                            let _ = writeln!(lines, "{name}={value}");
                        }
                        (Some(file("env")?), lines, Vec::new())
                    }
                }
            }
        };
        let changes = if runner.is_some() { changes(&variables, env) } else { Vec::new() };
        keep.remember(&lease(granted, broker_url, now, path.iter().cloned().collect(), changes))?;
        if let Some(path) = &path {
            keep::write(path, content.as_bytes())?;
        }
        if let Some(runner) = &runner {
            runner.export(&variables)?;
            runner.tell(granted, now + granted.expires_in)?;
            return Ok(Secret::new(String::new()));
        }
        Ok(Secret::new(match (mode, path) {
            (Mode::Env, Some(path)) => format!("set -a; . {}; set +a\n", quoted(&path.display().to_string())),
            _ => exports(&variables),
        }))
    }

    fn put_out(
        &self,
        granted: &Granted,
        credential: &Credential,
        broker_url: &str,
        now: i64,
        keep: &Keep,
        runner: Option<&Runner>,
    ) -> Result<Secret, Failure> {
        let text = match (credential, runner) {
            (Credential::Aws(_), Some(_)) => {
                let text = format!(
                    "The role `{}` gives an AWS credential, which is not put into a step's outputs. Use `--mode env` or `profile`",
                    granted.role
                );
                return Err(Failure::usage("mode_unfit", text));
            }
            (Credential::Aws(aws), None) => process_json(aws, now + granted.expires_in).to_string(),
            (Credential::Jwt(jwt), _) => jwt.reveal().to_owned(),
        };
        keep.remember(&lease(granted, broker_url, now, Vec::new(), Vec::new()))?;
        match runner {
            Some(runner) => {
                let none = || Failure::usage("mode_unfit", "This runner takes no outputs: `GITHUB_OUTPUT` is not set");
                Runner::set(runner.output.as_deref().ok_or_else(none)?, "token", &text)?;
                runner.tell(granted, now + granted.expires_in)?;
                Ok(Secret::new(String::new()))
            }
            None => Ok(Secret::new(format!("{text}\n"))),
        }
    }
}

/// The shared credentials file, if it has the profile that AWS clients take where nothing else is named.
pub fn default_profile(env: Environment<'_>) -> Option<PathBuf> {
    let own = || env("HOME").map(|home| format!("{home}/.aws/credentials"));
    let path = PathBuf::from(env("AWS_SHARED_CREDENTIALS_FILE").or_else(own)?);
    let text = zeroize::Zeroizing::new(fs::read_to_string(&path).ok()?);
    text.lines().any(|line| line.trim() == "[default]").then_some(path)
}

/// What a shell evaluates to set these variables.
pub fn exports(variables: &[(&str, String)]) -> String {
    let pairs = variables.iter().map(|(name, value)| format!(" {name}={}", quoted(value)));
    format!("export{}\n", pairs.collect::<String>())
}

/// Whether this credential may be given on at all.
///
/// # Errors
/// It is of an account that nobody expects.
pub fn admit(granted: &Granted, accounts: &[String]) -> Result<(), Failure> {
    match &granted.credential {
        Credential::Jwt(_) if !accounts.is_empty() => {
            let text = format!("`--allowed-account-ids` is about AWS, and the role `{}` gives a JWT", granted.role);
            Err(Failure::usage("account_not_allowed", text))
        }
        Credential::Aws(aws) if !accounts.is_empty() && !accounts.contains(&aws.account_id) => {
            let text = format!(
                "The credential belongs to AWS account {}; `--allowed-account-ids` has {}",
                aws.account_id,
                accounts.join(", ")
            );
            Err(Failure::usage("account_not_allowed", text))
        }
        _ => Ok(()),
    }
}

/// Variables that carry the credential; a JWT is in `variable`.
pub fn variables<'a>(granted: &Granted, variable: &'a str) -> Vec<(&'a str, String)> {
    match &granted.credential {
        Credential::Jwt(jwt) => vec![(variable, jwt.reveal().to_owned())],
        Credential::Aws(aws) => {
            let mut all = vec![
                ("AWS_ACCESS_KEY_ID", aws.access_key_id.clone()),
                ("AWS_SECRET_ACCESS_KEY", aws.secret_access_key.reveal().to_owned()),
                ("AWS_SESSION_TOKEN", aws.session_token.reveal().to_owned()),
            ];
            all.extend(region(aws));
            all
        }
    }
}

pub fn region(aws: &Aws) -> Vec<(&'static str, String)> {
    aws.region
        .iter()
        .flat_map(|region| ["AWS_REGION", "AWS_DEFAULT_REGION"].map(|name| (name, region.clone())))
        .collect()
}

/// What the process protocol of AWS clients prints: <https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>.
pub fn process_json(aws: &Aws, expires: i64) -> Value {
    json!({
        "Version": 1,
        "AccessKeyId": aws.access_key_id,
        "SecretAccessKey": aws.secret_access_key.reveal(),
        "SessionToken": aws.session_token.reveal(),
        "Expiration": moment(expires),
        "AccountId": aws.account_id,
    })
}

fn profile_text(profile: &str, aws: &Aws) -> String {
    format!(
        "[{profile}]\naws_access_key_id = {}\naws_secret_access_key = {}\naws_session_token = {}\n",
        aws.access_key_id,
        aws.secret_access_key.reveal(),
        aws.session_token.reveal()
    )
}

/// What is to be ended when the job does.
pub fn lease(granted: &Granted, broker_url: &str, now: i64, files: Vec<PathBuf>, variables: Vec<Variable>) -> Lease {
    let handles = [Some(&granted.handle), granted.refresh.as_ref()];
    Lease {
        broker_url: broker_url.to_owned(),
        lease_id: granted.lease_id.clone(),
        handles: handles.into_iter().flatten().map(|handle| Handle(handle.reveal().to_owned())).collect(),
        at: now,
        expires: now + granted.expires_in,
        files,
        variables,
    }
}

/// Ends a lease at the broker, and what renews it.
///
/// # Errors
/// The broker did not say that it did.
pub async fn end(http: &Http, lease: &Lease) -> Result<(), Failure> {
    for handle in &lease.handles {
        revoke(http, &lease.broker_url, &Secret::new(handle.0.clone())).await?;
    }
    Ok(())
}

/// What variables held before they are given these values, and how to know that they still have them.
pub fn changes(variables: &[(&str, String)], env: Environment<'_>) -> Vec<Variable> {
    let change = |(name, value): &(&str, String)| Variable {
        name: (*name).to_owned(),
        before: env(name).unwrap_or_default(),
        digest: name_of(&[value]),
    };
    variables.iter().map(change).collect()
}

/// Takes away what was made for a lease, as far as nobody else has changed it since. `held` is what variables hold
/// because this was called before: leases are undone from the last to the first.
///
/// # Errors
/// The first file that cannot be removed or written; the rest is tried all the same.
pub fn undo(
    lease: &Lease,
    held: &mut BTreeMap<String, String>,
    env: Environment<'_>,
    log: &dyn Log,
) -> Result<(), Failure> {
    let mut failed = Ok(());
    for path in &lease.files {
        failed = failed.and(keep::remove(path));
    }
    if let Some(runner) = Runner::of(env) {
        for Variable { name, before, digest } in &lease.variables {
            let value = held.get(name).cloned().or_else(|| env(name));
            if value.is_none_or(|value| name_of(&[&value]) != *digest) {
                continue;
            }
            if SECRET_VARIABLES.contains(&name.as_str()) && !before.is_empty() {
                log.mask(before);
            }
            // A runner cannot unset a variable; an empty one is what AWS clients take for none.
            failed = failed.and(Runner::set(&runner.env, name, before));
            held.insert(name.clone(), before.clone());
        }
    }
    failed
}

/// RFC 3339.
pub fn moment(at: i64) -> String {
    jiff::Timestamp::from_second(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::answer;
    use std::{os::unix::fs::PermissionsExt as _, sync::Mutex};

    struct Quiet(Mutex<Vec<String>>);
    impl Log for Quiet {
        fn say(&self, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }
        fn mask(&self, secret: &str) {
            self.say(secret);
        }
    }

    fn wanted(mode: Option<Mode>) -> Wanted<'static> {
        Wanted { mode, output: None, variable: "CLAIMBOUND_JWT", accounts: &[] }
    }

    fn aws() -> Granted {
        Granted::read(&answer::tests::aws(), None).unwrap()
    }

    fn jwt() -> Granted {
        let mut body = answer::tests::aws();
        body["credential"] = json!({ "kind": "jwt", "jwt": "header00.payload0.signature" });
        Granted::read(&body, None).unwrap()
    }

    #[test]
    fn a_shell_gets_what_it_evaluates_and_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let keep = Keep::open(Some(&folder.path().join("state")), &|_| None).unwrap();
        let deliver =
            |mode, granted: &Granted| wanted(mode).deliver(granted, "https://b.example", 1000, &keep, &|_| None);
        for (mode, granted, parts) in [
            (
                None,
                aws(),
                &["export AWS_SHARED_CREDENTIALS_FILE='", "AWS_PROFILE='payments-deploy'", "AWS_REGION='eu-west-1'"][..],
            ),
            (Some(Mode::Env), aws(), &["set -a; . '"][..]),
            (None, jwt(), &["export CLAIMBOUND_CREDENTIAL_FILE='"][..]),
            (Some(Mode::Env), jwt(), &["set -a; . '"][..]),
        ] {
            let said = deliver(mode, &granted).unwrap();
            assert!(parts.iter().all(|part| said.reveal().contains(part)), "{}", said.reveal());
            assert!(!said.reveal().contains("secret") && !said.reveal().contains("signature"), "{}", said.reveal());
            let (_, lease) = keep.leases().unwrap().pop().unwrap();
            assert_eq!(fs::metadata(&lease.files[0]).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(lease.expires, 1900);
            undo(&lease, &mut BTreeMap::new(), &|_| None, &Quiet(Mutex::default())).unwrap();
            assert!(!lease.files[0].exists());
            undo(&lease, &mut BTreeMap::new(), &|_| None, &Quiet(Mutex::default())).unwrap();
        }
        let put = |granted: &Granted| deliver(Some(Mode::Output), granted).unwrap().reveal().to_owned();
        assert_eq!(put(&jwt()), "header00.payload0.signature\n");
        let said: Value = serde_json::from_str(&put(&aws())).unwrap();
        assert_eq!((&said["Version"], &said["Expiration"]), (&json!(1), &json!("1970-01-01T00:31:40Z")));
        assert_eq!(deliver(Some(Mode::Profile), &jwt()).unwrap_err().reason, "mode_unfit");
    }

    #[test]
    fn a_runner_s_variables_are_set_and_put_back() {
        let folder = tempfile::tempdir().unwrap();
        let keep = Keep::open(Some(&folder.path().join("state")), &|_| None).unwrap();
        let (file, out) = (folder.path().join("env"), folder.path().join("out"));
        let runner = |held: &'static str| {
            let (file, out) = (file.display().to_string(), out.display().to_string());
            move |name: &str| match name {
                "GITHUB_ACTIONS" => Some("true".to_owned()),
                "GITHUB_ENV" => Some(file.clone()),
                "GITHUB_OUTPUT" => Some(out.clone()),
                "AWS_SESSION_TOKEN" => Some(held.to_owned()),
                _ => None,
            }
        };
        let said = wanted(Some(Mode::Env))
            .deliver(&aws(), "https://b.example", 1000, &keep, &runner("earlier-token"))
            .unwrap();
        assert_eq!(said.reveal(), "");
        let set = fs::read_to_string(&file).unwrap();
        assert!(set.contains("AWS_SECRET_ACCESS_KEY<<") && set.contains("\nse/cr+et=secret\n"), "{set}");
        assert!(fs::read_to_string(&out).unwrap().contains("lease-id<<"));
        let (_, lease) = keep.leases().unwrap().pop().unwrap();
        fs::write(&file, "").unwrap();
        // Another step has set it since.
        undo(&lease, &mut BTreeMap::new(), &runner("of-another-step"), &Quiet(Mutex::default())).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "");
        let log = Quiet(Mutex::default());
        let mut held = BTreeMap::new();
        undo(&lease, &mut held, &runner("session-token"), &log).unwrap();
        assert_eq!(held["AWS_SESSION_TOKEN"], "earlier-token", "which an earlier lease may have to put back");
        assert!(fs::read_to_string(&file).unwrap().contains("\nearlier-token\n"));
        assert_eq!(*log.0.lock().unwrap(), ["earlier-token"]);
        assert_eq!(
            wanted(Some(Mode::Output))
                .deliver(&aws(), "https://b.example", 1000, &keep, &runner("x"))
                .unwrap_err()
                .reason,
            "mode_unfit"
        );
    }

    #[test]
    fn what_would_make_a_credential_useless_is_said_before_it_is_asked_for() {
        let log = Quiet(Mutex::default());
        let rival = |name: &str| (name == "AWS_ACCESS_KEY_ID").then(|| "AKIA".to_owned());
        assert!(
            wanted(Some(Mode::Profile)).precheck(&rival, &log).unwrap_err().text.contains("`AWS_ACCESS_KEY_ID` is set")
        );
        assert!(wanted(Some(Mode::Env)).precheck(&rival, &log).is_ok());
        let checkout = tempfile::tempdir().unwrap();
        let variable = |name: &str| (name == "CI_PROJECT_DIR").then(|| checkout.path().display().to_string());
        let to = |path: &Path| Wanted { output: Some(path), ..wanted(None) }.precheck(&variable, &log);
        to(&checkout.path().join("keys")).unwrap();
        assert!(log.0.lock().unwrap()[0].contains("stands in the checkout"));
        assert!(to(checkout.path()).unwrap_err().text.ends_with("can be no file: it is a directory"));
        let failure = to(&checkout.path().join("none/keys")).unwrap_err();
        assert!(
            failure.text.ends_with("/none/keys` can be no file: there is no such directory to write it into"),
            "{failure}"
        );
        let accounts = ["444455556666".to_owned()];
        assert_eq!(admit(&aws(), &accounts).unwrap_err().reason, "account_not_allowed");
        assert!(admit(&aws(), &["111122223333".to_owned()]).is_ok() && admit(&jwt(), &accounts).is_err());
    }
}
