//! Bounds on what a compile uses as a whole: memory of all its processes, and files. It is
//! measured while it runs, since the kernel bounds each process and each file, and all of
//! them together only where the worker may make control groups. Not pure: reads /proc and
//! the task's folder.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use crate::files::scratch;
use crate::machine::usage;

/// Bytes of memory that any compile may have: more than all but a few sources of C++ take.
const MEMORY_BYTES_MIN: u64 = 2 << 30;
/// A compile may have this many times the memory that it is predicted to need.
const MEMORY_FACTOR: u64 = 4;
/// One in so many bytes of the worker's memory is kept from every compile.
const MEMORY_KEPT_SHARE: u64 = 8;
/// Files and folders of a compile: its inputs, and far more than a compiler makes.
const FILES_MAX: u64 = 16_384;
/// The compiles of all slots may together take one in so many of the free bytes of the file
/// system that their files lie on.
const DISK_SHARE: u64 = 2;
/// Ends a line of /proc/PID/maps whose file has no name any more.
const DELETED: &str = " (deleted)";
/// Files in a compile's folder for temporary files, where that is a tmpfs.
const TMP_FILES_MAX: u64 = 4_096;
/// Bytes of that tmpfs at least: zero would be no bound.
const TMP_BYTES_MIN: u64 = 1 << 20;
/// Bytes of a block, as stat(2) counts.
const BLOCK_BYTES: u64 = 512;

/// What a compile has too much of, so that it must end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Excess {
    /// Memory: how many bytes it has.
    Memory(u64),
    /// Files, beyond a bound that every worker has: why, in words.
    Files(String),
    /// Files, beyond a bound that this worker's disk sets: why, in words.
    Disk(String),
}

/// Bounds on one compile as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of memory of all its processes, and of its files where those are in memory.
    pub memory_bytes_max: u64,
    /// Bytes of its files that the task itself may have, on any worker.
    pub file_bytes_max: u64,
    /// Bytes of its files that this worker's disk has room for.
    pub disk_bytes_max: u64,
}

impl Totals {
    /// For a compile that is predicted to need `expected_bytes` of memory (0: unknown), on a
    /// worker that has `share_bytes` of memory for each slot and `worker_bytes` in all.
    pub fn new(
        expected_bytes: u64,
        share_bytes: u64,
        worker_bytes: u64,
        file_bytes_max: u64,
    ) -> Self {
        let grown_bytes = expected_bytes.saturating_mul(MEMORY_FACTOR);
        let most_bytes = grown_bytes.max(share_bytes).max(MEMORY_BYTES_MIN);
        Totals {
            memory_bytes_max: most_bytes.min(worker_bytes - worker_bytes / MEMORY_KEPT_SHARE),
            file_bytes_max,
            disk_bytes_max: u64::MAX,
        }
    }

    /// These totals on a worker of `slots` slots that has `free_bytes` of disk (`None`:
    /// unknown), so that the compiles of all slots together leave half of it.
    pub fn on_disk(self, free_bytes: Option<u64>, slots: u32) -> Self {
        let share_bytes = free_bytes.map(|bytes| bytes / DISK_SHARE / u64::from(slots.max(1)));
        Totals {
            disk_bytes_max: share_bytes.unwrap_or(u64::MAX),
            ..self
        }
    }

    /// Bytes that its files may have here: whichever bound is the lower one.
    pub fn file_bytes_here_max(&self) -> u64 {
        self.file_bytes_max.min(self.disk_bytes_max)
    }

    /// Whether its files may have fewer bytes here than elsewhere.
    pub fn is_short_of_disk(&self) -> bool {
        self.disk_bytes_max < self.file_bytes_max
    }

    /// Mount options of a tmpfs for temporary files that belongs to `user` and `group`.
    pub fn tmp_options(&self, user: u32, group: u32) -> String {
        let bytes = (self.memory_bytes_max / 4).min(self.file_bytes_here_max());
        let bytes = bytes.max(TMP_BYTES_MIN);
        format!("size={bytes},nr_inodes={TMP_FILES_MAX},mode=700,uid={user},gid={group}")
    }

