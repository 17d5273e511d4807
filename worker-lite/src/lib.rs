//! The Hybrid-Grid worker for small machines: dials the coordinator, takes
//! compiles over length-prefixed protobuf, runs them and sends back what they
//! made. No tokio; memory does not grow with the size of a source or an object.
//!
//! Rooms and files from the top floor down: each uses only what stands below it
//! (`tests/floors.txt`).

pub mod config;
pub mod link;
pub mod images;
pub mod tasks;
pub mod sandbox;
pub mod inputs;
pub mod watchdog;
pub mod files;
pub mod machine;
pub mod http;
pub mod metrics;
pub mod signals;
pub mod log;
