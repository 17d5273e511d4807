//! Where results are kept beyond this machine: an object store or Redis that several
//! coordinators share. Nothing that comes from there is believed without a proof that one
//! of them put it there, and nothing waits for it longer than a bound.

pub mod client;
pub mod service;
pub mod address;
pub mod secret;
pub mod breaker;
pub mod sealed;
