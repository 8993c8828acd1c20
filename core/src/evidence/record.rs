//! A record is encoded once; the same bytes are hashed, stored, exported and verified.
//!
//! [`Body`] is the one definition of the encoding: [`Record::seal`] writes it, `explain` and [`super::audit`] read it.

use super::{
    chain::sha256,
    details::{Details, details_digest},
    text::{hex, uuid},
};
use crate::{reason::Reason, time::UnixSeconds};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, sync::Arc};

/// Version of the encoding. A reader that meets another one says so instead of guessing.
pub const VERSION: u8 = 1;
/// Separates leaves from inner nodes of a tree (RFC 6962, section 2.1).
const LEAF_PREFIX: &[u8] = &[0];
/// How every body of [`VERSION`] begins.
const BODY_PREFIX: &[u8] = br#"{"v":1,"#;

/// Names one answer; a UUIDv7 in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DecisionId(pub u128);

/// Names one lease; a UUIDv7 in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct LeaseId(pub u128);

/// Names one suspension; a UUIDv7 in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SuspensionId(pub u128);

impl LeaseId {
    /// When it was made, in seconds since 1970 (RFC 9562, section 5.7).
    pub fn seconds(self) -> i64 {
        (self.0 >> 80) as i64 / 1000
    }
}

/// A workload as evidence names it. Nothing here is about a person.
#[derive(Clone, Copy, Debug)]
pub struct Party<'r> {
    pub issuer: &'r str,
    /// The narrowest immutable id that the profile pins, else the subject.
    pub id: &'r str,
    /// Readable: the repository.
    pub name: &'r str,
}

/// Borrowed on the way in. No sequence and no previous hash: those are the chain's, not the record's.
pub struct Record<'r> {
    /// `None` for records that are no answer (summaries, start, stop).
    pub decision: Option<DecisionId>,
    pub at: UnixSeconds,
    pub what: What<'r>,
    pub principal: Option<Party<'r>>,
    pub actor: Option<Party<'r>>,
    /// Version of the mapping folder that judged.
    pub mappings_version: Option<[u8; 32]>,
}

/// By what a grant was easier to have than the rule says.
#[derive(Clone, Copy, Default, Debug)]
pub struct Eased<'r> {
    /// Names of the exceptions that the mapping rests on; their reasons stand in the details.
    pub exceptions: &'r [&'r str],
    /// The name that the mapping writes for the job's repository, which has another by now.
    pub renamed: Option<&'r str>,
}

