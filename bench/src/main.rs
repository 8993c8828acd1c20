//! What an exchange costs, beside its peers and in one run with them. `scripts/bench` builds and starts it;
//! `docs/performance.md` says how to read the table.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a table is printed")]

#[path = "../../core/benches/mappings/company.rs"]
#[allow(dead_code, reason = "the core's own bench uses more of it")]
mod company;
mod crowd;
mod durable;
mod floor;
mod load;
mod machine;
mod rows;
mod soak;
mod table;
mod tokens;

use clap::{Parser, Subcommand, ValueEnum as _};
use rows::{Bench, Row};
use std::path::PathBuf;

/// The floor shall have what the broker has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measure exchanges, and what they are compared with
///
/// Starts the broker, PostgreSQL and OpenBao on loopback, asks each for some seconds and prints one table. Needs what
/// `scripts/tools` installs, and a machine that does nothing else.
#[derive(Parser)]
#[command(name = "scripts/bench")]
struct Args {
    /// How long each row is measured
    #[arg(long, default_value_t = 5.0, value_name = "N", value_parser = seconds)]
    seconds: f64,
    /// Ask over so many connections
    #[arg(long, default_value_t = load::CONNECTIONS, value_name = "N", value_parser = connections)]
    connections: usize,
    /// Measure these rows alone; may be given several times
    #[arg(long, value_enum, value_name = "ROW")]
    only: Vec<Row>,
    /// Measure grants among 1,000,000 mappings, too: a minute more, and some GiB of memory and disk
    #[arg(long)]
    million: bool,
    /// Instead of the table, grants for so many seconds with a look at the memory, and a verification of what was written
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    soak: Option<u64>,
    /// Instead of the table, so many processes that ask an agent for keys at the same moment
    #[arg(long, value_name = "PROCESSES", conflicts_with = "soak", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    agent: Option<u64>,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
    /// The broker's program, a release build
    #[arg(
        long,
        env = "CLAIMBOUND_BENCH_BINARY",
        hide_env = true,
        hide = true,
        default_value = "target/release/claimbound"
    )]
    binary: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// The floor's server, which this program starts itself
    #[command(hide = true)]
    Floor { issuer_key: String, store: Option<PathBuf> },
    /// What an agent runs for `--agent`
    #[command(hide = true)]
    Crowd { processes: usize },
    /// One of its processes
    #[command(hide = true)]
    Asks,
}

/// A time that is worth measuring for.
fn seconds(text: &str) -> Result<f64, String> {
    let told = text.parse::<f64>().ok().filter(|seconds| (0.2..=3600.0).contains(seconds));
    told.ok_or_else(|| "seconds are a number from 0.2 to 3600".to_owned())
}

fn connections(text: &str) -> Result<usize, String> {
    let told = text.parse::<usize>().ok().filter(|connections| (1..=1_000).contains(connections));
    told.ok_or_else(|| "connections are a number from 1 to 1000".to_owned())
}

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    match &args.command {
        Some(Command::Floor { issuer_key, store }) => return floor::serve(issuer_key, store.as_deref()),
        Some(Command::Crowd { processes }) => return crowd::crowd(*processes),
        Some(Command::Asks) => return crowd::asks(),
        None => {}
    }
    let binary = args.binary.canonicalize()?;
    // One thread: the load must leave the processors to what is measured.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let told = match (args.soak, args.agent) {
            (Some(seconds), _) => soak::run(&binary, seconds).await,
            (None, Some(processes)) => crowd::run(&binary, usize::try_from(processes).unwrap_or(usize::MAX)).await,
            (None, None) => table(&args, &binary).await,
        };
        if args.json {
            println!("{told}");
        }
    });
    Ok(())
}

async fn table(args: &Args, binary: &std::path::Path) -> serde_json::Value {
    let wanted = |row: &Row| match args.only.is_empty() {
        true => *row != Row::Million || args.million,
        false => args.only.contains(row),
    };
    let rows: Vec<Row> = Row::value_variants().iter().copied().filter(wanted).collect();
    println!("{}", table::header(args.seconds, args.connections));
    let mut bench = Bench::prepare(binary, args.seconds, args.connections).await;
    println!("{}", table::headings());
    let mut measured = vec![];
    for row in rows {
        measured.push(bench.measure(row).await);
        println!("{}", measured.last().map(table::row).unwrap_or_default());
    }
    let skipped: Vec<String> =
        Row::value_variants().iter().filter(|row| !wanted(row)).map(|row| table::name(*row)).collect();
    if !skipped.is_empty() {
        println!("\nnot measured: {}", skipped.join(", "));
    }
    println!("\n{}", table::verdict(&measured));
    if measured.iter().any(rows::Measured::busy) {
        println!("BUSY: other programs used the processors; times are worth nothing, processor time says a little");
    }
    table::json(&measured)
}
