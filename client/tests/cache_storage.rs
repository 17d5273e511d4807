//! Many processes at one cache folder: writers, readers, and some that are
//! killed or stopped wherever they are.

use std::env;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hg_proto::disk::entries::Name;
use hg_proto::disk::index::Kind;
use hg_proto::disk::index::on_disk;
use hg_proto::disk::shard;
use hgbuild::cache::disk::entries::Cache;
use hgbuild::cache::disk::tally::{Event, tally};
use hgbuild::commands::cache::{clear, prune, verify};

/// Names a part of this program to run in place of the tests.
const PART: &str = "HG_TEST_CACHE_PART";
const FOLDER: &str = "HG_TEST_CACHE_FOLDER";
const SEED: &str = "HG_TEST_CACHE_SEED";
/// Exit code of a part that read what nobody wrote.
const WRONG_BODY: i32 = 3;

const BOUND: u64 = 2 << 20;
const PROCESSES: u64 = 60;
const WRITES: u64 = 40;
/// Names are few, so that processes meet.
const NAMES: u64 = 400;
const DEADLINE: Duration = Duration::from_secs(120);

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % sides
    }
}

fn name(number: u64) -> Name {
    let mut dice = Dice(number);
    let mut key = [0; 16];
    key.fill_with(|| dice.roll(256) as u8);
    let kind = [Kind::Manifest, Kind::Result, Kind::Trail][number as usize % 3];
    Name { key, kind }
}

/// Bytes that say of themselves whose they are: a number, and what follows
/// from it and the length.
fn body(number: u64, len: u64) -> Vec<u8> {
    let mut dice = Dice(number ^ len);
    let mut body: Vec<u8> = number.to_le_bytes().to_vec();
    body.extend((0..len).map(|_| dice.roll(256) as u8));
    body
}

fn is_right(number: u64, found: &[u8]) -> bool {
    found.len() >= 8 && found == body(number, found.len() as u64 - 8)
}

fn open(folder: &Path) -> Cache {
    Cache::open(folder, BOUND, false).expect("a folder of ours")
}

/// Writes and reads at random.
fn work(folder: &Path, seed: u64) -> i32 {
    let mut dice = Dice(seed);
    for _ in 0..WRITES {
        let cache = open(folder);
        let number = dice.roll(NAMES);
        let len = 1000 + dice.roll(30_000);
        cache.write(name(number), &body(number, len)).expect("room");
        cache.record(Event::Miss { bytes: len });
        for _ in 0..5 {
            let number = dice.roll(NAMES);
            let found = cache.read(name(number));
            if found.is_some_and(|found| !is_right(number, &found)) {
                return WRONG_BODY;
            }
        }
    }
    0
}

/// Holds the locks of all shards until it is killed.
fn hold(folder: &Path) -> i32 {
    let shards = shard::Shards::open(folder).expect("a folder of ours");
    let lock = |number| shards.lock(number, 0).expect("a shard");
    let held: Vec<_> = (0..=u8::MAX).map(lock).collect();
    fs::write(folder.join("held"), "").expect("a folder of ours");
    let mut forever = String::new();
    let _ = std::io::stdin().read_line(&mut forever);
    drop(held);
    0
}

/// Not a test: what this program does when one of the tests below starts it.
#[test]
fn part() {
    let Ok(part) = env::var(PART) else { return };
    let folder = PathBuf::from(env::var_os(FOLDER).expect("a folder"));
    let seed = env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let code = match part.as_str() {
        "work" => work(&folder, seed.unwrap_or(0)),
        "hold" => hold(&folder),
        _ => 2,
    };
    std::process::exit(code);
}

fn start(part: &str, folder: &Path, seed: u64) -> Child {
    Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "part", "--nocapture"])
        .env(PART, part)
        .env(FOLDER, folder)
        .env(SEED, seed.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("this program again")
}

