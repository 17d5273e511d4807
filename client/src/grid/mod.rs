//! The line to the coordinator, and what may be believed of what comes over it.

pub(crate) mod arriving;
pub mod submit;
pub mod find;
pub mod grpc;
pub mod ident;
pub mod access;
pub mod attempt;
pub mod memo;
pub(crate) mod object;
pub mod payload;
pub mod relay;
pub mod shipment;
pub mod trial_cases;
pub mod equivalence;
pub mod grade;
pub mod own_speed;
