//! One decision's evidence in one file: whoever has it and the public key can check it, without the store and without the
//! broker. Pure; the mapping folder beside it is the caller's to compare with [`Told::mappings`].

use super::{
    DecisionId, LeaseId,
    checkpoint::{Checkpoint, NoteError, VerifierKey},
    details_digest,
    record::{Body, BodyError, leaf},
    text::{hex, unhex},
    tree::{self, PROOF_HASHES_MAX},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the file's form.
pub const FORM: u8 = 1;

/// The file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// [`FORM`]; by its name the file is known.
    pub claimbound_export: u8,
    pub decision: DecisionId,
    /// The signed checkpoint that all proofs lead to.
    pub checkpoint: String,
    /// The decision's records and those of its lease, oldest first.
    pub records: Vec<Proved>,
    /// How many more records of them there were that no checkpoint covered yet.
    pub unproven: u64,
    /// The mapping folder that judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<KeptFolder>,
}

/// A record with its proof.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proved {
    /// Its place in the tree, from 0.
    pub index: u64,
    /// Exactly the bytes that were hashed.
    pub body: String,
    /// The details as stored; empty when there were none, or they were erased.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// Roots of the subtrees beside it, the lowest first, hex (RFC 6962, section 2.1.1).
    pub proof: Vec<String>,
}

/// A kept folder: its files, where all are text, or its version alone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptFolder {
    /// Hex.
    pub version: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

/// What a file says that holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    pub checkpoint: Checkpoint,
    pub lease: Option<LeaseId>,
    /// Records whose details are erased.
    pub erased: u64,
    /// Version of the mapping folder that judged, hex.
    pub mappings: Option<String>,
}

/// Why a file does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("it is no export of form {FORM}")]
    Form,
    #[error("its checkpoint does not hold: {0}")]
    Checkpoint(#[from] NoteError),
    #[error("it holds no record of decision {0}")]
    Nothing(DecisionId),
    #[error("record {}: {fault}", index + 1)]
    Record { index: u64, fault: Fault },
}

/// What is wrong with one of its records.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("its body cannot be read: {0}")]
    Body(#[from] BodyError),
    #[error("it is neither of this decision nor of its lease")]
    Foreign,
    #[error("it stands twice, or not in its place")]
    Order,
    #[error("its details are not those that its body names: they were changed or belong to another record")]
    Details,
    #[error("its proof does not lead to the checkpoint's root: its body, its place or the proof was changed")]
    Proof,
}

/// Checks a file against keys; it must be signed by one of them.
pub fn verify(export: &Export, keys: &[VerifierKey]) -> Result<Told, ExportError> {
    if export.claimbound_export != FORM {
        return Err(ExportError::Form);
    }
    let checkpoint = Checkpoint::open(&export.checkpoint, keys)?;
    let mut told = Told { checkpoint, lease: None, erased: 0, mappings: None };
    let mut last = None;
    let mut own = false;
    for record in &export.records {
        let faulty = |fault| ExportError::Record { index: record.index, fault };
        let body = Body::parse(record.body.as_bytes()).map_err(|error| faulty(error.into()))?;
        let of_decision = body.decision == Some(export.decision);
        if !of_decision && (body.lease.is_none() || body.lease != told.lease) {
            return Err(faulty(Fault::Foreign));
        }
        if last.replace(record.index).is_some_and(|last| last >= record.index) {
            return Err(faulty(Fault::Order));
        }
        if !record.details.is_empty() {
            let digest = details_digest(record.details.as_bytes()).map(|digest| hex(&digest));
            if digest.is_none() || digest.as_deref() != body.details.as_deref() {
                return Err(faulty(Fault::Details));
            }
        }
        let proof: Option<Vec<_>> = record.proof.iter().take(PROOF_HASHES_MAX).map(|hash| unhex(hash)).collect();
        let place = (record.index, told.checkpoint.size);
        let root = proof.and_then(|proof| tree::included(&leaf(record.body.as_bytes()), place.0, place.1, &proof));
        if root != Some(told.checkpoint.root) {
            return Err(faulty(Fault::Proof));
        }
        told.erased += u64::from(record.details.is_empty() && body.details.is_some());
        if of_decision {
            told.lease = told.lease.or(body.lease);
            told.mappings = body.mappings.map(Into::into).or(told.mappings);
            own = true;
        }
    }
    if own { Ok(told) } else { Err(ExportError::Nothing(export.decision)) }
}
