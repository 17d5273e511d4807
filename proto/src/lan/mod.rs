//! Coordinators on the local network: what they announce by multicast DNS, and who asks.

pub mod browse;
pub mod announcement;
pub mod message;
