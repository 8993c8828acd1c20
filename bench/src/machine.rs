//! What processes and the machine used, from `/proc` (proc(5)).

use std::{fs, io::Write as _, time::Instant};

/// The kernel's unit of processor time in `/proc`, in microseconds: `USER_HZ` is 100 wherever Linux runs.
const TICK_MICROSECONDS: u64 = 10_000;
/// The process of the kernel's that begins its threads.
const KTHREADD: u32 = 2;
/// More than this of what others use meanwhile, in processors, and a measurement counts as one on a busy machine.
pub const BUSY_CORES: f64 = 0.1;

/// User and system time of a process and its threads so far, in microseconds; 0 of one that is gone.
pub fn cpu_us(pid: u32) -> u64 {
    stat(pid).map_or(0, |stat| stat.used)
}

/// The same of a process and of all that it began, that run.
pub fn tree_cpu_us(root: u32) -> u64 {
    cpu_us(root) + processes().filter(|stat| stat.parent == root).map(|stat| stat.used).sum::<u64>()
}

/// Processor time of this thread so far, in microseconds.
pub fn thread_cpu_us() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

/// What this process waited for of its children's, in microseconds.
pub fn children_cpu_us() -> u64 {
    stat(std::process::id()).map_or(0, |stat| stat.waited_for)
}

/// `VmRSS`, in KiB; 0 of one that is gone.
pub fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

struct Stat {
    pid: u32,
    parent: u32,
    used: u64,
    waited_for: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name in brackets, which may hold anything: state, parent, …, the 12th to 15th are the times.
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Some(Stat {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        used: (ticks(11) + ticks(12)) * TICK_MICROSECONDS,
        waited_for: (ticks(13) + ticks(14)) * TICK_MICROSECONDS,
    })
}

fn processes() -> impl Iterator<Item = Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?))
}

/// A moment, to be compared with a later one: what the machine and some processes had used by then.
pub struct Moment {
    at: Instant,
    /// All programs, and what a hypervisor took away.
    all: u64,
    ours: Vec<(u32, u64)>,
}

/// What lies between two moments.
pub struct Span {
    /// In microseconds: this process, then each that was watched, in their order, with its children.
    pub cpu_us: Vec<u64>,
    /// What all other programs used, in processors.
    pub others: f64,
}

impl Moment {
    /// Now. This process is one of ours, without being named.
    pub fn now(watched: &[u32]) -> Self {
        let line = fs::read_to_string("/proc/stat").unwrap_or_default();
        let fields: Vec<u64> =
            line.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
        // user, nice, system and steal: interrupts are left out, and the kernel's own threads subtracted, as much of both
        // is work that the measured programs cause.
        let busy: u64 = [0, 1, 2, 7].iter().filter_map(|at| fields.get(*at)).sum();
        let kernel: u64 =
            processes().filter(|stat| stat.parent == KTHREADD || stat.pid == KTHREADD).map(|stat| stat.used).sum();
        let ours = [std::process::id()].iter().chain(watched).map(|pid| (*pid, tree_or_self(*pid))).collect();
        Self { at: Instant::now(), all: (busy * TICK_MICROSECONDS).saturating_sub(kernel), ours }
    }

    /// From then to now.
    pub fn until_now(&self) -> Span {
        let watched: Vec<u32> = self.ours.iter().skip(1).map(|(pid, _)| *pid).collect();
        let now = Self::now(&watched);
        let used = |at: usize| now.ours[at].1.saturating_sub(self.ours[at].1);
        let ours: u64 = (0..self.ours.len()).map(used).sum();
        let seconds = now.at.duration_since(self.at).as_secs_f64();
        let all = now.all.saturating_sub(self.all);
        let others = all.saturating_sub(ours) as f64 / 1e6 / seconds;
        Span { cpu_us: (0..self.ours.len()).map(used).collect(), others }
    }
}

/// This process without its children, which are watched by themselves; of others all.
fn tree_or_self(pid: u32) -> u64 {
    if pid == std::process::id() { cpu_us(pid) } else { tree_cpu_us(pid) }
}

/// How long it takes here to make 4 KiB durable, in microseconds: the middle one of some tries.
pub fn fsync_us() -> f64 {
    const TRIES: usize = 51;
    let mut file = tempfile::tempfile().expect("a file can be made");
    let mut took: Vec<f64> = (0..TRIES)
        .map(|_| {
            let began = Instant::now();
            file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).expect("a file can be written");
            began.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    took.sort_by(f64::total_cmp);
    took[TRIES / 2]
}
