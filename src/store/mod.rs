//! State. One write operation: a commit is guards, changes and one record; all of it or nothing.

pub mod commit;
pub mod open;
mod sqlite;
pub mod writer;

pub use commit::{Blocked, Change, Commit, Down, Engine, Guard, Lease, LeaseState, Outcome, Settled, Spend};
pub use open::{Opened, Reader, Stored, StoredLease, open};
pub use writer::Writer;
