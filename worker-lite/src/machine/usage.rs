//! Use of this machine by processes: by each compile, and by all other programs together.
//! Not pure: reads /proc where it exists.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;
use nix::unistd::Pid;

use crate::machine::vitals;

/// Processes of one compile that are looked at: more than it may have.
const PROCESSES_MAX: usize = 128;
/// Shortest time over which the load of other programs is measured: the kernel counts in
/// steps of about 10 ms.
const SAMPLE_AGE_MIN: Duration = Duration::from_millis(900);

/// Use of the machine by a process and all its descendants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Bytes of resident memory now.
    pub resident_bytes: u64,
    /// Processor time so far, that of children that have ended included.
    user_us: u64,
    system_us: u64,
}

/// Use of the machine by `root` and all its descendants; zero where it can't be told.
pub fn of_tree(root: Pid) -> ProcessUsage {
    let mut used = ProcessUsage::default();
    for own in process_tree(root).into_iter().filter_map(of_process) {
        used.resident_bytes += own.resident_bytes;
        used.user_us += own.user_us;
        used.system_us += own.system_us;
    }
    used
}

/// Microseconds of processor time that `root` and all its descendants have used so far, those
/// that have ended included; `None` where it can't be told: no /proc, or a kernel that does
/// not list the children of a process (`CONFIG_PROC_CHILDREN`).
pub fn cpu_us(root: Pid) -> Option<u64> {
    fs::metadata(format!("/proc/{root}/task/{root}/children")).ok()?;
    let used = of_tree(root);
    Some(used.user_us + used.system_us)
}

/// Bytes of memory that a process has now, resident or in swap.
pub fn memory_bytes(pid: Pid) -> u64 {
    let read = |of: &Path| fs::read_to_string(of.join("status")).ok();
    let of_thread = |of: &Path| of_status(&read(of)?);
    let process = format!("/proc/{pid}");
    // Once its first thread has ended, only the others show what a process has.
    of_thread(Path::new(&process))
        .or_else(|| threads(pid).iter().find_map(|thread| of_thread(thread)))
        .unwrap_or(0)
}

/// Folders in /proc of a process's threads; none where it has ended.
pub fn threads(pid: Pid) -> Vec<PathBuf> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    threads.map(|thread| thread.path()).collect()
}

/// Reads /proc/PID/status (proc(5)): bytes that are resident or in swap.
fn of_status(status: &str) -> Option<u64> {
    let kib = |name: &str| {
        let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some((kib("VmRSS:")? + kib("VmSwap:").unwrap_or(0)) * 1024)
}

fn of_process(pid: Pid) -> Option<ProcessUsage> {
    of_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `root` and all its descendants, whichever thread has started them.
pub fn process_tree(root: Pid) -> Vec<Pid> {
    let mut pids = vec![root];
    let mut at = 0;
    while at < pids.len().min(PROCESSES_MAX) {
        for thread in threads(pids[at]) {
            let children = fs::read_to_string(thread.join("children"));
            let children = children.unwrap_or_default();
            let children = children.split_whitespace().flat_map(str::parse);
            pids.extend(children.map(Pid::from_raw));
        }
        at += 1;
    }
    pids.truncate(PROCESSES_MAX);
    pids
}

/// Reads /proc/PID/stat (proc(5)): fields 14 to 17 are times in ticks, 24 is the
/// resident memory in pages.
fn of_stat(stat: &str) -> Option<ProcessUsage> {
    // The name in parentheses may hold anything; the third field follows it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let number = |field: usize| fields.get(field - 3)?.trim().parse::<u64>().ok();
    Some(ProcessUsage {
        resident_bytes: number(24)? * sysconf_or(libc::_SC_PAGESIZE, 4096),
        user_us: ticks_us(number(14)? + number(16)?),
        system_us: ticks_us(number(15)? + number(17)?),
    })
}

/// Clock ticks in microseconds.
fn ticks_us(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000_000) / sysconf_or(libc::_SC_CLK_TCK, 100)
}

/// A value of sysconf(3), or `otherwise` where the system has none.
fn sysconf_or(name: libc::c_int, otherwise: u64) -> u64 {
    // SAFETY: sysconf only reads.
    let value = unsafe { libc::sysconf(name) };
    u64::try_from(value)
        .ok()
        .filter(|value| *value > 0)
        .unwrap_or(otherwise)
}

/// Measures how much of the machine other programs keep busy. Programs that yield as
/// compiles do (their nice value is positive) don't count.
pub struct LoadMeter {
    /// Compiles are such programs.
    niced: bool,
    last: Option<Sample>,
    others_milli: u32,
}

/// Processor times since the start of the machine or of the worker.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    /// Busy time of all processors together, but for niced programs.
    busy_us: u64,
    /// Part of it that this worker and its compiles used.
    own_us: u64,
    cores: u32,
}

impl LoadMeter {
    /// For compiles that run `nice` below other programs.
    pub fn new(nice: i32) -> Self {
        LoadMeter {
            niced: nice > 0,
            last: None,
            others_milli: 0,
        }
    }

    /// Share of the cores that this worker may use that other programs kept busy between the
    /// last two samples, in thousandths; `compilers` are the process groups that run. 0 where
    /// it can't be told.
    pub fn others_milli(&mut self, now: Instant, compilers: &[Pid]) -> u32 {
        let age = |last: &Sample| now.saturating_duration_since(last.at);
        if self
            .last
            .as_ref()
            .is_some_and(|last| age(last) < SAMPLE_AGE_MIN)
        {
            return self.others_milli;
        }
        let sample = self.sample(now, compilers);
        self.others_milli = match (self.last, sample) {
            (Some(last), Some(sample)) => {
                share_milli(last, sample, vitals::cores()).unwrap_or(self.others_milli)
            }
            _ => 0,
        };
        self.last = sample;
        self.others_milli
    }

