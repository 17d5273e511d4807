//! One task from its inputs to its result: its slot, its compile, and the compilers of this
//! machine.

pub mod task;
pub mod delivery;
pub mod gate;
pub mod trial;
pub mod compile;
pub mod toolchains;
pub mod control;
