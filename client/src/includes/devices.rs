//! The owners of devices: another machine's clock differs, and its stats may be stale.

#[cfg(target_os = "linux")]
use hg_proto::disk::own_device::is_own;
use std::path::Path;

use foldhash::HashMap;

use crate::includes::paths::as_path;
use crate::includes::stat::Stat;

/// Nanoseconds by which another machine's clock may be behind ours.
const SKEW_NS: i64 = 3_600_000_000_000;

/// The owner of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// This machine.
    Ours,
    /// This machine, over folders of other devices (overlayfs).
    Layers,
    /// Another machine, or an image whose files all have one time.
    Others,
}

/// The devices' owners: on other machines' devices, clocks differ and stats are cached by
/// the network for a while.
#[derive(Debug, Default)]
pub struct Devices {
    owners: HashMap<u64, Owner>,
}

impl Devices {
    fn owner(&mut self, path: &[u8], device: u64) -> Owner {
        *self
            .owners
            .entry(device)
            .or_insert_with(|| owner(as_path(path)))
    }

    fn is_own(&mut self, path: &[u8], device: u64) -> bool {
        self.owner(path, device) != Owner::Others
    }

    /// Whether `path` may lie on another device than its stat says.
    pub fn is_layered(&mut self, path: &[u8], stat: Stat) -> bool {
        self.owner(path, stat.device) == Owner::Layers
    }

    /// The stat by which `path` may be known later; all zero: none.
    pub fn kept(&mut self, path: &[u8], stat: Stat, now_ns: i64) -> Stat {
        match self.is_own(path, stat.device) {
            true => stat.if_settled(now_ns),
            false => Stat::default(),
        }
    }

    /// Nanoseconds by which the times of `path` may be behind.
    pub fn skew_ns(&mut self, path: &[u8], stat: Stat) -> i64 {
        match self.is_own(path, stat.device) {
            true => 0,
            false => SKEW_NS,
        }
    }
}

#[cfg(target_os = "linux")]
fn owner(path: &Path) -> Owner {
    use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
    match statfs(path) {
        Ok(fs) if fs.filesystem_type() == OVERLAYFS_SUPER_MAGIC => Owner::Layers,
        Ok(fs) if is_own(&fs) => Owner::Ours,
        _ => Owner::Others,
    }
}

/// A network file system can't be told on this system.
#[cfg(not(target_os = "linux"))]
fn owner(_path: &Path) -> Owner {
    Owner::Ours
}
