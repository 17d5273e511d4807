//! What this machine has and bears: cores, memory, heat, what runs on it.

pub mod usage;
pub mod vitals;
pub mod cgroup;
pub mod admission;