    fn sample(&self, at: Instant, compilers: &[Pid]) -> Option<Sample> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let (busy_us, cores) = busy(&stat)?;
        let mut own_us = 0;
        let mut add = |user_us: u64, system_us: u64| {
            own_us += system_us + if self.niced { 0 } else { user_us };
        };
        // A compile that ends in between is counted twice this once, which shows: the next
        // sample has less time.
        for compiler in compilers {
            let used = of_tree(*compiler);
            add(used.user_us, used.system_us);
        }
        let (user_us, system_us) = times(libc::RUSAGE_CHILDREN)?;
        add(user_us, system_us);
        let (user_us, system_us) = times(libc::RUSAGE_SELF)?;
        Some(Sample {
            at,
            busy_us,
            own_us: own_us + user_us + system_us,
            cores,
        })
    }
}

/// Thousandths of `cores` that other programs kept busy between two samples; `None`: the
/// samples do not fit each other.
fn share_milli(before: Sample, after: Sample, cores: u32) -> Option<u32> {
    let us = after.at.saturating_duration_since(before.at).as_micros();
    let us = u64::try_from(us).ok().filter(|us| *us > 0)?;
    let busy_us = after.busy_us.checked_sub(before.busy_us)?;
    let own_us = after.own_us.checked_sub(before.own_us)?;
    let others_us = busy_us.saturating_sub(own_us);
    // Cores that this worker may not use take their share of the load first.
    let free_us = (us * u64::from(after.cores)).saturating_sub(others_us);
    let free_milli = free_us.saturating_mul(1000) / (us * u64::from(cores.max(1)));
    Some(1000 - free_milli.min(1000) as u32)
}

/// Reads /proc/stat (proc(5)): microseconds of busy time, but for niced programs, and the
/// number of processors.
fn busy(stat: &str) -> Option<(u64, u32)> {
    let mut lines = stat.lines();
    let all = lines.next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = all.split_whitespace().flat_map(str::parse).collect();
    // user nice system idle iowait irq softirq
    let [user, _, system, _, _, irq, softirq] = *times.first_chunk()?;
    let cores = lines.take_while(|line| line.starts_with("cpu")).count();
    Some((
        ticks_us(user + system + irq + softirq),
        u32::try_from(cores).ok()?,
    ))
}

/// User and system time, of the worker itself or of its children that have ended.
fn times(whose: libc::c_int) -> Option<(u64, u64)> {
    // SAFETY: all zeros is a valid rusage, and the place is ours for the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::getrusage(whose, &mut usage) == 0).then_some(usage)
    }?;
    // The fields' widths differ between systems.
    #[allow(clippy::unnecessary_cast)]
    let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    Some((us(usage.ru_utime), us(usage.ru_stime)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_a_strange_name() {
        let fields: Vec<String> = (4..=24).map(|field| field.to_string()).collect();
        let used = of_stat(&format!("7 (a) b) S {}", fields.join(" "))).unwrap();
        assert_eq!(
            (used.user_us, used.system_us),
            (ticks_us(14 + 16), ticks_us(15 + 17))
        );
        assert_eq!(
            used.resident_bytes,
            24 * sysconf_or(libc::_SC_PAGESIZE, 4096)
        );
        assert_eq!(of_stat("7 (a) S 1 2"), None);
    }

    #[test]
    fn memory_in_swap_is_memory() {
        let status = "Name:\tcc1\nVmRSS:\t    1000 kB\nRssAnon:\t 900 kB\nVmSwap:\t  24 kB\n";
        assert_eq!(of_status(status), Some(1024 * 1024));
        assert_eq!(of_status("Name:\tcc1\nVmRSS:\t 1 kB\n"), Some(1024));
        assert_eq!(of_status("Name:\tcc1\nState:\tZ (zombie)\n"), None);
    }

    #[test]
    fn niced_time_is_nobodys() {
        let stat = "cpu  100 9999 20 5 6 3 4 0 0 0\ncpu0 1\ncpu1 1\nintr 1\n";
        assert_eq!(busy(stat), Some((ticks_us(127), 2)));
        assert_eq!(busy("cpu  1 2\n"), None);
        assert_eq!(busy(""), None);
    }

    #[test]
    fn the_load_of_others_is_what_is_not_ours() {
        let before = Sample {
            at: Instant::now(),
            busy_us: 5_000_000,
            own_us: 1_000_000,
            cores: 4,
        };
        let after = |busy_us, own_us| Sample {
            at: before.at + Duration::from_secs(1),
            busy_us: before.busy_us + busy_us,
            own_us: before.own_us + own_us,
            ..before
        };
        let share = |busy_us, own_us, cores| share_milli(before, after(busy_us, own_us), cores);
        assert_eq!(share(0, 0, 4), Some(0));
        assert_eq!(share(3_000_000, 3_000_000, 4), Some(0));
        assert_eq!(share(3_000_000, 1_000_000, 4), Some(500));
        assert_eq!(share(4_000_000, 0, 4), Some(1000));
        assert_eq!(share(0, 1_000_000, 4), Some(0));
        // Two of the four cores are ours.
        assert_eq!(share(2_000_000, 0, 2), Some(0));
        assert_eq!(share(3_000_000, 0, 2), Some(500));
        // A time that goes back says nothing.
        let mut back = after(1_000_000, 0);
        back.own_us = 0;
        assert_eq!(share_milli(before, back, 4), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory() {
        let used = of_tree(Pid::this());
        assert!(used.resident_bytes > 100_000, "{used:?}");
        let sample = LoadMeter::new(10).sample(Instant::now(), &[]);
        assert!(sample.is_some_and(|sample| sample.cores > 0 && sample.busy_us > 0));
    }
}
