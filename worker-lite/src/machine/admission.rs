//! Admission control: how many compiles this machine can run at once, and whether it takes
//! one more. Pure: measurements in, decisions out.

use std::fmt;
use std::time::Duration;

/// Bytes of memory that must be available before a compile is taken.
pub const MEMORY_FLOOR_BYTES: u64 = 64 << 20;
/// Bytes that must be free where task folders lie before a compile is taken.
pub const DISK_FLOOR_BYTES: u64 = 64 << 20;
/// Bytes of memory that a compile is taken to need where there is no prediction.
pub const MEMORY_EXPECTED_DEFAULT_BYTES: u64 = 96 << 20;
/// Time in which a compile grows to the memory that it is predicted to need.
pub const MEMORY_GROWTH: Duration = Duration::from_secs(30);
/// Bytes that must be available beyond those for all slots before a slot comes back.
const MEMORY_MARGIN_BYTES: u64 = 64 << 20;
/// Memory pressure in hundredths of a percent of the time: from the first on half of the
/// slots are cut, from the second on all but one, and below the third they regrow.
const PRESSURE_HALF_CENTI: u32 = 2_000;
const PRESSURE_ONE_CENTI: u32 = 5_000;
const PRESSURE_REGROW_CENTI: u32 = 500;
/// Thousandths of a degree Celsius at which all slots are cut, at which half of them are,
/// and below which they regrow. Boards throttle at 80 to 85.
const HEAT_NONE_MILLI_C: i32 = 85_000;
const HEAT_HALF_MILLI_C: i32 = 80_000;
const HEAT_REGROW_MILLI_C: i32 = 75_000;
/// Thousandths of a slot that other programs may use before it is cut, and may still use
/// when it regrows.
const LOAD_CUT_MILLI: u64 = 500;
const LOAD_REGROW_MILLI: u64 = 250;

/// State of the machine, as last measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vitals {
    /// One-minute load average, in thousandths.
    pub load_milli: u32,
    /// Bytes that a new program can have without swapping; `None`: unknown.
    pub memory_available_bytes: Option<u64>,
    /// Bytes free on the file system of the task folders; `None`: unknown.
    pub disk_free_bytes: Option<u64>,
    /// Hottest thermal zone, in thousandths of a degree; 0: unknown.
    pub temperature_milli_c: i32,
    /// Compiles of this worker that run.
    pub compiling: u32,
    /// Share of the last ten seconds in which something waited for memory, in
    /// hundredths of a percent; 0 also where it can't be told.
    pub memory_pressure_centi: u32,
    /// The firmware has lowered the clock, for heat or want of power.
    pub throttled: bool,
    /// Share of this worker's cores that other programs keep busy, in thousandths; 0 also
    /// where it can't be told.
    pub others_milli: u32,
}

/// How many compiles the machine can run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Slots that may be used, at most those that the worker offers.
    pub slots: u32,
    /// Why they are fewer than the worker offers, for people; empty: they are not.
    pub why: &'static str,
}

/// Hysteresis of the slots by one of the vitals: above `cut_to`, slots are cut at once; they
/// regrow one by one up to `regrow_to`, which is lower, so that they do not flap.
struct Limit {
    cut_to: u32,
    regrow_to: u32,
    /// Name of the vital, for people.
    why: &'static str,
}

impl Capacity {
    /// Whether that is all of `most` slots.
    pub fn is_all(&self, most: u32) -> bool {
        self.slots >= most
    }
}

/// Capacity now, of `most` slots, where it was `before`: it falls at once, and grows slot by
/// slot.
pub fn next_capacity(before: Capacity, most: u32, vitals: &Vitals) -> Capacity {
    let limits = limits(most, vitals);
    let least = limits.iter().min_by_key(|limit| limit.cut_to);
    if let Some(least) = least.filter(|least| least.cut_to < before.slots.min(most)) {
        return Capacity {
            slots: least.cut_to,
            why: least.why,
        };
    }
    let regrow_to = limits.iter().map(|limit| limit.regrow_to).min();
    let regrow_to = regrow_to.unwrap_or(most).min(most);
    let slots = before.slots.min(most);
    let slots = slots + u32::from(slots < regrow_to);
    Capacity {
        slots,
        why: if slots < most { before.why } else { "" },
    }
}

