//! Checkpoints: what stands in the write-ahead log goes into the file, by a thread and a connection of their own, so that no
//! commit waits while thousands of pages are written and synced. SQLite syncs the file only when all that is in the log is in
//! it: so the thread goes on with what was committed meanwhile, until it is level with the writer. The few pages since then
//! the writer puts there itself, between two batches: then nothing is left in the log, and it begins anew.

use crate::store::Down;
use rusqlite::{Connection, hooks::Wal, wal::CheckpointMode};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
        mpsc::{self, SyncSender},
    },
    thread::JoinHandle,
};

/// Pages in the log before they go into the file: those that every batch writes go there once for many batches.
pub(super) const PAGES: i32 = 12_000;
/// How often the thread tries to be level with the writer. The first time takes thousands of pages, the next ones a few.
const PASSES_MAX: usize = 8;
/// How far the thread stands back where the processors are busy: whoever waits for a commit goes first.
const NICE: i32 = 5;

/// The writer's side.
pub(super) struct Checkpoints {
    /// In the log after the newest commit.
    pages: Arc<AtomicI32>,
    /// How many those are to be: at first, and now.
    most: i32,
    due: i32,
    /// The thread was asked, and whether it is done.
    asked: bool,
    done: Arc<AtomicBool>,
    /// `None` when it stops.
    thread: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl Checkpoints {
    /// Takes the writer's checkpoints over.
    pub(super) fn start(writer: &mut Connection, path: &Path, most: i32) -> Result<Self, Down> {
        let (pages, done) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicBool::new(false)));
        let counted = pages.clone();
        writer.wal_hook(Some(move |_: &mut Wal, pages| {
            counted.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        let connection = beside(path)?;
        let (ask, asked) = mpsc::sync_channel(1);
        let (told, logged) = (done.clone(), pages.clone());
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(move || {
            // Linux takes it for this thread alone, others for the whole process. Where it is refused, it is as before.
            if cfg!(target_os = "linux") {
                let _ = rustix::process::nice(NICE);
            }
            while asked.recv().is_ok() {
                let level = |pages: Option<i32>| pages.is_none_or(|pages| logged.load(Ordering::Relaxed) <= pages);
                let _ = (0..PASSES_MAX).find(|_| level(checkpoint(&connection)));
                told.store(true, Ordering::Release);
            }
        });
        let thread = thread.map_err(|error| Down::new(format!("the thread of checkpoints does not start: {error}")))?;
        Ok(Self { pages, most, due: most, asked: false, done, thread: Some((ask, thread)) })
    }

    /// Between two batches.
    pub(super) fn look(&mut self, writer: &Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if self.asked {
            // Where the thread is gone, the log shall not grow for ever.
            let gone = self.thread.as_ref().is_none_or(|(_, thread)| thread.is_finished());
            if self.done.swap(false, Ordering::Acquire) || gone {
                checkpoint(writer);
                // If a reader held it up, the log does not begin anew: it is tried again when it has grown as much again.
                (self.asked, self.due) = (false, pages + self.most);
            }
        } else if pages >= self.due {
            self.asked = true;
            if let Some((ask, _)) = &self.thread {
                // It has room: nothing is asked before the last answer.
                let _ = ask.try_send(());
            }
        } else if pages < self.most {
            self.due = self.most;
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        if let Some((ask, thread)) = self.thread.take() {
            drop(ask);
            // It panics only where printing a warning does.
            let _ = thread.join();
        }
    }
}

/// The thread's connection.
fn beside(path: &Path) -> Result<Connection, Down> {
    let connection = Connection::open(path)?;
    super::prepare(&connection)?;
    // One that has read nothing knows of no log, and its checkpoints do nothing.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(connection)
}

/// As far as it goes without waiting for anybody: how many pages of the log are in the file now. What fails now is tried
/// again; a disk that is full refuses commits, too.
fn checkpoint(connection: &Connection) -> Option<i32> {
    match connection.wal_checkpoint_v2(Some("main"), CheckpointMode::PASSIVE) {
        Ok((_, pages)) => Some(pages),
        Err(error) => {
            tracing::warn!(%error, "the store's log could not be put into its file; it grows until it can");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn write(writer: &Connection) {
        writer.execute("INSERT INTO t VALUES (zeroblob(3000))", []).unwrap();
    }

    /// Writes until the log has begun anew, and says how many pages it had at most.
    fn until_anew(writer: &Connection, checkpoints: &mut Checkpoints) -> i32 {
        let (began, mut most) = (Instant::now(), 0);
        loop {
            write(writer);
            let pages = checkpoints.pages.load(Ordering::Relaxed);
            if pages < most {
                return most;
            }
            most = pages;
            checkpoints.look(writer);
            assert!(began.elapsed() < Duration::from_secs(30), "the log only grows: {most} pages");
        }
    }

    #[test]
    fn the_thread_s_connection_puts_the_log_into_the_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("store.db");
        let writer = Connection::open(&path).unwrap();
        writer.pragma_update(None, "journal_mode", "WAL").unwrap();
        writer.execute_batch("CREATE TABLE t (x)").unwrap();
        let beside = beside(&path).unwrap();
        for _ in 0..10 {
            write(&writer);
        }
        assert!(checkpoint(&beside) >= Some(10), "each write is at least a page of the log");
        assert_eq!(checkpoint(&writer), checkpoint(&beside), "and all of it is in the file");
    }

    #[test]
    fn the_log_begins_anew_again_and_again_after_a_reader_held_it_up_and_without_the_thread() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("store.db");
        let mut writer = Connection::open(&path).unwrap();
        writer.pragma_update(None, "journal_mode", "WAL").unwrap();
        writer.execute_batch("CREATE TABLE t (x)").unwrap();
        let mut checkpoints = Checkpoints::start(&mut writer, &path, 20).unwrap();
        for _ in 0..3 {
            assert!(until_anew(&writer, &mut checkpoints) >= 20);
        }
        let reader = Connection::open(&path).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        let rows = || reader.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
        let seen = rows();
        for _ in 0..200 {
            write(&writer);
            checkpoints.look(&writer);
        }
        assert!(checkpoints.pages.load(Ordering::Relaxed) > 200, "what the reader may still read stays in the log");
        assert_eq!(rows(), seen);
        reader.execute_batch("COMMIT").unwrap();
        until_anew(&writer, &mut checkpoints);
        if let Some((ask, thread)) = checkpoints.thread.take() {
            drop(ask);
            thread.join().unwrap();
        }
        until_anew(&writer, &mut checkpoints);
        assert_eq!(writer.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap(), "ok");
    }
}