    /// What the compile whose first process is `root` and whose files are in `folder` has too
    /// much of; `None`: it is within its bounds.
    pub fn exceeded(&self, root: Pid, folder: &Path) -> Option<Excess> {
        let (mut memory_bytes, mut files) = (0u64, Files::default());
        let too_much = |why: String| Some(Excess::Files(why));
        for pid in usage::process_tree(root) {
            memory_bytes = memory_bytes.saturating_add(usage::memory_bytes(pid));
            let threads = usage::threads(pid);
            files.count_unlinked_open(&threads);
            if let Err(path) = files.count_mapped(pid, &threads) {
                return too_much(format!("{path} is deleted and can't be measured"));
            }
        }
        if let Err(error) = files.count_below(folder) {
            return too_much(format!("its folder can't be looked through: {error}"));
        }
        if files.number > FILES_MAX {
            return too_much(format!("the compile made more than {FILES_MAX} files"));
        }
        let max = self.file_bytes_here_max();
        if files.bytes > max {
            let why = format!("the compile's files take more than {max} bytes");
            return Some(match files.bytes > self.file_bytes_max {
                true => Excess::Files(why),
                false => Excess::Disk(why),
            });
        }
        let both_bytes = memory_bytes.saturating_add(files.bytes);
        if both_bytes > self.memory_bytes_max && scratch::is_in_memory(folder) {
            memory_bytes = both_bytes;
        }
        (memory_bytes > self.memory_bytes_max).then_some(Excess::Memory(memory_bytes))
    }
}

/// Files of a compile that were counted so far.
#[derive(Default)]
struct Files {
    number: u64,
    bytes: u64,
    /// Device and inode of files without a name: several processes may hold one.
    unlinked: HashSet<(u64, u64)>,
}

impl Files {
    /// Counts files in `folder`, until they are too many.
    ///
    /// # Errors
    /// A folder can't be read or lies too deep: no compiler makes such.
    fn count_below(&mut self, folder: &Path) -> io::Result<()> {
        let mut left = vec![folder.to_path_buf()];
        while let Some(folder) = left.pop() {
            let entries = match fs::read_dir(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            for entry in entries.flatten() {
                self.number += 1;
                if self.number > FILES_MAX {
                    return Ok(());
                }
                // The file may be gone by now.
                let Ok(stat) = entry.metadata() else { continue };
                self.bytes += stat.blocks() * BLOCK_BYTES;
                if stat.is_dir() {
                    left.push(entry.path());
                }
            }
        }
        Ok(())
    }

    /// Counts nameless files that a process has open: each of its `threads` may have open
    /// files of its own. A thread that does not show them is about to become another
    /// program, or to end.
    fn count_unlinked_open(&mut self, threads: &[PathBuf]) {
        for thread in threads {
            for entry in fs::read_dir(thread.join("fd")).into_iter().flatten() {
                if let Ok(stat) = entry.and_then(|entry| fs::metadata(entry.path())) {
                    self.count_nameless(&stat);
                }
            }
        }
    }

    /// Counts nameless files that `pid` has mapped into its memory. The length of a mapping
    /// says nothing: the whole file stays for one page of it.
    ///
    /// # Errors
    /// The name of a file that can't be looked at, which takes root
    /// (CAP_CHECKPOINT_RESTORE): no compiler has such.
    fn count_mapped(&mut self, pid: Pid, threads: &[PathBuf]) -> Result<(), String> {
        // All threads share one memory, which those that have ended do not show.
        let mut maps = threads.iter().map(|thread| thread.join("maps"));
        let text = maps.find_map(|maps| fs::read(maps).ok().filter(|text| !text.is_empty()));
        let text = text.unwrap_or_default();
        for line in text.split(|byte| *byte == b'\n') {
            if !line.ends_with(DELETED.as_bytes()) {
                continue;
            }
            let line = String::from_utf8_lossy(line);
            let (range, rest) = line.split_once(' ').unwrap_or_default();
            match fs::metadata(format!("/proc/{pid}/map_files/{range}")) {
                Ok(stat) => self.count_nameless(&stat),
                // The mapping is gone by now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(_) => {
                    let path = rest.split_whitespace().nth(4);
                    return Err(path.unwrap_or("a file").to_owned());
                }
            }
        }
        Ok(())
    }

