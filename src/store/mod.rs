//! State. One write operation: a commit is guards, changes and one record; all of it or nothing.

mod audit;
pub mod ceremony;
pub mod commit;
mod family;
pub mod forget;
pub mod leases;
mod note;
pub mod open;
mod postgres;
mod sqlite;
mod subject;
#[cfg(test)]
pub(crate) mod tests;
pub mod tree;
pub mod writer;

pub use audit::{CheckpointFault, Expected, Finding, LeaseFault, Report, audit, audit_against};
pub use ceremony::{Asked, Bound, Ceremony, KeptCeremony, Move, Standing, Waiting, WhichCeremonies, WhichStanding};
pub use commit::{
    Blocked, Change, Commit, Down, Engine, Guard, Lease, LeaseState, Outcome, Place, Session, Settled, Spend, SpentKey,
    Use,
};
pub use family::{Family, GRACE_SECONDS, Turn, Turns};
pub use leases::{Acting, LeaseOrder, ListedLease};
pub use note::Note;
pub use open::{
    AuditedLease, Census, Epoch, HeldLease, Incarnation, Kept, Opened, Reader, Stored, StoredLease, judge, migrate,
    open, open_reader,
};
pub use subject::{Denial, DenialScope, Scope, Subject, Suspension, key as subject_key};
pub use tree::{Leaf, Node, TreeRows, Watch};
pub use writer::Writer;