/// What happened.
pub enum What<'r> {
    /// A grant that opens a lease. `expires` is the credential's. `family`: of renewals, named by the lease that began it.
    /// `parent`: the lease whose token was exchanged for it. `how`: `handoff`, where that is what was issued.
    Granted {
        mapping: &'r str,
        role: &'r str,
        lease: LeaseId,
        parent: Option<LeaseId>,
        how: Option<&'r str>,
        handle: Option<&'r str>,
        expires: UnixSeconds,
        family: Option<LeaseId>,
        /// The ceremony in which people claimed it.
        ceremony: Option<u128>,
        eased: Eased<'r>,
    },
    /// `dry_run=true` and the rules would have granted.
    DryRun { mapping: &'r str, role: &'r str },
    /// `role` is the asked one, if it exists; `mapping` the nearest.
    Refused { reason: Reason, role: Option<&'r str>, mapping: Option<&'r str> },
    /// A grant that waits for people: its job opened a ceremony, or joined the open one.
    Pending { reason: Reason, ceremony: u128, mapping: &'r str, role: &'r str },
    /// What became of a ceremony (`claimed` by one person, `wrong_code`, `rejected`, `withdrawn`, `left` by one of its jobs,
    /// `expired`, `lapsed`, `voided`), and the state that it is in since. Who did it, why, and what was shown stands in the details.
    Ceremony { ceremony: u128, how: &'r str, state: &'r str, mapping: &'r str, role: &'r str },
    /// An operator took so many standing claims back, or carried them over to a changed rule (`how`); who, why and which stands
    /// in the details.
    Claims { how: &'r str, count: u64 },
    /// A refused renewal that ended its family, with the leases that were alive: its refresh token had been used before.
    Reused { family: LeaseId, reason: Reason, role: Option<&'r str> },
    /// Refusals of strangers beyond the single-record rate, summed; their network stands in the details.
    Summed { reason: Reason, issuer: Option<&'r str>, count: u64, from: UnixSeconds },
    /// The outcome of minting: `issued`, `failed` or `unknown`.
    Settled { lease: LeaseId, state: &'r str, handle: Option<&'r str> },
    /// A lease was ended: `revoked` by possession, or by an `operator`, who stands in the details with the reason; and
    /// what that means: `dead_now`, `denied` (the target is told to refuse it), `at_expiry`. `children`: how many leases ended
    /// with it whose tokens came of its own, and theirs; the effect is that of the weakest.
    Ended { lease: LeaseId, how: &'r str, effect: &'r str, children: u32 },
    /// An operator suspended something, or made a suspension (`replaces`) longer. Who, why, and for `subject` a person's id: see details.
    Suspended {
        suspension: SuspensionId,
        scope: &'r str,
        issuer: Option<&'r str>,
        subject: Option<&'r str>,
        until: Option<UnixSeconds>,
        replaces: Option<SuspensionId>,
    },
    /// An operator took a suspension back; who, and why, stands in the details.
    Resumed { suspension: SuspensionId },
    /// An operator had a backend refuse every session of a `role` or `principal` that began before this record; who, and
    /// why, stands in the details. Nothing that began before is left after `until`.
    Cut { backend: &'r str, scope: &'r str, subject: &'r str, until: UnixSeconds },
    /// A backend's target took the list of what it refuses: so many entries, as this version of its policy.
    DenialsApplied { backend: &'r str, version: &'r str, count: u64 },
    /// A family of renewals was ended (`revoked` by possession) with its living leases, and what that means for their credentials.
    FamilyEnded { family: LeaseId, how: &'r str, effect: &'r str },
    /// A mapping folder became the one that judges, beside this effective configuration.
    MappingsActivated { version: [u8; 32], configuration: [u8; 32] },
    /// A changed folder or configuration did not load; the last good one goes on. No version: it could not be read.
    MappingsRefused { version: Option<[u8; 32]> },
    /// Someone was let in as an operator: a person (`how` is `code` or `device`) until `expires`, or a job for the one
    /// request that its token is good for (`job`). `may` are words of the configuration.
    OperatorSignedIn { operator: &'r str, how: &'r str, may: &'r [&'r str], expires: Option<UnixSeconds> },
    /// Someone proved who they are, and is no operator.
    OperatorRefused { operator: &'r str, how: &'r str },
    /// An operator ended their session.
    OperatorSignedOut { operator: &'r str },
    /// A person, who stands in the details, signed in on the pages for those who claim, until `expires`.
    VisitorSignedIn { expires: UnixSeconds },
    /// A person ended their session on those pages.
    VisitorSignedOut,
    /// A person, who stands in the details, showed that an account at a code host is theirs; it counts until `expires`.
    AccountLinked { how: &'r str, expires: UnixSeconds },
    /// A person, who stands in the details, took such an account back.
    AccountUnlinked,
    /// A broker process opened the store.
    Started { version: &'r str },
    /// Details of records up to this position, made before this time, are erased from now on; who reads them says whose are kept.
    DetailsErased { through: i64, before: UnixSeconds },
    /// Records up to this position, made before this time, are emptied from now on, body and details. Leaves and links stay.
    RecordsPruned { through: i64, before: UnixSeconds },
    /// A signing key was met for the first time (`made`), or ended before its time (`revoked`).
    SigningKey { kid: &'r str, algorithm: &'r str, state: &'r str },
    /// A store that had lost records was accepted as it is: another epoch begins with this record. `how` is `evidence` or
    /// `accepted_loss`; `lost` how many records its last checkpoint covers that it has not, where that is known.
    Adopted { epoch: u64, store: u128, how: &'r str, lost: Option<u64> },
}

/// Encoded and leaf-hashed (RFC 6962: SHA-256 of 0x00 and the body).
#[derive(Clone, Debug)]
pub struct Entry {
    /// The hashed record, JSON.
    pub body: Arc<[u8]>,
    /// The details with their salt, JSON; empty when there are none.
    pub details: Arc<[u8]>,
    pub leaf: [u8; 32],
}

/// The encoded record, read or about to be written. Members stand in this order. `decision`, `principal`, `actor` and
/// `mappings` are always there (`null` when there is none); the others only where `kind` has them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body<'b> {
    /// [`VERSION`].
    pub v: u8,
    #[serde(deserialize_with = "Option::deserialize")]
    pub decision: Option<DecisionId>,
    /// Seconds since 1970.
    pub at: i64,
    /// `granted`, `dry_run`, `refused`, `summed`, `settled`, `ended`, `family_ended`, `suspended`, `resumed`, `cut`, `denials_applied`, `ceremony`,
    /// `claims`, `mappings_activated`, `mappings_refused`, `operator_signed_in`, `operator_refused`, `operator_signed_out`, `visitor_signed_in`,
    /// `visitor_signed_out`, `account_linked`, `account_unlinked`, `started`, `details_erased`, `records_pruned`, `signing_key` or `adopted`.
    #[serde(borrow)]
    pub kind: Cow<'b, str>,
    /// [`Reason::name`].
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'b, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Cow<'b, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<Cow<'b, str>>,
    /// Of `granted`: names of the exceptions that the mapping rests on.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<Cow<'b, str>>,
    /// Of `granted`: the mapping's name for the repository, where that has another by now.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub renamed: Option<Cow<'b, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
    /// Of `granted`: the family of renewals that the lease belongs to. Of `refused` and `family_ended`: the one that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<LeaseId>,
    /// Of `granted`: the lease whose token was exchanged for this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<LeaseId>,
    /// Of `granted`, `refused` and `ceremony`: the claim ceremony, hex.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub ceremony: Option<Cow<'b, str>>,
    /// The credential's public handle.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<Cow<'b, str>>,
    /// The credential's expiry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    /// Of `settled`: how minting came out; of `signing_key`: what became of the key; of `ceremony`: where it stands now.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Cow<'b, str>>,
    /// Of `ended` and `family_ended`: what ended the lease, or the leases; of operators: how they showed who they are; of
    /// `adopted`: on what grounds; of `granted`: `handoff`, where a handoff token was issued.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub how: Option<Cow<'b, str>>,
    /// Of `ended` and `family_ended`: what that means for the credential.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Cow<'b, str>>,
    /// Of `suspended` and `resumed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspension: Option<SuspensionId>,
    /// Of `denials_applied` and `cut`: the backend's name.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Cow<'b, str>>,
    /// Of `suspended` and `cut`: of what kind `subject` is.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Cow<'b, str>>,
    /// Of `suspended` and `cut`: a name or an immutable id; never a person's.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Cow<'b, str>>,
    /// Of `suspended`: it ends by itself then. Of `cut`: nothing that it cut is left then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// Of `suspended`: the suspension that it takes the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<SuspensionId>,
    /// Of `summed` and `suspended`: the issuer, where it is a known one.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Cow<'b, str>>,
    /// Of `summed`: how many refusals between `from` and `at`. Of `denials_applied`: how many entries. Of `ended`: how many
    /// leases ended with it, where any did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// Of `details_erased` and `records_pruned`: the last position that this may be done to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<i64>,
    /// Of `details_erased` and `records_pruned`: what was made since then is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Of `started`: the broker's; of `denials_applied`: the policy's; of `mappings_activated` and `mappings_refused`: the folder's, hex.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Cow<'b, str>>,
    /// Of `mappings_activated`: the effective configuration's version, hex.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Cow<'b, str>>,
    /// Of what operators do: `<sign-in or issuer>:<subject>`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<Cow<'b, str>>,
    /// Of `operator_signed_in`: what they may do.
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    pub may: Vec<Cow<'b, str>>,
    /// Of `signing_key`: the key's thumbprint (RFC 7638).
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub kid: Option<Cow<'b, str>>,
    /// Of `signing_key`: the JWS name.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Cow<'b, str>>,
    /// Of `adopted`: the number and the identity of the epoch that begins, and how many records were lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub store: Option<Cow<'b, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    #[serde(borrow, deserialize_with = "Option::deserialize")]
    pub principal: Option<Named<'b>>,
    #[serde(borrow, deserialize_with = "Option::deserialize")]
    pub actor: Option<Named<'b>>,
    /// Version of the mapping folder that judged, hex.
    #[serde(borrow, deserialize_with = "Option::deserialize")]
    pub mappings: Option<Cow<'b, str>>,
    /// SHA-256 over the salt and the encoded details, hex; absent when there never were any.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Cow<'b, str>>,
}

/// What may go of a record in time, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keeping {
    /// What jobs asked, were answered and held: the details first, then all of it.
    Answer,
    /// What operators did: the details, when records of jobs go whole. Who it was and why is kept as long as what it was
    /// done to.
    Deed,
    /// What the store needs to be understood: nothing.
    Store,
}

/// A [`Party`] in a [`Body`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named<'b> {
    #[serde(borrow)]
    pub issuer: Cow<'b, str>,
    #[serde(borrow)]
    pub id: Cow<'b, str>,
    #[serde(borrow)]
    pub name: Cow<'b, str>,
}

/// A stored body that this version cannot read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("record version {0} is not one that this program reads")]
    Version(u8),
    #[error("not a record: {0}")]
    Syntax(#[from] serde_json::Error),
}

impl<'b> Body<'b> {
    /// Reads a stored body.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, BodyError> {
        /// Read alone first: a later version may have other members.
        #[derive(Deserialize)]
        struct Version {
            v: u8,
        }
        // How this version writes every body: read once, not twice.
        if bytes.starts_with(BODY_PREFIX) {
            return Ok(serde_json::from_slice(bytes)?);
        }
        match serde_json::from_slice::<Version>(bytes)?.v {
            VERSION => Ok(serde_json::from_slice(bytes)?),
            other => Err(BodyError::Version(other)),
        }
    }

    /// What may go of this record in time.
    pub fn keeping(&self) -> Keeping {
        match &*self.kind {
            "granted" | "dry_run" | "refused" | "summed" | "settled" | "visitor_signed_in" | "visitor_signed_out" => {
                Keeping::Answer
            }
            "ended" | "family_ended" if self.how.as_deref() != Some("operator") => Keeping::Answer,
            "ended"
            | "family_ended"
            | "ceremony"
            | "claims"
            | "suspended"
            | "resumed"
            | "cut"
            | "denials_applied"
            | "operator_signed_in"
            | "operator_refused"
            | "operator_signed_out"
            | "account_linked"
            | "account_unlinked" => Keeping::Deed,
            _ => Keeping::Store,
        }
    }

    fn new(record: &Record<'b>) -> Self {
        let named =
            |party: Party<'b>| Named { issuer: party.issuer.into(), id: party.id.into(), name: party.name.into() };
        Self {
            v: VERSION,
            decision: record.decision,
            at: record.at.0,
            kind: record.what.kind().into(),
            reason: None,
            role: None,
            mapping: None,
            exceptions: Vec::new(),
            renamed: None,
            lease: None,
            family: None,
            parent: None,
            ceremony: None,
            handle: None,
            expires: None,
            state: None,
            how: None,
            effect: None,
            suspension: None,
            backend: None,
            scope: None,
            subject: None,
            until: None,
            replaces: None,
            issuer: None,
            count: None,
            from: None,
            through: None,
            before: None,
            version: None,
            configuration: None,
            operator: None,
            may: Vec::new(),
            kid: None,
            algorithm: None,
            epoch: None,
            store: None,
            lost: None,
            principal: record.principal.map(named),
            actor: record.actor.map(named),
            mappings: record.mappings_version.map(|version| hex(&version).into()),
            details: None,
        }
    }

    fn tell(&mut self, what: &What<'b>) {
        match *what {
            What::Granted { mapping, role, lease, parent, how, handle, expires, family, ceremony, eased } => {
                self.parent = parent;
                self.how = how.map(Into::into);
                self.ceremony = ceremony.map(|id| format!("{id:032x}").into());
                self.exceptions = eased.exceptions.iter().map(|name| Cow::Borrowed(*name)).collect();
                self.renamed = eased.renamed.map(Into::into);
                self.mapping = Some(mapping.into());
                self.role = Some(role.into());
                self.lease = Some(lease);
                self.family = family;
                self.handle = handle.map(Into::into);
                self.expires = Some(expires.0);
            }
            What::DryRun { mapping, role } => {
                self.mapping = Some(mapping.into());
                self.role = Some(role.into());
            }
            What::Refused { reason, role, mapping } => {
                self.reason = Some(reason.name().into());
                self.role = role.map(Into::into);
                self.mapping = mapping.map(Into::into);
            }
            What::Pending { reason, ceremony, mapping, role } => {
                self.reason = Some(reason.name().into());
                self.ceremony = Some(format!("{ceremony:032x}").into());
                self.mapping = Some(mapping.into());
                self.role = Some(role.into());
            }
            What::Ceremony { ceremony, how, state, mapping, role } => {
                self.ceremony = Some(format!("{ceremony:032x}").into());
                self.how = Some(how.into());
                self.state = Some(state.into());
                self.mapping = Some(mapping.into());
                self.role = Some(role.into());
            }
            What::Claims { how, count } => {
                self.how = Some(how.into());
                self.count = Some(count);
            }
            What::Reused { family, reason, role } => {
                self.reason = Some(reason.name().into());
                self.role = role.map(Into::into);
                self.family = Some(family);
            }
            What::Summed { reason, issuer, count, from } => {
                self.reason = Some(reason.name().into());
                self.issuer = issuer.map(Into::into);
                self.count = Some(count);
                self.from = Some(from.0);
            }
            What::Settled { lease, state, handle } => {
                self.lease = Some(lease);
                self.state = Some(state.into());
                self.handle = handle.map(Into::into);
            }
            What::Ended { lease, how, effect, children } => {
                self.count = (children > 0).then_some(children.into());
                self.lease = Some(lease);
                self.how = Some(how.into());
                self.effect = Some(effect.into());
            }
            What::Suspended { suspension, scope, issuer, subject, until, replaces } => {
                self.suspension = Some(suspension);
                self.scope = Some(scope.into());
                self.issuer = issuer.map(Into::into);
                self.subject = subject.map(Into::into);
                self.until = until.map(|until| until.0);
                self.replaces = replaces;
            }
            What::Resumed { suspension } => self.suspension = Some(suspension),
            What::Cut { backend, scope, subject, until } => {
                self.backend = Some(backend.into());
                self.scope = Some(scope.into());
                self.subject = Some(subject.into());
                self.until = Some(until.0);
            }
            What::DenialsApplied { backend, version, count } => {
                self.backend = Some(backend.into());
                self.version = Some(version.into());
                self.count = Some(count);
            }
            What::FamilyEnded { family, how, effect } => {
                self.family = Some(family);
                self.how = Some(how.into());
                self.effect = Some(effect.into());
            }
            What::MappingsActivated { version, configuration } => {
                self.version = Some(hex(&version).into());
                self.configuration = Some(hex(&configuration).into());
            }
            What::MappingsRefused { version } => self.version = version.map(|version| hex(&version).into()),
            What::OperatorSignedIn { operator, how, may, expires } => {
                self.operator = Some(operator.into());
                self.how = Some(how.into());
                self.may = may.iter().map(|word| Cow::Borrowed(*word)).collect();
                self.expires = expires.map(|at| at.0);
            }
            What::OperatorRefused { operator, how } => {
                self.operator = Some(operator.into());
                self.how = Some(how.into());
            }
            What::OperatorSignedOut { operator } => self.operator = Some(operator.into()),
            What::VisitorSignedIn { expires } => self.expires = Some(expires.0),
            What::VisitorSignedOut | What::AccountUnlinked => {}
            What::AccountLinked { how, expires } => {
                self.how = Some(how.into());
                self.expires = Some(expires.0);
            }
            What::DetailsErased { through, before } | What::RecordsPruned { through, before } => {
                self.through = Some(through);
                self.before = Some(before.0);
            }
            What::Started { version } => self.version = Some(version.into()),
            What::SigningKey { kid, algorithm, state } => {
                self.kid = Some(kid.into());
                self.algorithm = Some(algorithm.into());
                self.state = Some(state.into());
            }
            What::Adopted { epoch, store, how, lost } => {
                self.how = Some(how.into());
                self.epoch = Some(epoch);
                self.store = Some(uuid(store).into());
                self.lost = lost;
            }
        }
    }
}

impl What<'_> {
    /// The record's `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            What::Granted { .. } => "granted",
            What::DryRun { .. } => "dry_run",
            What::Refused { .. } | What::Reused { .. } | What::Pending { .. } => "refused",
            What::Ceremony { .. } => "ceremony",
            What::Claims { .. } => "claims",
            What::Summed { .. } => "summed",
            What::Settled { .. } => "settled",
            What::Ended { .. } => "ended",
            What::Suspended { .. } => "suspended",
            What::Resumed { .. } => "resumed",
            What::Cut { .. } => "cut",
            What::DenialsApplied { .. } => "denials_applied",
            What::FamilyEnded { .. } => "family_ended",
            What::MappingsActivated { .. } => "mappings_activated",
            What::MappingsRefused { .. } => "mappings_refused",
            What::OperatorSignedIn { .. } => "operator_signed_in",
            What::OperatorRefused { .. } => "operator_refused",
            What::OperatorSignedOut { .. } => "operator_signed_out",
            What::VisitorSignedIn { .. } => "visitor_signed_in",
            What::VisitorSignedOut => "visitor_signed_out",
            What::AccountLinked { .. } => "account_linked",
            What::AccountUnlinked => "account_unlinked",
            What::Started { .. } => "started",
            What::DetailsErased { .. } => "details_erased",
            What::RecordsPruned { .. } => "records_pruned",
            What::SigningKey { .. } => "signing_key",
            What::Adopted { .. } => "adopted",
        }
    }
}

impl Record<'_> {
    /// Encodes the record. The body holds SHA-256 over salt and details, never the details.
    pub fn seal(&self, details: &Details, salt: [u8; 32]) -> Entry {
        let details = details.encode(salt);
        let mut body = Body::new(self);
        body.tell(&self.what);
        body.details = details_digest(&details).map(|digest| hex(&digest).into());
        let body = serde_json::to_vec(&body).expect("a body is text and numbers");
        Entry { leaf: leaf(&body), body: body.into(), details: details.into() }
    }
}

/// What the chain links: SHA-256 of 0x00 and the body (RFC 6962, section 2.1).
pub fn leaf(body: &[u8]) -> [u8; 32] {
    sha256(&[LEAF_PREFIX, body])
}
