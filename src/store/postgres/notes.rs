//! Notes.

use super::{batch::Held, statements::Session};
use futures_util::future::{BoxFuture, FutureExt as _};
use tokio_postgres::{Error, types::ToSql};

/// Writes those of a batch, in the order of their keys, so that two brokers never wait for one another; under one key the
/// later one stands.
pub(super) fn keep<'s>(session: &'s Session, held: &Held<'s>, sent: &mut Vec<BoxFuture<'s, Result<u64, Error>>>) {
    let mut notes = held.notes.clone();
    notes.sort_by_key(|note| note.key);
    for note in notes {
        let keep = async move {
            let values: [&(dyn ToSql + Sync); 3] = [&&note.key[..], &note.text, &note.until.0];
            session.client.execute(&session.sql.keep_note, &values).await
        };
        sent.push(keep.boxed());
    }
}
