//! Isolation of compiles, and bounds on what they use.

pub mod facade;
#[cfg(target_os = "linux")]
mod full;
mod partial;
#[cfg(target_os = "linux")]
mod init;
#[cfg(target_os = "linux")]
pub mod enclosure;
pub mod launch;
pub mod folder;
mod report;
#[cfg(target_os = "linux")]
mod roots;
#[cfg(target_os = "linux")]
mod network;
#[cfg(target_os = "linux")]
pub mod escape;
pub mod privileges;
pub mod totals;
#[cfg(target_os = "linux")]
pub mod seccomp;
#[cfg(target_os = "linux")]
pub mod landlock;
pub mod cgroups;
pub mod stderr;
