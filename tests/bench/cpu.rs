//! CPU time of our own finished children and of daemons that run on, with all
//! their children.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{SysconfVar, sysconf};

/// Started before a run, read after it.
pub struct Meter {
    daemons: Vec<u32>,
    before: Duration,
}

impl Meter {
    /// Counts our children and `daemons`, by process id.
    pub fn start(daemons: &[u32]) -> Self {
        Meter {
            daemons: daemons.to_vec(),
            before: now(daemons),
        }
    }

    /// What was used since.
    pub fn used(&self) -> Duration {
        now(&self.daemons).saturating_sub(self.before)
    }
}

fn now(daemons: &[u32]) -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("our own usage");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    let children = Duration::from_micros(micros.max(0).unsigned_abs());
    children + ticks(daemons)
}

/// utime, stime, cutime and cstime (proc(5), fields 14 to 17) of the daemons and
/// of those children that live on.
fn ticks(daemons: &[u32]) -> Duration {
    if daemons.is_empty() {
        return Duration::ZERO;
    }
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    let mut parents: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((_, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        let fields: Vec<&str> = rest.split(' ').collect();
        let number = |at: usize| fields.get(at).and_then(|word| word.parse::<u64>().ok());
        let spent: u64 = (11..15).filter_map(number).sum();
        parents.insert(pid, (number(1).unwrap_or(0) as u32, spent));
    }
    let ours = |mut pid: u32| {
        while pid > 1 {
            if daemons.contains(&pid) {
                return true;
            }
            pid = parents.get(&pid).map_or(0, |(parent, _)| *parent);
        }
        false
    };
    let total: u64 = parents
        .iter()
        .filter(|(pid, _)| ours(**pid))
        .map(|(_, (_, spent))| spent)
        .sum();
    Duration::from_secs_f64(total as f64 / per_second as f64)
}
