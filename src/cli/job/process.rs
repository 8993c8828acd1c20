//! `claimbound credential-process`: AWS clients ask for keys when they need them.

use super::{JobArgs, Terminal, cache::Wanted, login::put, run};
use crate::{
    client::{answer::Credential, deliver::process_json},
    secret::Secret,
};
use anyhow::Result;
use clap::Args;
use serde_json::Value;

/// No AWS client takes keys with less left.
const LEFT_SECONDS_MIN: i64 = 120;

/// Print AWS keys as AWS clients ask for them
///
/// For `credential_process` of a profile. Keys are asked for once and kept, in a file that nobody else can read, until 16
/// minutes or a third of their life are left; then the next call renews them. However many processes ask at once, one
/// exchanges, and the others get what is kept as long as that is good for two minutes; so does every call while the broker is
/// away, which is asked again after 30 s. Errors are on standard error, where AWS clients show them. `claimbound logout` ends what was asked for. Exit code 0: done; 2: usage; 3: refused; 4: the broker or
/// the CI system cannot be asked; 5: a person has to answer for the role, or has said no.
#[derive(Args, Debug)]
#[command(after_help = "Example, in the file that AWS_CONFIG_FILE names, with CLAIMBOUND_URL set:
  [profile payments]
  credential_process = claimbound credential-process --role payments-deploy")]
pub struct ProcessArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Take keys of these AWS accounts alone
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    allowed_account_ids: Vec<String>,
}

/// Runs the command.
pub fn process(args: ProcessArgs) -> Result<u8> {
    run(async || {
        let accounts = &args.allowed_account_ids;
        let expected = |keys: &Value| {
            let account = keys["AccountId"].as_str();
            account.is_some_and(|account| accounts.is_empty() || accounts.iter().any(|expected| expected == account))
        };
        let wanted = Wanted {
            job: &args.job,
            accounts,
            command: "credential-process",
            left_seconds_min: LEFT_SECONDS_MIN,
            content: |credential, expires| match credential {
                Credential::Aws(aws) => Some(process_json(aws, expires)),
                Credential::Jwt(_) => None,
            },
            usable: &expected,
        };
        let kept = wanted.kept(&Terminal::without_masks()).await?;
        put(&Secret::new(format!("{}\n", kept.content)))
    })
}
