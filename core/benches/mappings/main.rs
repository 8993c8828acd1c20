//! What many mappings cost: `cargo bench -p claimbound-core --bench mappings`.
//!
//! First a table in words, with what is measured once or a few times by hand; then criterion's numbers of what is short.
//! `-- --write FOLDER COUNT` writes a folder of so many mappings instead, for measurements of the command line;
//! `-- --load COUNT` loads one, for a profiler.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench reads clocks and prints what it measured"
)]

mod company;

use claimbound_core::{
    mapping::{Ask, Decision, Folder, IssuerId, Loaded, MappingSet, decide, load},
    review::{
        diff::{Side, diff},
        lint, run_tests,
    },
    time::UnixSeconds,
    workload::{Case, Profiles},
};
use criterion::{Criterion, SamplingMode};
use std::{
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

/// The program's own allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Mappings of the folders that decisions are measured in.
const SIZES: [usize; 3] = [100, 10_000, 1_000_000];
/// Mappings of the folder that the goals are about.
const GOAL: usize = 100_000;
/// Jobs that decisions are measured with: of as many teams, so that they are not all in the processor's cache.
const JOBS: usize = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, to, count, ..] = &arguments[..]
        && flag == "--write"
    {
        let count = count.parse().expect("`--write FOLDER COUNT`");
        return write(Path::new(to), &company::company(count));
    }
    if let [_, flag, count, ..] = &arguments[..]
        && flag == "--load"
    {
        let folder = company::company(count.parse().expect("`--load COUNT`"));
        let (_loaded, took) = timed(|| loaded(&folder, &Profiles::builtin()));
        return println!("{took}; {}", peak());
    }
    // Otherwise it is compiled and tried as a test is.
    let measures = arguments.iter().any(|argument| argument == "--bench");
    let sizes = if measures { &SIZES[..] } else { &SIZES[..1] };
    let profiles = Profiles::builtin();
    if measures {
        table(&profiles);
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("load");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for size in sizes.iter().filter(|size| **size < GOAL) {
        let folder = company::company(*size);
        group.bench_function(format!("{size} mappings"), |bench| bench.iter(|| loaded(&folder, &profiles)));
    }
    group.finish();
    for size in sizes {
        let folder = company::company(*size);
        let (loaded, took) = timed(|| loaded(&folder, &profiles));
        println!("\n{} mappings: loaded in {took}; {}", number(*size), peak());
        for (answer, jobs) in jobs(set(&loaded), &loaded.profiles, *size) {
            println!("  a decision that {answer}: {:.2} µs", decision(set(&loaded), &jobs).as_secs_f64() * 1e6);
            let mut next = jobs.iter().cycle();
            criterion.bench_function(&format!("a decision that {answer}, {size} mappings"), |bench| {
                bench.iter(|| judge(set(&loaded), next.next().expect("a cycle")));
            });
        }
    }
    criterion.final_summary();
}

/// What the goals are about.
fn table(profiles: &Profiles) {
    let before = company::company(GOAL);
    let bytes: usize = before.files.values().map(Vec::len).sum();
    println!("{} mappings in {} files, {} bytes", number(GOAL), number(before.files.len()), number(bytes));
    // Kept, so that each finds the others' memory taken: what the third adds is what a set takes.
    let mut kept = Vec::new();
    let mut least: Option<Took> = None;
    let mut grown = 0;
    for _ in 0..3 {
        let resident = memory("VmRSS");
        let (loaded, took) = timed(|| loaded(&before, profiles));
        kept.push(loaded);
        grown = memory("VmRSS").saturating_sub(resident);
        least = Some(least.map_or(took, |least| least.least(took)));
    }
    let least = least.expect("it was loaded");
    println!("  load                    {least}; goal: under 1 s");
    println!("  memory of a set         {} bytes a mapping; goal: under 1,024", number(grown * 1024 / GOAL));
    kept.truncate(1);
    let old = kept.pop().expect("one is left");

    for (answer, jobs) in jobs(set(&old), &old.profiles, GOAL) {
        let took = decision(set(&old), &jobs).as_secs_f64() * 1e6;
        println!("  a decision that {answer:<7} {took:.2} µs; goal: under 2 µs");
    }
    let (findings, lints) = timed(|| lint(set(&old), &old.profiles).len());
    let (results, tests) = timed(|| run_tests(set(&old), &old.profiles, &old.tests));
    assert!(results.iter().all(|result| result.failure.is_none()), "the company's tests pass");
    println!("  lints                   {lints} ({findings} findings)");
    println!("  its own tests           {tests} ({} of them)", number(results.len()));
    println!("  check, all of it        {}; goal: under 10 s", least.and(lints).and(tests));

    let after = company::edited(&before);
    let new = loaded(&after, profiles);
    let side = |folder, loaded| Side { folder, set: set(loaded), profiles: &loaded.profiles };
    let (told, took) = timed(|| diff(side(&before, &old), side(&after, &new)).expect("the evaluator confirms it"));
    println!(
        "  diff of three edits     {took}; {}; both folders loaded: {}; goal: under 2 s",
        told.summary(),
        least.and(least).and(took)
    );
}

