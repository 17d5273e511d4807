//! Whether this machine takes one more compile. Pure: facts in, yes or no out.

use std::fmt;

/// Bytes of memory that must be available before a compile is taken.
pub const MEMORY_FLOOR_BYTES: u64 = 64 << 20;
/// Bytes that must be free where task folders lie before a compile is taken.
pub const DISK_FLOOR_BYTES: u64 = 64 << 20;

/// How the machine is, as last measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vitals {
    /// One-minute load average, in thousandths.
    pub load_milli: u32,
    /// Bytes that a new program can have without swapping; `None`: unknown.
    pub memory_available_bytes: Option<u64>,
    /// Bytes free where task folders lie; `None`: unknown.
    pub disk_free_bytes: Option<u64>,
    /// Hottest thermal zone, in thousandths of a degree; 0: unknown.
    pub temperature_milli_c: i32,
}

/// Why not now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// The worker takes no more tasks.
    Draining,
    /// Every slot has a compile.
    NoSlot {
        /// Slots there are.
        slots: u32,
    },
    /// Memory is below its floor.
    Memory {
        /// Bytes available.
        available_bytes: u64,
    },
    /// The disk is below its floor.
    Disk {
        /// Bytes free.
        free_bytes: u64,
    },
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Busy::Draining => f.write_str("the worker is draining"),
            Busy::NoSlot { slots } => write!(f, "all {slots} slots are taken"),
            Busy::Memory { available_bytes } => {
                write!(f, "{available_bytes} bytes of memory are available")
            }
            Busy::Disk { free_bytes } => write!(f, "{free_bytes} bytes of disk are free"),
        }
    }
}

/// Decides on one more compile while `running` of `slots` are taken.
///
/// # Errors
/// Why the worker has no room for it now.
pub fn admit(vitals: &Vitals, running: usize, slots: u32, draining: bool) -> Result<(), Busy> {
    if draining {
        return Err(Busy::Draining);
    }
    if running >= slots as usize {
        return Err(Busy::NoSlot { slots });
    }
    match vitals.memory_available_bytes {
        Some(available_bytes) if available_bytes < MEMORY_FLOOR_BYTES => {
            return Err(Busy::Memory { available_bytes });
        }
        _ => {}
    }
    match vitals.disk_free_bytes {
        Some(free_bytes) if free_bytes < DISK_FLOOR_BYTES => Err(Busy::Disk { free_bytes }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Vitals = Vitals {
        load_milli: 0,
        memory_available_bytes: Some(MEMORY_FLOOR_BYTES),
        disk_free_bytes: Some(DISK_FLOOR_BYTES),
        temperature_milli_c: 0,
    };

    #[test]
    fn each_bound_refuses_just_beyond_itself() {
        assert_eq!(admit(&WELL, 1, 2, false), Ok(()));
        assert_eq!(admit(&WELL, 2, 2, false), Err(Busy::NoSlot { slots: 2 }));
        assert_eq!(admit(&WELL, 0, 2, true), Err(Busy::Draining));
        let available_bytes = MEMORY_FLOOR_BYTES - 1;
        let vitals = Vitals {
            memory_available_bytes: Some(available_bytes),
            ..WELL
        };
        let busy = Busy::Memory { available_bytes };
        assert_eq!(admit(&vitals, 0, 2, false), Err(busy));
        let free_bytes = DISK_FLOOR_BYTES - 1;
        let vitals = Vitals {
            disk_free_bytes: Some(free_bytes),
            ..WELL
        };
        assert_eq!(admit(&vitals, 0, 2, false), Err(Busy::Disk { free_bytes }));
    }

    #[test]
    fn what_is_unknown_does_not_refuse() {
        assert_eq!(admit(&Vitals::default(), 0, 1, false), Ok(()));
    }
}
