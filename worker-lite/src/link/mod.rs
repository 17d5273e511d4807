//! The link to the coordinator: what is said on it, and the line itself.

pub mod join;
pub mod shell;
pub mod session;
pub mod connection;
pub mod access;
