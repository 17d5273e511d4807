//! What macOS says of memory and heat, which has no /proc. Not pure: asks the system.

use std::ffi::CStr;

use nix::libc::{c_char, c_int, size_t, sysctlbyname};

// notify(3), in the system's own library.
unsafe extern "C" {
    fn notify_register_check(name: *const c_char, token: *mut c_int) -> u32;
    fn notify_get_state(token: c_int, state: *mut u64) -> u32;
    fn notify_cancel(token: c_int) -> u32;
}

/// Level of heat pressure at which the system slows processors down: 0 nominal, 1 moderate,
/// 2 heavy and more (OSThermalNotification.h).
const HEAVY: u64 = 2;

/// Hundredths of the machine's memory that programs can have without swapping; `None`:
/// unknown.
pub fn available_percent() -> Option<u64> {
    number(c"kern.memorystatus_level").and_then(|level| u64::try_from(level).ok())
}

/// Whether the system holds the processors back for their heat.
pub fn is_throttled() -> bool {
    let name = c"com.apple.system.thermalpressurelevel";
    let mut token = 0;
    let mut level = 0;
    // SAFETY: the name ends with NUL, and both numbers have the type that is written.
    unsafe {
        if notify_register_check(name.as_ptr(), &raw mut token) != 0 {
            return false;
        }
        let known = notify_get_state(token, &raw mut level) == 0;
        notify_cancel(token);
        known && level >= HEAVY
    }
}

fn number(name: &CStr) -> Option<c_int> {
    let mut value: c_int = 0;
    let mut size: size_t = size_of::<c_int>();
    // SAFETY: the value has room for the bytes that are asked for, and is not set.
    let got = unsafe {
        sysctlbyname(
            name.as_ptr(),
            (&raw mut value).cast(),
            &raw mut size,
            std::ptr::null_mut(),
            0,
        )
    };
    (got == 0 && size == size_of::<c_int>()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told() {
        let percent = available_percent().expect("the system's word");
        assert!((1..=100).contains(&percent), "{percent}");
    }
}
