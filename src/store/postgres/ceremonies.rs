//! Claim ceremonies: what a batch may touch of them, judged in memory, and written before the rest of the batch. Few
//! batches have any.

use super::{batch::Table, bytes, get, statements::Session};
use crate::store::{
    Blocked, Bound, Ceremony, Change, Commit, Down, Guard, KeptCeremony, Move, Standing, Waiting, WhichCeremonies,
    ceremony::{KEPT_SECONDS, OPEN_OF_REPOSITORY_MAX, Told, WAITING_MAX, subject_text},
};
use claimbound_core::{
    ceremony::{CeremonyId, State},
    time::UnixSeconds,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};
use tokio_postgres::{Client, Error, Row};

/// Ceremonies and claims that one sweep removes, at most.
const SWEEP_ROWS_MAX: i64 = 1_000;

/// What of them a batch may touch.
#[derive(Default)]
pub(super) struct Wanted {
    ids: BTreeSet<[u8; 16]>,
    opened: BTreeSet<[u8; 32]>,
    repositories: BTreeSet<[u8; 32]>,
    requests: BTreeSet<[u8; 32]>,
    standing: BTreeSet<[u8; 32]>,
    suspended: BTreeSet<[u8; 32]>,
    adopts: bool,
}

impl Wanted {
    pub(super) fn guard(&mut self, guard: &Guard) {
        match guard {
            Guard::Ceremony(moved) => drop(self.ids.insert(id(moved.ceremony))),
            Guard::Standing { key, .. } | Guard::Lapsed { key, .. } => drop(self.standing.insert(*key)),
            _ => {}
        }
    }

    pub(super) fn change(&mut self, change: &Change) {
        match change {
            Change::OpenCeremony(ceremony) => {
                self.opened.insert(ceremony.key);
                self.repositories.insert(ceremony.repository);
            }
            Change::Wait(job) => drop(self.ids.insert(id(job.ceremony))),
            Change::Leave(request) => drop(self.requests.insert(*request)),
            Change::GiveClaimBack(moved) => drop(self.ids.insert(id(moved.ceremony))),
            Change::Stand(standing) => drop(self.standing.insert(standing.key)),
            Change::ResetClaims(keys) | Change::CarryClaims { keys, .. } => self.standing.extend(keys),
            Change::Suspend { suspension, .. } => drop(self.suspended.insert(suspension.subject.key())),
            Change::Adopt(_) => self.adopts = true,
            _ => {}
        }
    }
}

/// A ceremony's row, as far as it changes.
#[derive(Clone)]
pub(super) struct Kept {
    key: [u8; 32],
    repository: [u8; 32],
    open: bool,
    expires: i64,
    version: u64,
    waiting: usize,
    /// Of a batch that suspends.
    subjects: Vec<[u8; 32]>,
    /// Where this batch moves it.
    moved: Option<State>,
    /// By this batch.
    opened: Option<Box<Ceremony>>,
}

/// A standing claim's row; what this batch writes is whole.
#[derive(Clone)]
pub(super) struct Stands {
    rule: [u8; 32],
    until: i64,
    subjects: Vec<u8>,
    written: Option<Box<Standing>>,
}

/// Everything of ceremonies that a batch may touch.
#[derive(Default)]
pub(super) struct Ceremonies {
    kept: Table<u128, Kept>,
    /// `None` where it stands no more.
    standing: Table<[u8; 32], Option<Stands>>,
    /// Whether it has left.
    jobs: Table<[u8; 32], bool>,
    waiting: Vec<Waiting>,
    /// Subjects, and since when.
    suspended: Vec<([u8; 32], i64)>,
    adopted: bool,
}

/// How much of the lists a commit found.
pub(super) type Mark = (usize, usize, bool);

impl Ceremonies {
    pub(super) fn mark(&self) -> Mark {
        (self.waiting.len(), self.suspended.len(), self.adopted)
    }

    pub(super) fn end(&mut self, keep: bool, (waiting, suspended, adopted): Mark) {
        self.kept.end(keep);
        self.standing.end(keep);
        self.jobs.end(keep);
        if !keep {
            self.waiting.truncate(waiting);
            self.suspended.truncate(suspended);
            self.adopted = adopted;
        }
    }

