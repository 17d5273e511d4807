//! `hgbuild explain`: what the cache would say to a compile, what the question
//! is made of, and what is not as it was when the last answer was kept. Changes
//! nothing.

use std::ffi::OsString;

use hg_proto::options::args::Reason;

use crate::cache::keeper;
use crate::cache::lookup::{Lookup, trail_name};
use crate::cache::manifest::{Facts, Manifest};
use crate::cache::preprocessor_mode::{self, Text};
use crate::cache::store::Trail;
use crate::config::Config;
use crate::includes::facts::{ABSENT, FILE, state_of};
use crate::includes::paths::join;
use crate::includes::stat_cache::StatCache;
use crate::invocation::plan::Plan;
use crate::key::differences;
use crate::local::compiler;
use crate::say;
use hg_proto::size;

/// Explains `words`, a compile. `last`: only what changed since the last entry.
/// Returns the exit code.
pub fn explain(config: &Config, words: &[OsString], last: bool) -> i32 {
    match text(config, words, last) {
        Ok(text) => say::answer(text),
        Err(why) => {
            say::warn(why);
            1
        }
    }
}

fn text(config: &Config, words: &[OsString], last: bool) -> Result<String, String> {
    let (name, args) = words
        .split_first()
        .ok_or("explain what? hgbuild explain -- clang -c foo.c")?;
    let found = compiler::find(name, args, config)
        .ok_or_else(|| format!("{}: no such program", name.to_string_lossy()))?;
    let bypass = |reason: &dyn std::fmt::Display| format!("not a compile to be cached: {reason}\n");
    let Some(kind) = found.name else {
        return Ok(bypass(&"not-a-compiler"));
    };
    let plan = match Plan::read(&found, kind, config) {
        Ok(plan) => plan,
        Err(reason) => return Ok(bypass(&reason)),
    };
    let Some(settings) = &config.cache else {
        return Ok("the cache is off: its size is 0\n".to_owned());
    };
    let mut settings = settings.clone();
    settings.read_only = true;
    let cache = keeper::open(&settings).map_err(|trouble| trouble.words)?;
    let (toolchain, key) = match keeper::cache_key(config, &found, &plan) {
        Ok(question) => question,
        Err(reason) => return Ok(bypass(&reason)),
    };
    let mut lookup = Lookup::new(cache, key);
    let mut said = String::new();
    let hit = lookup.hit();
    if config.disabled || settings.recache {
        let variable = if config.disabled {
            "HG_DISABLE"
        } else {
            "HG_RECACHE"
        };
        said.push_str(&format!("{variable} is set: the cache is not asked\n"));
    }
    if !last {
        said.push_str(&match &hit {
            Some(hit) => format!(
                "direct-hit: {} of outputs, {} ms saved\n",
                size::show(hit.answer.size()),
                hit.answer.compile_ms
            ),
            None => by_text(&lookup, || {
                let base = keeper::base_folder(&settings);
                let asked = keeper::may_use_preprocessor_mode(&lookup, base.as_deref());
                asked.then(|| {
                    preprocessor_mode::preprocess(&found, &plan, &toolchain, base.as_deref())
                })
            }),
        });
    }
    if hit.is_none() || last {
        said.push_str(&changes(&lookup, &plan, hit.is_some()));
    }
    if !last {
        said.push_str(&made_of(&lookup));
    }
    Ok(said)
}

/// What is said of a compile whose files have no answer. `read` makes its text, where a
/// compile would ask for that.
fn by_text(lookup: &Lookup, read: impl FnOnce() -> Option<Result<Text, Reason>>) -> String {
    const MISS: &str = "miss: the grid or the compiler would be asked\n";
    match read() {
        Some(Ok(text)) if lookup.has_text(&text.key) => {
            "preprocessed-hit: the text is known, its files have changed\n".to_owned()
        }
        Some(Err(why)) => format!("{MISS}its text can't stand for it: {why}\n"),
        Some(Ok(_)) | None => MISS.to_owned(),
    }
}

