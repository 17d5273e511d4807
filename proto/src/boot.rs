//! Which start of this machine it is. With I/O.

/// The kernel's random number of this boot; `None`: the system tells none. What is known
/// of a file by its times alone holds no longer than that.
pub fn id() -> Option<Vec<u8>> {
    std::fs::read("/proc/sys/kernel/random/boot_id").ok()
}