fn limits(most: u32, vitals: &Vitals) -> [Limit; 5] {
    let half = (most / 2).max(1);
    let memory = |margin_bytes: u64| match vitals.memory_available_bytes {
        None => most,
        Some(bytes) if bytes < MEMORY_FLOOR_BYTES + margin_bytes => 0,
        Some(bytes) => {
            let left_bytes = bytes - MEMORY_FLOOR_BYTES - margin_bytes;
            let more = left_bytes / MEMORY_EXPECTED_DEFAULT_BYTES;
            let slots = u64::from(vitals.compiling) + more;
            // The last slot goes only when memory is below its floor.
            u32::try_from(slots).unwrap_or(u32::MAX).clamp(1, most)
        }
    };
    let load = |kept_milli: u64| {
        let left_milli = 1000 - u64::from(vitals.others_milli.min(1000));
        let slots = (u64::from(most) * left_milli + kept_milli) / 1000;
        // A compile yields to other programs, so one is never too many.
        u32::try_from(slots).unwrap_or(most).clamp(1, most)
    };
    let limit = |why, cut_to, regrow_to| Limit {
        cut_to,
        regrow_to,
        why,
    };
    [
        limit("memory", memory(0), memory(MEMORY_MARGIN_BYTES)),
        match vitals.memory_pressure_centi {
            PRESSURE_ONE_CENTI.. => limit("memory pressure", 1, 0),
            PRESSURE_HALF_CENTI.. => limit("memory pressure", half, 0),
            PRESSURE_REGROW_CENTI.. => limit("memory pressure", most, 0),
            _ => limit("memory pressure", most, most),
        },
        match vitals.temperature_milli_c {
            HEAT_NONE_MILLI_C.. => limit("heat", 0, 0),
            HEAT_HALF_MILLI_C.. => limit("heat", half, 0),
            HEAT_REGROW_MILLI_C.. => limit("heat", most, 0),
            _ => limit("heat", most, most),
        },
        match vitals.throttled {
            true => limit("throttled", half, 0),
            false => limit("throttled", most, most),
        },
        limit(
            "load of others",
            load(LOAD_CUT_MILLI),
            load(LOAD_REGROW_MILLI),
        ),
    ]
}

/// Why the worker does not take or start a compile now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// The worker takes no more tasks.
    Draining,
    /// Every slot has a compile, and one more task waits.
    NoSlot {
        /// Slots that the worker offers.
        slots: u32,
    },
    /// The machine can run no compile now.
    NoCapacity {
        /// See [`Capacity::why`].
        why: &'static str,
    },
    /// Memory is below its floor.
    Memory {
        /// Bytes available.
        available_bytes: u64,
    },
    /// One more compile does not fit into memory.
    DoesNotFit {
        /// Bytes that it is predicted to need.
        needed_bytes: u64,
        /// Bytes that are available and not reserved for others.
        left_bytes: u64,
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
            Busy::NoSlot { slots } => write!(f, "all {slots} slots are taken, and the place ahead"),
            Busy::NoCapacity { why } => write!(f, "no compile is borne now: {why}"),
            Busy::Memory { available_bytes } => {
                write!(f, "{available_bytes} bytes of memory are available")
            }
            Busy::DoesNotFit {
                needed_bytes,
                left_bytes,
            } => write!(
                f,
                "{needed_bytes} bytes of memory are needed, and {left_bytes} are left"
            ),
            Busy::Disk { free_bytes } => write!(f, "{free_bytes} bytes of disk are free"),
        }
    }
}

/// Tasks that are taken beyond the slots: their inputs are received while others compile.
pub const PREFETCHED_TASKS_MAX: usize = 1;

/// Decides whether one more task is taken, where `taken` are there already for `slots` slots,
/// of which `capacity` may be used; `expected_bytes` as for [`start`].
///
/// # Errors
/// Why it is not taken now.
pub fn admit(
    vitals: &Vitals,
    taken: usize,
    slots: u32,
    capacity: Capacity,
    draining: bool,
    expected_bytes: u64,
) -> Result<(), Busy> {
    if draining {
        return Err(Busy::Draining);
    }
    if taken >= slots as usize + PREFETCHED_TASKS_MAX {
        return Err(Busy::NoSlot { slots });
    }
    if capacity.slots == 0 {
        return Err(Busy::NoCapacity { why: capacity.why });
    }
    match vitals.memory_available_bytes {
        Some(available_bytes) if available_bytes < MEMORY_FLOOR_BYTES => {
            return Err(Busy::Memory { available_bytes });
        }
        // The memory of other compiles may come back in time.
        Some(left_bytes)
            if taken == 0 && expected_bytes.saturating_add(MEMORY_FLOOR_BYTES) > left_bytes =>
        {
            return Err(Busy::DoesNotFit {
                needed_bytes: expected_bytes,
                left_bytes,
            });
        }
        _ => {}
    }
    match vitals.disk_free_bytes {
        Some(free_bytes) if free_bytes < DISK_FLOOR_BYTES => Err(Busy::Disk { free_bytes }),
        _ => Ok(()),
    }
}

