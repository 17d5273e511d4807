//! The Hybrid-Grid worker for small machines: dials the coordinator, takes
//! compiles over length-prefixed protobuf, runs them and sends back what they
//! made. No tokio; memory does not grow with the size of a source or an object.
//!
//! The modules, in the order in which data flows through them. `session`,
//! `validate` and `admission` are pure: events and facts in, decisions out.

pub mod log;

pub mod admission;
pub mod cgroup;
pub mod machine;
pub mod metrics;
pub mod removal;
pub mod scratch;
pub mod state;
pub mod validate;
pub mod toolchains;

pub mod blobs;
pub mod store;
pub mod control;
pub mod usage;
pub mod totals;

pub mod ear;
pub mod gate;

pub mod groups;
pub mod privileges;
#[cfg(target_os = "linux")]
pub mod escape;
#[cfg(target_os = "linux")]
pub mod landlock;
pub mod root;
#[cfg(target_os = "linux")]
pub mod seccomp;

pub mod tree;

#[cfg(target_os = "linux")]
mod network;
#[cfg(target_os = "linux")]
mod roots;
#[cfg(target_os = "linux")]
mod init;

pub mod folder;
mod report;
pub mod launch;
pub mod sandbox;
#[cfg(target_os = "linux")]
mod sandbox_linux;
mod sandbox_portable;

pub mod compile;
pub mod trial;

pub mod task;

pub mod session;

pub mod access;
pub mod link;

pub mod join;

pub mod http;
pub mod signals;
pub mod watchdog;

pub mod serve;

pub mod config;
