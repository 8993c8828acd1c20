//! The PostgreSQL engine and its reads: any number of brokers over one database.
//!
//! Single use, limits and facts are decided by the database's unique keys and row locks, never by what a broker
//! remembers. Each broker writes a chain of its own, which goes on from the last record that it found at its start.

mod address;
mod batch;
mod ceremonies;
mod engine;
mod notes;
mod reader;
mod session;
mod sql;
mod statements;

pub(super) use address::Address;
pub(super) use engine::{Postgres, migrate};
pub(super) use reader::PostgresReader;

use super::{Down, Family, LeaseState, Turns};
use claimbound_core::{evidence::LeaseId, time::UnixSeconds};
use std::{error::Error as _, thread};
use tokio::runtime::Runtime;
use tokio_postgres::{Row, error::Severity, types::FromSql};

/// Every migration, oldest first; the table `migrations` counts those applied.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/postgres_0001.sql"),
    include_str!("migrations/postgres_0003.sql"),
    include_str!("migrations/postgres_0004.sql"),
    include_str!("migrations/postgres_0005.sql"),
    include_str!("migrations/postgres_0006.sql"),
    include_str!("migrations/postgres_0007.sql"),
    include_str!("migrations/postgres_0008.sql"),
    include_str!("migrations/postgres_0009.sql"),
    include_str!("migrations/postgres_0010.sql"),
];
/// Where all of ours stands: one store per database.
const SCHEMA: &str = "claimbound";

impl From<tokio_postgres::Error> for Down {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(told) = error.as_db_error() {
            return Self::new(format!("PostgreSQL: {} ({})", told.message(), told.code().code()));
        }
        let mut why = format!("PostgreSQL: {error}");
        let mut cause = error.source();
        while let Some(deeper) = cause {
            let text = deeper.to_string();
            if !why.contains(&text) {
                why.push_str(&format!(": {text}"));
            }
            cause = deeper.source();
        }
        Self::new(why)
    }
}

/// Whether the session is over with this error, hence also whether anything after it can be known.
fn is_fatal(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_none_or(|told| told.parsed_severity() != Some(Severity::Error))
}

/// A column by its name.
fn get<'r, T: FromSql<'r>>(row: &'r Row, column: &str) -> Result<T, Down> {
    Ok(row.try_get(column)?)
}

/// A column of a fixed number of bytes.
fn bytes<const N: usize>(row: &Row, column: &str) -> Result<[u8; N], Down> {
    sized(get(row, column)?, column)
}

fn maybe_bytes<const N: usize>(row: &Row, column: &str) -> Result<Option<[u8; N]>, Down> {
    get::<Option<&[u8]>>(row, column)?.map(|value| sized(value, column)).transpose()
}

fn sized<const N: usize>(value: &[u8], column: &str) -> Result<[u8; N], Down> {
    value.try_into().map_err(|_| Down::new(format!("`{column}` should have {N} bytes")))
}

fn state(row: &Row) -> Result<LeaseState, Down> {
    let name: &str = get(row, "state")?;
    LeaseState::from_name(name).ok_or_else(|| Down::new(format!("`{name}` is no state")))
}

fn family(row: &Row) -> Result<Family, Down> {
    Ok(Family {
        id: LeaseId(u128::from_be_bytes(bytes(row, "id")?)),
        secret: bytes(row, "secret")?,
        token: bytes(row, "token")?,
        role: get(row, "role")?,
        opened: UnixSeconds(get(row, "opened")?),
        expires: UnixSeconds(get(row, "expires")?),
        turns: Turns {
            current: bytes(row, "current")?,
            previous: maybe_bytes(row, "previous")?,
            since: UnixSeconds(get(row, "since")?),
            ended: get(row, "ended")?,
        },
    })
}

/// A runtime that may be dropped anywhere, also by who runs on another.
struct Own(Option<Runtime>);

impl Own {
    fn new(builder: &mut tokio::runtime::Builder) -> Result<Self, Down> {
        let runtime = builder.enable_all().build();
        runtime.map(|runtime| Self(Some(runtime))).map_err(|error| Down::new(format!("no runtime: {error}")))
    }
    fn get(&self) -> &Runtime {
        self.0.as_ref().expect("a runtime is there until it is dropped")
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs on a thread of its own, where it may wait although who calls may be on a runtime.
fn aside<T: Send>(run: impl FnOnce() -> Result<T, Down> + Send) -> Result<T, Down> {
    thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|_| Err(Down::new("the store's thread panicked")))
}
