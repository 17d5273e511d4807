//! What this machine is beneath its programs: the kernel's architecture, an emulator, and
//! cores that are not alike. Not pure: reads /proc and /sys where they exist. Nothing is
//! guessed: what can't be seen is not told.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;

use hg_proto::v1::{CoreKind, Machine};
use hg_proto::wire::limits::CORE_KINDS_MAX;

/// Where the kernel describes its processors.
const PROCESSORS: &str = "/sys/devices/system/cpu";
/// Processors that are looked at.
const PROCESSORS_MAX: usize = 1024;
/// What says how much a processor can do: on boards in shares of the best one, else by its
/// highest clock.
const CAPACITIES: [&str; 2] = ["cpu_capacity", "cpufreq/cpuinfo_max_freq"];
/// Capacities that are less than a tenth apart are one kind: some cores of a kind are
/// allowed a little more than others.
const ALIKE_PERCENT: u64 = 90;
/// Paths of this process's program: an emulator answers for the first, and forgets the
/// second, which has its own.
const PROGRAM: [&str; 2] = ["/proc/self/exe", "/proc/thread-self/exe"];

/// What can be told of this machine.
pub fn machine() -> Machine {
    let emulator = emulator(PROGRAM.map(|path| fs::read_link(path).ok()));
    let system = nix::sys::utsname::uname().ok();
    let system = system.map(|system| system.machine().to_string_lossy().into_owned());
    Machine {
        // What an emulator answers is its own.
        kernel_architecture: match emulator.is_empty() {
            true => beneath(env::consts::ARCH, &system.unwrap_or_default()),
            false => String::new(),
        },
        emulator,
        core_kinds: core_kinds(&capacities(Path::new(PROCESSORS))),
    }
}

/// The name of the program that runs this one, if it is not the kernel alone.
fn emulator(programs: [Option<impl AsRef<Path>>; 2]) -> String {
    let [Some(own), Some(real)] = programs else {
        return String::new();
    };
    let (own, real) = (own.as_ref(), real.as_ref());
    let name = real.file_name().filter(|_| own != real);
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// The kernel's architecture by its word for it, where it is not `own`.
fn beneath(own: &str, system: &str) -> String {
    let kernel = match system {
        "i386" | "i486" | "i586" | "i686" => "x86",
        "amd64" => "x86_64",
        // What a 64-bit kernel says to 32-bit programs is the second.
        "arm64" | "armv8l" => "aarch64",
        arm if arm.starts_with("armv") => "arm",
        "ppc64" | "ppc64le" => "powerpc64",
        other => other,
    };
    match kernel == own {
        true => String::new(),
        false => kernel.to_owned(),
    }
}

/// What each processor can do, all in one unit; empty: it is not said of all.
fn capacities(processors: &Path) -> Vec<u64> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let entries = fs::read_dir(processors).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("cpu"));
        number.is_some_and(is_number)
    });
    let folders: Vec<_> = folders.take(PROCESSORS_MAX).collect();
    let said_by = |file: &str| -> Option<Vec<u64>> {
        let said = folders.iter().map(|folder| {
            let text = fs::read_to_string(folder.path().join(file)).ok()?;
            text.trim().parse().ok().filter(|capacity| *capacity > 0)
        });
        said.collect()
    };
    CAPACITIES
        .iter()
        .find_map(|file| said_by(file))
        .unwrap_or_default()
}

/// The kinds of cores with these capacities; none where they are alike.
fn core_kinds(capacities: &[u64]) -> Vec<CoreKind> {
    let mut counts = BTreeMap::new();
    for capacity in capacities {
        *counts.entry(*capacity).or_insert(0u32) += 1;
    }
    let fastest = counts.keys().next_back().copied().unwrap_or(1);
    let mut kinds: Vec<(u64, u32)> = Vec::new();
    for (capacity, cores) in counts.into_iter().rev() {
        match kinds.last_mut() {
            Some((best, all)) if capacity * 100 >= *best * ALIKE_PERCENT => *all += cores,
            _ => kinds.push((capacity, cores)),
        }
    }
    if kinds.len() < 2 {
        return Vec::new();
    }
    kinds.truncate(CORE_KINDS_MAX);
    let kind = |(capacity, cores)| CoreKind {
        cores,
        capacity_milli: u32::try_from(capacity * 1000 / fastest).unwrap_or(1000),
    };
    kinds.into_iter().map(kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_told_where_it_is_another_one() {
        for (own, system, told) in [
            ("x86_64", "x86_64", ""),
            ("aarch64", "aarch64", ""),
            ("arm", "armv7l", ""),
            ("arm", "armv6l", ""),
            ("arm", "aarch64", "aarch64"),
            ("arm", "armv8l", "aarch64"),
            ("x86", "x86_64", "x86_64"),
            ("x86", "i686", ""),
        ] {
            assert_eq!(beneath(own, system), told, "{own} {system}");
        }
    }

    #[test]
    fn an_emulator_is_seen_by_what_it_does_not_hide() {
        let worker = "/usr/bin/hg-worker-lite";
        assert_eq!(emulator([Some(worker), Some(worker)]), "");
        assert_eq!(emulator([Some(worker), None]), "");
        assert_eq!(emulator([None::<&str>, None]), "");
        let qemu = "/usr/bin/qemu-aarch64-static";
        assert_eq!(emulator([Some(worker), Some(qemu)]), "qemu-aarch64-static");
    }

    #[test]
    fn cores_are_of_kinds() {
        let told = |capacities: &[u64]| -> Vec<(u32, u32)> {
            let kinds = core_kinds(capacities).into_iter();
            kinds
                .map(|kind| (kind.cores, kind.capacity_milli))
                .collect()
        };
        // A board with big and small ones, by shares.
        assert_eq!(
            told(&[446, 446, 446, 446, 1024, 1024]),
            [(2, 1000), (4, 435)]
        );
        // A laptop whose two best ones may go a little faster, by clocks.
        let laptop = [5_000_000, 4_800_000, 4_800_000, 3_600_000, 3_600_000];
        assert_eq!(told(&laptop), [(3, 1000), (2, 720)]);
        assert!(told(&[1024; 4]).is_empty());
        assert!(told(&[]).is_empty());
    }

    #[test]
    fn processors_that_do_not_all_say_are_no_kinds() {
        let folder = tempfile::tempdir().unwrap();
        let say = |cpu: &str, file: &str, text: &str| {
            let path = folder.path().join(cpu).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        say("cpu0", "cpu_capacity", "1024\n");
        say("cpu1", "cpufreq/cpuinfo_max_freq", "1800000\n");
        say("cpufreq", "cpu_capacity", "7\n");
        assert!(capacities(folder.path()).is_empty());
        say("cpu0", "cpufreq/cpuinfo_max_freq", "2400000\n");
        let mut all = capacities(folder.path());
        all.sort_unstable();
        assert_eq!(all, [1_800_000, 2_400_000]);
        say("cpu1", "cpu_capacity", "446\n");
        let mut all = capacities(folder.path());
        all.sort_unstable();
        assert_eq!(all, [446, 1024]);
    }
}
