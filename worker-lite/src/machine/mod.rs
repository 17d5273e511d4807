//! Resources of this machine, their use, and how many compiles it can run.

pub mod usage;
pub mod vitals;
pub mod beneath;
#[cfg(target_os = "macos")]
mod apple;
pub mod cgroup;
pub mod admission;
