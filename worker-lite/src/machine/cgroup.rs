//! Memory limits of the control groups that this process is in: a container's, a service's,
//! or none. Not pure: reads /proc and /sys where they exist.

use std::fs;
use std::path::{Path, PathBuf};

/// Mount point of control groups, by convention.
const MOUNT: &str = "/sys/fs/cgroup";
/// A limit of version 1 from which on it means none: version 1 says so with the largest number
/// of whole pages.
const UNLIMITED_BYTES: u64 = 1 << 60;

/// Names of the files of one version (Linux, admin-guide/cgroup-v2.rst and
/// cgroup-v1/memory.rst).
struct Names {
    max: &'static str,
    used: &'static str,
    /// Line of `memory.stat` with the part of the used memory that is reclaimed first.
    cache: &'static str,
}

const V1: Names = Names {
    max: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cache: "total_inactive_file ",
};
const V2: Names = Names {
    max: "memory.max",
    used: "memory.current",
    cache: "inactive_file ",
};

/// Memory that the tightest group allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes in all.
    pub bytes_max: u64,
    /// Bytes that are left.
    pub available_bytes: u64,
}

/// Memory that this process's own group and those above it allow; `None`: they set no limit.
pub fn memory() -> Option<Memory> {
    tightest(
        &fs::read_to_string("/proc/self/cgroup").ok()?,
        Path::new(MOUNT),
    )
}

/// The tightest limit of `groups`, the text of /proc/self/cgroup (cgroups(7)).
fn tightest(groups: &str, mount: &Path) -> Option<Memory> {
    let mut least: Option<Memory> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (names, root) = match controllers {
            "" => (V2, mount.to_path_buf()),
            list if list.split(',').any(|name| name == "memory") => (V1, mount.join("memory")),
            _ => continue,
        };
        for folder in levels(&root, path) {
            let Some(memory) = of_group(&folder, &names) else {
                continue;
            };
            least = Some(least.map_or(memory, |least| Memory {
                bytes_max: least.bytes_max.min(memory.bytes_max),
                available_bytes: least.available_bytes.min(memory.available_bytes),
            }));
        }
    }
    least
}

/// The group's folder and those above it. In a container some may not be there,
/// and the container's own is the topmost.
fn levels(root: &Path, path: &str) -> Vec<PathBuf> {
    let folder = root.join(path.trim_start_matches('/'));
    let above = folder
        .ancestors()
        .take_while(|above| above.starts_with(root));
    above.map(Path::to_path_buf).collect()
}

fn of_group(folder: &Path, names: &Names) -> Option<Memory> {
    let number = |name| {
        fs::read_to_string(folder.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    // `max` is no number, and means that there is no limit.
    let bytes_max: u64 = number(names.max)?;
    if bytes_max >= UNLIMITED_BYTES {
        return None;
    }
    let used_bytes: u64 = number(names.used)?;
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cache = stat.lines().find_map(|line| line.strip_prefix(names.cache));
    let cache_bytes: u64 = cache.and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    Some(Memory {
        bytes_max,
        available_bytes: bytes_max.saturating_sub(used_bytes.saturating_sub(cache_bytes)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), format!("{text}\n")).unwrap();
        }
    }

    #[test]
    fn the_tightest_group_counts() {
        let mount = tempfile::tempdir().unwrap();
        let slice = mount.path().join("build.slice");
        let stat = "anon 200\ninactive_file 50\nactive_file 7";
        let files = [
            ("memory.max", "1000"),
            ("memory.current", "300"),
            ("memory.stat", stat),
        ];
        group(&slice, &files);
        let service = slice.join("worker.service");
        group(
            &service,
            &[("memory.max", "max"), ("memory.current", "100")],
        );
        let groups = "0::/build.slice/worker.service\n";
        let expected = Memory {
            bytes_max: 1000,
            available_bytes: 750,
        };
        assert_eq!(tightest(groups, mount.path()), Some(expected));
        group(&service, &[("memory.max", "600")]);
        let expected = Memory {
            bytes_max: 600,
            available_bytes: 500,
        };
        assert_eq!(tightest(groups, mount.path()), Some(expected));
        assert_eq!(tightest("0::/\n", mount.path()), None);
        assert_eq!(tightest("garbage\n\n0:\n", mount.path()), None);
    }

    #[test]
    fn a_group_of_version_1_that_shows_only_its_root() {
        let mount = tempfile::tempdir().unwrap();
        let stat = "inactive_file 1\ntotal_inactive_file 40";
        let files = [
            ("memory.limit_in_bytes", "500"),
            ("memory.usage_in_bytes", "700"),
            ("memory.stat", stat),
        ];
        group(&mount.path().join("memory"), &files);
        let groups = "5:cpu,cpuacct:/x\n4:memory:/docker/0123\n0::/\n";
        let expected = Memory {
            bytes_max: 500,
            available_bytes: 0,
        };
        assert_eq!(tightest(groups, mount.path()), Some(expected));
        group(
            &mount.path().join("memory"),
            &[("memory.limit_in_bytes", "9223372036854771712")],
        );
        assert_eq!(tightest(groups, mount.path()), None);
    }
}
