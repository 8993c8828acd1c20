//! What a sink is given: one JSON object on one line. The record's body stands in it as it was hashed, byte for byte, and
//! last: whoever wants to verify it takes what stands between `"body":` and the last `}`.

use crate::store::Stored;
use claimbound_core::evidence::{Body, hex, uuid};
use serde_json::{Map, Value};

/// One line, and what a collector wants to know of it apart.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// JSON, without the line's end.
    pub text: Vec<u8>,
    /// `None`: a note.
    pub record: Option<Record>,
}

/// Of a record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Seconds since 1970.
    pub at: i64,
    pub kind: String,
    pub position: i64,
    pub incarnation: String,
    pub sequence: u64,
    pub link: String,
    pub leaf: String,
    pub body: String,
    pub details: Option<String>,
}

pub(super) fn record(stored: &Stored, with_details: bool) -> Line {
    let (at, kind) = match Body::parse(&stored.body) {
        Ok(body) => (body.at, body.kind.into_owned()),
        // Of a later version: it is sent all the same.
        Err(_) => (0, String::new()),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let details = (with_details && !stored.details.is_empty()).then(|| text(&stored.details));
    let record = Record {
        at,
        kind,
        position: stored.position,
        incarnation: uuid(stored.incarnation),
        sequence: stored.sequence,
        link: hex(&stored.link),
        leaf: hex(&stored.leaf),
        body: text(&stored.body),
        details,
    };
    let Record { position, incarnation, sequence, link, leaf, .. } = &record;
    let mut line = format!(
        r#"{{"type":"record","position":{position},"incarnation":"{incarnation}","sequence":{sequence},"link":"{link}","leaf":"{leaf}","#
    )
    .into_bytes();
    if record.details.is_some() {
        line.extend_from_slice(br#""details":"#);
        line.extend_from_slice(&stored.details);
        line.push(b',');
    }
    line.extend_from_slice(br#""body":"#);
    line.extend_from_slice(&stored.body);
    line.push(b'}');
    Line { text: line, record: Some(record) }
}

/// A line that is no record.
pub(super) fn note(note: &Map<String, Value>) -> Line {
    let mut object = Map::from_iter([("type".to_owned(), Value::from("note"))]);
    object.extend(note.iter().map(|(name, value)| (name.clone(), value.clone())));
    Line { text: Value::from(object).to_string().into_bytes(), record: None }
}
