//! Hits of a small cache against hits of one with very many entries.

use std::fs;
use std::path::{Path, PathBuf};

use super::contender::Contender;
use super::hits::warm;
use super::stopwatch::{median, take};
use super::units::Project;

/// Entries of the small one.
const FEW: usize = 1_000;
/// Names of one file; file systems have a bound near 65,000.
const LINKS_MAX: usize = 30_000;
/// Bytes of a file that fills.
const FILLER_BYTES: usize = 64;

/// Prints the hit time of `caches`, filled with [`FEW`] and `many` more entries.
pub fn print(project: &Project, caches: &[Contender; 2], many: usize, runs: usize) {
    println!("\nhit by entries in the cache: {}", project.name);
    for (cache, count) in caches.iter().zip([FEW, many]) {
        warm(cache, &project.units);
        if let Err(why) = fill(&cache.cache(), count) {
            hg_tests::skip("entries", &why);
            return;
        }
        warm(cache, &project.units);
    }
    let mut taken = [Vec::new(), Vec::new()];
    for _ in 0..runs {
        for (cache, taken) in caches.iter().zip(&mut taken) {
            taken.push(take(cache.command(&project.units[0])).wall_ms);
        }
    }
    let [few, large] = taken.map(|taken| median(&taken));
    println!(
        "  {FEW} entries {few:.3} ms, {many} entries {large:.3} ms: ratio {:.3}",
        large / few
    );
}

/// Adds `count` files named as the entries that are there.
fn fill(cache: &Path, count: usize) -> Result<(), String> {
    let models: Vec<PathBuf> = hg_tests::cache::files(cache)
        .into_iter()
        .map(|(path, _)| path.strip_prefix(cache).unwrap_or(&path).to_path_buf())
        .filter(|path| digits(path) >= 16)
        .collect();
    if models.is_empty() {
        return Err("no entry to be imitated".to_owned());
    }
    let mut seed = 0x5eed_u64;
    let mut source = PathBuf::new();
    for number in 0..count {
        let path = cache.join(renamed(&models[number % models.len()], &mut seed));
        let folder = path.parent().unwrap_or(cache);
        let fails = |error: std::io::Error| format!("{}: {error}", path.display());
        if number % LINKS_MAX == 0 {
            fs::create_dir_all(folder).map_err(fails)?;
            fs::write(&path, [0; FILLER_BYTES]).map_err(fails)?;
            source = path;
        } else if fs::hard_link(&source, &path).is_err() {
            fs::create_dir_all(folder).map_err(fails)?;
            fs::hard_link(&source, &path).map_err(fails)?;
        }
    }
    Ok(())
}

fn digits(path: &Path) -> usize {
    let text = path.to_string_lossy();
    text.bytes().filter(u8::is_ascii_hexdigit).count()
}

/// The same shape with other digits; the ending stays.
fn renamed(model: &Path, seed: &mut u64) -> String {
    let text = model.to_string_lossy();
    let (stem, end) = text.rsplit_once('.').unwrap_or((&text, ""));
    let other = |byte: char| {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        match byte.is_ascii_hexdigit() {
            true => char::from_digit((*seed >> 20) as u32 % 16, 16).unwrap_or(byte),
            false => byte,
        }
    };
    let stem: String = stem.chars().map(other).collect();
    match end {
        "" => stem,
        _ => format!("{stem}.{end}"),
    }
}
