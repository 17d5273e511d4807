//! Makes room: entries that were not used for the longest time go, one shard
//! after the other, never with two locks held.

use std::io;
use std::thread;

use crate::compiler::turn::LOOK;

use crate::disk::index::{SHARDS, share};
use crate::disk::shard::{LOOKS_MAX, Shards, Shrunk};

/// Part of the bound that the leading process frees beyond what is needed, so
/// that the next ones find room: 1/25, 4%.
const SPARE_DIVISOR: u64 = 25;
/// Shards that one process looks through for one entry.
const VISITS_MAX: usize = 4096;

/// Frees room for `bytes` in a cache of at most `bytes_max`, and adds the removed entries to
/// `evicted`. False: there was no room to be had in time.
pub fn make_room(
    shards: &Shards,
    bytes_max: u64,
    bytes: u64,
    evicted: &mut Shrunk,
) -> io::Result<bool> {
    let enough = bytes_max.saturating_sub(bytes);
    let leads = shards.lead();
    let goal = if leads {
        enough.min(bytes_max - bytes_max / SPARE_DIVISOR)
    } else {
        enough
    };
    let shrunk = shrink_to(shards, goal, evicted);
    if leads {
        shards.step_down();
    }
    Ok(shrunk? <= enough)
}

/// Removes the oldest entries until the cache holds at most `goal` bytes; returns the bytes
/// that it holds then.
pub fn shrink_to(shards: &Shards, goal: u64, evicted: &mut Shrunk) -> io::Result<u64> {
    let mut looks = LOOKS_MAX;
    let mut busy = [false; SHARDS];
    let mut total = 0;
    let mut need = None;
    for _ in 0..VISITS_MAX {
        let slots = shards.slots()?;
        total = slots.total();
        if total <= goal {
            break;
        }
        let Some((number, slot)) = slots.oldest(&busy) else {
            if !busy.contains(&true) || looks == 0 {
                break;
            }
            looks -= 1;
            busy = [false; SHARDS];
            thread::sleep(LOOK);
            continue;
        };
        // A process that holds a lock may be stopped; the next-oldest entry will do.
        let Some(mut shard) = shards.lock(number, 0)? else {
            busy[usize::from(number)] = true;
            continue;
        };
        let need = *need.get_or_insert(total - goal);
        let shrunk = shard.shrink(share(need, slot.bytes, total))?;
        evicted.entries += shrunk.entries;
        evicted.bytes += shrunk.bytes;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::disk::index::Id;
    use crate::disk::shard::{dir, file_name};

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("hg-evict-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    const ID: Id = *b"123456789012345r";

    fn fill(shards: &Shards, numbers: impl Iterator<Item = u8>) {
        for number in numbers {
            let mut shard = shards.lock(number, 0).unwrap().unwrap();
            let put = shard.put(ID, 4096, u64::MAX, |path| fs::write(path, "x"));
            assert!(put.unwrap());
        }
    }

    #[test]
    fn the_oldest_go_first_over_all_shards() {
        let folder = folder("order");
        let shards = Shards::open(&folder).unwrap();
        let numbers = [9, 200, 3, 255, 0, 77];
        fill(&shards, numbers.into_iter());
        let mut evicted = Shrunk::default();
        let left = shrink_to(&shards, 3 * 4096, &mut evicted).unwrap();
        assert_eq!(
            (left, evicted.entries, evicted.bytes),
            (3 * 4096, 3, 3 * 4096)
        );
        let there = |number: u8| dir(&folder, number).join(file_name(&ID)).exists();
        assert_eq!(numbers.map(there), [false, false, false, true, true, true]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn who_leads_frees_more_than_needed() {
        let folder = folder("lead");
        let shards = Shards::open(&folder).unwrap();
        fill(&shards, 0..100);
        let bound = 100 * 4096;
        let mut evicted = Shrunk::default();
        let other = Shards::open(&folder).unwrap();
        assert!(other.lead());
        assert!(make_room(&shards, bound, 4096, &mut evicted).unwrap());
        assert_eq!(evicted.entries, 1, "another one leads");
        other.step_down();
        assert!(make_room(&shards, bound, 4096, &mut evicted).unwrap());
        assert_eq!(evicted.entries, 4);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_shard_in_use_is_left_out() {
        let folder = folder("busy");
        let shards = Shards::open(&folder).unwrap();
        fill(&shards, [1, 2].into_iter());
        let held = shards.lock(1, 0).unwrap();
        let mut evicted = Shrunk::default();
        assert!(make_room(&shards, 8192, 4096, &mut evicted).unwrap());
        assert!(dir(&folder, 1).join(file_name(&ID)).exists());
        let two = shards.lock(2, 0).unwrap();
        assert!(!make_room(&shards, 4096, 4096, &mut evicted).unwrap());
        drop((held, two));
        assert!(make_room(&shards, 4096, 4096, &mut evicted).unwrap());
        fs::remove_dir_all(folder).unwrap();
    }
}