    /// Moves it, if it is as it was seen.
    pub(super) fn go(&mut self, moved: &Move) -> Option<Blocked> {
        let Some(kept) = self.kept.get(&moved.ceremony.0).filter(|kept| kept.version == moved.seen) else {
            return Some(Blocked::Moved);
        };
        let (open, version, state) = (moved.open, kept.version + 1, Some(moved.next.clone()));
        let kept = Kept { open, version, moved: state, ..kept.clone() };
        self.kept.put(moved.ceremony.0, kept);
        None
    }

    pub(super) fn stands(&self, key: &[u8; 32], rule: &[u8; 32], at: UnixSeconds) -> Option<Blocked> {
        let found = self.standing.get(key).and_then(Option::as_ref);
        let stands = found.is_some_and(|found| found.rule == *rule && found.until > at.0);
        (!stands).then_some(Blocked::Unclaimed)
    }

    pub(super) fn is_over(&self, key: &[u8; 32], at: UnixSeconds) -> Option<Blocked> {
        let found = self.standing.get(key).and_then(Option::as_ref);
        found.is_none_or(|found| found.until > at.0).then_some(Blocked::Unclaimed)
    }

    pub(super) fn open(&mut self, ceremony: &Ceremony) -> Option<Blocked> {
        let open = |kept: &Kept| kept.open && kept.expires > ceremony.opened.0;
        if !self.kept.keys(|kept| open(kept) && kept.key == ceremony.key).is_empty() {
            return Some(Blocked::Moved);
        }
        let others = self.kept.keys(|kept| open(kept) && kept.repository == ceremony.repository);
        if others.len() >= OPEN_OF_REPOSITORY_MAX {
            return Some(Blocked::Crowded);
        }
        let kept = Kept {
            key: ceremony.key,
            repository: ceremony.repository,
            open: ceremony.state.is_open(ceremony.bound.terms.standing),
            expires: ceremony.bound.terms.expires.0,
            version: ceremony.version,
            waiting: 0,
            subjects: ceremony.bound.subjects.clone(),
            moved: None,
            opened: Some(Box::new(ceremony.clone())),
        };
        self.kept.put(ceremony.id.0, kept);
        None
    }

    pub(super) fn wait(&mut self, job: &Waiting) -> Option<Blocked> {
        let open = |kept: &&Kept| kept.open && kept.expires > job.joined.0;
        let Some(kept) = self.kept.get(&job.ceremony.0).filter(open) else { return Some(Blocked::Moved) };
        if kept.waiting >= WAITING_MAX {
            return Some(Blocked::Crowded);
        }
        let kept = Kept { version: kept.version + 1, waiting: kept.waiting + 1, ..kept.clone() };
        self.kept.put(job.ceremony.0, kept);
        self.waiting.push(job.clone());
        None
    }

    pub(super) fn leave(&mut self, request: &[u8; 32]) -> Option<Blocked> {
        if self.jobs.get(request) != Some(&false) {
            return Some(Blocked::Moved);
        }
        self.jobs.put(*request, true);
        None
    }

    pub(super) fn stand(&mut self, standing: &Standing) {
        let written = Some(Box::new(standing.clone()));
        let (rule, until, subjects) = (standing.rule, standing.until.0, standing.subjects.concat());
        self.standing.put(standing.key, Some(Stands { rule, until, subjects, written }));
    }

    pub(super) fn reset(&mut self, keys: &[[u8; 32]]) {
        for key in keys {
            self.standing.put(*key, None);
        }
    }

    pub(super) fn carry(&mut self, keys: &[[u8; 32]], [from, to]: [&[u8; 32]; 2]) {
        for key in keys {
            let found = self.standing.get(key).and_then(Option::as_ref).filter(|found| found.rule == *from);
            let Some(mut carried) = found.cloned() else { continue };
            carried.rule = *to;
            if let Some(written) = &mut carried.written {
                written.rule = *to;
            }
            self.standing.put(*key, Some(carried));
        }
    }

    /// A suspension makes void what was claimed for the subject, and what waits to be, also what this batch does not hold.
    pub(super) fn suspend(&mut self, subject: [u8; 32], since: i64) {
        for ceremony in self.kept.keys(|kept| kept.expires > since && kept.subjects.contains(&subject)) {
            let Some(kept) = self.kept.get(&ceremony) else { continue };
            let kept = Kept { expires: since, version: kept.version + 1, ..kept.clone() };
            self.kept.put(ceremony, kept);
        }
        let of = |stands: &Option<Stands>| {
            let subjects = stands.iter().flat_map(|stands| stands.subjects.as_chunks::<32>().0);
            subjects.into_iter().any(|one| *one == subject)
        };
        for key in self.standing.keys(of) {
            let Some(mut over) = self.standing.get(&key).cloned().flatten() else { continue };
            over.until = 0;
            if let Some(written) = &mut over.written {
                written.until = UnixSeconds(0);
            }
            self.standing.put(key, Some(over));
        }
        self.suspended.push((subject, since));
    }

