//! How many compiles this machine bears, and whether it takes one more. Pure:
//! facts in, decisions out.

use std::fmt;
use std::time::Duration;

/// Bytes of memory that must be available before a compile is taken.
pub const MEMORY_FLOOR_BYTES: u64 = 64 << 20;
/// Bytes that must be free where task folders lie before a compile is taken.
pub const DISK_FLOOR_BYTES: u64 = 64 << 20;
/// Bytes of memory that a compile is thought to need when nobody knows.
pub const MEMORY_EXPECTED_DEFAULT_BYTES: u64 = 96 << 20;
/// How long a compile may take to grow to what it is thought to need.
pub const MEMORY_GROWTH: Duration = Duration::from_secs(30);
/// Bytes that must be available beyond that before a slot comes back.
const MEMORY_MARGIN_BYTES: u64 = 64 << 20;
/// Hundredths of a percent of the time in which something waited for memory: half
/// of the slots go, all but one go, and slots come back below the last one.
const PRESSURE_HALF_CENTI: u32 = 2_000;
const PRESSURE_ONE_CENTI: u32 = 5_000;
const PRESSURE_GROW_CENTI: u32 = 500;
/// Thousandths of a degree Celsius at which no compile is borne, at which half of
/// the slots go, and below which they come back. Boards throttle at 80 to 85.
const HEAT_NONE_MILLI_C: i32 = 85_000;
const HEAT_HALF_MILLI_C: i32 = 80_000;
const HEAT_GROW_MILLI_C: i32 = 75_000;
/// Thousandths of a slot that others may take before it counts as theirs, and may
/// still have when it comes back.
const LOAD_CUT_MILLI: u64 = 500;
const LOAD_GROW_MILLI: u64 = 250;

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
    /// Compiles of ours that run.
    pub compiling: u32,
    /// Share of the last ten seconds in which something waited for memory, in
    /// hundredths of a percent; 0 also where it can't be told.
    pub memory_pressure_centi: u32,
    /// The firmware has lowered the clock, for heat or want of power.
    pub throttled: bool,
    /// Share of this worker's cores that others keep busy, in thousandths; 0 also
    /// where it can't be told.
    pub others_milli: u32,
}

/// Compiles at once that the machine bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bears {
    /// How many.
    pub slots: u32,
    /// Why they are not all of the slots there are; empty: they are.
    pub why: &'static str,
}

/// What one of the vitals allows.
struct Limit {
    /// More slots than that go at once.
    stay: u32,
    /// Slots come back up to that: lower than `stay`, so that they do not flap.
    grow: u32,
    why: &'static str,
}

/// What the machine bears now, of `most` slots, after it bore `before`: fewer at
/// once, more one by one.
pub fn bears(before: Bears, most: u32, vitals: &Vitals) -> Bears {
    let limits = limits(most, vitals);
    let least = limits.iter().min_by_key(|limit| limit.stay);
    if let Some(least) = least.filter(|least| least.stay < before.slots.min(most)) {
        return Bears {
            slots: least.stay,
            why: least.why,
        };
    }
    let grow = limits.iter().map(|limit| limit.grow).min();
    let grow = grow.unwrap_or(most).min(most);
    let slots = before.slots.min(most);
    let slots = slots + u32::from(slots < grow);
    Bears {
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
        // Ours yields to theirs, so one of ours is never too many.
        u32::try_from(slots).unwrap_or(most).clamp(1, most)
    };
    let limit = |why, stay, grow| Limit { stay, grow, why };
    [
        limit("memory", memory(0), memory(MEMORY_MARGIN_BYTES)),
        match vitals.memory_pressure_centi {
            PRESSURE_ONE_CENTI.. => limit("memory pressure", 1, 0),
            PRESSURE_HALF_CENTI.. => limit("memory pressure", half, 0),
            PRESSURE_GROW_CENTI.. => limit("memory pressure", most, 0),
            _ => limit("memory pressure", most, most),
        },
        match vitals.temperature_milli_c {
            HEAT_NONE_MILLI_C.. => limit("heat", 0, 0),
            HEAT_HALF_MILLI_C.. => limit("heat", half, 0),
            HEAT_GROW_MILLI_C.. => limit("heat", most, 0),
            _ => limit("heat", most, most),
        },
        match vitals.throttled {
            true => limit("throttled", half, 0),
            false => limit("throttled", most, most),
        },
        limit(
            "load of others",
            load(LOAD_CUT_MILLI),
            load(LOAD_GROW_MILLI),
        ),
    ]
}

