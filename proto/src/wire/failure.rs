//! Failures of tasks by name, as coordinator and worker count them.

use crate::v1::failure::Code;

/// Every kind of failure.
pub const CODES: [Code; 12] = [
    Code::Unspecified,
    Code::Refused,
    Code::NoToolchain,
    Code::Queue,
    Code::Busy,
    Code::Limit,
    Code::Input,
    Code::Worker,
    Code::Link,
    Code::Cancelled,
    Code::Shutdown,
    Code::Memory,
];

/// The value of the label `outcome`.
pub fn outcome(code: Code) -> &'static str {
    match code {
        Code::Unspecified => "unspecified",
        Code::Refused => "refused",
        Code::NoToolchain => "no_toolchain",
        Code::Queue => "queue",
        Code::Busy => "busy",
        Code::Limit => "limit",
        Code::Input => "input",
        Code::Worker => "worker",
        Code::Link => "link",
        Code::Cancelled => "cancelled",
        Code::Shutdown => "shutdown",
        Code::Memory => "memory",
    }
}