    pub(super) fn adopt(&mut self) {
        for ceremony in self.kept.keys(|kept| kept.open) {
            let Some(kept) = self.kept.get(&ceremony) else { continue };
            let (version, moved) = (kept.version + 1, Some(State::Expired));
            let kept = Kept { open: false, version, moved, ..kept.clone() };
            self.kept.put(ceremony, kept);
        }
        for key in self.standing.keys(Option::is_some) {
            self.standing.put(key, None);
        }
        self.adopted = true;
    }
}

impl Session {
    /// Reads and locks what the batch may touch of ceremonies: after all other rows, and always in this order.
    pub(super) async fn hold_ceremonies(&self, wanted: &Wanted) -> Result<Ceremonies, Down> {
        let (mut held, client) = (Ceremonies::default(), &self.client);
        if !wanted.opened.is_empty() {
            // Nobody else opens one about the same meanwhile.
            let locks: Vec<i64> = wanted.opened.iter().map(lock_of).collect();
            let lock = "SELECT pg_advisory_xact_lock(key) FROM (SELECT unnest($1::bigint[]) AS key ORDER BY 1) AS keys";
            client.query(lock, &[&locks]).await?;
        }
        let ids: Vec<Vec<u8>> = wanted.ids.iter().map(|id| id.to_vec()).collect();
        let (opened, repositories) = (vecs(&wanted.opened), vecs(&wanted.repositories));
        if !(ids.is_empty() && opened.is_empty()) {
            let sql = "SELECT id, key, repository, open, expires, version, CASE WHEN $4 THEN bound END AS bound,
                              (SELECT count(*) FROM waiting WHERE ceremony = ceremonies.id) AS jobs
                       FROM ceremonies WHERE id = ANY($1) OR (open AND (key = ANY($2) OR repository = ANY($3)))
                       ORDER BY id FOR UPDATE";
            let suspends = !wanted.suspended.is_empty();
            for row in &client.query(sql, &[&ids, &opened, &repositories, &suspends]).await? {
                let jobs: i64 = get(row, "jobs")?;
                let subjects = if suspends { parsed::<Bound>(row, "bound")?.subjects } else { Vec::new() };
                let kept = Kept {
                    key: bytes(row, "key")?,
                    repository: bytes(row, "repository")?,
                    open: get(row, "open")?,
                    expires: get(row, "expires")?,
                    version: get::<i64>(row, "version")?.unsigned_abs(),
                    waiting: usize::try_from(jobs).unwrap_or(usize::MAX),
                    subjects,
                    moved: None,
                    opened: None,
                };
                held.kept.read(u128::from_be_bytes(bytes(row, "id")?), kept);
            }
        }
        if !wanted.requests.is_empty() {
            let sql = "SELECT request, withdrawn FROM waiting WHERE request = ANY($1) ORDER BY request FOR UPDATE";
            for row in &client.query(sql, &[&vecs(&wanted.requests)]).await? {
                held.jobs.read(bytes(row, "request")?, get(row, "withdrawn")?);
            }
        }
        if !wanted.standing.is_empty() {
            for row in &client.query(&self.sql.standing, &[&vecs(&wanted.standing)]).await? {
                let (rule, until) = (bytes(row, "rule")?, get(row, "until")?);
                let stands = Stands { rule, until, subjects: get(row, "subjects")?, written: None };
                held.standing.read(bytes(row, "key")?, Some(stands));
            }
        }
        Ok(held)
    }

