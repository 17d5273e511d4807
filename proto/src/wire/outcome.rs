//! How a task ended without a compiler's answer, as metrics and log lines name it.

use crate::v1::failure::Code;

/// All codes of failures.
pub const CODES: [Code; 14] = [
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
    Code::Disk,
    Code::NotKept,
];

/// The label `outcome` under which a failure is counted.
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
        Code::Disk => "disk",
        Code::NotKept => "not_kept",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_listed_once_and_named_as_in_the_contract() {
        let known = (0..=i32::from(i16::MAX)).filter(|code| Code::try_from(*code).is_ok());
        assert!(known.eq(CODES.map(i32::from)));
        for code in CODES {
            let name = format!("CODE_{}", outcome(code).to_uppercase());
            assert_eq!(code.as_str_name(), name);
        }
    }
}