/// What a task that has its inputs is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Compile.
    Now,
    /// Wait until a compile has ended.
    WhenSlotFree,
    /// Wait for memory or capacity if some may come back, else go to another worker.
    NoRoom(Busy),
}

/// Decides whether a compile starts that is predicted to need `expected_bytes` of memory (0:
/// unknown), where `running` compiles run and `capacity` may. `left_bytes`, asked for only
/// where there is a slot, are available and not reserved for compiles that will still grow.
pub fn start(
    capacity: Capacity,
    running: usize,
    expected_bytes: u64,
    left_bytes: impl FnOnce() -> Option<u64>,
) -> Start {
    if running >= capacity.slots as usize {
        let why = capacity.why;
        return match running {
            0 => Start::NoRoom(Busy::NoCapacity { why }),
            _ => Start::WhenSlotFree,
        };
    }
    // Alone, a compile without a prediction may have all memory.
    let needed_bytes = match (expected_bytes, running) {
        (0, 0) => 0,
        (0, _) => MEMORY_EXPECTED_DEFAULT_BYTES,
        (bytes, _) => bytes,
    };
    match left_bytes() {
        Some(left_bytes) if needed_bytes.saturating_add(MEMORY_FLOOR_BYTES) > left_bytes => {
            Start::NoRoom(Busy::DoesNotFit {
                needed_bytes,
                left_bytes,
            })
        }
        _ => Start::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Vitals = Vitals {
        load_milli: 0,
        memory_available_bytes: Some(8 << 30),
        disk_free_bytes: Some(DISK_FLOOR_BYTES),
        temperature_milli_c: 50_000,
        compiling: 0,
        memory_pressure_centi: 0,
        throttled: false,
        others_milli: 0,
    };

    const ALL: Capacity = Capacity { slots: 4, why: "" };

    fn cut(slots: u32, why: &'static str) -> Capacity {
        Capacity { slots, why }
    }

    #[test]
    fn each_bound_refuses_just_beyond_itself() {
        let admit = |vitals, taken, draining| admit(vitals, taken, 2, ALL, draining, 0);
        assert_eq!(admit(&WELL, 2, false), Ok(()));
        assert_eq!(admit(&WELL, 3, false), Err(Busy::NoSlot { slots: 2 }));
        assert_eq!(admit(&WELL, 0, true), Err(Busy::Draining));
        let available_bytes = MEMORY_FLOOR_BYTES - 1;
        let vitals = Vitals {
            memory_available_bytes: Some(available_bytes),
            ..WELL
        };
        let busy = Busy::Memory { available_bytes };
        assert_eq!(admit(&vitals, 0, false), Err(busy));
        let (needed_bytes, left_bytes) = (8 << 30, 8 << 30);
        let room = Busy::DoesNotFit {
            needed_bytes,
            left_bytes,
        };
        let large = |taken| super::admit(&WELL, taken, 2, ALL, false, needed_bytes);
        assert_eq!(large(0), Err(room));
        assert_eq!(large(1), Ok(()));
        let free_bytes = DISK_FLOOR_BYTES - 1;
        let vitals = Vitals {
            disk_free_bytes: Some(free_bytes),
            ..WELL
        };
        assert_eq!(admit(&vitals, 0, false), Err(Busy::Disk { free_bytes }));
    }

    #[test]
    fn a_compile_enters_where_it_fits() {
        const MIB: u64 = 1 << 20;
        let decision = |running, expected_bytes, left_bytes| {
            start(ALL, running, expected_bytes, || Some(left_bytes))
        };
        let no_room = |needed_bytes, left_bytes| {
            Start::NoRoom(Busy::DoesNotFit {
                needed_bytes,
                left_bytes,
            })
        };
        let fits = 400 * MIB + MEMORY_FLOOR_BYTES;
        assert_eq!(decision(0, 400 * MIB, fits), Start::Now);
        assert_eq!(
            decision(0, 400 * MIB, fits - 1),
            no_room(400 * MIB, fits - 1)
        );
        assert_eq!(decision(1, u64::MAX, fits), no_room(u64::MAX, fits));
        assert_eq!(decision(4, 1, u64::MAX), Start::WhenSlotFree);
        // Without a prediction.
        assert_eq!(decision(0, 0, MEMORY_FLOOR_BYTES), Start::Now);
        let default = MEMORY_EXPECTED_DEFAULT_BYTES;
        let left = MEMORY_FLOOR_BYTES + default - 1;
        assert_eq!(decision(1, 0, left), no_room(default, left));
        assert_eq!(decision(1, 0, left + 1), Start::Now);
        let why = "heat";
        let hot = |running| start(cut(0, why), running, 0, || None);
        assert_eq!(hot(0), Start::NoRoom(Busy::NoCapacity { why }));
        assert_eq!(hot(1), Start::WhenSlotFree);
    }

    #[test]
    fn a_machine_that_bears_nothing_takes_nothing() {
        let why = "heat";
        let refused = admit(&WELL, 0, 2, cut(0, why), false, 0);
        assert_eq!(refused, Err(Busy::NoCapacity { why }));
    }

    #[test]
    fn what_is_unknown_does_not_refuse() {
        let unknown = Vitals::default();
        assert_eq!(admit(&unknown, 0, 1, ALL, false, u64::MAX), Ok(()));
        assert_eq!(next_capacity(ALL, 4, &unknown), ALL);
    }

    #[test]
    fn each_trouble_cuts_at_once() {
        let trouble = |adjust: fn(&mut Vitals), slots, why| {
            let mut vitals = WELL;
            adjust(&mut vitals);
            assert_eq!(next_capacity(ALL, 4, &vitals), cut(slots, why));
            // It stays so, and does not get worse by itself.
            assert_eq!(next_capacity(cut(slots, why), 4, &vitals), cut(slots, why));
        };
        assert_eq!(next_capacity(ALL, 4, &WELL), ALL);
        trouble(|v| v.temperature_milli_c = 80_000, 2, "heat");
        trouble(|v| v.temperature_milli_c = 85_000, 0, "heat");
        trouble(|v| v.throttled = true, 2, "throttled");
        trouble(|v| v.memory_pressure_centi = 2_000, 2, "memory pressure");
        trouble(|v| v.memory_pressure_centi = 5_000, 1, "memory pressure");
        trouble(|v| v.others_milli = 400, 2, "load of others");
        trouble(|v| v.others_milli = 1000, 1, "load of others");
        let floor = Some(MEMORY_FLOOR_BYTES - 1);
        let mut none = WELL;
        none.memory_available_bytes = floor;
        assert_eq!(next_capacity(ALL, 4, &none), cut(0, "memory"));
        none.memory_available_bytes = Some(MEMORY_FLOOR_BYTES);
        assert_eq!(next_capacity(ALL, 4, &none), cut(1, "memory"));
        // What runs has its memory already.
        none.compiling = 2;
        assert_eq!(next_capacity(ALL, 4, &none), cut(2, "memory"));
        let two = MEMORY_FLOOR_BYTES + 2 * MEMORY_EXPECTED_DEFAULT_BYTES;
        none.memory_available_bytes = Some(two);
        assert_eq!(next_capacity(ALL, 4, &none), ALL);
        // The worst of two is the one that is named.
        none.temperature_milli_c = 90_000;
        assert_eq!(next_capacity(ALL, 4, &none), cut(0, "heat"));
    }

    #[test]
    fn slots_come_back_one_by_one() {
        let mut now = cut(0, "heat");
        let mut seen = Vec::new();
        for _ in 0..5 {
            now = next_capacity(now, 4, &WELL);
            seen.push((now.slots, now.why));
        }
        let expected = [(1, "heat"), (2, "heat"), (3, "heat"), (4, ""), (4, "")];
        assert_eq!(seen, expected);
    }

    #[test]
    fn between_cut_and_growth_nothing_moves() {
        let middling: [fn(&mut Vitals); 4] = [
            |v| v.temperature_milli_c = 78_000,
            |v| v.memory_pressure_centi = 1_000,
            |v| v.others_milli = 350,
            |v| {
                v.memory_available_bytes =
                    Some(MEMORY_FLOOR_BYTES + 3 * MEMORY_EXPECTED_DEFAULT_BYTES)
            },
        ];
        for adjust in middling {
            let mut vitals = WELL;
            adjust(&mut vitals);
            for slots in [2, 3] {
                let before = cut(slots, "x");
                let after = next_capacity(before, 4, &vitals);
                assert!(
                    after.slots <= 3 && after.why == "x",
                    "{vitals:?}: {after:?}"
                );
                assert_eq!(next_capacity(after, 4, &vitals), after, "{vitals:?}");
            }
        }
    }

    #[test]
    fn one_slot_is_enough_for_a_machine_with_one() {
        let mut vitals = WELL;
        vitals.others_milli = 1000;
        vitals.throttled = true;
        vitals.memory_pressure_centi = 10_000;
        let one = Capacity { slots: 1, why: "" };
        assert_eq!(next_capacity(one, 1, &vitals), one);
        vitals.temperature_milli_c = 85_000;
        assert_eq!(next_capacity(one, 1, &vitals), cut(0, "heat"));
    }
}
