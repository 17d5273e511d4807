//! Commands beside the coordinator itself: drain a worker, invite, give and revoke tokens.

pub mod cache;
pub mod drain;
pub mod readmit;
pub mod running;
pub mod dial;
pub mod invite;
pub mod tokens;
