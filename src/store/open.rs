//! URL → engine, reader and the chain to go on with.

use super::{
    Denial, Down, Family, KeptCeremony, Leaf, LeaseOrder, LeaseState, ListedLease, Node, Session, Standing, Suspension,
    Watch, WhichCeremonies, WhichStanding, Writer, forget::Forgotten, postgres, sqlite,
};
use claimbound_core::{
    evidence::{DecisionId, LeaseId, SuspensionId},
    time::UnixSeconds,
};
use std::{collections::BTreeMap, ops::Range, path::PathBuf, sync::Arc};

/// An open store.
pub struct Opened {
    pub writer: Writer,
    pub reader: Arc<dyn Reader>,
    /// Other brokers may write it, too.
    pub shared: bool,
    /// The chain that it goes on with.
    pub incarnation: u128,
    /// What must be found again in it when it was away.
    pub watch: Arc<Watch>,
}

/// A stored record in its place.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Place among all records of the store.
    pub position: i64,
    pub incarnation: u128,
    pub sequence: u64,
    pub link: [u8; 32],
    pub leaf: [u8; 32],
    pub body: Vec<u8>,
    /// Empty when erased or when there were none.
    pub details: Vec<u8>,
}

/// A stored lease, as far as readers need it.
#[derive(Clone, Debug)]
pub struct StoredLease {
    pub id: LeaseId,
    pub role: String,
}

/// A stored lease, as ending it by possession needs it.
#[derive(Clone, Debug)]
pub struct HeldLease {
    pub id: LeaseId,
    pub role: String,
    /// The credential's public handle.
    pub handle: Option<String>,
    pub expires: UnixSeconds,
    pub state: LeaseState,
    /// Its token is a handoff.
    pub handoff: bool,
}

/// A stored lease, as the audit compares it with its records.
#[derive(Clone, Debug)]
pub struct AuditedLease {
    pub id: LeaseId,
    pub role: String,
    pub mapping: String,
    pub state: LeaseState,
    pub expires: UnixSeconds,
    /// It cost a token whose single-use record should still be there and is not.
    pub token_lost: bool,
}

/// A broker's start, in a store that several brokers write at once.
#[derive(Clone, Debug)]
pub struct Incarnation {
    /// Among all starts, from 1.
    pub number: i64,
    pub id: u128,
    /// The last link in the store when it opened.
    pub previous: [u8; 32],
    /// Where its own chain ends.
    pub sequence: u64,
    pub head: [u8; 32],
}

/// How much there is, for metrics.
#[derive(Clone, Default, Debug)]
pub struct Census {
    /// Leases that have not expired, `failed` and `ended` ones aside.
    pub live: Vec<(LeaseState, u64)>,
    /// Ceremonies of which something can become yet, by the names of their states.
    pub ceremonies: Vec<(String, u64)>,
    /// Of the database.
    pub bytes: u64,
}

/// No lease lives longer; with room for clocks that differ. Ids begin with the time (RFC 9562, section 5.7), so those
/// that may be alive are one range of them, however many there ever were.
const LEASE_SECONDS_MAX: i64 = 25 * 3600;

/// The smallest id of a lease that may be alive.
pub(super) fn oldest_live(now: UnixSeconds) -> [u8; 16] {
    let opened = now.plus(-LEASE_SECONDS_MAX).0.max(0).unsigned_abs();
    ((u128::from(opened) * 1000) << 80).to_be_bytes()
}

/// Which database it is, and since when. The first begins with the store; each other one when a store that had lost
/// records was adopted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Epoch {
    /// From 1.
    pub number: u64,
    pub id: u128,
    /// Tokens issued until then are refused; of the first epoch, the beginning of time.
    pub began: UnixSeconds,
    /// The epoch whose records were given up for it.
    pub instead_of: Option<u128>,
}

/// What a snapshot shows: of a store that several brokers write, first all incarnations; then epochs, signed checkpoints
/// and nodes of the tree; records in stored order; leases; suspensions.
#[derive(Clone, Debug)]
pub enum Kept {
    Incarnation(Incarnation),
    Epoch(Epoch),
    Checkpoint(String),
    Node(Node),
    Record(Stored),
    Lease(AuditedLease),
    Suspension(SuspensionId),
}

