//! State. One write operation: a commit is guards, changes and one record; all of it or nothing.

mod audit;
pub mod commit;
pub mod open;
mod postgres;
mod sqlite;
#[cfg(test)]
pub(crate) mod tests;
pub mod tree;
pub mod writer;

pub use audit::{CheckpointFault, Expected, Finding, LeaseFault, Report, audit, audit_against};
pub use commit::{
    Blocked, Change, Commit, Down, Engine, Guard, Lease, LeaseState, Outcome, Settled, Spend, SpentKey, Use,
};
pub use open::{
    AuditedLease, Epoch, HeldLease, Incarnation, Kept, Opened, Reader, Stored, StoredLease, judge, migrate, open,
    open_reader,
};
pub use tree::{Leaf, Node, TreeRows, Watch};
pub use writer::Writer;
