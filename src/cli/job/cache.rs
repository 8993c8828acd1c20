//! What is asked for once and given to every process of a job.
//!
//! Programs that call a command for a credential remember it within one process only, and a job may have hundreds: without a cache each
//! of them would be an exchange. So there is one, which one process at a time may fill.

use super::{JobArgs, Terminal, login::forget_expired, variable};
use crate::{
    broker::SystemClock,
    client::{
        Job, Log as _, OnPending,
        answer::{Credential, Granted},
        broker::revoke,
        deliver::{admit, lease},
        failure::{Failure, Kind},
        keep::{self, Keep, name_of},
        retry::{Pace as _, RealPace},
        source::TOKEN_FILE,
    },
    secret::Secret,
};
use claimbound_core::time::Clock as _;
use serde_json::{Value, json};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// AWS clients begin to ask again when 15 minutes are left.
const RENEW_SECONDS: i64 = 16 * 60;
/// How often a process looks whether another one has filled the cache.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long it is tried to renew what is good for some minutes more: clients give up a process that takes a minute.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nobody tries again, after a broker that could not be asked.
const AGAIN_SECONDS: i64 = 30;
/// What is kept of a later time than now is of a clock that was set back since, but for what clocks are slowed down by.
const BACK_SECONDS_MAX: i64 = 5;
/// However little is left of a command's time once it is its turn.
const TRY_MIN: Duration = Duration::from_secs(1);
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
    /// Not renewed before: the broker could not be asked a moment ago.
    again: i64,
}

impl Kept {
    fn read(path: &Path) -> Option<Self> {
        let json = keep::read(path).ok()??;
        Some(Self {
            content: json["content"].is_object().then(|| json["content"].clone())?,
            at: json["at"].as_i64()?,
            expires: json["expires"].as_i64()?,
            refresh: json["refresh"].as_str().map(|token| Secret::new(token.to_owned())),
            again: json["again"].as_i64().unwrap_or_default(),
        })
    }

    fn write(&self, path: &Path) -> Result<(), Failure> {
        let refresh = self.refresh.as_ref().map(Secret::reveal);
        let Self { content, at, expires, again, .. } = self;
        let json = json!({ "content": content, "at": at, "expires": expires, "refresh": refresh, "again": again });
        keep::write(path, json.to_string().as_bytes())
    }

    /// When it is renewed, Unix seconds.
    pub fn renewed(&self) -> i64 {
        self.expires - renew_at(self.expires - self.at)
    }

    /// Whether it may be given out.
    fn good(&self, now: i64, left_min: i64) -> bool {
        self.expires - now >= left_min && self.at - now <= BACK_SECONDS_MAX
    }

    /// Whether it need not be renewed yet.
    fn fresh(&self, now: i64, left_min: i64) -> bool {
        self.good(now, left_min) && now < self.renewed().max(self.again)
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
        let token = job.token_file.clone().or_else(|| variable(TOKEN_FILE).map(PathBuf::from));
        let [token, actor] = [token, job.actor_token_file.clone()].map(|path| {
            let path = path.unwrap_or_default();
            // From wherever it is asked.
            std::path::absolute(&path).unwrap_or(path)
        });
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
        let (began, no, mut waited) = (now(), path.with_extension("refused"), false);
        let good = |kept: &Kept| kept.good(now(), self.left_seconds_min) && (self.usable)(&kept.content);
        let fresh = |kept: &Kept| good(kept) && kept.fresh(now(), self.left_seconds_min);
        let until = Instant::now() + Duration::from_secs(u64::try_from(self.job.timeout).unwrap_or_default());
        let _held = loop {
            // The usual case needs no lock: the file is replaced as a whole.
            let kept = match Kept::read(&path).filter(good) {
                Some(kept) if fresh(&kept) => return Ok(kept),
                kept => kept,
            };
            match (locked(&self.path(&keep, LOCK))?, kept) {
                (Some(held), _) => break held,
                // One process renews; nobody waits for it who has something good.
                (None, Some(kept)) => return Ok(kept),
                (None, None) if Instant::now() >= until => return Err(busy()),
                (None, None) => {
                    waited = true;
                    RealPace.sleep(LOOK_EVERY).await;
                }
            }
        };
        let before = match Kept::read(&path) {
            Some(kept) if fresh(&kept) => return Ok(kept),
            before => before,
        };
        if waited && let Some(failure) = refused(&no, began) {
            return Err(failure);
        }
        let left = until.saturating_duration_since(Instant::now()).max(TRY_MIN);
        let timeout = if before.as_ref().is_some_and(good) { left.min(RENEWAL_TIMEOUT) } else { left };
        match self.exchanged(before.as_ref(), &keep, &path, timeout, log).await {
            Err(failure) if failure.kind == Kind::Unavailable => {
                let kept = before.filter(good).ok_or(failure)?;
                log.say("warning: the broker cannot be asked; what it gave before is good for some minutes more");
                let kept = Kept { again: now() + AGAIN_SECONDS, ..kept };
                // It only spares the next ones a try.
                let _ = kept.write(&path);
                Ok(kept)
            }
            Err(failure) if [Kind::Refused, Kind::Pending].contains(&failure.kind) => {
                // Those that wait would be told the same.
                let json = json!({ "at": now(), "code": failure.kind.code(), "text": failure.text });
                let _ = keep::write(&no, json.to_string().as_bytes());
                Err(failure)
            }
            ended => ended,
        }
    }