/// Reads never pass through the writer; each opens its own read transaction.
pub trait Reader: Send + Sync {
    /// All records with this decision id, oldest first.
    fn decision(&self, id: DecisionId) -> Result<Vec<Stored>, Down>;
    /// The lease of this id, whatever its state.
    fn lease(&self, id: LeaseId) -> Result<Option<HeldLease>, Down>;
    /// The lease that the handle of this SHA-256 ends, whatever its state.
    fn held(&self, possession: &[u8; 32]) -> Result<Option<HeldLease>, Down>;
    /// The text of a note, until it is swept.
    fn note(&self, key: &[u8; 32]) -> Result<Option<String>, Down>;
    /// The operator's session of this SHA-256, also one that has expired.
    fn session(&self, session: &[u8; 32]) -> Result<Option<Session>, Down>;
    /// At most `rows` records that stand before this position, the latest first and without emptied ones; without a
    /// position, from the end.
    fn before(&self, position: Option<i64>, rows: u32) -> Result<Vec<Stored>, Down>;
    /// How far old records were forgotten.
    fn forgotten(&self) -> Result<Forgotten, Down>;
    /// The next leases in an order, at most so many.
    fn leases(&self, order: &LeaseOrder, most: u32) -> Result<Vec<ListedLease>, Down>;
    /// Everything that operators have suspended and not taken back, also what is over; the oldest first.
    fn suspensions(&self) -> Result<Vec<Suspension>, Down>;
    /// That of one subject ([`super::Subject::key`]), also if it is over.
    fn suspension(&self, subject: &[u8; 32]) -> Result<Option<Suspension>, Down>;
    /// What a backend's target is to refuse, those that stay longest first.
    fn denials(&self, backend: &str, now: UnixSeconds) -> Result<Vec<Denial>, Down>;
    /// The leases that came of this one's token, and of theirs, that are neither failed nor ended.
    fn children(&self, of: LeaseId) -> Result<Vec<ListedLease>, Down>;
    /// The leases of a family that are alive.
    fn leases_of(&self, family: LeaseId) -> Result<Vec<HeldLease>, Down>;
    /// The leases that began the families that are not over at `now`, by their ids, at most so many behind this one: dead
    /// or alive.
    fn renewable(&self, after: LeaseId, now: UnixSeconds, most: u32) -> Result<Vec<ListedLease>, Down>;
    /// The family whose refresh tokens share the secret of this SHA-256.
    fn family(&self, secret: &[u8; 32]) -> Result<Option<Family>, Down>;
    /// Ceremonies that are meant, with their jobs, at most so many.
    fn ceremonies(&self, which: WhichCeremonies, most: u32) -> Result<Vec<KeptCeremony>, Down>;
    /// First uses that stand claimed, also those whose time is over, at most so many.
    fn standing(&self, which: WhichStanding, most: u32) -> Result<Vec<Standing>, Down>;
    /// Places of a status list whose leases were ended, in order; `None` if no such list is kept.
    fn ended_in(&self, list: u128) -> Result<Option<Vec<u16>>, Down>;
    /// Leases still `issuing` that were opened before `before`: a crash left them.
    fn unsettled(&self, before: UnixSeconds) -> Result<Vec<StoredLease>, Down>;
    /// A kept mapping folder.
    fn folder(&self, version: &[u8; 32]) -> Result<Option<Vec<u8>>, Down>;
    /// Every fact that is fixed, by name.
    fn facts(&self) -> Result<BTreeMap<String, String>, Down>;
    /// Body and details of every record in chain order, but for emptied ones, until `each` says so. In reads of its own for some records at a
    /// time, so that a long walk holds up no checkpoint of who writes meanwhile; what is written meanwhile is not shown.
    fn records(&self, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), Down>;
    /// Every record behind a position, in chain order, until `each` says so; as [`Reader::records`] reads.
    fn records_after(&self, position: i64, each: &mut dyn FnMut(Stored) -> bool) -> Result<(), Down>;
    /// The position up to which no record can appear any more that is not there now.
    fn settled(&self) -> Result<i64, Down>;
    /// Leaves behind a position, up to another one: at most so many, in order.
    fn leaves(&self, after: i64, upto: i64, most: usize) -> Result<Vec<Leaf>, Down>;
    /// How many records stand behind a position.
    fn count_after(&self, position: i64) -> Result<u64, Down>;
    /// Kept nodes of a level of the tree, by number.
    fn nodes(&self, level: u8, numbers: Range<u64>) -> Result<Vec<Node>, Down>;
    /// The last kept node of level 1.
    fn grown(&self) -> Result<Option<Node>, Down>;
    /// All epochs, oldest first.
    fn epochs(&self) -> Result<Vec<Epoch>, Down>;
    /// The signed checkpoint of the newest epoch that has one.
    fn checkpoint(&self) -> Result<Option<String>, Down>;
    /// Records of one incarnation behind this sequence, at most so many and without emptied ones.
    fn chain(&self, incarnation: u128, after: u64, most: u32) -> Result<Vec<Stored>, Down>;
    /// Epochs, checkpoints and nodes, then every record in chain order, every lease, every suspension, all as of one moment;
    /// stops when `each` says so.
    fn snapshot(&self, each: &mut dyn FnMut(Kept) -> bool) -> Result<(), Down>;
    /// Counts what is alive. Reads every lease of the last day.
    fn census(&self, now: UnixSeconds) -> Result<Census, Down>;
    /// Answers a trivial query: for readiness.
    fn ping(&self) -> Result<(), Down>;
}