/// Why not now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// The worker takes no more tasks.
    Draining,
    /// Every slot has a compile, and one more waits.
    NoSlot {
        /// Slots there are.
        slots: u32,
    },
    /// The machine bears no compile now.
    Unwell {
        /// Why.
        why: &'static str,
    },
    /// Memory is below its floor.
    Memory {
        /// Bytes available.
        available_bytes: u64,
    },
    /// One more compile does not fit into memory.
    Room {
        /// Bytes that it is thought to need.
        needed_bytes: u64,
        /// Bytes available and not promised to others.
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
            Busy::Unwell { why } => write!(f, "no compile is borne now: {why}"),
            Busy::Memory { available_bytes } => {
                write!(f, "{available_bytes} bytes of memory are available")
            }
            Busy::Room {
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

/// Tasks taken beyond the slots: their inputs come while others compile.
pub const AHEAD: usize = 1;

/// Decides on one more task while `taken` are there for `slots` slots, of which
/// the machine `bears` some; `expected_bytes` as for [`enter`].
///
/// # Errors
/// Why the worker has no room for it now.
pub fn admit(
    vitals: &Vitals,
    taken: usize,
    slots: u32,
    bears: Bears,
    draining: bool,
    expected_bytes: u64,
) -> Result<(), Busy> {
    if draining {
        return Err(Busy::Draining);
    }
    if taken >= slots as usize + AHEAD {
        return Err(Busy::NoSlot { slots });
    }
    if bears.slots == 0 {
        return Err(Busy::Unwell { why: bears.why });
    }
    match vitals.memory_available_bytes {
        Some(available_bytes) if available_bytes < MEMORY_FLOOR_BYTES => {
            return Err(Busy::Memory { available_bytes });
        }
        // Where others compile their memory may come back in time.
        Some(left_bytes)
            if taken == 0 && expected_bytes.saturating_add(MEMORY_FLOOR_BYTES) > left_bytes =>
        {
            return Err(Busy::Room {
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

/// What those that compile leave to one more.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// What the machine bears.
    pub bears: Bears,
    /// Compiles that run.
    pub running: usize,
}

/// What a task that has its inputs is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Compile.
    Now,
    /// Wait until a compile has ended.
    WhenFree,
    /// Wait for room if some may come, else go elsewhere.
    Short(Busy),
}

/// Decides on a compile that is thought to need `expected_bytes` of memory; 0:
/// nobody knows. `left_bytes`, asked for only where there is a slot, are available
/// and not promised to compiles that will still grow.
pub fn enter(room: Room, expected_bytes: u64, left_bytes: impl FnOnce() -> Option<u64>) -> Entry {
    if room.running >= room.bears.slots as usize {
        let why = room.bears.why;
        return match room.running {
            0 => Entry::Short(Busy::Unwell { why }),
            _ => Entry::WhenFree,
        };
    }
    // Alone, a compile that nobody knows has all the room there is.
    let needed_bytes = match (expected_bytes, room.running) {
        (0, 0) => 0,
        (0, _) => MEMORY_EXPECTED_DEFAULT_BYTES,
        (bytes, _) => bytes,
    };
    match left_bytes() {
        Some(left_bytes) if needed_bytes.saturating_add(MEMORY_FLOOR_BYTES) > left_bytes => {
            Entry::Short(Busy::Room {
                needed_bytes,
                left_bytes,
            })
        }
        _ => Entry::Now,
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

    const ALL: Bears = Bears { slots: 4, why: "" };

    fn cut(slots: u32, why: &'static str) -> Bears {
        Bears { slots, why }
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
        let room = Busy::Room {
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
        let entry = |running, expected_bytes, left_bytes| {
            let bears = ALL;
            enter(Room { bears, running }, expected_bytes, || Some(left_bytes))
        };
        let short = |needed_bytes, left_bytes| {
            Entry::Short(Busy::Room {
                needed_bytes,
                left_bytes,
            })
        };
        let fits = 400 * MIB + MEMORY_FLOOR_BYTES;
        assert_eq!(entry(0, 400 * MIB, fits), Entry::Now);
        assert_eq!(entry(0, 400 * MIB, fits - 1), short(400 * MIB, fits - 1));
        assert_eq!(entry(1, u64::MAX, fits), short(u64::MAX, fits));
        assert_eq!(entry(4, 1, u64::MAX), Entry::WhenFree);
        // Nobody knows what it needs.
        assert_eq!(entry(0, 0, MEMORY_FLOOR_BYTES), Entry::Now);
        let default = MEMORY_EXPECTED_DEFAULT_BYTES;
        let left = MEMORY_FLOOR_BYTES + default - 1;
        assert_eq!(entry(1, 0, left), short(default, left));
        assert_eq!(entry(1, 0, left + 1), Entry::Now);
        let hot = |running| Room {
            bears: cut(0, "heat"),
            running,
        };
        let why = "heat";
        assert_eq!(
            enter(hot(0), 0, || None),
            Entry::Short(Busy::Unwell { why })
        );
        assert_eq!(enter(hot(1), 0, || None), Entry::WhenFree);
    }

    #[test]
    fn a_machine_that_bears_nothing_takes_nothing() {
        let why = "heat";
        let refused = admit(&WELL, 0, 2, cut(0, why), false, 0);
        assert_eq!(refused, Err(Busy::Unwell { why }));
    }

    #[test]
    fn what_is_unknown_does_not_refuse() {
        let unknown = Vitals::default();
        assert_eq!(admit(&unknown, 0, 1, ALL, false, u64::MAX), Ok(()));
        assert_eq!(bears(ALL, 4, &unknown), ALL);
    }

    #[test]
    fn each_trouble_cuts_at_once() {
        let trouble = |adjust: fn(&mut Vitals), slots, why| {
            let mut vitals = WELL;
            adjust(&mut vitals);
            assert_eq!(bears(ALL, 4, &vitals), cut(slots, why));
            // It stays so, and does not get worse by itself.
            assert_eq!(bears(cut(slots, why), 4, &vitals), cut(slots, why));
        };
        assert_eq!(bears(ALL, 4, &WELL), ALL);
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
        assert_eq!(bears(ALL, 4, &none), cut(0, "memory"));
        none.memory_available_bytes = Some(MEMORY_FLOOR_BYTES);
        assert_eq!(bears(ALL, 4, &none), cut(1, "memory"));
        // What runs has its memory already.
        none.compiling = 2;
        assert_eq!(bears(ALL, 4, &none), cut(2, "memory"));
        let two = MEMORY_FLOOR_BYTES + 2 * MEMORY_EXPECTED_DEFAULT_BYTES;
        none.memory_available_bytes = Some(two);
        assert_eq!(bears(ALL, 4, &none), ALL);
        // The worst of two is the one that is named.
        none.temperature_milli_c = 90_000;
        assert_eq!(bears(ALL, 4, &none), cut(0, "heat"));
    }

    #[test]
    fn slots_come_back_one_by_one() {
        let mut now = cut(0, "heat");
        let mut seen = Vec::new();
        for _ in 0..5 {
            now = bears(now, 4, &WELL);
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
                let after = bears(before, 4, &vitals);
                assert!(
                    after.slots <= 3 && after.why == "x",
                    "{vitals:?}: {after:?}"
                );
                assert_eq!(bears(after, 4, &vitals), after, "{vitals:?}");
            }
        }
    }

    #[test]
    fn one_slot_is_enough_for_a_machine_with_one() {
        let mut vitals = WELL;
        vitals.others_milli = 1000;
        vitals.throttled = true;
        vitals.memory_pressure_centi = 10_000;
        let one = Bears { slots: 1, why: "" };
        assert_eq!(bears(one, 1, &vitals), one);
        vitals.temperature_milli_c = 85_000;
        assert_eq!(bears(one, 1, &vitals), cut(0, "heat"));
    }
}
