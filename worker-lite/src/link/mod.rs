//! The link to the coordinator: the protocol, and the connection that it is spoken on.

pub mod join;
pub mod shell;
pub mod session;
pub mod finder;
pub mod connection;
pub mod access;
