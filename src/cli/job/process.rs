//! `claimbound credential-process`: AWS clients ask for keys when they need them.
//!
//! SDKs remember keys within one process only, and a job may have hundreds: without a cache of its own each of them would be an
//! exchange. So there is one, which one process at a time may fill.

use super::{JobArgs, Terminal, login::forget_expired, login::put, run};
use crate::{
    broker::SystemClock,
    client::{
        Log as _, OnPending,
        answer::{Credential, Granted},
        broker::revoke,
        deliver::{admit, lease, process_json},
        failure::{Failure, Kind},
        keep::{self, Keep, name_of},
        retry::{Pace as _, RealPace},
    },
    secret::Secret,
};
use anyhow::Result;
use claimbound_core::time::Clock as _;
use clap::Args;
use serde_json::{Value, json};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

/// SDKs begin to ask again when 15 minutes are left.
const RENEW_SECONDS: i64 = 16 * 60;
/// Keys with less left are not given out, whatever the broker says.
const LEFT_SECONDS_MIN: i64 = 120;
/// How often a process looks whether another one has filled the cache.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const CACHE: &str = "cache-";
const LOCK: &str = "lock-";

/// Print AWS keys as AWS clients ask for them
///
/// For `credential_process` of a profile. Keys are asked for once and kept, in a file that nobody else can read, until 16
/// minutes or a third of their life are left; then the next call renews them. However many processes ask at once, one
/// exchanges. If the broker is away, keys that are still good for two minutes are given. Errors are on standard error, where AWS
/// clients show them. `claimbound logout` ends what was asked for. Exit code 0: done; 2: usage; 3: refused; 4: the broker or
/// the CI system cannot be asked; 5: a person has to answer for the role, or has said no.
#[derive(Args, Debug)]
#[command(after_help = "Example, in the file that AWS_CONFIG_FILE names:
  [profile payments]
  credential_process = claimbound credential-process --url https://claimbound.example.com --role payments-deploy")]
pub struct ProcessArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Take keys of these AWS accounts alone
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    allowed_account_ids: Vec<String>,
}

/// What the cache holds.
struct Kept {
    /// As it is printed.
    keys: Value,
    at: i64,
    expires: i64,
    refresh: Option<Secret>,
}

impl Kept {
    fn read(path: &Path) -> Option<Self> {
        let json = keep::read(path).ok()??;
        Some(Self {
            keys: json["keys"].is_object().then(|| json["keys"].clone())?,
            at: json["at"].as_i64()?,
            expires: json["expires"].as_i64()?,
            refresh: json["refresh"].as_str().map(|token| Secret::new(token.to_owned())),
        })
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        let refresh = self.refresh.as_ref().map(Secret::reveal);
        let json = json!({ "keys": self.keys, "at": self.at, "expires": self.expires, "refresh": refresh });
        keep::write(path, json.to_string().as_bytes())
    }

    fn fresh(&self, now: i64) -> bool {
        let left = self.expires - now;
        left >= LEFT_SECONDS_MIN && left > renew_at(self.expires - self.at)
    }

    fn told(&self) -> Secret {
        Secret::new(format!("{}\n", self.keys))
    }
}

/// With how many seconds left keys of this life are renewed: 16 minutes or a third of it, whichever comes first; but short ones
/// not at every call.
fn renew_at(life: i64) -> i64 {
    let third = life / 3;
    if RENEW_SECONDS <= life / 2 { third.max(RENEW_SECONDS) } else { third }
}

