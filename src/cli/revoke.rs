//! `claimbound revoke`: by possession as anybody, by name as an operator.

use super::{
    governed::{
        self, Failed, REFUSED, UNAVAILABLE, USAGE, Where,
        args::{FilterArgs, moment},
    },
    loaded,
    render::Format,
    suspend::print_json,
};
use crate::{
    operate::{Deed, Done, Revoke, Revoked},
    secret::Secret,
};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::{
    fs,
    io::{self, Read as _},
    path::PathBuf,
};

/// A credential, or the handle of a lease.
const TOKEN_BYTES_MAX: u64 = 16 * 1024;

/// End leases: the one whose credential or handle is given, or as an operator those that are named
///
/// Without a selector the credential, or the lease handle that the answer held as `access_token`, is read from standard
/// input or `--token-file`, and the broker at `--url` ends its lease; it says nothing of whether there was one. With
/// selectors the leases that they all fit are ended, in an operator's name, and what that means for each credential is said:
/// `dead_now` its target refuses it, `denied` its target is told to, `at_expiry` it works until then. Exit code 0: done;
/// 2: usage; 3: refused; 4: the broker or its store cannot be asked.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  claimbound revoke --url https://claimbound.example.com --token-file handle
  claimbound revoke --repository acme/payments-api --reason 'INC-17' --dry-run")]
pub struct RevokeArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Why: for whoever reads the evidence
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Say what would be ended, and end nothing
    #[arg(long)]
    dry_run: bool,
    /// Print nothing but the policy that denies what was ended, for backends whose policy the broker may not write
    #[arg(long, conflicts_with = "dry_run")]
    print_policy: bool,
    /// By possession: the broker's public URL
    #[arg(long, value_name = "URL", env = "CLAIMBOUND_URL")]
    url: Option<String>,
    /// By possession: a file that holds the credential or handle
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    place: Where,
    /// How to answer
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: RevokeArgs) -> Result<u8> {
    let leases = args.filter.filter();
    if leases.is_empty() {
        if args.reason.is_some() || args.dry_run || args.print_policy {
            bail!(
                "nothing says which leases; name a lease, role, mapping, repository, run, issuer, principal or actor"
            );
        }
        return by_possession(&args);
    }
    let reason = match (args.reason, args.dry_run) {
        (Some(reason), _) => reason,
        (None, true) => "a dry run".to_owned(),
        (None, false) => bail!("say why, with `--reason TEXT`"),
    };
    let asked = Revoke { leases, reason, dry_run: args.dry_run };
    governed::run(&args.place, Deed::Revoke(asked), |done| {
        let Done::Revoked(revoked) = done else { bail!("the broker's answer is of another version") };
        match args.format {
            _ if args.print_policy => {
                for policy in revoked.policies.values() {
                    print_json(policy)?;
                }
                eprint!(
                    "{}",
                    loaded::without_control(&human(&Revoked { policies: Default::default(), ..revoked.clone() }))
                );
                Ok(())
            }
            Format::Json => print_json(revoked),
            Format::Human => Ok(loaded::print(&human(revoked))?),
        }
    })
}

/// What was done, for people.
pub(super) fn human(revoked: &Revoked) -> String {
    let mut text = String::new();
    for one in &revoked.leases {
        let effect = match one.effect.as_str() {
            "dead_now" => "ended: its target refuses it".to_owned(),
            "denied" => "denied by policy".to_owned(),
            "where_checked" => format!("refused where it is looked up, else ends at expiry, {}", moment(one.expires)),
            _ => format!("ends at expiry, {}", moment(one.expires)),
        };
        text.push_str(&format!(
            "{}  {} for {} ({} {}): {effect}\n",
            one.lease, one.role, one.name, one.issuer, one.principal
        ));
    }
    let left = revoked.count - revoked.leases.len() as u64;
    if left > 0 {
        text.push_str(&format!("and {left} more\n"));
    }
    let word = if revoked.dry_run { "would be ended" } else { "ended" };
    let effects: Vec<String> = revoked.effects.iter().map(|(effect, count)| format!("{count} {effect}")).collect();
    let effects = if effects.is_empty() { String::new() } else { format!(": {}", effects.join(", ")) };
    text.push_str(&format!("{} {word}{effects}\n", crate::history::log::counted(revoked.count, "lease")));
    if revoked.children > 0 {
        text.push_str(&format!("of these, {} came of the tokens of others\n", revoked.children));
    }
    if revoked.families > 0 {
        let families = crate::history::log::counted(revoked.families, "refresh token");
        text.push_str(&format!("{families} {word}\n"));
    }
    for (backend, told) in &revoked.backends {
        text.push_str(&match (&told.error, told.applied) {
            (None, Some(at)) => format!(
                "backend {backend}: its policy denies {} since {} (version {}), in effect as soon as that has spread\n",
                crate::history::log::counted(told.entries as u64, "entry").replace("entrys", "entries"),
                moment(at),
                told.version.as_deref().unwrap_or("?")
            ),
            (error, _) => format!(
                "backend {backend}: NOT told yet, so what is denied there still works: {}\n",
                error.as_deref().unwrap_or("no answer")
            ),
        });
    }
    for note in &revoked.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    for (backend, policy) in &revoked.policies {
        text.push_str(&format!("policy of backend {backend}:\n{policy:#}\n"));
    }
    text
}

fn by_possession(args: &RevokeArgs) -> Result<u8> {
    let Some(url) = &args.url else {
        bail!("name the broker with `--url URL` or `CLAIMBOUND_URL`, or leases by a selector; `--help` lists them")
    };
    let mut text = String::new();
    match &args.token_file {
        Some(path) => fs::File::open(path)
            .and_then(|file| file.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text))
            .with_context(|| format!("cannot read `{}`", path.display()))?,
        None => io::stdin()
            .lock()
            .take(TOKEN_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .context("cannot read the credential from standard input")?,
    };
    let token = Secret::new(text);
    let trimmed = token.reveal().trim();
    if trimmed.is_empty() || trimmed.len() as u64 > TOKEN_BYTES_MAX {
        bail!("a credential or lease handle has 1 to {TOKEN_BYTES_MAX} bytes");
    }
    let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("token", trimmed).finish();
    let url = format!("{}/revoke", url.trim_end_matches('/'));
    let kind = "application/x-www-form-urlencoded";
    let asked =
        super::serve::runtime()?.block_on(governed::post(&url, kind, form.as_bytes(), args.place.ca_file().as_deref()));
    let (code, text) = match asked {
        Ok((200, _)) => return Ok(governed::DONE),
        Ok((status @ (429 | 500..), _)) => (UNAVAILABLE, format!("{url} answered {status}; it was not ended")),
        Ok((400 | 413 | 415, _)) => (USAGE, format!("{url} does not take this for a credential")),
        Ok((status, _)) => (REFUSED, format!("{url} answered {status}")),
        Err(Failed { code, text }) => (code, text),
    };
    eprintln!("error: {text}");
    Ok(code)
}
