//! How this machine computes what clang folds with the mathematical library of its system
//! (`sin(0.259)` in a constant): glibc has its functions twice, with and without fused
//! multiplication, takes those that the processor can run, and the last bit may differ. Asks
//! the processor.

use std::env;

/// The environment's word on what the library takes.
const TUNABLES: &str = "GLIBC_TUNABLES";

/// What stands for it: where it is the same, and the library is, results are.
pub fn variant() -> String {
    let tuned = env::var(TUNABLES).unwrap_or_default();
    let variant = format!("{} {} {tuned}", env::consts::ARCH, instructions());
    variant.trim_end().to_owned()
}

/// Which of the library's functions this processor gets, as glibc chooses them.
#[cfg(target_arch = "x86_64")]
fn instructions() -> &'static str {
    if is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx2") {
        return "fma";
    }
    let highest = std::arch::x86_64::__cpuid(0x8000_0000).eax;
    let has_fma4 = highest > 0x8000_0000
        && std::arch::x86_64::__cpuid(0x8000_0001).ecx & 1 << 16 != 0
        && is_x86_feature_detected!("avx");
    if has_fma4 { "fma4" } else { "plain" }
}

#[cfg(not(target_arch = "x86_64"))]
fn instructions() -> &'static str {
    "plain"
}