/// Runs the command.
pub fn process(args: ProcessArgs) -> Result<u8> {
    run(async || {
        let log = Terminal::without_masks();
        let keep = args.job.state.open()?;
        let job = &args.job;
        let duration = job.duration.map(|seconds| seconds.to_string()).unwrap_or_default();
        let role = job.role.as_deref().unwrap_or_default();
        // Whose tokens are sent is part of what is asked for: keys of one actor are not another's.
        let [token, actor] =
            [&job.token_file, &job.actor_token_file].map(|path| path.as_deref().unwrap_or(Path::new("")));
        let name = name_of(&[
            &job.url,
            role,
            &duration,
            job.audience.as_deref().unwrap_or_default(),
            &token.to_string_lossy(),
            &actor.to_string_lossy(),
        ]);
        let path = keep.path(&format!("{CACHE}{name}.json"));
        let usable = |kept: &Kept, now| kept.fresh(now) && expected(&kept.keys, &args.allowed_account_ids);
        // The usual case needs no lock: the file is replaced as a whole.
        let now = || SystemClock.now().0;
        if let Some(kept) = Kept::read(&path).filter(|kept| usable(kept, now())) {
            return put(&kept.told());
        }
        let until = Instant::now() + Duration::from_secs(u64::try_from(job.timeout).unwrap_or_default());
        let _held = held(&keep.path(&format!("{LOCK}{name}")), until).await?;
        let before = Kept::read(&path);
        if let Some(kept) = before.as_ref().filter(|kept| usable(kept, now())) {
            return put(&kept.told());
        }
        match exchanged(&args, before.as_ref(), &keep, &log).await {
            Ok(kept) => {
                kept.write(&path)?;
                put(&kept.told())
            }
            Err(failure) if failure.kind == Kind::Unavailable => {
                let good = |kept: &&Kept| {
                    kept.expires - now() >= LEFT_SECONDS_MIN && expected(&kept.keys, &args.allowed_account_ids)
                };
                let kept = before.as_ref().filter(good).ok_or(failure)?;
                log.say("warning: the broker cannot be asked; these keys are good for some minutes more");
                put(&kept.told())
            }
            Err(failure) => Err(failure),
        }
    })
}

fn expected(keys: &Value, accounts: &[String]) -> bool {
    accounts.is_empty() || accounts.iter().any(|account| keys["AccountId"] == account.as_str())
}

async fn exchanged(args: &ProcessArgs, before: Option<&Kept>, keep: &Keep, log: &Terminal) -> Result<Kept, Failure> {
    // Nobody sees a link before an SDK gives up.
    let job = args.job.job(OnPending::Stop)?;
    let granted = job.next(before.and_then(|kept| kept.refresh.as_ref()), log, &RealPace).await?;
    let now = SystemClock.now().0;
    let read = |granted: &Granted| {
        admit(granted, &args.allowed_account_ids)?;
        let Credential::Aws(aws) = &granted.credential else {
            let text = format!("The role `{}` gives a JWT; `credential-process` is for AWS keys", granted.role);
            return Err(Failure::usage("mode_unfit", text));
        };
        if granted.expires_in < LEFT_SECONDS_MIN {
            let text = format!("The keys are good for {} s only, which no AWS client takes", granted.expires_in);
            return Err(Failure::usage("duration_too_short", text));
        }
        forget_expired(keep, now)?;
        keep.remember(&lease(granted, &job.broker.url, now, Vec::new(), Vec::new()))?;
        Ok(process_json(aws, now + granted.expires_in))
    };
    match read(&granted) {
        Ok(keys) => Ok(Kept { keys, at: now, expires: now + granted.expires_in, refresh: granted.refresh }),
        Err(failure) => {
            // Nobody will use it; if this fails it runs out by itself.
            let _ = revoke(&job.http, &job.broker.url, &granted.handle).await;
            Err(failure)
        }
    }
}

/// Holds the file locked for as long as it is open.
async fn held(path: &Path, until: Instant) -> Result<File, Failure> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = opened.map_err(|error| Failure::file("open", path, &error))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(Failure::file("lock", path, &error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= until => {
                let text = "Another process has asked the broker all this time and got no answer";
                return Err(Failure::new(Kind::Unavailable, "busy", text));
            }
            Err(TryLockError::WouldBlock) => RealPace.sleep(LOOK_EVERY).await,
        }
    }
}

/// Removes the caches.
pub(super) fn forget(keep: &Keep) -> Result<(), Failure> {
    for path in keep.files()? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(CACHE) || name.starts_with(LOCK) {
            fs::remove_file(&path).map_err(|error| Failure::file("remove", &path, &error))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_renewed_before_a_client_asks_and_not_at_every_call() {
        assert_eq!(renew_at(12 * 3600), 4 * 3600);
        assert_eq!(renew_at(3600), 1200);
        assert_eq!(renew_at(40 * 60), RENEW_SECONDS);
        assert_eq!(renew_at(900), 300);
        let kept = Kept { keys: json!({}), at: 0, expires: 900, refresh: None };
        assert!(kept.fresh(0) && kept.fresh(599) && !kept.fresh(600) && !kept.fresh(901));
        let short = Kept { expires: 200, ..kept };
        assert!(short.fresh(80) && !short.fresh(81), "nearly dead keys are given to nobody");
    }
}
