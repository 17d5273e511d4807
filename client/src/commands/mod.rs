//! Every subcommand but a compile.

pub mod build;
pub mod masquerade;
pub mod summary;
pub mod status;
pub mod top;
pub mod explain;
pub mod last_compile;
pub mod history;
pub mod join;
pub mod leave;
pub mod ship;
pub mod trials;
pub mod doctor;
pub mod config;
pub mod checks;
pub mod cache;
pub mod completions;
pub mod status_line;
pub mod expected;
pub mod trace;
