//! Container images that compilers are taken from.

pub mod catalogue;
#[cfg(target_os = "linux")]
pub mod inside;
pub mod engine;
pub mod finding;
