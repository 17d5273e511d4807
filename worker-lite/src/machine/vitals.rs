//! Resources and state of this machine: cores, memory, load, heat, free disk. Not pure: reads
//! /proc and /sys where they exist.

use std::fs;
use std::path::Path;

use crate::machine::admission::Vitals;
use crate::machine::cgroup;

/// Cores that this process may use.
pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

/// The machine's name, or `worker` where it has none.
pub fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "worker".into())
}

/// Bytes of memory that this process may have; 0 where it can't be told.
pub fn memory_bytes() -> u64 {
    let machine = machine_memory_bytes();
    cgroup::memory().map_or(machine, |group| machine.min(group.bytes_max))
}

/// Bytes of memory of the machine; 0 where it can't be told.
pub fn machine_memory_bytes() -> u64 {
    // SAFETY: sysconf only reads.
    let (pages, page) = unsafe {
        (
            nix::libc::sysconf(nix::libc::_SC_PHYS_PAGES),
            nix::libc::sysconf(nix::libc::_SC_PAGESIZE),
        )
    };
    u64::try_from(pages).unwrap_or(0) * u64::try_from(page).unwrap_or(0)
}

/// State of the machine now; `disk` is a path on the file system of the task folders.
pub fn vitals(disk: &Path) -> Vitals {
    Vitals {
        load_milli: load_milli().unwrap_or(0),
        memory_available_bytes: memory_available_bytes(),
        disk_free_bytes: disk_free_bytes(disk),
        temperature_milli_c: temperature_milli_c(),
        memory_pressure_centi: memory_pressure_centi().unwrap_or(0),
        throttled: is_throttled(),
        ..Vitals::default()
    }
}

fn load_milli() -> Option<u32> {
    let mut loads = [0f64; 1];
    // SAFETY: the array has room for the one value that is asked for.
    let got = unsafe { nix::libc::getloadavg(loads.as_mut_ptr(), 1) };
    (got == 1).then_some((loads[0].max(0.0) * 1000.0) as u32)
}

/// Bytes that a new program can have without swapping and within our control
/// groups; `None`: unknown.
pub fn memory_available_bytes() -> Option<u64> {
    let group = cgroup::memory().map(|group| group.available_bytes);
    group.into_iter().chain(machine_available_bytes()).min()
}

#[cfg(target_os = "macos")]
fn machine_available_bytes() -> Option<u64> {
    let percent = crate::machine::apple::available_percent()?;
    Some(machine_memory_bytes() / 100 * percent)
}

#[cfg(not(target_os = "macos"))]
fn machine_available_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Share of the last ten seconds in which something waited for memory, in
/// hundredths of a percent (Linux, Documentation/accounting/psi.rst).
fn memory_pressure_centi() -> Option<u32> {
    let text = fs::read_to_string("/proc/pressure/memory").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("some "))?;
    let share = line.split(' ').find_map(|w| w.strip_prefix("avg10="))?;
    // Always two digits after the point.
    let (whole, hundredths) = share.split_once('.')?;
    let centi = whole.parse::<u32>().ok()?.saturating_mul(100) + hundredths.parse::<u32>().ok()?;
    Some(centi.min(10_000))
}

#[cfg(target_os = "macos")]
fn is_throttled() -> bool {
    crate::machine::apple::is_throttled()
}

/// State of a Raspberry Pi by its firmware, in hexadecimal; the lowest four bits are about
/// now: too little power, a capped clock, throttled, too hot.
#[cfg(not(target_os = "macos"))]
const THROTTLED: &str = "/sys/devices/platform/soc/soc:firmware/get_throttled";
#[cfg(not(target_os = "macos"))]
const THROTTLED_NOW: u32 = 0xf;

#[cfg(not(target_os = "macos"))]
fn is_throttled() -> bool {
    let text = fs::read_to_string(THROTTLED).unwrap_or_default();
    let text = text.trim();
    let bits = u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16);
    bits.is_ok_and(|bits| bits & THROTTLED_NOW != 0)
}

/// Bytes free on the file system of a path; `None`: unknown.
pub fn disk_free_bytes(disk: &Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(disk).ok()?;
    // The field's width differs between systems.
    #[allow(clippy::unnecessary_cast)]
    let blocks = stat.blocks_available() as u64;
    #[allow(clippy::unnecessary_cast)]
    let size = stat.fragment_size() as u64;
    blocks.checked_mul(size)
}

/// Thermal zones that are read.
const THERMAL_ZONES_MAX: u32 = 32;
/// Thousandths of a degree above which a sensor is taken to be broken.
const HEAT_MAX_MILLI_C: i32 = 150_000;

fn temperature_milli_c() -> i32 {
    (0..THERMAL_ZONES_MAX)
        .map_while(|zone| {
            fs::read_to_string(format!("/sys/class/thermal/thermal_zone{zone}/temp")).ok()
        })
        .filter_map(|text| text.trim().parse().ok())
        .filter(|heat| *heat <= HEAT_MAX_MILLI_C)
        .max()
        .unwrap_or(0)
}

/// Makes the allocator give memory back rather than keep it: a worker is idle most of its
/// life, on machines that have little.
pub fn tune_allocator() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt is called before any other thread exists.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, 128 << 10);
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, 128 << 10);
    }
}

/// Gives memory back to the system that an idle worker has no use for: freed memory, and code
/// that ran once. Code that is needed again comes back from the page cache.
pub fn trim_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim may be called at any time.
    unsafe {
        nix::libc::malloc_trim(0);
    }
    #[cfg(target_os = "linux")]
    // SAFETY: the callback has the type that is asked for and uses no data.
    unsafe {
        nix::libc::dl_iterate_phdr(Some(unmap_code), std::ptr::null_mut());
    }
}

/// Unmaps the pages of one object's segments that can't be written to: they are
/// the file's own, so the next use finds the same there.
#[cfg(target_os = "linux")]
unsafe extern "C" fn unmap_code(
    object: *mut nix::libc::dl_phdr_info,
    _size: usize,
    _data: *mut nix::libc::c_void,
) -> nix::libc::c_int {
    use nix::libc::{MADV_DONTNEED, PF_W, PT_LOAD, madvise};
    // SAFETY: the loader gives a valid object with that many headers.
    let (base, segments) = unsafe {
        let object = &*object;
        if object.dlpi_phdr.is_null() {
            return 0;
        }
        let len = usize::from(object.dlpi_phnum);
        let segments = std::slice::from_raw_parts(object.dlpi_phdr, len);
        (object.dlpi_addr as usize, segments)
    };
    // SAFETY: sysconf only reads.
    let page = unsafe { nix::libc::sysconf(nix::libc::_SC_PAGESIZE) };
    let page = usize::try_from(page).unwrap_or(4096).max(1);
    for segment in segments {
        if segment.p_type != PT_LOAD || segment.p_flags & PF_W != 0 {
            continue;
        }
        // Whole pages inside the segment: its ends may share theirs.
        let begin = (base + segment.p_vaddr as usize).next_multiple_of(page);
        let end = (base + segment.p_vaddr as usize + segment.p_memsz as usize) / page * page;
        if begin < end {
            // SAFETY: the pages are clean pages of a file, in a private mapping.
            // Advice that is not taken changes nothing.
            unsafe { madvise(begin as *mut _, end - begin, MADV_DONTNEED) };
        }
    }
    0
}
