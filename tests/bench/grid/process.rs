//! What a process uses, as /proc says.

use std::fs;

use nix::unistd::{Pid, SysconfVar, sysconf};

/// Bytes of it in memory.
///
/// # Panics
/// There is no such process.
pub fn resident(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process that lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("VmRSS in KiB") << 10
}

/// Seconds of processor time of it and of its children that have ended.
///
/// # Panics
/// There is no such process.
pub fn cpu_s(pid: Pid) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process that lives");
    let (_, rest) = stat.rsplit_once(") ").expect("its fields");
    // utime, stime, cutime, cstime: fields 14 to 17 of proc(5).
    let ticks = rest.split(' ').skip(11).take(4);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    ticks as f64 / per_second as f64
}
