//! What is asked for once and given to every process of a job.
//!
//! Programs that call a command for a credential remember it within one process only, and a job may have hundreds: without a cache each
//! of them would be an exchange. So there is one, which one process at a time may fill.

use super::{JobArgs, Terminal, login::forget_expired};
use crate::{
    broker::SystemClock,
    client::{
        Log as _, OnPending,
        answer::{Credential, Granted},
        broker::revoke,
        deliver::{admit, lease},
        failure::{Failure, Kind},
        keep::{self, Keep, name_of},
        retry::{Pace as _, RealPace},
    },
    secret::Secret,
};
use claimbound_core::time::Clock as _;
use serde_json::{Value, json};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// AWS clients begin to ask again when 15 minutes are left.
const RENEW_SECONDS: i64 = 16 * 60;
/// How often a process looks whether another one has filled the cache.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const CACHE: &str = "cache-";
const LOCK: &str = "lock-";

/// What the cache holds.
pub(super) struct Kept {
    /// Of the kind that was wanted.
    pub content: Value,
    at: i64,
    /// Unix seconds.
    pub expires: i64,
    refresh: Option<Secret>,
}

impl Kept {
    fn read(path: &Path) -> Option<Self> {
        let json = keep::read(path).ok()??;
        Some(Self {
            content: json["content"].is_object().then(|| json["content"].clone())?,
            at: json["at"].as_i64()?,
            expires: json["expires"].as_i64()?,
            refresh: json["refresh"].as_str().map(|token| Secret::new(token.to_owned())),
        })
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        let refresh = self.refresh.as_ref().map(Secret::reveal);
        let json = json!({ "content": self.content, "at": self.at, "expires": self.expires, "refresh": refresh });
        keep::write(path, json.to_string().as_bytes())
    }

    /// When it is renewed, Unix seconds.
    pub fn renewed(&self) -> i64 {
        self.expires - renew_at(self.expires - self.at)
    }

    fn fresh(&self, now: i64, left_min: i64) -> bool {
        self.expires - now >= left_min && now < self.renewed()
    }
}

/// With how many seconds left a credential of this life is renewed: 16 minutes or a third of it, whichever comes first; but
/// short ones not at every call.
pub(super) fn renew_at(life: i64) -> i64 {
    let third = life / 3;
    if RENEW_SECONDS <= life / 2 { third.max(RENEW_SECONDS) } else { third }
}

/// What is wanted of a cache.
pub(super) struct Wanted<'a> {
    pub job: &'a JobArgs,
    /// AWS accounts that are expected; empty is any.
    pub accounts: &'a [String],
    /// Who asks, as it is called.
    pub command: &'a str,
    /// With less left nothing is given out, whatever the broker says.
    pub left_seconds_min: i64,
    /// The content that is kept of a credential of the right kind, which ends at this time.
    pub content: fn(&Credential, i64) -> Option<Value>,
    /// Whether what is kept is still what is wanted.
    pub usable: &'a dyn Fn(&Value) -> bool,
}

impl Wanted<'_> {
    fn path(&self, keep: &Keep, what: &str) -> PathBuf {
        let job = self.job;
        let duration = job.duration.map(|seconds| seconds.to_string()).unwrap_or_default();
        // Whose tokens are sent is part of what is asked for: what one actor gets is not another's.
        let [token, actor] =
            [&job.token_file, &job.actor_token_file].map(|path| path.as_deref().unwrap_or(Path::new("")));
        let name = name_of(&[
            &job.url,
            job.role.as_deref().unwrap_or_default(),
            &duration,
            job.audience.as_deref().unwrap_or_default(),
            &token.to_string_lossy(),
            &actor.to_string_lossy(),
        ]);
        keep.path(&format!("{what}{name}"))
    }

    /// What is kept, or what one process among all that ask gets.
    pub async fn kept(&self, log: &Terminal) -> Result<Kept, Failure> {
        let keep = self.job.state.open()?;
        let path = self.path(&keep, CACHE).with_extension("json");
        let now = || SystemClock.now().0;
        let usable = |kept: &Kept| kept.fresh(now(), self.left_seconds_min) && (self.usable)(&kept.content);
        // The usual case needs no lock: the file is replaced as a whole.
        if let Some(kept) = Kept::read(&path).filter(&usable) {
            return Ok(kept);
        }
        let until = Instant::now() + Duration::from_secs(u64::try_from(self.job.timeout).unwrap_or_default());
        let _held = held(&self.path(&keep, LOCK), until).await?;
        let before = match Kept::read(&path) {
            Some(kept) if usable(&kept) => return Ok(kept),
            before => before,
        };
        match self.exchanged(before.as_ref(), &keep, log).await {
            Ok(kept) => kept.write(&path).map(|()| kept),
            Err(failure) if failure.kind == Kind::Unavailable => {
                let good = |kept: &Kept| kept.expires - now() >= self.left_seconds_min && (self.usable)(&kept.content);
                let kept = before.filter(good).ok_or(failure)?;
                log.say("warning: the broker cannot be asked; what it gave before is good for some minutes more");
                Ok(kept)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn exchanged(&self, before: Option<&Kept>, keep: &Keep, log: &Terminal) -> Result<Kept, Failure> {
        // Nobody sees a link before the program that asks gives up.
        let job = self.job.job(OnPending::Stop)?;
        let granted = job.next(before.and_then(|kept| kept.refresh.as_ref()), log, &RealPace).await?;
        let now = SystemClock.now().0;
        let read = |granted: &Granted| {
            admit(granted, self.accounts)?;
            let (role, command) = (&granted.role, self.command);
            let Some(content) = (self.content)(&granted.credential, now + granted.expires_in) else {
                let text = match &granted.credential {
                    Credential::Jwt(_) => format!("The role `{role}` gives a JWT; `{command}` is for AWS keys"),
                    Credential::Aws(_) => format!("The role `{role}` gives AWS keys; `{command}` is for JWTs"),
                };
                return Err(Failure::usage("mode_unfit", text));
            };
            if granted.expires_in < self.left_seconds_min {
                let text = format!(
                    "What `{role}` gives is good for {} s only, too little for `{command}`",
                    granted.expires_in
                );
                return Err(Failure::usage("duration_too_short", text));
            }
            forget_expired(keep, now)?;
            keep.remember(&lease(granted, &job.broker.url, now, Vec::new(), Vec::new()))?;
            Ok(content)
        };
        match read(&granted) {
            Ok(content) => Ok(Kept { content, at: now, expires: now + granted.expires_in, refresh: granted.refresh }),
            Err(failure) => {
                // Nobody will use it; if this fails it runs out by itself.
                let _ = revoke(&job.http, &job.broker.url, &granted.handle).await;
                Err(failure)
            }
        }
    }

    /// Forgets what somebody did not take, unless it is replaced already. What renews is kept: a job may have no second token.
    pub fn drop_if(&self, spent: impl Fn(&Value) -> bool) -> Result<(), Failure> {
        let path = self.path(&self.job.state.open()?, CACHE).with_extension("json");
        match Kept::read(&path).filter(|kept| spent(&kept.content)) {
            Some(kept) => Kept { content: json!({}), ..kept }.write(&path),
            None => Ok(()),
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
        let kept = Kept { content: json!({}), at: 0, expires: 900, refresh: None };
        assert!(kept.fresh(0, 120) && kept.fresh(599, 120) && !kept.fresh(600, 120) && !kept.fresh(901, 120));
        let short = Kept { expires: 200, ..kept };
        assert!(short.fresh(80, 120) && !short.fresh(81, 120), "nearly dead keys are given to nobody");
    }
}