/// Which database.
enum Kind {
    Sqlite(PathBuf),
    Postgres(Box<postgres::Address>),
}

/// Opens a store, making it if it is not there. `sqlite:PATH` is one broker's alone: a second one on the file is
/// refused. `postgres://…` is for any number of brokers; a server that would lose commits is refused.
pub fn open(url: &str, now: UnixSeconds) -> Result<Opened, Down> {
    Ok(match kind(url)? {
        Kind::Sqlite(path) => {
            let (engine, chain) = sqlite::Sqlite::open(&path, now)?;
            let reader = Arc::new(sqlite::SqliteReader::open(&path)?);
            let incarnation = chain.incarnation;
            let (writer, watch) = (Writer::start(Box::new(engine), chain), Arc::default());
            Opened { writer, reader, shared: false, incarnation, watch }
        }
        Kind::Postgres(address) => {
            let (engine, chain) = postgres::Postgres::open(*address.clone(), now)?;
            let reader = Arc::new(postgres::PostgresReader::open(*address)?);
            let (incarnation, watch) = (chain.incarnation, engine.watch());
            Opened { writer: Writer::start(Box::new(engine), chain), reader, shared: true, incarnation, watch }
        }
    })
}

/// Makes a store if it is not there, and brings it to the newest version, so that it can be read before anything is
/// written to it.
pub fn migrate(url: &str, now: UnixSeconds) -> Result<(), Down> {
    match kind(url)? {
        Kind::Sqlite(path) => sqlite::migrate(&path),
        Kind::Postgres(address) => postgres::migrate(&address, now),
    }
}

/// Opens an existing store for reading only: offline, or beside the brokers that hold it.
pub fn open_reader(url: &str) -> Result<Arc<dyn Reader>, Down> {
    Ok(match kind(url)? {
        Kind::Sqlite(path) => Arc::new(sqlite::SqliteReader::open(&path)?),
        Kind::Postgres(address) => Arc::new(postgres::PostgresReader::open(*address)?),
    })
}

/// What of a store's URL can be judged without opening it, files that it names included.
pub fn judge(url: &str) -> Result<(), Down> {
    match kind(url)? {
        Kind::Sqlite(_) => Ok(()),
        Kind::Postgres(address) => address.judge(),
    }
}

fn kind(url: &str) -> Result<Kind, Down> {
    match url.split_once(':') {
        Some(("sqlite", "")) => Err(Down::new("`sqlite:` names no file; write `sqlite:claimbound.db`")),
        Some(("sqlite", path)) if path.starts_with("//") || path.contains(['?', '\0']) => {
            Err(Down::new(format!("`{url}` is not of the form `sqlite:PATH`; write `sqlite:/var/lib/claimbound.db`")))
        }
        Some(("sqlite", path)) => Ok(Kind::Sqlite(path.into())),
        Some(("postgres" | "postgresql", _)) => Ok(Kind::Postgres(postgres::Address::parse(url)?.into())),
        _ => Err(Down::new("the URL names no store; write `sqlite:PATH` or `postgres://USER@HOST/DATABASE`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_store_or_says_what_to_write() {
        let path = |url| match kind(url) {
            Ok(Kind::Sqlite(path)) => path,
            _ => panic!("{url}"),
        };
        assert_eq!(path("sqlite:here.db"), PathBuf::from("here.db"));
        assert_eq!(path("sqlite:/var/lib/c.db"), PathBuf::from("/var/lib/c.db"));
        assert!(matches!(kind("postgresql://c@localhost/c"), Ok(Kind::Postgres(_))));
        for (url, told) in [
            ("sqlite:", "names no file"),
            ("sqlite://c.db", "form `sqlite:PATH`"),
            ("sqlite:c.db?mode=ro", "form `sqlite:PATH`"),
            ("postgres://db/c", "write `postgres://USER@HOST/DATABASE`"),
            ("mysql://db", "write `sqlite:PATH`"),
            ("claimbound.db", "write `sqlite:PATH`"),
        ] {
            let why = kind(url).err().unwrap().why;
            assert!(why.contains(told), "{url}: {why}");
        }
    }
}
