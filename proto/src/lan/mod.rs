//! Coordinators on the local network: what they announce by multicast DNS, and who asks; and
//! the servers of domains.

pub mod search;
pub mod unicast;
pub mod browse;
pub mod announcement;
pub mod message;
