//! Peers and tasks that mean harm: nothing gets in, nothing gets out, and others' builds
//! run on.

mod audits;
mod coordinator;
mod links;
mod peers;
mod tasks;
mod worker;