    async fn exchanged(
        &self,
        before: Option<&Kept>,
        keep: &Keep,
        path: &Path,
        timeout: Duration,
        log: &Terminal,
    ) -> Result<Kept, Failure> {
        // Nobody sees a link before the program that asks gives up.
        let job = Job { timeout, ..self.job.job(OnPending::Stop)? };
        let refresh = before.and_then(|kept| kept.refresh.as_ref());
        let granted = job.next(refresh, log, &RealPace).await?;
        let now = SystemClock.now().0;
        let read = |granted: &Granted| {
            admit(granted, self.accounts)?;
            let (role, command) = (&granted.role, self.command);
            let Some(content) = (self.content)(&granted.credential, now + granted.expires_in) else {
                let text = match &granted.credential {
                    Credential::Jwt(_) => format!(
                        "The role `{role}` gives a JWT, and `{command}` is for AWS keys. Use `claimbound exec`, or `claimbound \
                         login --mode file`"
                    ),
                    Credential::Aws(_) => format!(
                        "The role `{role}` gives AWS keys, and `{command}` is for JWTs. Use `claimbound credential-process` or \
                         `claimbound agent`"
                    ),
                };
                return Err(Failure::usage("mode_unfit", text));
            };
            if granted.expires_in < self.left_seconds_min {
                let text = format!(
                    "What the role `{role}` gives is good for {} s only, and `{command}` needs {}. Ask for more with \
                     `--duration`, as far as the role and the mapping allow it",
                    granted.expires_in, self.left_seconds_min
                );
                return Err(Failure::usage("duration_too_short", text));
            }
            keep.remember(&lease(granted, &job.broker.url, now, Vec::new(), Vec::new()))?;
            let next = granted.refresh.as_ref().map(|token| Secret::new(token.reveal().to_owned()));
            if let Some(refresh) = refresh.filter(|_| next.is_some()) {
                keep.spent(refresh)?;
            }
            forget_expired(keep, now)?;
            let kept = Kept { content, at: now, expires: now + granted.expires_in, refresh: next, again: 0 };
            kept.write(path).map(|()| kept)
        };
        match read(&granted) {
            Ok(kept) => Ok(kept),
            Err(failure) => {
                // Nobody will use it; if this fails it runs out by itself.
                if revoke(&job.http, &job.broker.url, &granted.handle).await.is_ok() {
                    keep.forget(&granted.lease_id);
                }
                Err(failure)
            }
        }
    }

    /// Forgets what somebody did not take, unless it is replaced already. What renews is kept: a job may have no second token.
    pub fn drop_if(&self, spent: impl Fn(&Value) -> bool) -> Result<(), Failure> {
        let keep = self.job.state.open()?;
        let path = self.path(&keep, CACHE).with_extension("json");
        // Whoever holds it is about to replace what is kept.
        let Some(_held) = locked(&self.path(&keep, LOCK))? else { return Ok(()) };
        match Kept::read(&path).filter(|kept| spent(&kept.content)) {
            Some(kept) => Kept { content: json!({}), ..kept }.write(&path),
            None => Ok(()),
        }
    }
}

/// What another process was told while this one, which began then, waited for its turn.
fn refused(path: &Path, began: i64) -> Option<Failure> {
    let json = keep::read(path).ok()??;
    json["at"].as_i64().filter(|at| *at >= began)?;
    Some(Failure::new(Kind::of(json["code"].as_u64()?)?, "refused", json["text"].as_str()?))
}

fn busy() -> Failure {
    let text = "Another process has asked the broker all this time and got no answer";
    Failure::new(Kind::Unavailable, "busy", text)
}

/// The file, locked for as long as it is open; none while another process holds it.
fn locked(path: &Path) -> Result<Option<File>, Failure> {
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = opened.map_err(|error| Failure::file("open", path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(Failure::file("lock", path, &error)),
    }
    // `logout` removes it: one that stands nowhere keeps nobody out.
    let own = file.metadata().map_err(|error| Failure::file("read", path, &error))?;
    let same = fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino()));
    Ok(same.then_some(file))
}

/// Removes the caches.
pub(super) fn forget(keep: &Keep) -> Result<(), Failure> {
    for path in keep.files()? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(CACHE) || name.starts_with(LOCK) {
            keep::remove(&path)?;
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
        let kept = Kept { content: json!({}), at: 0, expires: 900, refresh: None, again: 0 };
        assert!(kept.fresh(0, 120) && kept.fresh(599, 120) && !kept.fresh(600, 120) && !kept.fresh(901, 120));
        assert!(
            kept.good(700, 120) && !kept.good(781, 120),
            "good for some minutes, though somebody should renew them"
        );
        assert!(kept.good(-5, 120) && !kept.good(-6, 120), "of a clock that was set back since");
        let tried = Kept { again: 730, content: json!({}), refresh: None, ..kept };
        assert!(tried.fresh(729, 120) && !tried.fresh(730, 120) && !Kept { again: 900, ..tried }.fresh(781, 120));
        let short = Kept { expires: 200, ..kept };
        assert!(short.fresh(80, 120) && !short.fresh(81, 120), "nearly dead keys are given to nobody");
    }

    #[test]
    fn whoever_waited_is_told_what_the_one_was_told_that_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache-x.refused");
        assert!(refused(&path, 0).is_none());
        fs::write(&path, json!({ "at": 100, "code": 3, "text": "No" }).to_string()).unwrap();
        let told = refused(&path, 100).unwrap();
        assert_eq!((told.kind, told.text.as_str()), (Kind::Refused, "No"));
        assert!(refused(&path, 101).is_none(), "whoever comes later asks anew");
    }

    #[test]
    fn a_lock_is_held_by_one_and_counts_where_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = locked(&path).unwrap();
        assert!(first.is_some() && locked(&path).unwrap().is_none());
        // Somebody has logged out: the next one makes a lock of its own, and the first keeps nobody out.
        fs::remove_file(&path).unwrap();
        assert!(locked(&path).unwrap().is_some());
        drop(first);
        assert!(locked(&path).unwrap().is_some());
    }
}
