//! What people read, and what programs read.

use crate::{
    machine::fsync_us,
    rows::{Measured, Row},
};
use clap::ValueEnum as _;
use serde_json::{Value, json};

const HEADINGS: [&str; 10] =
    ["row", "per s", "p50 ms", "p99 ms", "CPU µs", "at rest MiB", "after MiB", "load's µs", "others", ""];

/// Where and how it is measured.
pub fn header(seconds: f64, connections: usize) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} processors, Linux {}; fsync of 4 KiB where stores are kept: {:.0} µs\n\
         {connections} connections, {seconds} s a row; rate limits of the broker configured and never reached; each token is used once\n\
         (OpenBao, the floor and forged ones: several times); servers, load and databases share the processors\n\
         CPU: processor time of the server for one request; load's: of the load generator\n\
         others: processors that other programs used meanwhile; beyond {} the row is marked `busy`\n",
        kernel.trim(),
        fsync_us(),
        crate::machine::BUSY_CORES,
    )
}

pub fn headings() -> String {
    line(&HEADINGS.map(str::to_owned))
}

/// One row as it stands in the table.
pub fn row(measured: &Measured) -> String {
    let or_dash = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
    let mib = |kib: Option<u64>| or_dash(kib.map(|kib| kib as f64 / 1024.0), 1);
    let busy = if measured.busy() { "busy" } else { "" };
    line(&[
        name(measured.row),
        format!("{:.0}", measured.rate),
        or_dash(measured.p50_ms, 2),
        or_dash(measured.p99_ms, 2),
        format!("{:.1}", measured.cpu_us),
        mib(measured.rest_kib),
        mib(measured.after_kib),
        or_dash(measured.load_us, 1),
        format!("{:.2}", measured.others),
        [busy, &measured.note].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; "),
    ])
}

/// What the goals are about, from rows of one run.
pub fn verdict(rows: &[Measured]) -> String {
    let told = json(rows);
    let one = |what: &str, member: &str, digits: usize| {
        told[member].as_f64().map(|value| format!("  {what}: {value:.digits$}\n")).unwrap_or_default()
    };
    [
        one("exchanges per second, of OpenBao's logins (goal: 4 or more)", "ratio_vs_openbao", 2),
        one("processor time, of an OpenBao login's (goal: 0.2 or less)", "cpu_share_of_openbao", 3),
        one("p99 at 80 % of saturation, ms (goal: under 5)", "p99_ms", 2),
        one("processor time of a refused forgery, of a grant's (goal: under 1)", "forged_share_of_grant", 2),
    ]
    .concat()
}

/// The same and every row for programs; what was not measured is null.
pub fn json(rows: &[Measured]) -> Value {
    let of = |row: Row| rows.iter().find(|measured| measured.row == row);
    let share = |one: Option<f64>, other: Option<f64>| one.zip(other).map(|(one, other)| one / other);
    let rate = |row| of(row).map(|measured| measured.rate);
    let cpu = |row| of(row).map(|measured| measured.cpu_us);
    let each = |measured: &Measured| {
        json!({
            "row": name(measured.row), "count": measured.count, "per_second": measured.rate, "p50_ms": measured.p50_ms,
            "p99_ms": measured.p99_ms, "cpu_us": measured.cpu_us, "rss_rest_kib": measured.rest_kib,
            "rss_after_kib": measured.after_kib, "load_cpu_us": measured.load_us, "other_cores": measured.others,
            "busy": measured.busy(), "note": measured.note,
        })
    };
    json!({
        "ratio_vs_openbao": share(rate(Row::Sqlite), rate(Row::Openbao)),
        "cpu_us_per_exchange": cpu(Row::Sqlite),
        "cpu_us_openbao": cpu(Row::Openbao),
        "cpu_share_of_openbao": share(cpu(Row::Sqlite), cpu(Row::Openbao)),
        "forged_share_of_grant": share(cpu(Row::Forged), cpu(Row::Sqlite)),
        "p99_ms": of(Row::Sqlite80).and_then(|measured| measured.p99_ms),
        "machine_busy": rows.iter().any(Measured::busy),
        "rows": rows.iter().map(each).collect::<Vec<_>>(),
    })
}

/// A row's name on the command line.
pub fn name(row: Row) -> String {
    row.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn line(cells: &[String; 10]) -> String {
    let [name, rest @ .., note] = cells;
    let numbers: String = rest.iter().map(|cell| format!(" {cell:>11}")).collect();
    format!("{name:<14}{numbers}  {note}").trim_end().to_owned()
}
