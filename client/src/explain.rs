//! `hgbuild explain`: what the cache would say to a compile, what the question
//! is made of, and what is not as it was when the last answer was kept. Changes
//! nothing.

use std::ffi::OsString;

use crate::cached;
use crate::compiler;
use crate::config::Config;
use crate::facts::{Looks, join};
use crate::key::{Part, differences};
use crate::lookup::{Lookup, trail_name};
use crate::manifest::{ABSENT, FILE, Facts, Manifest, state_of};
use crate::plan::Plan;
use crate::preprocessed;
use crate::say;
use crate::size;
use crate::store::Trail;

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
    let plan = match Plan::read(&found, kind) {
        Ok(plan) => plan,
        Err(reason) => return Ok(bypass(&reason)),
    };
    let Some(settings) = &config.cache else {
        return Ok("the cache is off: its size is 0\n".to_owned());
    };
    let mut settings = settings.clone();
    settings.read_only = true;
    let cache = cached::open(&settings).map_err(|trouble| trouble.words)?;
    let (toolchain, key) = match cached::question(config, &found, &plan) {
        Ok(question) => question,
        Err(reason) => return Ok(bypass(&reason)),
    };
    let mut lookup = Lookup::new(cache, key);
    let mut said = String::new();
    let hit = lookup.hit();
    if !last {
        said.push_str(&match &hit {
            Some(hit) => format!(
                "direct-hit: {} of outputs, {} ms saved\n",
                size::show(hit.answer.size()),
                hit.answer.compile_ms
            ),
            None => {
                let base = cached::base(&settings);
                let text = preprocessed::read(&found, &plan, &toolchain, base.as_deref());
                match text.is_ok_and(|text| lookup.knows_text(&text.key)) {
                    true => "preprocessed-hit: the text is known, its files have changed\n",
                    false => "miss: the grid or the compiler would be asked\n",
                }
                .to_owned()
            }
        });
    }
    if hit.is_none() || last {
        said.push_str(&changes(&lookup, &plan));
    }
    if !last {
        said.push_str(&made_of(&lookup));
    }
    Ok(said)
}

fn made_of(lookup: &Lookup) -> String {
    let mut said = "made of:\n".to_owned();
    for Part { what, value } in lookup.key.parts() {
        let value = match &what[..] {
            "compiler" | "surroundings" => value.iter().map(|byte| format!("{byte:02x}")).collect(),
            _ => value.escape_ascii().to_string(),
        };
        said.push_str(&format!("  {what} {value}\n"));
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

/// What is not as it was when the last answer about this source was kept.
fn changes(lookup: &Lookup, plan: &Plan) -> String {
    let folder = std::env::current_dir().unwrap_or_default();
    let trail = lookup
        .cache
        .read(trail_name(&folder, &plan.compile.source))
        .and_then(Trail::read);
    let Some(trail) = trail else {
        return "no entry of this source is known\n".to_owned();
    };
    let mut changed = differences(&trail.parts, lookup.key.parts());
    let manifest = lookup
        .cache
        .read(trail.manifest())
        .and_then(Manifest::read)
        .unwrap_or_default();
    let mut looks = Looks::default();
    if let Some(set) = manifest.sets.first() {
        changed.extend(changed_files(set, &mut looks));
        changed.extend(changed_names(set, &mut looks));
    }
    match changed.is_empty() {
        true => "nothing changed since the last entry\n".to_owned(),
        false => format!(
            "changed since the last entry:\n  {}\n",
            changed.join("\n  ")
        ),
    }
}

fn changed_files(set: &Facts, looks: &mut Looks) -> Vec<String> {
    let mut changed = Vec::new();
    for file in &set.files {
        let path = file.path.escape_ascii();
        match looks.content(&file.path) {
            None => changed.push(format!("{path} is gone")),
            Some(content) if content.digest.to_be_bytes() != file.digest[..] => {
                changed.push(format!("{path} has other content"));
            }
            Some(_) => {}
        }
    }
    changed
}

fn changed_names(set: &Facts, looks: &mut Looks) -> Vec<String> {
    let mut changed = Vec::new();
    for folder in &set.folders {
        for (state, name) in folder.names() {
            let path = join(&folder.path, name);
            let now = state_of(looks.at(&path));
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
