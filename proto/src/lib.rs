//! What both ends of a Hybrid-Grid wire agree on.
//!
//! Everything but [`credentials`], [`private`], [`probe`] and [`speed`] is pure: no I/O, no clock, no randomness.

pub mod arg_row;
mod arg_rows_clang;
mod arg_rows_driver;
mod arg_rows_gcc;
mod arg_rows_machine;
mod arg_rows_shared;
pub mod arg_table;
pub mod args;
pub mod command_line;
pub mod credentials;
pub mod digest;
pub mod frame;
pub mod http_head;
pub mod limits;
pub mod plain_path;
pub mod private;
pub mod table;
pub mod taken_path;
pub mod turn;
pub mod probe;
pub mod speed;
pub mod tls;
pub mod token;
pub mod toolchain;

/// The messages of `proto/hybridgrid/v1/*.proto`.
pub mod v1 {
    #![allow(clippy::all, missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/hybridgrid.v1.rs"));
}

/// Version of the worker link. A peer of the version before or after is served.
pub const PROTOCOL_VERSION: u32 = 1;