fn folder(name: &str) -> PathBuf {
    let folder = env::temp_dir().join(format!("hg-storage-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    folder
}

/// Names and sizes of all files in shards, temporary ones included.
fn files(folder: &Path) -> Vec<(String, u64)> {
    let shards = fs::read_dir(folder).expect("a folder").flatten();
    let shards = shards.filter(|item| item.path().is_dir() && item.file_name().len() == 2);
    let files = shards.flat_map(|item| fs::read_dir(item.path()).expect("a shard").flatten());
    let files = files.map(|item| {
        let name = item.file_name().into_string().expect("a name of ours");
        // One that goes meanwhile has no size.
        (name, item.metadata().map_or(0, |meta| meta.len()))
    });
    files
        .filter(|(name, _)| name != "journal" && name != "index")
        .collect()
}

/// Sizes of entries, and how many other files lie beside them.
fn entries(folder: &Path) -> (Vec<u64>, u64) {
    let (entries, others): (Vec<_>, Vec<_>) = files(folder)
        .into_iter()
        .partition(|(name, _)| shard::id_of(name).is_some());
    let sizes = entries.into_iter().map(|(_, size)| size).collect();
    (sizes, others.len() as u64)
}

fn total(sizes: &[u64]) -> u64 {
    sizes.iter().sum()
}

fn within_bound(folder: &Path) {
    let size: u64 = files(folder).iter().map(|(_, size)| size).sum();
    assert!(size <= BOUND + BOUND / 20, "{size} bytes of {BOUND}");
}

#[test]
fn processes_that_die_anywhere_leave_a_sound_cache() {
    let folder = folder("die");
    let mut dice = Dice(20_260_101);
    let mut running: Vec<Child> = (0..PROCESSES)
        .map(|seed| start("work", &folder, seed))
        .collect();
    let until = Instant::now() + DEADLINE;
    let (mut killed, mut ended) = (0, 0);
    while !running.is_empty() {
        assert!(Instant::now() < until, "{} still run", running.len());
        if folder.exists() {
            within_bound(&folder);
        }
        // Spread over the time in which they write.
        if killed < PROCESSES / 3 && tally(&folder).miss > killed * WRITES {
            let victim = dice.roll(running.len() as u64) as usize;
            running[victim].kill().expect("a child");
            killed += 1;
        }
        running.retain_mut(|child| match child.try_wait().expect("a child") {
            None => true,
            Some(status) => {
                let fate = (status.code(), status.signal());
                assert!(matches!(fate, (Some(0), _) | (_, Some(9))), "{status}");
                ended += u64::from(status.success());
                false
            }
        });
    }
    assert!(ended >= PROCESSES / 2, "{ended} came to their end");

    within_bound(&folder);
    assert_eq!(verify(&folder), 0, "nothing is wrong");
    let counted = shard::sizes(&folder).expect("a table");
    let (sizes, others) = entries(&folder);
    assert_eq!(counted.entries(), sizes.len() as u64);
    assert!(
        others <= killed,
        "{others} left by {killed} that were killed"
    );
    let blocks: Vec<u64> = sizes.iter().map(|len| on_disk(*len)).collect();
    assert_eq!(counted.total(), total(&blocks));
    assert!(counted.total() > BOUND / 2, "it is in use");
    let cache = open(&folder);
    let found = (0..NAMES).filter_map(|number| Some((number, cache.read(name(number))?)));
    let right = found
        .filter(|(number, body)| is_right(*number, body))
        .count();
    assert_eq!(right, sizes.len());
    let told = tally(&folder);
    assert!(told.evictions > 0 && told.miss >= ended * WRITES);
    let left_out: u64 = told.error.values().sum();
    assert!(left_out < told.miss / 20, "{:?}", told.error);

    assert_eq!(prune(&folder, BOUND, Some(BOUND / 4)), 0);
    assert!(total(&entries(&folder).0) <= BOUND / 4);
    assert_eq!(clear(&folder), 0);
    assert!(entries(&folder).0.is_empty());
    assert_eq!(tally(&folder).miss, told.miss, "statistics stay");
    fs::remove_dir_all(folder).expect("a folder");
}

#[test]
fn a_process_that_holds_every_lock_stops_nobody() {
    let folder = folder("hold");
    let cache = open(&folder);
    cache.write(name(1), &body(1, 100)).expect("room");
    let mut holder = start("hold", &folder, 0);
    let until = Instant::now() + DEADLINE;
    while !folder.join("held").exists() {
        assert!(Instant::now() < until, "no lock was taken");
        std::thread::yield_now();
    }
    let begun = Instant::now();
    assert_eq!(cache.read(name(1)), Some(body(1, 100)));
    cache.write(name(2), &body(2, 100)).expect("left out");
    assert_eq!(cache.read(name(2)), None);
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(tally(&folder).error["cache-busy"], 1);
    holder.kill().expect("a child");
    holder.wait().expect("a child");
    cache.write(name(2), &body(2, 100)).expect("room");
    assert_eq!(cache.read(name(2)), Some(body(2, 100)));
    fs::remove_dir_all(folder).expect("a folder");
}

#[test]
fn verify_says_what_is_damaged_and_removes_it() {
    let folder = folder("verify");
    let cache = open(&folder);
    for number in 0..20 {
        cache
            .write(name(number), &body(number, 5000))
            .expect("room");
    }
    assert_eq!(verify(&folder), 0);
    let victim = shard::dir(&folder, name(7).key[0]);
    let file = fs::read_dir(victim).expect("a shard").flatten();
    let file = file.map(|item| item.path()).find(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| shard::id_of(name).is_some())
    });
    let file = file.expect("an entry");
    let mut bytes = fs::read(&file).expect("an entry");
    bytes[100] ^= 1;
    fs::write(&file, bytes).expect("an entry");
    assert_eq!(verify(&folder), 1);
    assert!(!file.exists());
    assert_eq!(verify(&folder), 0);
    assert_eq!(shard::sizes(&folder).expect("a table").entries(), 19);
    fs::remove_dir_all(folder).expect("a folder");
}
