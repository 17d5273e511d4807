//! What the three programs share. Rooms and files from the top floor down: each uses only
//! what stands below it (`tests/floors.txt`).
//!
//! Without I/O, clock and randomness are [`options`], [`wire`], [`table`], [`json`],
//! [`reasons`], [`size`], and of the others [`lan::announcement`], [`secure::token`], [`secure::tls`]
//! and [`compiler::toolchain`].

pub mod options;
pub mod compiler;
#[cfg(feature = "disk")]
pub mod disk;
pub mod json;
pub mod lan;
pub mod secure;
pub mod wire;
pub mod boot;
pub mod command_line;
pub mod reasons;
pub mod size;
pub mod table;
pub mod log;

/// The messages of `proto/hybridgrid/v1/*.proto`.
pub mod v1 {
    #![allow(clippy::all, missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/hybridgrid.v1.rs"));
}

/// Version of the worker link. A peer of the version before or after is served.
pub const PROTOCOL_VERSION: u32 = 1;