    /// Writes what came out of ceremonies.
    pub(super) async fn write_ceremonies(&self, held: &Ceremonies) -> Result<(), Error> {
        let client = &self.client;
        if held.adopted {
            let over = r#"UPDATE ceremonies SET open = false, state = '{"state":"expired"}', version = version + 1 WHERE open"#;
            client.execute(over, &[]).await?;
            client.execute("DELETE FROM standing", &[]).await?;
        }
        for (subject, since) in &held.suspended {
            // First these: who claims one meanwhile commits before it is looked for what stands.
            let over = "UPDATE ceremonies SET expires = $2, version = version + 1 WHERE id IN
                        (SELECT id FROM ceremonies WHERE expires > $2 AND position($1 IN bound) > 0 ORDER BY id FOR UPDATE)";
            client.execute(over, &[&subject_text(subject), since]).await?;
            let void = "UPDATE standing SET until = 0 WHERE position($1 IN subjects) > 0";
            client.execute(void, &[&&subject[..]]).await?;
        }
        for (ceremony, kept) in held.kept.changed() {
            let (ceremony, version) = (ceremony.to_be_bytes(), kept.version.cast_signed());
            if let Some(opened) = &kept.opened {
                let state = json(kept.moved.as_ref().unwrap_or(&opened.state));
                let bound = json(&opened.bound);
                let open = "INSERT INTO ceremonies VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
                let (key, rule, repository) = (&opened.key[..], &opened.rule[..], &opened.repository[..]);
                client
                    .execute(
                        open,
                        &[
                            &&ceremony[..],
                            &key,
                            &rule,
                            &repository,
                            &bound,
                            &opened.opened.0,
                            &kept.expires,
                            &state,
                            &kept.open,
                            &version,
                        ],
                    )
                    .await?;
            } else {
                let state = kept.moved.as_ref().map(json);
                let go = "UPDATE ceremonies SET state = coalesce($2, state), open = $3, version = $4, expires = $5
                          WHERE id = $1";
                client.execute(go, &[&&ceremony[..], &state, &kept.open, &version, &kept.expires]).await?;
            }
        }
        for job in &held.waiting {
            let join = "INSERT INTO waiting VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
            let ceremony = id(job.ceremony);
            let (starter, asked) = (json(&job.starter), json(&job.asked));
            let (request, code, of, token) = (&job.request[..], &job.code[..], &job.job[..], &job.token[..]);
            let of_job = [&request, &&ceremony[..], &code, &of, &token];
            client
                .execute(
                    join,
                    &[
                        of_job[0],
                        of_job[1],
                        of_job[2],
                        of_job[3],
                        of_job[4],
                        &starter,
                        &asked,
                        &job.joined.0,
                        &job.withdrawn,
                    ],
                )
                .await?;
        }
        for (request, gone) in held.jobs.changed() {
            client.execute("UPDATE waiting SET withdrawn = $2 WHERE request = $1", &[&&request[..], gone]).await?;
        }
        for (key, stands) in held.standing.changed() {
            match stands {
                None => drop(client.execute("DELETE FROM standing WHERE key = $1", &[&&key[..]]).await?),
                Some(Stands { written: Some(standing), subjects, .. }) => {
                    stand(client, standing, subjects).await?;
                }
                Some(Stands { rule, until, .. }) => {
                    let carry = "UPDATE standing SET rule = $2, until = $3 WHERE key = $1";
                    client.execute(carry, &[&&key[..], &&rule[..], until]).await?;
                }
            }
        }
        Ok(())
    }

    pub(super) async fn sweep_ceremonies(&self, now: UnixSeconds) -> Result<(), Error> {
        let client = &self.client;
        let over = "WITH gone AS MATERIALIZED (SELECT id FROM ceremonies WHERE expires <= $1 AND NOT open
                                               ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED),
                         jobs AS (DELETE FROM waiting USING gone WHERE waiting.ceremony = gone.id)
                    DELETE FROM ceremonies USING gone WHERE ceremonies.id = gone.id";
        client.execute(over, &[&now.plus(-KEPT_SECONDS).0, &SWEEP_ROWS_MAX]).await.map(drop)
    }
}

async fn stand(client: &Client, standing: &Standing, subjects: &[u8]) -> Result<(), Error> {
    let told = json(&Told { claims: (&standing.claims).into(), shown: Cow::Borrowed(&standing.shown) });
    let ceremony = id(standing.ceremony);
    let stand = "INSERT INTO standing VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (key) DO UPDATE SET
                 ceremony = excluded.ceremony, rule = excluded.rule, since = excluded.since, until = excluded.until,
                 told = excluded.told, subjects = excluded.subjects";
    let (key, rule) = (&standing.key[..], &standing.rule[..]);
    client
        .execute(stand, &[&key, &&ceremony[..], &rule, &standing.since.0, &standing.until.0, &told, &subjects])
        .await
        .map(drop)
}

/// Two that differ may share one: then one waits for the other.
fn lock_of(key: &[u8; 32]) -> i64 {
    key.first_chunk().map_or(0, |first| i64::from_be_bytes(*first))
}