    fn count_nameless(&mut self, stat: &fs::Metadata) {
        let is_nameless = stat.is_file() && stat.nlink() == 0;
        if is_nameless && self.unlinked.insert((stat.dev(), stat.ino())) {
            self.number += 1;
            self.bytes += stat.blocks() * BLOCK_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_what_is_expected_and_ends_at_what_there_is() {
        let max =
            |expected, share, worker| Totals::new(expected, share, worker, 1).memory_bytes_max;
        assert_eq!(max(0, 0, u64::MAX), MEMORY_BYTES_MIN);
        assert_eq!(max(1 << 30, 0, u64::MAX), 4 << 30);
        assert_eq!(max(1 << 30, 8 << 30, u64::MAX), 8 << 30);
        assert_eq!(max(u64::MAX, 0, 8 << 30), 7 << 30);
        assert_eq!(max(0, 0, 1 << 30), 7 << 27);
    }

    #[test]
    fn files_without_names_count_too() {
        let folder = tempfile::tempdir().unwrap();
        let totals = Totals::new(0, 0, u64::MAX, 1 << 20);
        let own = || totals.exceeded(Pid::this(), folder.path());
        let says = |words: &str| match own() {
            Some(Excess::Files(why)) => assert!(why.contains(words), "{why}"),
            other => panic!("{other:?}"),
        };
        assert_eq!(own(), None);
        let path = folder.path().join("file");
        fs::write(&path, vec![1; 2 << 20]).unwrap();
        says("files take");
        let open = fs::File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        says("files take");
        drop(open);
        assert_eq!(own(), None);
        for number in 0..=FILES_MAX {
            fs::write(folder.path().join(number.to_string()), "").unwrap();
        }
        says("files");
    }

    #[test]
    fn all_slots_together_leave_half_of_a_disk() {
        let totals = Totals::new(0, 0, u64::MAX, 1 << 30);
        let max = |free, slots| totals.on_disk(free, slots).file_bytes_here_max();
        assert_eq!(max(None, 4), 1 << 30);
        assert_eq!(max(Some(100 << 30), 4), 1 << 30);
        assert_eq!(max(Some(1 << 30), 4), 1 << 27);
        assert_eq!(max(Some(1 << 20), 0), 1 << 19);
        assert!(!totals.on_disk(Some(4 << 30), 2).is_short_of_disk());
        assert!(totals.on_disk(Some(4 << 30), 4).is_short_of_disk());
    }

    #[test]
    fn whose_bound_on_files_it_was_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), vec![1; 2 << 20]).unwrap();
        let exceeded = |file_bytes_max, disk_bytes_max| {
            let totals = Totals {
                memory_bytes_max: u64::MAX,
                file_bytes_max,
                disk_bytes_max,
            };
            totals.exceeded(Pid::this(), folder.path())
        };
        let (less, more) = (1 << 20, 4 << 20);
        assert_eq!(exceeded(more, more), None);
        assert!(matches!(exceeded(more, less), Some(Excess::Disk(_))));
        // Elsewhere it would be too much as well.
        for disk_bytes_max in [less / 2, less, more] {
            let excess = exceeded(less, disk_bytes_max);
            assert!(matches!(excess, Some(Excess::Files(_))), "{excess:?}");
        }
    }

    #[test]
    fn memory_of_all_processes_counts() {
        let folder = tempfile::tempdir().unwrap();
        let totals = Totals {
            memory_bytes_max: 1000,
            file_bytes_max: 1 << 30,
            disk_bytes_max: 1 << 30,
        };
        let excess = totals.exceeded(Pid::this(), folder.path());
        assert!(matches!(excess, Some(Excess::Memory(1001..))), "{excess:?}");
    }
}