fn made_of(lookup: &Lookup) -> String {
    let mut said = "made of:\n".to_owned();
    for part in lookup.key.parts() {
        said.push_str(&format!("  {} {}\n", part.what, part.shown()));
    }
    if let Some(set) = lookup.manifest.sets.first() {
        said.push_str(&format!(
            "and of {} files, and what {} folders have and have not\n",
            set.files.len(),
            set.folders.len()
        ));
    }
    said
}

/// What is not as it was when the last answer about this source was kept, or why none
/// was. `hit`: there is an answer.
fn changes(lookup: &Lookup, plan: &Plan, hit: bool) -> String {
    let folder = std::env::current_dir().unwrap_or_default();
    let trail = lookup
        .cache
        .read(trail_name(&folder, &plan.compile.source))
        .and_then(Trail::read);
    let own = &lookup.manifest;
    // Another command for the same source may have come last: facts that were kept of
    // this one say more.
    if !hit && !own.sets.is_empty() {
        let trail = trail.filter(|trail| trail.parts == lookup.key.parts());
        let refused = trail.map(|trail| refusal(&trail, own));
        return refused.unwrap_or_default() + &changed_since(lookup, Vec::new(), own);
    }
    let Some(trail) = trail else {
        return "no entry of this source is known\n".to_owned();
    };
    let manifest = lookup.cache.read(trail.manifest());
    let manifest = manifest.and_then(Manifest::read).unwrap_or_default();
    let refused = refusal(&trail, &manifest);
    let changed = differences(&trail.parts, lookup.key.parts());
    match manifest.sets.is_empty() {
        // There is nothing to compare files with.
        true if changed.is_empty() && !refused.is_empty() => refused,
        true if changed.is_empty() => "the facts of the last entry are gone\n".to_owned(),
        _ => refused + &changed_since(lookup, changed, &manifest),
    }
}

/// Why the compile that left `trail` is not among the facts in `manifest`.
fn refusal(trail: &Trail, manifest: &Manifest) -> String {
    match (&trail.refused[..], manifest.textual) {
        ("", _) => String::new(),
        (why, true) => format!("only the text can tell what it reads: {why}\n"),
        (why, false) => format!("the last compile was not kept: {why}\n"),
    }
}

/// `changed`, and what the newest facts in `manifest` say that is not so now.
fn changed_since(lookup: &Lookup, mut changed: Vec<String>, manifest: &Manifest) -> String {
    let mut stats = StatCache::default();
    if let Some(set) = manifest.sets.first() {
        changed.extend(changed_files(set, &mut stats));
        changed.extend(changed_names(set, &mut stats));
    }
    match (changed.is_empty(), lookup.why_no_answer()) {
        (true, Some(why)) => format!("nothing changed since the last entry: {why}\n"),
        (true, None) => "nothing changed since the last entry\n".to_owned(),
        (false, _) => format!(
            "changed since the last entry:\n  {}\n",
            changed.join("\n  ")
        ),
    }
}

fn changed_files(set: &Facts, stats: &mut StatCache) -> Vec<String> {
    let mut changed = Vec::new();
    for file in &set.files {
        let path = file.path.escape_ascii();
        match stats.content(&file.path) {
            None => changed.push(format!("{path} is gone")),
            Some(content) if content.digest.to_be_bytes() != file.digest[..] => {
                changed.push(format!("{path} has other content"));
            }
            Some(_) => {}
        }
    }
    changed
}

fn changed_names(set: &Facts, stats: &mut StatCache) -> Vec<String> {
    let mut changed = Vec::new();
    for folder in &set.folders {
        for (state, name) in folder.names() {
            let path = join(&folder.path, name);
            let now = state_of(stats.at(&path));
            let path = path.escape_ascii();
            match (state, now) {
                (before, now) if before == now => {}
                (ABSENT, FILE) => changed.push(format!("{path} is new, and may shadow another")),
                (ABSENT, _) => changed.push(format!("{path} is new")),
                // Said already, if it was an input.
                (FILE, ABSENT) if is_input(set, &folder.path, name) => {}
                (_, ABSENT) => changed.push(format!("{path} is gone")),
                _ => changed.push(format!("{path} is something else")),
            }
        }
    }
    changed
}

fn is_input(set: &Facts, folder: &[u8], name: &[u8]) -> bool {
    let path = join(folder, name);
    set.files.iter().any(|file| file.path[..] == path[..])
}