fn id(ceremony: CeremonyId) -> [u8; 16] {
    ceremony.0.to_be_bytes()
}

fn vecs(keys: &BTreeSet<[u8; 32]>) -> Vec<Vec<u8>> {
    keys.iter().map(|key| key.to_vec()).collect()
}

pub(super) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("it is text and numbers")
}

pub(super) fn parsed<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T, Down> {
    let text: &str = get(row, column)?;
    serde_json::from_str(text).map_err(|error| Down::new(format!("`{column}` cannot be read: {error}")))
}

pub(super) fn ceremony(row: &Row) -> Result<Ceremony, Down> {
    let mut bound: Bound = parsed(row, "bound")?;
    Ok(Ceremony {
        id: CeremonyId(u128::from_be_bytes(bytes(row, "id")?)),
        key: bytes(row, "key")?,
        rule: bytes(row, "rule")?,
        repository: bytes(row, "repository")?,
        void: bound.end(UnixSeconds(get(row, "expires")?)),
        bound,
        opened: UnixSeconds(get(row, "opened")?),
        state: parsed(row, "state")?,
        version: get::<i64>(row, "version")?.unsigned_abs(),
    })
}

pub(super) fn waiting(row: &Row) -> Result<Waiting, Down> {
    Ok(Waiting {
        request: bytes(row, "request")?,
        ceremony: CeremonyId(u128::from_be_bytes(bytes(row, "ceremony")?)),
        code: bytes(row, "code")?,
        job: bytes(row, "job")?,
        token: bytes(row, "token")?,
        starter: parsed(row, "starter")?,
        asked: parsed(row, "asked")?,
        joined: UnixSeconds(get(row, "joined")?),
        withdrawn: get(row, "withdrawn")?,
    })
}

pub(super) fn standing(row: &Row) -> Result<Standing, Down> {
    let told: Told<'static> = parsed(row, "told")?;
    let subjects: &[u8] = get(row, "subjects")?;
    Ok(Standing {
        key: bytes(row, "key")?,
        ceremony: CeremonyId(u128::from_be_bytes(bytes(row, "ceremony")?)),
        rule: bytes(row, "rule")?,
        since: UnixSeconds(get(row, "since")?),
        until: UnixSeconds(get(row, "until")?),
        claims: told.claims.into_owned(),
        shown: told.shown.into_owned(),
        subjects: subjects.as_chunks::<32>().0.to_vec(),
    })
}

/// The statement that finds them; its values are the caller's.
pub(super) fn sql_of(which: WhichCeremonies) -> &'static str {
    match which {
        WhichCeremonies::One(_) => "SELECT * FROM ceremonies WHERE id = $1",
        WhichCeremonies::Of(_) => {
            "SELECT * FROM ceremonies WHERE id = (SELECT ceremony FROM waiting WHERE request = $1)"
        }
        WhichCeremonies::OpenAbout(..) => "SELECT * FROM ceremonies WHERE key = $1 AND open AND expires > $2",
        WhichCeremonies::Open(_) => "SELECT * FROM ceremonies WHERE open AND id > $1 ORDER BY id LIMIT $2",
        WhichCeremonies::Closed(_) => "SELECT * FROM ceremonies WHERE NOT open AND id > $1 ORDER BY id LIMIT $2",
        WhichCeremonies::Over(_) => "SELECT * FROM ceremonies WHERE open AND expires <= $1 ORDER BY expires LIMIT $2",
    }
}

/// Each ceremony with its jobs. They were read later, so whoever moves one by what they show is told that it had moved.
pub(super) fn with_jobs(ceremonies: Vec<Ceremony>, jobs: Vec<Waiting>) -> Vec<KeptCeremony> {
    let mut of: HashMap<CeremonyId, Vec<Waiting>> = HashMap::new();
    for job in jobs {
        of.entry(job.ceremony).or_default().push(job);
    }
    let with = |ceremony: Ceremony| KeptCeremony { jobs: of.remove(&ceremony.id).unwrap_or_default(), ceremony };
    ceremonies.into_iter().map(with).collect()
}

/// What a batch wants of ceremonies.
pub(super) fn wanted(batch: &[Commit]) -> Wanted {
    let mut wanted = Wanted::default();
    batch.iter().flat_map(|commit| &commit.guards).for_each(|guard| wanted.guard(guard));
    batch.iter().flat_map(|commit| &commit.changes).for_each(|change| wanted.change(change));
    wanted
}
