//! Connections that know their store: what every session is set to, what a server must promise, how a store begins.

use super::{Address, MIGRATIONS, SCHEMA, bytes, get};
use crate::store::Down;
use claimbound_core::{
    evidence::{Chain, chain::ORIGIN},
    time::UnixSeconds,
};
use tokio_postgres::{Client, Row};

/// Of brokers that start at once, one migrates and the others wait for it. Any number that nobody else uses.
const START_LOCK: i64 = 0x0063_6c61_696d_6264;

/// What could be lost, asked of a new session so that settings of its role and database count, too.
const PROMISES: &str =
    "SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit, current_setting('server_encoding') AS encoding";

/// A session that may write. Its limits follow from one another: who is cut off in the middle of a transaction is thrown
/// out before those who wait for its locks give up (2 s, 3 s), and they before whoever asked does (5 s).
pub(super) async fn writing(address: &Address) -> Result<Client, Down> {
    let client = address.connect().await?;
    durable(&client.query_one(PROMISES, &[]).await?)?;
    let settings = format!(
        "SET search_path = {SCHEMA}; SET client_min_messages = warning;
         SET default_transaction_isolation = 'read committed';
         SELECT set_config('synchronous_commit', current_setting('synchronous_commit'), false);
         SET idle_in_transaction_session_timeout = '2s'; SET lock_timeout = '3s'; SET statement_timeout = '4s';
         SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
    );
    client.batch_execute(&settings).await?;
    Ok(client)
}

/// A session that reads a store of the version that this program knows.
pub(super) async fn reading(address: &Address) -> Result<Client, Down> {
    let client = address.connect().await?;
    let settings = format!(
        "SET search_path = {SCHEMA}; SET default_transaction_read_only = on; SET statement_timeout = '4s';
         SET idle_in_transaction_session_timeout = '60s'"
    );
    client.batch_execute(&settings).await?;
    match version(&client).await? {
        version if version == MIGRATIONS.len() => Ok(client),
        0 => Err(Down::new("the database holds no store, no broker has opened it yet")),
        version => Err(Down::new(format!(
            "the store is of version {version}, this program reads version {}; `claimbound serve` brings it there",
            MIGRATIONS.len()
        ))),
    }
}

/// Refuses a server that would answer before a commit is safe, or could not bring it back.
fn durable(row: &Row) -> Result<(), Down> {
    for (name, why) in [
        ("fsync", "a crash of its machine would lose commits, or the whole store"),
        ("full_page_writes", "a crash of its machine could leave half-written pages"),
        ("synchronous_commit", "it answers before a commit is on its disk, and a crash would lose it"),
    ] {
        let value: &str = get(row, name)?;
        if value == "off" {
            return Err(Down::new(format!(
                "the server has `{name} = off`: {why}; set it to `on`, in postgresql.conf and for this role and database"
            )));
        }
    }
    match get(row, "encoding")? {
        "UTF8" => Ok(()),
        other => Err(Down::new(format!("the database has the encoding {other}; make one with UTF8"))),
    }
}

/// How many migrations the database has had; refuses schemas that are not ours, or newer than we are.
async fn version(client: &Client) -> Result<usize, Down> {
    let found = "SELECT to_regclass($1 || '.migrations') IS NOT NULL AS ours,
                        EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace($1)) AS taken";
    let found = client.query_one(found, &[&SCHEMA]).await?;
    match (get(&found, "ours")?, get(&found, "taken")?) {
        (false, false) => return Ok(0),
        (false, true) => {
            return Err(Down::new(format!(
                "the database has a schema `{SCHEMA}` that is not a store's; name another database"
            )));
        }
        (true, _) => {}
    }
    let version: i64 = get(&client.query_one("SELECT count(*) AS done FROM migrations", &[]).await?, "done")?;
    match usize::try_from(version) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        _ => Err(Down::new(format!(
            "the store is of version {version}, this program knows versions up to {}; run the newer program, or open a backup",
            MIGRATIONS.len()
        ))),
    }
}

/// Brings the database to the newest version, while all others who start wait.
pub(super) async fn migrate(client: &Client, now: UnixSeconds) -> Result<(), Down> {
    newest(client, now).await?;
    Ok(client.batch_execute("COMMIT").await?)
}

/// Begins a transaction that brings the database to the newest version.
async fn newest(client: &Client, now: UnixSeconds) -> Result<(), Down> {
    // Others may be migrating; nothing here is in anybody's way but theirs, so a start on a busy machine is not thrown out
    // where a batch would be.
    let patience = "BEGIN; SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = '60s';
                    SET LOCAL idle_in_transaction_session_timeout = '30s'";
    client.batch_execute(patience).await?;
    client.query_one("SELECT pg_advisory_xact_lock($1)", &[&START_LOCK]).await?;
    let done = version(client).await?;
    if done == 0 {
        let table = "CREATE TABLE migrations (version BIGINT PRIMARY KEY, applied BIGINT NOT NULL)";
        // Whoever prepared the database may have made the schema, for a role that may not.
        let there = client.query_one("SELECT to_regnamespace($1) IS NOT NULL AS there", &[&SCHEMA]).await?;
        if !get(&there, "there")? {
            client.batch_execute(&format!("CREATE SCHEMA {SCHEMA}")).await?;
        }
        client.batch_execute(table).await?;
    }
    for (applied, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        client.batch_execute(migration).await?;
        client.execute("INSERT INTO migrations VALUES ($1, $2)", &[&(applied as i64 + 1), &now.0]).await?;
    }
    Ok(())
}

/// Brings the database to the newest version and begins an incarnation, while all others who start wait.
pub(super) async fn begin(client: &Client, now: UnixSeconds) -> Result<Chain, Down> {
    newest(client, now).await?;
    let mut incarnation = [0; 16];
    aws_lc_rs::rand::fill(&mut incarnation).map_err(|_| Down::new("the system gives no random bytes"))?;
    let last = client.query_opt("SELECT link FROM records ORDER BY position DESC LIMIT 1", &[]).await?;
    let head = last.map_or(Ok(ORIGIN), |row| bytes(&row, "link"))?;
    let open = "INSERT INTO incarnations (number, id, opened, previous, batch, sequence, head)
                SELECT coalesce(max(number), 0) + 1, $1, $2, $3, 0, 0, $3 FROM incarnations";
    client.execute(open, &[&&incarnation[..], &now.0, &&head[..]]).await?;
    client.batch_execute("COMMIT").await?;
    Ok(Chain { incarnation: u128::from_be_bytes(incarnation), sequence: 0, head })
}
