//! The floor with a disk under it: what each grant writes at the least, a record and that its token is used, one transaction
//! for all who wait.

use aws_lc_rs::digest::{SHA256, digest};
use rusqlite::Connection;
use std::{path::Path, thread};
use tokio::sync::{mpsc, oneshot};

/// What a grant's record takes, in bytes.
const RECORD_BYTES: usize = 1_800;
/// Of one transaction, and waiting for the next ones.
const BATCH_MAX: usize = 256;
const WAITING_MAX: usize = 4_096;
/// Pages in the log before they go into the file.
const LOG_PAGES: u32 = 12_000;

type Use = ([u8; 32], oneshot::Sender<bool>);

/// The handle of the thread that writes.
#[derive(Clone)]
pub struct Durable {
    queue: mpsc::Sender<Use>,
}

impl Durable {
    /// Over a fresh file.
    pub fn start(path: &Path) -> rusqlite::Result<Self> {
        let store = Connection::open(path)?;
        store.pragma_update(None, "journal_mode", "WAL")?;
        store.pragma_update(None, "synchronous", "FULL")?;
        store.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
        store.execute_batch(
            "CREATE TABLE spent (token BLOB PRIMARY KEY) WITHOUT ROWID;
             CREATE TABLE records (position INTEGER PRIMARY KEY, body BLOB NOT NULL)",
        )?;
        let (queue, mut waiting) = mpsc::channel::<Use>(WAITING_MAX);
        thread::spawn(move || {
            let mut batch = Vec::with_capacity(BATCH_MAX);
            while waiting.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
                let fresh = write(&store, &batch).expect("the floor's file can be written");
                for ((_, reply), fresh) in batch.drain(..).zip(fresh) {
                    // Whoever asked may have gone.
                    let _ = reply.send(fresh);
                }
            }
        });
        Ok(Self { queue })
    }

    /// Waits until it is on disk: whether the token was not used before.
    pub async fn spend(&self, token: &str) -> bool {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let (reply, fresh) = oneshot::channel();
        self.queue.send((key, reply)).await.is_ok() && fresh.await.unwrap_or(false)
    }
}

fn write(store: &Connection, batch: &[Use]) -> rusqlite::Result<Vec<bool>> {
    store.execute_batch("BEGIN IMMEDIATE")?;
    let mut fresh = Vec::with_capacity(batch.len());
    {
        let mut spend = store.prepare_cached("INSERT INTO spent VALUES (?1) ON CONFLICT DO NOTHING")?;
        let mut record = store.prepare_cached("INSERT INTO records (body) VALUES (?1)")?;
        for (token, _) in batch {
            fresh.push(spend.execute([token])? == 1);
            record.execute([[b'x'; RECORD_BYTES].as_slice()])?;
        }
    }
    store.execute_batch("COMMIT")?;
    Ok(fresh)
}
