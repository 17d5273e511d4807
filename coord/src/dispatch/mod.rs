//! The shell around the state machine: performs its actions, and relays chunks.

pub mod predictor_file;
pub mod audit_file;
pub mod hub;
pub mod channel;
pub mod mailbox;
pub mod transfer;
