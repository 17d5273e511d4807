//! Whether folders and links still lead where they led when a compile began.

use std::fs;

use foldhash::HashSet;
use hg_proto::options::args::Reason;

use crate::includes::devices::Devices;
use crate::includes::paths::{ancestors, as_path, join};
use crate::includes::stat::{self, Seen, Stat};
use crate::includes::watch::Watch;
use crate::os;

/// Tells folders that were moved since a compile began.
pub struct Unchanged<'a> {
    /// When the compile began, nanoseconds since 1970.
    pub began_ns: i64,
    /// Folders that were watched since then.
    pub watch: &'a Watch,
    /// The devices' owners, by whose clocks times are set.
    pub devices: &'a mut Devices,
    /// Set once a link was met.
    pub has_links: bool,
}

impl Unchanged<'_> {
    /// Refuses `folders` of which one, or one above it, or a link on the way, was moved
    /// since the compile began: their paths lead elsewhere now.
    ///
    /// # Errors
    /// A path that may have been moved.
    pub fn check(&mut self, mut folders: Vec<Vec<u8>>) -> Result<(), Reason> {
        let quiet = self.watch.is_quiet();
        let mut checked: HashSet<Vec<u8>> = HashSet::default();
        while let Some(folder) = folders.pop() {
            for at in ancestors(&folder) {
                if !checked.insert(at.to_vec()) {
                    break;
                }
                let meta = fs::symlink_metadata(as_path(at));
                let meta = meta.map_err(|_| Reason::new("input-changed", at))?;
                if self.moved(at, &meta, quiet) {
                    return Err(Reason::new("input-changed", at));
                }
                if meta.is_symlink() {
                    self.has_links = true;
                    // Beyond it is a path of its own.
                    let real = fs::canonicalize(as_path(at));
                    folders.extend(real.map(|real| os::bytes(real.as_os_str()).to_vec()));
                }
            }
        }
        Ok(())
    }

    /// Whether the folder or link could have been moved since the compile began.
    /// New names in a folder change its times too, and move nothing: then it is
    /// known to have stayed if it was watched, or if nothing happened to the
    /// folder that it is in.
    fn moved(&mut self, path: &[u8], meta: &fs::Metadata, quiet: bool) -> bool {
        let began_ns = self.began_ns;
        let stat = Stat::of(meta);
        let skew_ns = self.devices.skew_ns(path, stat);
        if !stat.is_newer(began_ns, skew_ns) {
            return false;
        }
        let written = stat.mtime_ns.cast_signed().saturating_add(skew_ns) >= began_ns;
        if meta.is_symlink() || !written {
            return true;
        }
        // Another machine's renames are not told to us.
        if quiet && skew_ns == 0 && self.watch.has(stat) {
            return false;
        }
        let above = join(path, b"..");
        match stat::of(&above) {
            Seen::Folder(above_stat) => {
                let skew_ns = self.devices.skew_ns(&above, above_stat);
                above_stat.is_newer(began_ns, skew_ns)
            }
            _ => true,
        }
    }
}
