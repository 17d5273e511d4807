//! What may go wrong around a build, without anybody meaning harm: objects, diagnostics
//! and exit codes stay the plain compiler's.

mod cache;
mod coordinator;
mod relay;
mod signals;
mod sizes;
mod workers;
