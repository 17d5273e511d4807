//! `hgbuild cache ...`: what is in the cache folder, and less of it.

use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::cache::disk::day_log::DayLogs;
use crate::cache::disk::entries::Cache;
use crate::cache::disk::tally::{Event, Tally, tally};
use crate::cli::CacheCommand;
use crate::config::Config;
use crate::say;
use hg_proto::disk::evict;
use hg_proto::disk::shard::{self, Shards, Shrunk};
use hg_proto::disk::upkeep::{self, Walk};
use hg_proto::size;

/// Does what is asked. Gives an exit code.
pub fn run(config: &Config, command: CacheCommand) -> i32 {
    let Some(settings) = &config.cache else {
        let why = config.trouble.as_deref();
        return failed(why.unwrap_or("the cache is off: HG_CACHE_MAX_SIZE is 0"));
    };
    if let Err(why) = settings.trust() {
        return failed(&why);
    }
    let (folder, size_bytes_max) = (&settings.folder, settings.size_bytes_max);
    match command {
        CacheCommand::Stats(asked) => stats(folder, size_bytes_max, asked.json),
        CacheCommand::Zero(_) => zero(folder),
        CacheCommand::Clear(_) => clear(folder),
        CacheCommand::Verify(_) => verify(folder),
        CacheCommand::Prune(asked) => match asked.max_size.as_deref().map(size::parse) {
            None => prune(folder, size_bytes_max, None),
            Some(Ok(to)) => prune(folder, size_bytes_max, Some(to)),
            Some(Err(why)) => {
                say::warn(format_args!("--max-size: {why}"));
                2
            }
        },
    }
}

/// Prints size and statistics. Gives an exit code.
pub fn stats(folder: &Path, size_bytes_max: u64, json: bool) -> i32 {
    // To look does not make a folder.
    let sizes = Cache::open(folder, size_bytes_max, true)
        .map_err(|trouble| trouble.words)
        .and_then(|_| shard::sizes(folder).map_err(|error| words(folder, &error)));
    let (size_bytes, entries) = match sizes {
        Ok(sizes) => (sizes.total(), sizes.entries()),
        Err(why) => return failed(&why),
    };
    let tally = tally(folder);
    if json {
        let stats = stats_json(folder, size_bytes, size_bytes_max, entries, &tally);
        say::answer(format_args!("{stats}\n"))
    } else {
        let of = of_bound(size_bytes, size_bytes_max);
        say::answer(stats_text(folder, &of, entries, &tally))
    }
}

/// Statistics start again; entries stay. Gives an exit code.
pub fn zero(folder: &Path) -> i32 {
    let zeroed = open(folder).and_then(|_| {
        let logs = DayLogs::new(folder);
        logs.zero().map_err(|error| words(folder, &error))
    });
    match zeroed {
        Ok(true) => done("statistics are zero"),
        Ok(false) => failed("the statistics are in use; try again"),
        Err(why) => failed(&why),
    }
}

/// Removes all entries; statistics stay. Gives an exit code.
pub fn clear(folder: &Path) -> i32 {
    let cleared =
        open(folder).and_then(|_| upkeep::clear(folder).map_err(|error| words(folder, &error)));
    match cleared {
        Ok(walk) => {
            let count: u64 = walk.done.iter().sum();
            end(&walk, &format!("{count} entries removed"))
        }
        Err(why) => failed(&why),
    }
}

/// Counts the files anew and removes the oldest entries until the cache is
/// within `to` bytes, or its bound. Gives an exit code.
pub fn prune(folder: &Path, size_bytes_max: u64, to: Option<u64>) -> i32 {
    let recounted = open(folder).and_then(|cache| {
        let walk = upkeep::recount(folder).map_err(|error| words(folder, &error))?;
        Ok((cache, walk))
    });
    let (cache, walk) = match recounted {
        Ok(recounted) => recounted,
        Err(why) => return failed(&why),
    };
    DayLogs::new(folder).fold();
    let goal = to.unwrap_or(size_bytes_max);
    let mut evicted = Shrunk::default();
    let pruned =
        Shards::open(folder).and_then(|shards| evict::shrink_to(&shards, goal, &mut evicted));
    if evicted.entries > 0 {
        cache.record(Event::Evicted {
            entries: evicted.entries,
            bytes: evicted.bytes,
        });
    }
    match pruned {
        Ok(left) if left <= goal => {
            let freed = size::show(evicted.bytes);
            let left = size::show(left);
            let removed = evicted.entries;
            end(
                &walk,
                &format!("{removed} entries removed, {freed}; {left} left"),
            )
        }
        Ok(_) => failed("shards are in use; try again"),
        Err(error) => failed(&words(folder, &error)),
    }
}

