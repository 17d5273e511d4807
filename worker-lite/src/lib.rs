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
pub mod scratch;
pub mod state;
pub mod toolchains;
pub mod validate;

pub mod blobs;
pub mod control;
pub mod usage;

pub mod gate;
pub mod sandbox;

pub mod compile;

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
