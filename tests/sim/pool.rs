//! The machines of a simulated grid, as they really are. The coordinator finds
//! out by itself.

use fastrand::Rng;

/// What is wrong with a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Each attempt fails soon after it came.
    Failing,
    /// Its link breaks every few seconds and comes back.
    Breaking,
    /// Compilers begin and never end, while the heart beats.
    Hanging,
    /// From some time on compiles take ten times as long.
    Slowed,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct Machine {
    /// How fast one compile runs; 1 is the reference.
    pub speed: f64,
    /// Tasks at once.
    pub slots: u32,
    /// Beyond so many compiles at once each is slower.
    pub cores: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Microseconds to the coordinator and back.
    pub round_trip_us: u64,
    /// Bytes per millisecond of its link.
    pub reach: f64,
    /// What is wrong with it.
    pub fault: Fault,
}

impl Machine {
    fn new(speed: f64, slots: u32) -> Self {
        Machine {
            speed,
            slots,
            cores: slots,
            memory_bytes: u64::from(slots) << 30,
            round_trip_us: 500,
            // A gigabit.
            reach: 125_000.0,
            fault: Fault::None,
        }
    }
}

/// All alike.
pub fn equal(machines: usize, slots: u32) -> Vec<Machine> {
    vec![Machine::new(1.0, slots); machines]
}

/// Workstations, older ones and laptops on wireless links.
pub fn mixed(machines: usize, random: &mut Rng) -> Vec<Machine> {
    let mut one = |at: usize| {
        let slots = [2, 4, 8, 16][random.usize(..4)];
        let mut machine = Machine::new([1.0, 0.6, 0.3][at % 3], slots);
        if at % 3 == 2 {
            machine.round_trip_us = 4_000;
            machine.reach = 12_500.0;
        }
        machine
    };
    (0..machines).map(&mut one).collect()
}

/// A fast machine, and beside it one that is ten times slower, as where one emulates another;
/// `slow`: slots of that, or none of it.
pub fn beside(slow: u32) -> Vec<Machine> {
    let mut machines = vec![Machine::new(1.0, 4)];
    if slow > 0 {
        machines.push(Machine::new(0.1, slow));
    }
    machines
}

/// Two servers and a shelf of Raspberry Pis.
pub fn pis() -> Vec<Machine> {
    let pi = Machine {
        memory_bytes: 4 << 30,
        ..Machine::new(0.12, 4)
    };
    let mut machines = vec![Machine::new(1.0, 16); 2];
    machines.resize(42, pi);
    machines
}

/// Gives `fault` to this share of the machines, and to one at least.
pub fn spoil(machines: &mut [Machine], share: f64, fault: Fault, random: &mut Rng) {
    let count = (machines.len() as f64 * share).round().max(1.0) as usize;
    let mut order: Vec<usize> = (0..machines.len()).collect();
    random.shuffle(&mut order);
    for at in order.into_iter().take(count) {
        machines[at].fault = fault;
    }
}

/// Work per time (milliseconds at speed 1 per millisecond) of the fastest
/// `slots_max` slots that work.
pub fn capacity(machines: &[Machine], slots_max: usize) -> f64 {
    let well = |machine: &&Machine| matches!(machine.fault, Fault::None | Fault::Slowed);
    let mut sorted: Vec<&Machine> = machines.iter().filter(well).collect();
    sorted.sort_by(|a, b| b.speed.total_cmp(&a.speed));
    let mut left = slots_max;
    let mut sum = 0.0;
    for machine in sorted {
        let slots = (machine.slots.min(machine.cores) as usize).min(left);
        left -= slots;
        sum += slots as f64 * machine.speed;
    }
    sum
}

/// Slots of all of them.
pub fn slots(machines: &[Machine]) -> usize {
    machines.iter().map(|machine| machine.slots as usize).sum()
}

/// Speed of the fastest.
pub fn fastest(machines: &[Machine]) -> f64 {
    machines
        .iter()
        .map(|machine| machine.speed)
        .fold(0.0, f64::max)
}
