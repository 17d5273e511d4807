//! What a compile may use in all: memory of all its processes, and files. Looked at
//! while it runs, since the kernel bounds each process and each file, and a group of
//! them only where the worker may divide its control group. Not pure: reads /proc and
//! the task's folder.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::Pid;

use crate::scratch;
use crate::usage;

/// Memory that any compile may have, in bytes: more than all but a few sources of C++
/// take.
const MEMORY_BYTES_MIN: u64 = 2 << 30;
/// A compile may have this many times the memory that it is thought to need.
const MEMORY_FACTOR: u64 = 4;
/// One in so many bytes of the worker's memory is no compile's.
const MEMORY_KEPT_SHARE: u64 = 8;
/// Files and folders of a compile: those of its inputs, and far more than it makes.
const FILES_MAX: u64 = 16_384;
/// Of its folder for passing files, where that is mounted.
const TMP_FILES_MAX: u64 = 4_096;
/// Bytes of that folder at least: zero would be no bound.
const TMP_BYTES_MIN: u64 = 1 << 20;
/// Bytes of a block, as stat(2) counts.
const BLOCK_BYTES: u64 = 512;

/// What a compile has too much of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Excess {
    /// Memory, of which it has so many bytes.
    Memory(u64),
    /// Files: what of them, in words.
    Files(String),
}

/// Bounds on one compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Bytes of memory of all its processes, and of its files where those are in memory.
    pub memory_bytes_max: u64,
    /// Bytes of its files.
    pub file_bytes_max: u64,
}

impl Totals {
    /// For a compile that is thought to need `expected_bytes` of memory (0: nobody
    /// knows), on a worker that has `share_bytes` of memory for each slot and
    /// `worker_bytes` in all.
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
        }
    }

    /// Options of a tmpfs for passing files that belongs to `user` and its group.
    pub fn tmp_options(&self, user: u32, group: u32) -> String {
        let bytes = (self.memory_bytes_max / 4).min(self.file_bytes_max);
        let bytes = bytes.max(TMP_BYTES_MIN);
        format!("size={bytes},nr_inodes={TMP_FILES_MAX},mode=700,uid={user},gid={group}")
    }

    /// What the compile whose first process is `root` and whose files are in `folder`
    /// has too much of, if anything: it must end.
    pub fn exceeded(&self, root: Pid, folder: &Path) -> Option<Excess> {
        let (mut resident_bytes, mut files) = (0u64, Files::default());
        for pid in usage::tree(root) {
            resident_bytes += usage::resident_bytes(pid);
            files.count_unlinked(pid);
        }
        let too_much = |why: String| Some(Excess::Files(why));
        if let Err(error) = files.count_below(folder) {
            return too_much(format!("its folder can't be looked through: {error}"));
        }
        if files.number > FILES_MAX {
            return too_much(format!("the compile made more than {FILES_MAX} files"));
        }
        if files.bytes > self.file_bytes_max {
            let max = self.file_bytes_max;
            return too_much(format!("the compile's files take more than {max} bytes"));
        }
        let is_near = resident_bytes.saturating_add(files.bytes) > self.memory_bytes_max;
        let in_memory_bytes = match is_near && scratch::is_in_memory(folder) {
            true => files.bytes,
            false => 0,
        };
        let memory_bytes = resident_bytes.saturating_add(in_memory_bytes);
        (memory_bytes > self.memory_bytes_max).then_some(Excess::Memory(memory_bytes))
    }
}

/// Files of a compile, as counted so far.
#[derive(Default)]
struct Files {
    number: u64,
    bytes: u64,
    /// Device and inode of those without a name: several processes may hold one.
    unlinked: HashSet<(u64, u64)>,
}

impl Files {
    /// What is in `folder`, until there is too much of it.
    ///
    /// # Errors
    /// A folder is closed to us or lies too deep: no compiler makes such.
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
                // It may be gone by now.
                let Ok(stat) = entry.metadata() else { continue };
                self.bytes += stat.blocks() * BLOCK_BYTES;
                if stat.is_dir() {
                    left.push(entry.path());
                }
            }
        }
        Ok(())
    }

    /// What `pid` holds open and has taken the name of. One that does not show it is
    /// about to become another program, or to end.
    fn count_unlinked(&mut self, pid: Pid) {
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
        {
            let Ok(stat) = entry.and_then(|entry| fs::metadata(entry.path())) else {
                continue;
            };
            let is_nameless = stat.is_file() && stat.nlink() == 0;
            if is_nameless && self.unlinked.insert((stat.dev(), stat.ino())) {
                self.number += 1;
                self.bytes += stat.blocks() * BLOCK_BYTES;
            }
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
    fn memory_of_all_processes_counts() {
        let folder = tempfile::tempdir().unwrap();
        let totals = Totals {
            memory_bytes_max: 1000,
            file_bytes_max: 1 << 30,
        };
        let excess = totals.exceeded(Pid::this(), folder.path());
        assert!(matches!(excess, Some(Excess::Memory(1001..))), "{excess:?}");
    }
}