/// Reads and checks every entry and removes the damaged. Gives 0 when nothing
/// was wrong, and 1 otherwise.
pub fn verify(folder: &Path) -> i32 {
    let checked = open(folder).and_then(|cache| {
        let verified = upkeep::verify(cache.entries(), |_, _| None)
            .and_then(|walk| Ok((upkeep::recount(folder)?, walk)));
        verified.map_err(|error| words(folder, &error))
    });
    let (recount, walk) = match checked {
        Ok(checked) => checked,
        Err(why) => return failed(&why),
    };
    let good: u64 = walk.done.iter().map(|shard| shard.good).sum();
    let wrong: Vec<&String> = walk.done.iter().flat_map(|shard| &shard.wrong).collect();
    for words in &wrong {
        say::answer(format_args!("{words}\n"));
    }
    let leftovers: u64 = recount.done.iter().sum();
    let found = format!(
        "{good} entries good, {} wrong; {leftovers} leftovers removed",
        wrong.len()
    );
    let code = end(&recount, &found);
    if wrong.is_empty() { code } else { 1 }
}

/// Prints `words` and how many shards were left out. Gives an exit code.
fn end<T>(walk: &Walk<T>, words: &str) -> i32 {
    if walk.busy == 0 {
        return done(words);
    }
    failed(&format!("{words}; {} shards in use, try again", walk.busy))
}

fn open(folder: &Path) -> Result<Cache, String> {
    Cache::open(folder, u64::MAX, false).map_err(|trouble| trouble.words)
}

fn words(folder: &Path, error: &io::Error) -> String {
    format!("{}: {error}", folder.display())
}

fn done(words: &str) -> i32 {
    say::answer(format_args!("{words}\n"))
}

fn failed(why: &str) -> i32 {
    say::warn(format_args!("cache: {why}"));
    1
}

fn stats_json(
    folder: &Path,
    size_bytes: u64,
    size_bytes_max: u64,
    entries: u64,
    tally: &Tally,
) -> Value {
    json!({
        "folder": folder.to_string_lossy(),
        "size_bytes": size_bytes,
        "size_bytes_max": size_bytes_max,
        "entries": entries,
        "direct_hit": tally.direct_hit,
        "preprocessed_hit": tally.preprocessed_hit,
        "miss": tally.miss,
        "bypass": tally.bypass,
        "error": tally.error,
        "bytes_read": tally.bytes_read,
        "bytes_written": tally.bytes_written,
        "evictions": tally.evictions,
        "evicted_bytes": tally.evicted_bytes,
        "saved_ms": tally.saved_ms,
    })
}

fn stats_text(folder: &Path, size: &str, entries: u64, tally: &Tally) -> String {
    let hits = tally.direct_hit + tally.preprocessed_hit;
    let asked = hits + tally.miss;
    let rate = 100.0 * hits as f64 / asked.max(1) as f64;
    let mut text = String::new();
    let mut row = |name: &str, value: String| text.push_str(&format!("{name:<16} {value}\n"));
    row("folder", folder.display().to_string());
    row("size", size.to_owned());
    row("entries", entries.to_string());
    row("hits", format!("{hits} of {asked} ({rate:.1}%)"));
    row("  direct", tally.direct_hit.to_string());
    row("  preprocessed", tally.preprocessed_hit.to_string());
    row("misses", tally.miss.to_string());
    row("not kept", tally.bypass.values().sum::<u64>().to_string());
    for (code, count) in &tally.bypass {
        row(&format!("  {code}"), count.to_string());
    }
    row("errors", tally.error.values().sum::<u64>().to_string());
    for (code, count) in &tally.error {
        row(&format!("  {code}"), count.to_string());
    }
    row("read", size::show(tally.bytes_read));
    row("written", size::show(tally.bytes_written));
    let evicted = size::show(tally.evicted_bytes);
    row("evicted", format!("{} entries, {evicted}", tally.evictions));
    row(
        "time saved",
        format!("{:.1} s", tally.saved_ms as f64 / 1e3),
    );
    text
}

fn of_bound(size_bytes: u64, size_bytes_max: u64) -> String {
    let part = 100.0 * size_bytes as f64 / size_bytes_max as f64;
    let (size, bound) = (size::show(size_bytes), size::show(size_bytes_max));
    format!("{size} of {bound} ({part:.1}%)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_have_exactly_these_keys() {
        let stats = stats_json(Path::new("/c"), 1, 2, 3, &Tally::default());
        let mut keys: Vec<&String> = stats.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(
            keys,
            [
                "bypass",
                "bytes_read",
                "bytes_written",
                "direct_hit",
                "entries",
                "error",
                "evicted_bytes",
                "evictions",
                "folder",
                "miss",
                "preprocessed_hit",
                "saved_ms",
                "size_bytes",
                "size_bytes_max",
            ]
        );
    }

    #[test]
    fn the_table_has_the_hit_rate() {
        let tally = Tally {
            direct_hit: 2,
            preprocessed_hit: 1,
            miss: 1,
            ..Tally::default()
        };
        let text = stats_text(Path::new("/c"), &of_bound(1 << 30, 10 << 30), 7, &tally);
        assert!(text.contains("3 of 4 (75.0%)"), "{text}");
        assert!(text.contains("1.0 GiB of 10.0 GiB (10.0%)"), "{text}");
    }
}