fn loaded(folder: &Folder, profiles: &Profiles) -> Loaded {
    let loaded = load(folder, profiles);
    assert!(loaded.set.is_some(), "the company's folder loads: {:?}", loaded.diagnostics.first());
    loaded
}

fn set(loaded: &Loaded) -> &MappingSet {
    loaded.set.as_ref().expect("it loads")
}

/// Jobs with the role that each asks for.
type Jobs = Vec<(Case<'static>, String)>;

fn jobs(set: &MappingSet, profiles: &Profiles, mappings: usize) -> [(&'static str, Jobs); 2] {
    let teams = mappings.div_ceil(company::TEAM_MAPPINGS);
    let step = (teams / JOBS).max(1);
    let of = |given: fn(usize) -> claimbound_core::review::Given| -> Jobs {
        let case = |team: usize| {
            let principal = given(team).workload(set, profiles, IssuerId(0)).expect("a job of the company");
            (Case::alone(principal), company::production_role(team))
        };
        (0..teams).step_by(step).filter(|team| !company::on_gitlab(*team)).map(case).collect()
    };
    [("grants", of(company::production_job)), ("refuses", of(company::stray_job))]
}

fn judge(set: &MappingSet, (case, role): &(Case<'_>, String)) -> bool {
    let ask = Ask { role: Some(role), ..Ask::default() };
    matches!(black_box(decide(set, case, &ask, UnixSeconds(0))), Decision::Grant(_))
}

/// The least of several rounds over all jobs, for each.
fn decision(set: &MappingSet, jobs: &Jobs) -> Duration {
    let rounds = (20_000 / jobs.len()).max(1);
    let round = |_| {
        let begun = Instant::now();
        for _ in 0..rounds {
            jobs.iter().for_each(|job| {
                black_box(judge(set, job));
            });
        }
        begun.elapsed() / (rounds * jobs.len()) as u32
    };
    (0..10).map(round).min().expect("ten rounds")
}

/// On the clock, and on the processors in this process.
#[derive(Clone, Copy)]
struct Took {
    wall: Duration,
    cpu: Duration,
}

impl Took {
    fn least(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), cpu: self.cpu.min(other.cpu) }
    }
    fn and(self, other: Self) -> Self {
        Self { wall: self.wall + other.wall, cpu: self.cpu + other.cpu }
    }
}

impl std::fmt::Display for Took {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} s ({:.2} s of CPU)", self.wall.as_secs_f64(), self.cpu.as_secs_f64())
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Took) {
    let (begun, cpu) = (Instant::now(), cpu());
    let done = black_box(work());
    (done, Took { wall: begun.elapsed(), cpu: self::cpu().saturating_sub(cpu) })
}

/// What this process has used of the processors, in steps of 10 ms; nothing where there is no `/proc`.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name in brackets: user and system time are the 12th and 13th (proc_pid_stat(5)), in hundredths.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// A line of `/proc/self/status`, in KiB; 0 where there is none.
fn memory(line: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn peak() -> String {
    format!("{} MiB at the most so far", number(memory("VmHWM") / 1024))
}

/// With commas.
fn number(value: usize) -> String {
    let digits = value.to_string();
    let comma = |at: usize| at > 0 && (digits.len() - at).is_multiple_of(3);
    digits.char_indices().flat_map(|(at, digit)| comma(at).then_some(',').into_iter().chain([digit])).collect()
}

fn write(to: &Path, folder: &Folder) {
    for (path, text) in &folder.files {
        let path = to.join(path);
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("the folder is made");
        std::fs::write(&path, text).expect("the file is written");
    }
}
